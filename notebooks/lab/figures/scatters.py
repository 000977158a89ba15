"""Draws `answered` against `finished`, a mark for each request."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, cycle, repeat
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..traces import Trace
from ..traces.words import in_seconds
from .look import (
    MANY_MARKS,
    POINTS,
    REFERENCE,
    WAITING,
    Drawing,
    canvas,
    few_ticks,
    floor_of,
    label,
    note,
    some,
    styled,
    text_width,
)

SIDE = 4.4
MARGINS = 62.0


@styled
def draw_scatter(
    traces: Trace | Iterable[Trace] | None = None, /, **groups: Iterable[Trace]
) -> Drawing:
    """Draw the circles of `scatter`; count the requests without an answer or with lost work."""
    named = ({} if traces is None else {"": some(traces)}) | {
        name: some(group) for name, group in groups.items()
    }
    if not named:
        raise ValueError("no traces to draw: pass requests, or groups of them by keyword")
    points = {
        name: np.array(
            [
                (end, trace.answered)
                for trace in group
                if trace.answered is not None and (end := trace.finished) is not None
            ]
        )
        for name, group in named.items()
    }
    if bare := [name or "traces" for name, at in points.items() if not len(at)]:
        raise ValueError(f"no request with an answer and finished work in {', '.join(bare)}")
    total = sum(map(len, points.values()))
    missing = sum(map(len, named.values())) - total
    reach = max(at.max() for at in points.values()) * 1.08 or 1e-3
    figure, axes = canvas(SIDE, SIDE, 46, 16, 46, 16)
    axes.set_xlim(0, reach)
    axes.set_ylim(0, reach)
    axes.plot([0, reach], [0, reach], color=REFERENCE, lw=0.8, alpha=0.7)
    size, edge = (6.5, 1.4) if total <= 100 else (4.5, 1) if total <= MANY_MARKS else (3, 0.6)
    looks = chain([(WAITING, "o")], zip(repeat(REFERENCE), cycle("osD^v")))
    room = Room(axes, reach, np.concatenate(list(points.values())))
    room.write_along_diagonal("answered = finished")
    for (name, at), (color, marker) in zip(points.items(), looks, strict=False):
        axes.plot(*at.T, marker, mfc="none", color=color, ms=size, mew=edge,
                  clip_on=False, zorder=3 if color == WAITING else 2.5,
                  rasterized=total > MANY_MARKS)  # fmt: skip
        if name:
            room.write_beside(name, at[at[:, 0].argmax()], color)
    for axis, words in ((axes.xaxis, "finished (s)"), (axes.yaxis, "answered (s)")):
        few_ticks(axis)
        axis.set_label_text(words)
    unseen = f"{missing} unanswered or lost" if missing else ""
    note(figure, unseen, floor_of(trace for group in named.values() for trace in group))
    parts = [
        f"{name or 'requests'}: {len(at)} finished at {in_seconds(at[:, 0].min())} to"
        f" {in_seconds(at[:, 0].max())}, answered at {in_seconds(at[:, 1].min())} to"
        f" {in_seconds(at[:, 1].max())}"
        for name, at in points.items()
    ]
    return Drawing(figure, f"Answered against finished: {'; '.join([*parts, unseen]).rstrip('; ')}")


class Room:
    """The room that the points leave for labels on square axes, in points of type."""

    def __init__(self, axes: Axes, reach: float, points: Any) -> None:
        self._axes = axes
        self._side = SIDE * POINTS - MARGINS
        self._scale = self._side / reach
        self._points = points * self._scale

    def write_along_diagonal(self, text: str) -> None:
        """Write a text beside the diagonal, where the fewest points lie."""
        along = (self._points[:, 0] + self._points[:, 1]) / 2**0.5
        above = (self._points[:, 1] - self._points[:, 0]) / 2**0.5
        half = text_width(text, 8) / 2

        def crowd(place: tuple[float, int]) -> int:
            middle = place[0] * self._side * 2**0.5
            near = (abs(along - middle) < half + 5) & (abs(above - place[1]) < 10)
            return int(near.sum())

        places = [(share, away) for away in (12, -12) for share in (0.5, 0.62, 0.75, 0.38, 0.25)]
        share, away = min(places, key=crowd)
        at = share * self._side / self._scale
        label(self._axes, text, (at, at), -away / 2**0.5, away / 2**0.5, color=REFERENCE,
              rotation=45, rotation_mode="anchor", ha="center")  # fmt: skip
        half_box = half / 2**0.5
        middle = share * self._side
        steps = np.linspace(-half_box, half_box, 12) + middle
        # Text counts as points: later labels keep away from it.
        written = np.stack([steps - away / 2**0.5, steps + away / 2**0.5], 1)
        line = np.linspace([0, 0], [self._side, self._side], 100)
        self._points = np.concatenate([self._points, written, line])

    def write_beside(self, text: str, at: Any, color: str) -> None:
        """Write a text near a point, where the fewest other points lie."""
        x, y = at * self._scale
        wide, high = text_width(text, 9), 9.0
        corners = [
            (min(max(x + dx, 2.0), self._side - wide), min(max(y + dy, 8.0), self._side - high))
            for dy in (8, -8 - high, 20, -20 - high, -high / 2)
            for dx in (-wide + 4, -wide / 2, -4, -wide - 9, 9, 24)
        ]

        def crowd(corner: tuple[float, float]) -> int:
            inside = (self._points > np.array(corner) - 5) & (
                self._points < np.array(corner) + np.array([wide, high]) + 5
            )
            return int(inside.all(axis=1).sum())

        left, low = min(corners, key=crowd)
        label(self._axes, text, (0, 0), left, low, color=color, fontsize=9, va="baseline")
        across = np.linspace(left, left + wide, 8)
        self._points = np.concatenate(
            [self._points, np.stack([across, np.full_like(across, low + high / 2)], 1)]
        )
