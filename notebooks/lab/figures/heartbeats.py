"""Draws how long other callers wait while work goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..traces import Trace, Traces
from .look import (
    INK,
    WAITING,
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
def draw_heartbeat(strips: Mapping[str, Iterable[Trace]]) -> Drawing:
    """Draw a row for each run, with a bar for each answer as long as the caller waited for it.

    strips: the beats of each run, by its name. Raises ValueError when a run has no beat.
    """
    rows = {name: Traces(beats) for name, beats in strips.items()}
    empty = [name for name, beats in rows.items() if not beats]
    if empty or not rows:
        raise ValueError(f"no heartbeat to draw: {', '.join(empty) or 'no run was given'}")
    left = 24 + max(text_width(name, 9) for name in rows)
    figure, axes = canvas(7, 0.75 + 0.36 * len(rows), left, 62, 44, 10)
    parts = []
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
        parts.append(f"{name}: {len(beats)} answers, the longest wait {longest:.3f} s")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0)
    few_ticks(axes.xaxis)
    axes.set_xlabel("seconds after the first beat")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    every = [beat for beats in rows.values() for beat in beats]
    note(figure, "right: longest wait", floor_of(every))
    return Drawing(figure, f"Heartbeats: {'; '.join(parts)}")
