"""Draws how moments grow with a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from ..traces import Trace
from ..traces.words import in_seconds
from .look import (
    POINTS,
    WAITING,
    WORK,
    Drawing,
    canvas,
    few_ticks,
    floor_of,
    label,
    note,
    some,
    spread,
    styled,
)


@styled
def draw_growth(traces: Mapping[float, Trace | Iterable[Trace]], x: str = "tasks") -> Drawing:
    """Draw the two lines of `growth`, through the median of each number's requests."""
    groups = {number: some(group) for number, group in sorted(traces.items())}
    if not groups:
        raise ValueError("no traces to draw: pass requests for at least one number")
    figure, axes = canvas(4.4, 3.4, 46, 60, 46, 16)
    parts, ends = [], []
    for name, look in (
        ("finished", {"color": WORK, "mfc": WORK}),
        ("answered", {"color": WAITING, "mfc": "white"}),
    ):
        points = [
            (number, at)
            for number, group in groups.items()
            for trace in group
            if (at := getattr(trace, name)) is not None
        ]
        if not points:
            raise ValueError(f"no request has {name}")
        middles = {number: median(at for n, at in points if n == number) for number, _ in points}
        axes.plot(*zip(*points, strict=True), "o", mec=look["color"], mfc=look["mfc"], zorder=3,
                  clip_on=False)  # fmt: skip
        axes.plot([*middles], [*middles.values()], color=look["color"], lw=1.2)
        last = [*middles][-1]
        ends.append((name, look["color"], last, middles[last]))
        parts.append(
            f"{name} {in_seconds(middles[points[0][0]])} at {points[0][0]:g}"
            f" and {in_seconds(middles[last])} at {last:g}"
        )
    high = axes.dataLim.y1 * 1.06 or 1e-3
    axes.set_xlim(0, max(groups) * 1.04 or 1)
    axes.set_ylim(0, high)
    per_point = high / (3.4 * POINTS - 62)
    # Above the axis, whose line would strike a label through.
    heights = spread([max(at, 6 * per_point) for *_, at in ends], 11 * per_point)
    for (name, color, last, at), height in zip(ends, heights, strict=True):
        label(axes, name, (last, at), 9, (height - at) / per_point, color=color, fontsize=9)
    few_ticks(axes.xaxis, whole=all(number == int(number) for number in groups))
    few_ticks(axes.yaxis)
    axes.set_xlabel(x)
    axes.set_ylabel("seconds after sending")
    note(figure, floor_of(trace for group in groups.values() for trace in group))
    return Drawing(figure, f"Growth with {x}: {'; '.join(parts)}")
