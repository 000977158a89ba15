"""Draws the fate of each task as its server ended, a lane for each request."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes

from ..traces import Trace, Traces
from ..traces.words import in_seconds, last_moment, task_in_words
from .look import (
    INK,
    POINTS,
    REFERENCE,
    Drawing,
    canvas,
    fitted,
    label,
    some,
    styled,
    text_width,
)
from .timelines import (
    ROW,
    beside,
    names_width,
    seconds_below,
    span_for,
    task_rows,
)

WIDTH = 7.0
GAP = 0.4


@styled
def draw_lanes(traces: Trace | Iterable[Trace]) -> Drawing:
    """Draw the rows of `lanes`. Raises ValueError when no request left any work."""
    requests = Traces(trace for trace in some(traces) if trace.tasks)
    if not requests:
        raise ValueError("no work to draw: none of these requests left a task")
    first = min(trace.sent for trace in requests)
    now = last_moment(requests)
    paths = [fitted(trace.path, 9, 110) for trace in requests]
    left = 32 + names_width(requests.tasks) + max(text_width(path, 9) for path in paths)
    rows = len(requests.tasks) + GAP * (len(requests) - 1)
    figure, axes = canvas(WIDTH, (rows * ROW + 54) / POINTS, left, 12, 36, 18)
    room = WIDTH * POINTS - left - 12
    marks = server_marks(requests)
    ends = [(at, 4.0) for _, at in marks]
    row = 0.0
    for trace, path in zip(requests, paths, strict=True):
        label(axes, path, (0, row), 12 - left, 0, xycoords=beside(axes), fontsize=9,
              color=REFERENCE)  # fmt: skip
        ends += task_rows(axes, trace, row, trace.sent - first, now)
        row += len(trace.tasks) + GAP
    span = span_for(ends, room)
    axes.set_xlim(0, span)
    axes.set_ylim(rows - 0.5, -0.5)
    _mark(axes, marks, room / span)
    seconds_below(axes, requests)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return Drawing(figure, lanes_in_words(requests))


def server_marks(requests: Traces) -> list[tuple[str, float]]:
    """Return the signals to the server and its exit: (name, seconds after the first sending)."""
    first = min(trace.sent for trace in requests)
    longest = max(requests, key=lambda trace: len(trace.ending))
    return [(what, longest.sent - first + at) for what, at in longest.ending]


def _mark(axes: Axes, marks: list[tuple[str, float]], per_second: float) -> None:
    """Draw a line at each mark; marks too close for labels of their own share one.

    per_second: points.
    """
    shared: list[tuple[str, float]] = []
    for what, at in marks:
        axes.axvline(at, color=INK, lw=1, zorder=1)
        if shared:
            words, before = shared[-1]
            if (at - before) * per_second < text_width(words, 7) + 6:
                shared[-1] = (f"{words}, {what}", before)
                continue
        shared.append((what, at))
    for words, at in shared:
        label(axes, words, (at, 1), 0, 4, xycoords=axes.get_xaxis_transform(), fontsize=7,
              va="bottom", ha="right" if at * per_second > 40 and words == "exit" else "left",
              color=INK)  # fmt: skip


def lanes_in_words(requests: Traces) -> str:
    """Return the content of the lanes as one sentence."""
    parts = [f"{what} at {in_seconds(at)}" for what, at in server_marks(requests)]
    parts += [
        f"{trace.path}: {', '.join(task_in_words(task) for task in trace.tasks)}"
        for trace in requests
    ]
    return f"Lanes: {'; '.join(parts)}"
