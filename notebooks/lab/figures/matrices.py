"""Draws verdicts: a row for each claim, a column for each thing that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import NamedTuple

from matplotlib.axes import Axes

from .look import INK, POINTS, REFERENCE, WAITING, WORK, Drawing, canvas, label, note, styled

LEFT, COLUMN, ROW, HEAD, FOOT, LINE = 196.0, 56.0, 36.0, 40.0, 18.0, 8.5  # points
LETTERS_OF_CLAIM, LETTERS_OF_CELL = 40, 12
MARKS = {True: ("o", WORK), False: ("X", WAITING), None: ("D", REFERENCE)}


class Verdict(NamedTuple):
    """What a cell says. text: in words. hoped_for: whether it is what one hopes for; None when it
    is sometimes. seen: how often, in words.
    """

    text: str
    hoped_for: bool | None
    seen: str


@styled
def draw_matrix(
    columns: Sequence[str], rows: Mapping[str, Sequence[Verdict | None]], remark: str = ""
) -> Drawing:
    """Draw a mark and a few words for each verdict; nothing where there is none.

    columns: their heads. rows: the verdicts of each claim, one for each column. remark: what is
    true of all of them. Raises ValueError when there is none.
    """
    if not columns or not rows:
        raise ValueError("no verdicts to draw: python -m lab radar finds some")
    heights = [max(ROW, *(_height(each) for each in verdicts)) for verdicts in rows.values()]
    width, height = LEFT + COLUMN * len(columns), HEAD + sum(heights) + FOOT
    figure, axes = canvas(width / POINTS, height / POINTS, 0, 0, FOOT, 0)
    axes.set_xlim(0, width)
    axes.set_ylim(height - FOOT, 0)
    axes.set_axis_off()
    for number, head in enumerate(columns):
        _lines(axes, wrap(head, LETTERS_OF_CELL), LEFT + (number + 0.5) * COLUMN, HEAD / 2, 8, INK)
    top = HEAD
    for (claim, verdicts), room in zip(rows.items(), heights, strict=True):
        axes.axhline(top, color=REFERENCE, lw=0.4)
        middle = top + room / 2
        _lines(axes, wrap(claim, LETTERS_OF_CLAIM), 8, middle, 8, INK, "left")
        for place, verdict in enumerate(verdicts):
            if verdict is not None:
                _cell(axes, verdict, LEFT + (place + 0.5) * COLUMN, middle)
        top += room
    note(figure, remark)
    return Drawing(figure, in_words(columns, rows))


def _words(verdict: Verdict) -> list[str]:
    return [line for part in verdict.text.split("; ") for line in wrap(part, LETTERS_OF_CELL)]


def _height(verdict: Verdict | None) -> float:
    return 0 if verdict is None else LINE * (len(_words(verdict)) + 1) + 10


def _cell(axes: Axes, verdict: Verdict, across: float, middle: float) -> None:
    shape, color = MARKS[verdict.hoped_for]
    lines = _words(verdict)
    top = middle - LINE * len(lines) / 2
    axes.plot([across - 8], [top], shape, color=color, ms=5, clip_on=False)
    label(axes, verdict.seen, (across, top), 0, 0, fontsize=6, color=REFERENCE)
    _lines(axes, lines, across, middle + LINE / 2, 7, INK)


def _lines(
    axes: Axes,
    lines: Sequence[str],
    across: float,
    middle: float,
    size: float,
    color: str,
    ha: str = "center",
) -> None:
    for number, text in enumerate(lines):
        drop = (number - (len(lines) - 1) / 2) * (size + 1.5)
        label(axes, text, (across, middle + drop), 0, 0, fontsize=size, color=color, ha=ha)


def in_words(columns: Sequence[str], rows: Mapping[str, Sequence[Verdict | None]]) -> str:
    """Return the content of a matrix as one sentence."""
    parts = [
        f"{claim}: "
        + ", ".join(
            f"{column} {verdict.text} ({verdict.seen})"
            for column, verdict in zip(columns, verdicts, strict=True)
            if verdict is not None
        )
        for claim, verdicts in rows.items()
    ]
    return f"Verdicts: {'; '.join(parts)}"
