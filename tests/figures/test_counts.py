"""Finished tasks and the backlog over time, drawn from traces made by hand."""

import pytest

from lab.figures import draw_backlog, draw_steps
from lab.figures.counts import pending
from lab.traces import Task, Trace, Traces


def done(at: float) -> Trace:
    tasks = [Task("work", started=0.1, finished=at)]
    return Trace("1", 5.0, responded=0.1, returned=at, tasks=tasks)


def request(sent: float, started: float, finished: float) -> Trace:
    tasks = [Task("work", started=started, finished=finished)]
    return Trace("1", sent, responded=0.1, returned=finished, answered=0.1, tasks=tasks)


def test_steps_rise_by_one_with_each_finished_task() -> None:
    drawing = draw_steps({"a": [done(0.5), done(0.3)], "b": [done(0.4)]})
    first, second = drawing.figure.axes[0].lines
    assert list(first.get_xdata()) == [0, 0.3, 0.5]
    assert list(first.get_ydata()) == [0, 1, 2]
    assert list(second.get_xdata()) == [0, 0.4]
    assert drawing.alt.endswith("a: 2 tasks by 0.500 s; b: 1 tasks by 0.400 s")


@pytest.mark.parametrize("groups", [{}, {"a": []}, {"a": [Trace("1", 0.0)]}])
def test_drawing_steps_without_finished_tasks_raises(groups: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match=r"no task has finished|no requests to draw"):
        draw_steps(groups)


def test_the_backlog_rises_with_each_response_and_falls_with_each_end() -> None:
    times, counts = pending(Traces([request(5.0, 0.2, 0.4), request(5.1, 0.3, 0.4)]))
    assert list(times) == pytest.approx([0.1, 0.2, 0.4, 0.5])
    assert list(counts) == [1, 2, 1, 0]
    alt = draw_backlog({"a": [request(5.0, 0.2, 0.4), request(5.1, 0.3, 0.4)]}).alt
    assert alt == "Backlog over time: a: at most 2"


def test_readings_are_drawn_as_dots_beside_the_backlog() -> None:
    groups = {"a": [request(5.0, 0.2, 0.4), request(5.1, 0.3, 0.4)]}
    drawing = draw_backlog(groups, [(0.1, 1), (0.3, 2)])
    *_, dots = drawing.figure.axes[0].lines
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([0.1, 0.3], [1, 2])
    assert drawing.alt == draw_backlog(groups).alt + "; 2 readings, at most 2"


@pytest.mark.parametrize("nothing", [{}, {"1": []}])
def test_drawing_a_backlog_without_tasks_raises(nothing: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match="no backlog to draw"):
        draw_backlog(nothing)
