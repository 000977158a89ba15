"""Draws the answer time and the wait before the work against the load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter

from ..traces import Trace, Traces
from .look import (
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
)

LEAST = 1e-4  # seconds; a logarithmic axis has no zero: a task that did not wait is drawn here


def waits(traces: Iterable[Trace]) -> list[float]:
    """Return, for each task that began, the seconds from its response to its start."""
    return [
        max(0.0, task.started - trace.responded)
        for trace in traces
        for task in trace.tasks
        if task.started is not None and trace.responded is not None
    ]


@styled
def draw_knee(runs: Mapping[float, Iterable[Trace]]) -> Drawing:
    """Draw the answer time and the wait before the work (p50 and p99) against the load.

    runs: the requests made at each load, in percent of capacity. Raises ValueError when there is
    no load, or one without a task.
    """
    loads = sorted(runs)
    groups = [Traces(runs[load]) for load in loads]
    if not loads or not all(waits(group) for group in groups):
        raise ValueError("no load to draw: give requests with tasks for each percentage")
    answered = [[trace.answered or 0.0 for trace in group] for group in groups]
    waited = [waits(group) for group in groups]
    figure, axes = canvas(7, 3.6, 56, 96, 44, 14)
    parts = []
    ends = []
    for name, color, face, values in (
        ("answered", WAITING, "white", answered),
        ("waited", WORK, WORK, waited),
    ):
        for percent, style in ((50, "-"), (99, (0, (2, 2)))):
            heights = [max(LEAST, float(np.percentile(each, percent))) for each in values]
            axes.plot(loads, heights, color=color, ls=style, lw=1.5, marker="o", ms=5,
                      markerfacecolor=face, clip_on=False, zorder=3)  # fmt: skip
            ends.append((f"{name} p{percent}", heights[-1], color))
            parts.append(f"{name} p{percent} {heights[0]:.4f} s to {heights[-1]:.4f} s")
    axes.axvline(100, color=REFERENCE, lw=0.8)
    axes.set_yscale("log")
    axes.set_xlim(0, loads[-1] * 1.02)
    label(axes, "capacity", (100, 1), -4, -6, xycoords=("data", "axes fraction"),
          color=REFERENCE, ha="right", fontsize=7)  # fmt: skip
    lowest, highest = axes.get_ylim()
    per_point = (np.log(highest) - np.log(lowest)) / (3.6 * 72 - 58)
    last = -np.inf
    for name, height, color in sorted(ends, key=lambda end: end[1]):
        wanted = np.log(height) / per_point
        last = max(wanted, last + 11)
        label(axes, name, (loads[-1], height), 10, float(last - wanted), color=color)
    few_ticks(axes.xaxis, whole=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
    axes.set_xlabel("load (% of capacity)")
    axes.set_ylabel("seconds")
    note(figure, floor_of(trace for group in groups for trace in group))
    return Drawing(
        figure, f"Load from {loads[0]:g} to {loads[-1]:g} % of capacity: {'; '.join(parts)}"
    )
