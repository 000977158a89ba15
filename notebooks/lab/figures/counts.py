"""Draws the amount of work over time: how much is done, and how much still waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..traces import Trace, Traces
from .look import (
    REFERENCE,
    WORK,
    Drawing,
    canvas,
    few_ticks,
    floor_of,
    label,
    note,
    styled,
    text_width,
)


@styled
def draw_steps(groups: Mapping[str, Iterable[Trace]]) -> Drawing:
    """Draw the number of finished tasks over time, a stair for each group; the first in colour.

    groups: requests by name. Raises ValueError when a group has no finished task.
    """
    stairs = {}
    for name, group in groups.items():
        requests = Traces(group)
        first = min((trace.sent for trace in requests), default=0.0)
        ends = sorted(
            trace.sent - first + task.finished
            for trace in requests
            for task in trace.tasks
            if task.finished is not None
        )
        if not ends:
            raise ValueError(f"{name}: no task has finished")
        stairs[name] = ends
    if not stairs:
        raise ValueError("no requests to draw: give them by name, steps(threads=traces)")
    room = 16 + max(text_width(name, 9) for name in stairs)
    figure, axes = canvas(7, 3.0, 46, room, 44, 12)
    most = max(len(ends) for ends in stairs.values())
    last = max(ends[-1] for ends in stairs.values())
    for number, (name, ends) in enumerate(stairs.items()):
        color = REFERENCE if number else WORK
        axes.plot([0, *ends], range(len(ends) + 1), color=color, lw=2 if number == 0 else 1.3,
                  drawstyle="steps-post", ls="-" if number == 0 else (0, (4, 2)))  # fmt: skip
        label(axes, name, (ends[-1], len(ends)), 6, 0, color=color, fontsize=9)
    axes.set_xlim(0, last * 1.02)
    axes.set_ylim(0, most * 1.06)
    few_ticks(axes.xaxis)
    # In steps of four, too, so that the pool's forty threads have a tick.
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10], integer=True))
    axes.set_xlabel("seconds after the first sending")
    axes.set_ylabel("tasks finished")
    note(figure, floor_of(trace for group in groups.values() for trace in group))
    parts = [f"{name}: {len(ends)} tasks by {ends[-1]:.3f} s" for name, ends in stairs.items()]
    return Drawing(figure, f"Tasks finished over time: {'; '.join(parts)}")


@styled
def draw_backlog(
    groups: Mapping[str, Iterable[Trace]], readings: Sequence[tuple[float, float]] = ()
) -> Drawing:
    """Draw the number of accepted, unfinished tasks over time; the last group in colour.

    groups: requests by name. readings: what the service itself says of the last group, as dots:
    seconds after the first sending, and the number. Raises ValueError when a group has no
    finished task.
    """
    lines = {name: pending(Traces(group)) for name, group in groups.items()}
    if not lines or not all(len(times) for times, _ in lines.values()):
        raise ValueError("no backlog to draw: give requests with finished tasks by name")
    figure, axes = canvas(7, 3.0, 46, 24, 44, 12)
    parts = []
    for number, (name, (times, counts)) in enumerate(lines.items(), 1):
        main = number == len(lines)
        color = WORK if main else REFERENCE
        axes.plot(times, counts, drawstyle="steps-post", color=color, lw=1.8 if main else 1.1)
        top = int(np.argmax(counts))
        label(axes, name, (times[top], counts[top]), 0, 8, color=color, fontsize=9, ha="center")
        parts.append(f"{name}: at most {counts[top]}")
    if readings:
        axes.plot(*zip(*readings, strict=True), ls="", marker="o", ms=5, color=WORK,
                  markerfacecolor="white", clip_on=False, zorder=3)  # fmt: skip
        parts.append(f"{len(readings)} readings, at most {max(number for _, number in readings):g}")
    axes.set_xlim(0)
    axes.set_ylim(0, 1.12 * max(counts.max() for _, counts in lines.values()))
    few_ticks(axes.xaxis)
    few_ticks(axes.yaxis, whole=True)
    axes.set_xlabel("seconds after the first sending")
    axes.set_ylabel("tasks accepted, not finished")
    note(figure, floor_of(trace for group in groups.values() for trace in group))
    return Drawing(figure, f"Backlog over time: {'; '.join(parts)}")


def pending(requests: Traces) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments at which the number of accepted, unfinished tasks changes, and the number.

    Two arrays of the same length; moments in seconds after the first sending.
    """
    first = min((trace.sent for trace in requests), default=0.0)
    changes = [
        (trace.sent - first + at, step)
        for trace in requests
        for task in trace.tasks
        if task.finished is not None and trace.responded is not None
        for at, step in ((trace.responded, 1), (task.finished, -1))
    ]
    changes.sort()
    times = np.array([at for at, _ in changes])
    return times, np.cumsum([step for _, step in changes])
