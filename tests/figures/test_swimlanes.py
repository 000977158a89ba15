"""The lanes: what a server's end did to each task, and how a trace comes to know of that end."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.figures import draw_lanes, draw_timeline
from lab.figures.look import Drawing
from lab.servers.web import Web
from lab.traces import Ledger, Task, Trace, Traces


def stopped(*tasks: Task, path: str = "/sync", sent: float = 7.0, **ending: float) -> Trace:
    moments = tuple(ending.items())
    return Trace(f"{path}{sent}", sent, "POST", path, tasks=[*tasks], ending=moments)


def every_fate() -> Traces:
    return Traces(
        [
            stopped(Task("done", started=0.1, finished=0.9), Task("next", gone=0.9), SIGTERM=0.4,
                    exit=1.5),
            stopped(Task("nap", started=0.1, finished=0.8, error="CancelledError: grace"),
                    path="/async", sent=7.1, SIGTERM=0.3, exit=1.4),
            stopped(Task("plain", "thread", started=0.1, gone=1.3), path="/thread", sent=7.2,
                    SIGTERM=0.2, exit=1.3),
            stopped(Task("short", started=0.0, finished=0.1), path="/over", sent=7.2),
        ]
    )  # fmt: skip


def words(drawing: Drawing) -> list[str]:
    FigureCanvasAgg(drawing.figure).draw()
    return [text.get_text() for text in drawing.figure.axes[0].texts]


def marks(drawing: Drawing) -> list[float]:
    """Where the ruled lines stand that mark what befell the server."""
    lines = drawing.figure.axes[0].lines
    upright = [line for line in lines if list(line.get_ydata()) == [0, 1]]
    return [round(line.get_xdata()[0], 6) for line in upright]


def test_each_request_has_a_lane_and_each_task_its_fate() -> None:
    written = words(draw_lanes(every_fate()))
    for wanted in ("/sync", "/async", "/thread", "/over", "done", "next", "nap", "plain", "short"):
        assert written.count(wanted) == 1
    assert [word for word in written if word in {"never ran", "cancelled", "lost"}] == [
        "never ran", "cancelled", "lost",
    ]  # fmt: skip


def test_the_signal_and_the_exit_are_each_marked_once_on_the_common_axis() -> None:
    drawing = draw_lanes(every_fate())
    assert marks(drawing) == [0.4, 1.5]
    assert [word for word in words(drawing) if word in {"SIGTERM", "exit"}] == ["SIGTERM", "exit"]


def test_marks_too_close_for_two_labels_share_one() -> None:
    trace = stopped(Task("work", started=0.1, gone=2.002))
    trace.ending = (("SIGINT", 0.5), ("SIGINT", 0.501), ("exit", 2.0))
    drawing = draw_lanes(trace)
    assert len(marks(drawing)) == 3
    assert [word for word in words(drawing) if "SIG" in word] == ["SIGINT, SIGINT"]


def test_lanes_of_a_server_that_still_runs_have_no_mark() -> None:
    drawing = draw_lanes(stopped(Task("work", started=0.1)))
    assert marks(drawing) == []
    assert "running" in words(drawing)


def test_lanes_are_told_in_words_and_the_same_traces_draw_the_same() -> None:
    drawing = draw_lanes(every_fate())
    assert drawing.alt.startswith("Lanes: SIGTERM at 0.400 s; exit at 1.500 s; /sync: done from")
    assert "/async: nap from 0.100 s to 0.800 s, cancelled" in drawing.alt
    assert drawing.svg == draw_lanes(every_fate()).svg


@pytest.mark.parametrize("traces", [[], [Trace("1", 0.0)]])
def test_no_work_is_said(traces: list[Trace]) -> None:
    with pytest.raises(ValueError, match="to draw"):
        draw_lanes(traces)


def test_a_caller_whose_connection_broke_waited_only_until_then() -> None:
    trace = Trace("1", 0.0, "GET", "/slow", received=0.001, responded=1.0, returned=1.0,
                  broken=0.5, error="RemoteProtocolError: cut")  # fmt: skip
    drawing = draw_timeline(trace)
    (bar,) = drawing.figure.axes[0].patches
    assert bar.get_width() == 0.5
    assert "RemoteProtocolError" in words(drawing)
    assert not [line for line in drawing.figure.axes[0].lines if 1.0 in line.get_xdata()]


# How a trace knows.


def test_an_end_is_kept_in_a_recording(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    every_fate().save(file)
    assert Traces.load(file) == every_fate()


def test_work_that_has_begun_is_waited_for() -> None:
    ledger = Ledger()
    ledger.open(Trace("1", 5.0, "POST", "/work"))
    with pytest.raises(TimeoutError, match=r"no work has begun behind POST /work .* after 0.01 s"):
        ledger.traces.wait_started(timeout=0.01)
    ledger.enter("1", "started", "task", 5.5, "loop")
    assert ledger.traces.wait_started(timeout=0.01)[0].started == 0.5
    assert Traces().wait_started() == []


def test_a_start_wakes_whoever_waits_for_it() -> None:
    ledger = Ledger()
    ledger.open(Trace("1", 5.0))
    starter = threading.Timer(0.05, ledger.enter, ("1", "started", "task", 5.5, "loop"))
    starter.start()
    assert ledger.traces.wait_started(timeout=10)
    starter.join()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_two_signals_sent_at_once_are_both_taken(serving: Callable[..., Web]) -> None:
    async def nap(request: Request) -> Response:
        return Response(background=BackgroundTask(asyncio.sleep, 20))

    app = Starlette(routes=[Route("/nap", nap)])
    web = serving(app, on="process", log_level="critical")
    trace = web.get("/nap")
    web.traces.wait_started(timeout=10)
    web.signal(signal.SIGINT)
    web.signal(signal.SIGINT)
    web.join(timeout=15)  # one alone would wait for the nap
    assert [task.state for task in trace.tasks] == ["cancelled"]
    assert [what for what, _ in trace.ending] == ["SIGINT", "SIGINT", "exit"]
    assert web.exit_code == 0  # as the uvicorn command
