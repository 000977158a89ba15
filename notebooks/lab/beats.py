"""Draws what other callers feel while work goes on, and how much work is done by when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator

from .ink import (
    INK,
    REFERENCE,
    WAITING,
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
from .traces import Trace, Traces


@styled
def draw_heartbeat(strips: Mapping[str, Iterable[Trace]]) -> Drawing:
    """A row for each run: a mark for each answer, a bar where the caller had to wait for it.

    strips: the beats of each run, by its name. Raises ValueError when a run has no beat.
    """
    rows = {name: Traces(beats) for name, beats in strips.items()}
    empty = [name for name, beats in rows.items() if not beats]
    if empty or not rows:
        raise ValueError(f"no heartbeat to draw: {', '.join(empty) or 'no run was given'}")
    left = 24 + max(text_width(name, 9) for name in rows)
    figure, axes = canvas(7, 0.75 + 0.36 * len(rows), left, 62, 44, 10)
    told = []
    for row, (name, beats) in enumerate(rows.items()):
        first = beats[0].sent
        begins = np.array([beat.sent - first for beat in beats])
        waits = np.array([beat.answered or 0.0 for beat in beats])
        axes.barh(
            np.full(len(beats), row), waits, 0.62, begins,
            facecolor="white", edgecolor=WAITING, lw=0.8,
        )  # fmt: skip
        longest = float(waits.max())
        label(axes, name, (0, row), -8, 0, xycoords=(axes.transAxes, axes.transData),
              fontsize=9, ha="right", color=INK)  # fmt: skip
        label(axes, f"{longest:.3f} s", (1, row), 6, 0,
              xycoords=(axes.transAxes, axes.transData), color=WAITING)  # fmt: skip
        told.append(f"{name}: {len(beats)} answers, the longest wait {longest:.3f} s")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0)
    few_ticks(axes.xaxis)
    axes.set_xlabel("seconds after the first beat")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    every = [beat for beats in rows.values() for beat in beats]
    note(figure, "right: longest wait", floor_of(every))
    return Drawing(figure, f"Heartbeats: {'; '.join(told)}")


@styled
def draw_steps(groups: Mapping[str, Iterable[Trace]]) -> Drawing:
    """How many tasks had finished by when, a stair for each group; the first in colour.

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
    # By fours, too, so that the pool's forty threads stand at a tick.
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10], integer=True))
    axes.set_xlabel("seconds after the first sending")
    axes.set_ylabel("tasks finished")
    note(figure, floor_of(trace for group in groups.values() for trace in group))
    told = [f"{name}: {len(ends)} tasks by {ends[-1]:.3f} s" for name, ends in stairs.items()]
    return Drawing(figure, f"Tasks finished over time: {'; '.join(told)}")
