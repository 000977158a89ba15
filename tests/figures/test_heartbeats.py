"""The heartbeat, the steps and the lanes, drawn from traces made by hand."""

import threading
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.figures import draw_heartbeat, draw_lanes, draw_steps
from lab.lessons.kernels import last_line, run_all
from lab.servers.web import Web
from lab.traces import Task, Trace, Traces


def beat(at: float, answered: float) -> Trace:
    return Trace(str(at), at, status=200, answered=answered, responded=answered, returned=answered)


def done(at: float) -> Trace:
    tasks = [Task("work", started=0.1, finished=at)]
    return Trace("1", 5.0, responded=0.1, returned=at, tasks=tasks)


def test_a_heartbeat_has_a_bar_for_each_answer_as_long_as_the_wait() -> None:
    drawing = draw_heartbeat({"a": [beat(5.0, 0.1), beat(5.2, 0.3)], "b": [beat(9.0, 0.2)]})
    bars = [(bar.get_x(), bar.get_width()) for bar in drawing.figure.axes[0].patches]
    assert bars == [
        (0.0, pytest.approx(0.1)), (pytest.approx(0.2), pytest.approx(0.3)),
        (0.0, pytest.approx(0.2)),
    ]  # fmt: skip
    assert drawing.alt == (
        "Heartbeats: a: 2 answers, the longest wait 0.300 s; b: 1 answers, the longest wait 0.200 s"
    )
    assert (
        drawing.svg
        == draw_heartbeat({"a": [beat(5.0, 0.1), beat(5.2, 0.3)], "b": [beat(9.0, 0.2)]}).svg
    )


@pytest.mark.parametrize("strips", [{}, {"a": []}])
def test_no_heartbeat_is_said(strips: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match="no heartbeat to draw"):
        draw_heartbeat(strips)


def test_steps_rise_by_one_with_each_finished_task() -> None:
    drawing = draw_steps({"a": [done(0.5), done(0.3)], "b": [done(0.4)]})
    first, second = drawing.figure.axes[0].lines
    assert list(first.get_xdata()) == [0, 0.3, 0.5]
    assert list(first.get_ydata()) == [0, 1, 2]
    assert list(second.get_xdata()) == [0, 0.4]
    assert drawing.alt.endswith("a: 2 tasks by 0.500 s; b: 1 tasks by 0.400 s")


@pytest.mark.parametrize("groups", [{}, {"a": []}, {"a": [Trace("1", 0.0)]}])
def test_no_steps_are_said(groups: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match=r"no task has finished|no requests to draw"):
        draw_steps(groups)


def test_lanes_tell_of_the_signal_and_of_each_fate() -> None:
    trace = Trace("1", 0.0, "POST", "/x", responded=0.1, gone=1.0, ending=(("SIGKILL", 0.9),))
    trace.tasks = [Task("a", started=0.1, gone=1.0), Task("b", gone=1.0)]
    alt = draw_lanes(Traces([trace])).alt
    assert alt.startswith("Lanes: SIGKILL at 0.900 s; /x: a from 0.100 s to 1.000 s, lost, b never")


def test_the_heart_beats_as_long_as_the_block_runs_and_not_longer(
    serving: Callable[..., Web],
) -> None:
    five = threading.Event()
    asked = []

    async def ping(request: Request) -> Response:
        asked.append(1)
        if len(asked) >= 5:
            five.set()
        return Response()

    web = serving(Starlette(routes=[Route("/ping", ping)]))
    with web.heartbeat(every=0.001) as beats:
        assert five.wait(10)
    assert len(beats) == len(asked) >= 5
    assert {each.status for each in beats} == {200}
    assert "lab heartbeat" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.slow
def test_cells_are_queued_and_their_fates_told() -> None:
    silent = "import time; time.sleep(1)"
    assert run_all(silent, "1 / 0", "2") == ["ran", "raised ZeroDivisionError", "ran"]


def test_the_last_line_of_a_program_is_its_error_or_its_output() -> None:
    assert last_line("print('a'); print('b')") == "b"
    assert last_line("1 / 0") == "ZeroDivisionError: division by zero"
    assert last_line("import time; time.sleep(60)", timeout=0.5) == "still running after 0.5 s"
