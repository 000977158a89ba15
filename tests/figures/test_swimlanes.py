"""The lanes: the fate of each task as its server ended, drawn from traces made by hand."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lab.figures import draw_lanes, draw_timeline
from lab.figures.look import Drawing
from lab.traces import Task, Trace, Traces


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
    """Return the places of the lines that mark the signals and the exit."""
    lines = drawing.figure.axes[0].lines
    upright = [line for line in lines if list(line.get_ydata()) == [0, 1]]
    return [round(line.get_xdata()[0], 6) for line in upright]


def test_lanes_name_each_request_and_each_tasks_fate() -> None:
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


def test_lanes_of_a_running_server_have_no_mark() -> None:
    drawing = draw_lanes(stopped(Task("work", started=0.1)))
    assert marks(drawing) == []
    assert "running" in words(drawing)


def test_lanes_have_an_alt_text_and_the_same_traces_give_the_same_svg() -> None:
    drawing = draw_lanes(every_fate())
    assert drawing.alt.startswith("Lanes: SIGTERM at 0.400 s; exit at 1.500 s; /sync: done from")
    assert "/async: nap from 0.100 s to 0.800 s, cancelled" in drawing.alt
    assert drawing.svg == draw_lanes(every_fate()).svg


@pytest.mark.parametrize("traces", [[], [Trace("1", 0.0)]])
def test_drawing_lanes_without_tasks_raises(traces: list[Trace]) -> None:
    with pytest.raises(ValueError, match="to draw"):
        draw_lanes(traces)


def test_a_broken_connection_ends_the_bar_of_the_answer() -> None:
    trace = Trace("1", 0.0, "GET", "/slow", received=0.001, responded=1.0, returned=1.0,
                  broken=0.5, error="RemoteProtocolError: cut")  # fmt: skip
    drawing = draw_timeline(trace)
    (bar,) = drawing.figure.axes[0].patches
    assert bar.get_width() == 0.5
    assert "RemoteProtocolError" in words(drawing)
    assert not [line for line in drawing.figure.axes[0].lines if 1.0 in line.get_xdata()]


def test_the_alt_text_of_lanes_names_the_signal_and_each_fate() -> None:
    trace = Trace("1", 0.0, "POST", "/x", responded=0.1, gone=1.0, ending=(("SIGKILL", 0.9),))
    trace.tasks = [Task("a", started=0.1, gone=1.0), Task("b", gone=1.0)]
    alt = draw_lanes(Traces([trace])).alt
    assert alt.startswith("Lanes: SIGKILL at 0.900 s; /x: a from 0.100 s to 1.000 s, lost, b never")
