"""The heartbeat, drawn from traces made by hand."""

import pytest

from lab.figures import draw_heartbeat
from lab.traces import Trace


def beat(at: float, answered: float) -> Trace:
    return Trace(str(at), at, status=200, answered=answered, responded=answered, returned=answered)


def test_each_answer_of_a_heartbeat_has_a_bar_as_long_as_its_wait() -> None:
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
def test_drawing_a_heartbeat_without_beats_raises(strips: dict[str, list[Trace]]) -> None:
    with pytest.raises(ValueError, match="no heartbeat to draw"):
        draw_heartbeat(strips)
