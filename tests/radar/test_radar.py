"""The radar: what it keeps and draws, that it finds what was planted, and what it has found."""

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.__main__ import main
from lab.publishing.notebooks import ROOT
from lab.radar import environments, run
from lab.radar.claims import OF_SERVERS, OF_VERSIONS, in_words, threads_at_once
from lab.radar.drawn import draw_radar, said
from lab.radar.environments import NotInstalled, at_hand, programs
from lab.radar.kept import draw_kept, keep, keep_stopped, kept_stopped, known
from lab.radar.outcomes import Cell, Column, Radar
from lab.radar.sets import SERVERS, VERSIONS, ServerSet
from lab.servers.web import Web
from lab.traces import Trace, Traces

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def small() -> Radar:
    upload = {"upload": Cell({"yes": 10})}
    return Radar(
        "2026-01-01",
        "Linux, 2 cores",
        {"0.1": Column({"fastapi": "0.1"}, upload), "0.2": Column(trouble="no such version")},
        {"one": Column({}, {"gone": Cell({"finished, finished": 7, "lost, never ran": 3})})},
    )


def test_what_was_found_is_kept(small: Radar, tmp_path: Path) -> None:
    assert known(tmp_path) is None
    (tmp_path / "figures").mkdir()
    keep(small, tmp_path)
    assert known(tmp_path) == small
    (tmp_path / "radar.json").write_text("{}")
    with pytest.raises(ValueError, match="python -m lab radar writes one"):
        known(tmp_path)


def test_the_requests_of_a_stopped_server_are_kept(tmp_path: Path) -> None:
    keep_stopped("one, 2 workers", traces := Traces([Trace("1", 0.0)]), tmp_path)
    assert kept_stopped("one, 2 workers", tmp_path) == traces
    with pytest.raises(ValueError, match="there are one, 2 workers"):
        kept_stopped("two", tmp_path)


def test_a_cell_says_one_outcome_or_that_it_varies(small: Radar) -> None:
    assert Cell.of(["yes"] * 3) == Cell({"yes": 3})
    assert Cell({"yes": 3}).verdict == "yes"
    varies = small.servers["one"].cells["gone"]
    assert varies.verdict == "varies"
    assert said(varies, "en") == "finished, finished ×7; lost, never ran ×3"
    assert said(varies, "zh") == "完成，完成 ×7; 丢失，从未运行 ×3"
    assert in_words("40 each", "zh") == "各 40 个"


def test_what_has_turned_is_told(small: Radar) -> None:
    now = Radar("", "", {"0.1": Column({}, {"upload": Cell({"no": 10})})}, {})
    assert now.turned(small) == ["0.1: upload: yes -> no"]
    assert now.turned(now) == []
    assert now.beside(small).versions["0.1"].cells["upload"].verdict == "no"
    assert now.beside(small).servers == small.servers


def test_verdicts_are_drawn_with_their_counts(small: Radar) -> None:
    assert "a task can read the upload: FastAPI 0.1 yes (×10)" in draw_radar(small, "versions").alt
    assert "one finished, finished ×7; lost, never ran ×3 (×10)" in draw_radar(small, "servers").alt
    with pytest.raises(ValueError, match="python -m lab radar"):
        draw_radar(Radar("", "", {}, {}), "servers")


def test_a_set_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["radar", "--only", "moon"]) == 2
    assert "no set 'moon'; there are 0.68.2, " in capsys.readouterr().err


def test_the_lab_itself_has_what_lesson_11_starts_with() -> None:
    assert at_hand(SERVERS["uvicorn"].packages) == Path(sys.executable).parent


# What was found


def test_the_figures_are_what_was_found(tmp_path: Path) -> None:
    found = known()
    assert found is not None
    draw_kept(found, tmp_path)
    for name in ("radar.svg", "fates.svg"):
        assert (tmp_path / name).read_bytes() == (ROOT / "data" / "figures" / name).read_bytes()


