"""The knee and its waits, drawn from traces made by hand."""

import pytest

from lab.figures import draw_knee
from lab.figures.knees import waits
from lab.traces import Task, Trace


def request(sent: float, started: float, finished: float) -> Trace:
    tasks = [Task("work", started=started, finished=finished)]
    return Trace("1", sent, responded=0.1, returned=finished, answered=0.1, tasks=tasks)


def test_waits_start_at_the_response_and_are_never_negative() -> None:
    early = request(0, 0.05, 0.2)
    assert waits([request(0, 0.3, 0.5), early, Trace("2", 0.0)]) == [pytest.approx(0.2), 0.0]


def test_the_knee_has_a_point_for_each_load() -> None:
    runs = {150: [request(0, 1.1, 2)], 50: [request(0, 0.2, 2)]}
    drawing = draw_knee(runs)
    answered, *_, waited = [line for line in drawing.figure.axes[0].lines if len(line.get_xdata()) == 2][:3]  # fmt: skip # noqa: E501
    assert list(answered.get_xdata()) == [50, 150]
    assert list(waited.get_ydata()) == pytest.approx([0.1, 1.0])
    assert "answered p50 0.1000 s to 0.1000 s" in drawing.alt
    assert drawing.svg == draw_knee(runs).svg


@pytest.mark.parametrize("nothing", [{}, {"1": []}])
def test_drawing_a_knee_without_tasks_raises(nothing: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match="no load to draw"):
        draw_knee({float(load): group for load, group in nothing.items()})
