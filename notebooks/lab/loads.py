"""Draws what growing load does: how long work waits at each rate, and how much of it piles up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter

from .ink import (
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
from .traces import Trace, Traces

LEAST = 1e-4  # a logarithmic axis has no zero: what did not wait stands here


def waits(traces: Iterable[Trace]) -> list[float]:
    """For each task that began: seconds from when its response left to when it began."""
    return [
        max(0.0, task.started - trace.responded)
        for trace in traces
        for task in trace.tasks
        if task.started is not None and trace.responded is not None
    ]


@styled
def draw_knee(runs: Mapping[float, Iterable[Trace]]) -> Drawing:
    """The answer and the wait before the work began (p50 and p99), against the load.

    runs: the requests made at each load, in percent of capacity. Raises ValueError when there is
    none, or one without a task.
    """
    loads = sorted(runs)
    groups = [Traces(runs[load]) for load in loads]
    if not loads or not all(waits(group) for group in groups):
        raise ValueError("no load to draw: give requests with tasks for each percentage")
    answered = [[trace.answered or 0.0 for trace in group] for group in groups]
    waited = [waits(group) for group in groups]
    figure, axes = canvas(7, 3.6, 56, 96, 44, 14)
    told = []
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
            told.append(f"{name} p{percent} {heights[0]:.4f} s to {heights[-1]:.4f} s")
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
        figure, f"Load from {loads[0]:g} to {loads[-1]:g} % of capacity: {'; '.join(told)}"
    )


@styled
def draw_backlog(groups: Mapping[str, Iterable[Trace]]) -> Drawing:
    """How many tasks were accepted and not yet finished, over time; the last group in colour.

    groups: requests by name. Raises ValueError when a group has no finished task.
    """
    lines = {name: pending(Traces(group)) for name, group in groups.items()}
    if not lines or not all(len(times) for times, _ in lines.values()):
        raise ValueError("no backlog to draw: give requests with finished tasks by name")
    figure, axes = canvas(7, 3.0, 46, 24, 44, 12)
    told = []
    for number, (name, (times, counts)) in enumerate(lines.items(), 1):
        main = number == len(lines)
        color = WORK if main else REFERENCE
        axes.plot(times, counts, drawstyle="steps-post", color=color, lw=1.8 if main else 1.1)
        top = int(np.argmax(counts))
        label(axes, name, (times[top], counts[top]), 0, 8, color=color, fontsize=9, ha="center")
        told.append(f"{name}: at most {counts[top]}")
    axes.set_xlim(0)
    axes.set_ylim(0, 1.12 * max(counts.max() for _, counts in lines.values()))
    few_ticks(axes.xaxis)
    few_ticks(axes.yaxis, whole=True)
    axes.set_xlabel("seconds after the first sending")
    axes.set_ylabel("tasks accepted, not finished")
    note(figure, floor_of(trace for group in groups.values() for trace in group))
    return Drawing(figure, f"Backlog over time: {'; '.join(told)}")


def pending(requests: Traces) -> tuple[np.ndarray, np.ndarray]:
    """The moments at which the number of accepted, unfinished tasks changes, and that number."""
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