def test_every_set_and_claim_has_its_cells_and_each_server_its_lanes() -> None:
    found = known()
    assert found is not None
    assert {*found.versions} == {*VERSIONS}
    assert {*found.servers} == {*SERVERS}
    for column in found.versions.values():
        assert column.trouble or {*column.cells} == {*OF_VERSIONS}
    for name, column in found.servers.items():
        assert column.trouble or {*column.cells} == {*OF_SERVERS}
        assert column.trouble or kept_stopped(name).tasks


def test_the_known_turnings_were_found() -> None:
    found = known()
    assert found is not None

    def others(claim: str) -> list[str]:
        wanted = OF_VERSIONS[claim].wanted
        return [
            name for name, each in found.versions.items() if each.cells[claim].verdict != wanted
        ]

    assert others("answer") == []
    assert others("exit") == others("upload") == ["0.115.0", "0.117.1"]
    assert others("connection") == ["0.68.2", "0.78.0", "0.105.0"]
    assert others("leaving") == ["0.78.0"]


# Running it


@pytest.mark.slow
@posix
def test_a_server_that_drops_its_tasks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "REPEATED", 2)
    program = Path(__file__).with_name("dropping_server.py")
    python = f"{sys.executable} "
    dropping = ServerSet((), f"{python}{program} {{app}} {{port}}", "")
    usual = ServerSet((), f"{python}-m uvicorn {{app}} --port {{port}}", "")
    of_servers = {"dropping": dropping, "usual": usual}
    monkeypatch.setattr(run, "OF_SERVERS", {"sigterm": OF_SERVERS["sigterm"]})
    said: list[str] = []
    found = run.radar(of_versions={}, of_servers=of_servers, say=said.append).servers
    assert found["dropping"].cells["sigterm"].counts == {"cancelled, never ran": 2}
    assert found["usual"].cells["sigterm"].counts == {"finished, finished": 2}
    assert sorted(line.partition(" ")[0] for line in said) == ["1/2", "2/2"]


def test_an_environment_that_several_need_at_once_is_made_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Path] = []
    all_at_it = threading.Barrier(4)

    def make(folder: Path, *_: object) -> None:
        made.append(folder)
        with contextlib.suppress(threading.BrokenBarrierError):
            all_at_it.wait(0.2)
        folder.mkdir(parents=True)

    def ask(_: int) -> Path:
        return programs(("one==1",))

    monkeypatch.setattr(environments, "user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(environments, "make", make)
    with ThreadPoolExecutor(4) as pool:
        (found,) = set(pool.map(ask, range(4)))
    assert made == [found.parent]


@pytest.mark.slow
@posix
def test_threads_are_counted_while_others_wait(serving: Callable[..., Web]) -> None:
    started: list[Web] = []

    def start(*_: str) -> Web:
        command = f"{sys.executable} -m uvicorn {{app}} --port {{port}}"
        started.append(serving(run.APP, command=command, cwd=run.FOLDER))
        return started[-1]

    assert threads_at_once(start) == "40 each"
    (web,) = started
    states = Counter(task.state for task in web.traces.tasks)
    web.kill()
    assert (states["running"], states["waiting"] >= 10) == (40, True)


@pytest.mark.slow
@posix
def test_a_version_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "REPEATED", 2)
    try:
        programs(VERSIONS["0.115.0"])
    except NotInstalled as error:
        pytest.skip(f"needs a package index: {error}")
    found = run.radar(["0.115.0"]).versions["0.115.0"]
    assert found.versions["fastapi"] == "0.115.0"
    assert found.cells["upload"].counts == {"no": 2}
    assert found.cells["answer"].counts == {"yes": 2}


@pytest.mark.slow
def test_a_set_that_cannot_be_installed_says_so() -> None:
    wrong = {"wrong": ("fastapi==0.0.0.0",)}
    column = run.radar(of_versions=wrong, of_servers={}).versions["wrong"]
    assert column.cells == {}
    assert column.trouble
    assert "fastapi==0.0.0.0" in column.trouble
