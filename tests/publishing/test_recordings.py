"""The recordings: kept by name, and what the README shows is drawn from them."""

from pathlib import Path

import pytest

from lab.publishing.notebooks import ROOT
from lab.publishing.recordings import FIGURES, draw_all, keep
from lab.traces import Trace, Traces

RECORDINGS = ROOT / "data" / "recordings"


def test_requests_are_kept_by_the_names_they_were_bound_to(tmp_path: Path) -> None:
    one, two = Trace("1", 0.0), Trace("2", 1.0)
    namespace = {"one": one, "both": [one, two], "by": {1: one}, "app": object(),
                 "beats": {"a": Traces([two]), "b": []}}  # fmt: skip
    (tmp_path / "stale.json").touch()
    keep(namespace, ["one", "both", "by", "beats.a"], tmp_path)
    assert {path.stem: Traces.load(path) for path in tmp_path.iterdir()} == {
        "one": Traces([one]), "both": Traces([one, two]), "by": Traces([one]),
        "beats.a": Traces([two]),
    }  # fmt: skip


def test_a_name_that_is_not_there_is_an_error_and_what_was_kept_stays(tmp_path: Path) -> None:
    keep({"one": Trace("1", 0.0)}, ["one"], tmp_path)
    with pytest.raises(KeyError, match="two"):
        keep({}, ["two"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_the_readmes_figures_are_what_the_recordings_give(tmp_path: Path) -> None:
    draw_all(RECORDINGS, tmp_path)
    for name in FIGURES:
        drawn = (tmp_path / f"{name}.svg").read_bytes()
        assert drawn == (ROOT / "data" / "figures" / f"{name}.svg").read_bytes(), name


def test_nothing_is_kept_that_no_figure_is_drawn_from() -> None:
    used = {(figure.lesson, name) for figure in FIGURES.values() for name in figure.names}
    assert {(path.parent.name, path.stem) for path in RECORDINGS.glob("*/*")} == used
