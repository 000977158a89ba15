"""The recordings: kept by name, and what the README shows is drawn from them."""

from pathlib import Path

import pytest

from lab.publishing.notebooks import ROOT, sources
from lab.publishing.recordings import FIGURES, draw_all, keep, load
from lab.traces import Trace, Traces

RECORDINGS = ROOT / "data" / "recordings"


def test_requests_are_kept_by_the_names_they_were_bound_to(tmp_path: Path) -> None:
    one, two = Trace("1", 0.0), Trace("2", 1.0)
    names = {"one": one, "both": [one, two], "by": {1: one}, "_": two, "app": object(), "none": [],
             "beats": {"a": Traces([two])}, "many": [one] * 1000}  # fmt: skip
    keep(names, tmp_path)
    assert load(tmp_path) == {
        "one": Traces([one]), "both": Traces([one, two]), "by": Traces([one]),
        "beats.a": Traces([two]),
    }  # fmt: skip
    keep({"two": two}, tmp_path)
    assert load(tmp_path) == {"two": Traces([two])}


def test_the_readmes_figures_are_what_the_recordings_give(tmp_path: Path) -> None:
    draw_all(RECORDINGS, tmp_path)
    for name in FIGURES:
        drawn = (tmp_path / f"{name}.svg").read_bytes()
        assert drawn == (ROOT / "data" / "figures" / f"{name}.svg").read_bytes(), name


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_every_lesson_has_its_recording(source: Path) -> None:
    if source.stem[0].isdigit():
        assert load(RECORDINGS / source.stem)
