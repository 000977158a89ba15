"""Load: arrivals by chance, the knee and the backlog, drawn from traces made by hand."""

import pytest

from lab.clients.sender import poisson
from lab.figures import draw_backlog, draw_knee
from lab.figures.counts import pending
from lab.figures.knees import waits
from lab.traces import Task, Trace, Traces


def request(sent: float, started: float, finished: float) -> Trace:
    tasks = [Task("work", started=started, finished=finished)]
    return Trace("1", sent, responded=0.1, returned=finished, answered=0.1, tasks=tasks)


def test_arrivals_are_the_seeds_own_and_as_many_as_the_rate_says() -> None:
    moments = poisson(100, 50, seed=1)
    assert moments == poisson(100, 50, seed=1) != poisson(100, 50, seed=2)
    assert moments == sorted(moments)
    assert 0 < moments[0] < moments[-1] < 50
    assert 4700 < len(moments) < 5300
    with pytest.raises(ValueError, match="above 0"):
        poisson(0, 1, seed=1)


def test_waits_count_from_the_response_and_are_never_negative() -> None:
    early = request(0, 0.05, 0.2)
    assert waits([request(0, 0.3, 0.5), early, Trace("2", 0.0)]) == [pytest.approx(0.2), 0.0]


def test_the_backlog_rises_with_each_response_and_falls_with_each_end() -> None:
    times, counts = pending(Traces([request(5.0, 0.2, 0.4), request(5.1, 0.3, 0.4)]))
    assert list(times) == pytest.approx([0.1, 0.2, 0.4, 0.5])
    assert list(counts) == [1, 2, 1, 0]
    alt = draw_backlog({"a": [request(5.0, 0.2, 0.4), request(5.1, 0.3, 0.4)]}).alt
    assert alt == "Backlog over time: a: at most 2"


def test_the_knee_has_a_point_for_each_load() -> None:
    runs = {150: [request(0, 1.1, 2)], 50: [request(0, 0.2, 2)]}
    drawing = draw_knee(runs)
    answered, *_, waited = [line for line in drawing.figure.axes[0].lines if len(line.get_xdata()) == 2][:3]  # fmt: skip # noqa: E501
    assert list(answered.get_xdata()) == [50, 150]
    assert list(waited.get_ydata()) == pytest.approx([0.1, 1.0])
    assert "answered p50 0.1000 s to 0.1000 s" in drawing.alt
    assert drawing.svg == draw_knee(runs).svg


@pytest.mark.parametrize("nothing", [{}, {"1": []}])
def test_nothing_to_draw_is_said(nothing: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match="no backlog to draw"):
        draw_backlog(nothing)
    with pytest.raises(ValueError, match="no load to draw"):
        draw_knee({float(load): group for load, group in nothing.items()})
