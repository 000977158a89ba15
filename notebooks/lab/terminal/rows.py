"""Lays out the rows of a timeline in text: names, bars on one axis, moments and fates."""

from __future__ import annotations

import math
from typing import NamedTuple

from .inked import PLAIN, REFERENCE, STRONG, WAITING, Line, Piece, columns, fitted, padded

LEAST_BAR = 12
MOST_TICKS = 6
FULL_NAME, SHORT_NAME = 28, 14
LEFT, ENDED = "┊", "╎"


class Row(NamedTuple):
    """A row of a timeline.

    bars: (from, to, what fills its cells, ink), in seconds after sending. sign: stands behind the
    last bar. at: two moments, of which the first may be missing. fate: in words, unless it is to
    have finished. marks: moments of the server's end.
    """

    name: str
    runner: str = ""
    bars: tuple[tuple[float, float, str, str], ...] = ()
    sign: Piece | None = None
    at: tuple[float | None, float | None] = (None, None)
    fate: str = ""
    ink: str = PLAIN
    marks: tuple[float, ...] = ()


class Table:
    """The rows of a timeline, laid out: name, runner, bars, moments and fate.

    last: the moment at which the bars end, in seconds. width: in columns. responded: when the
    response had left, which a dotted line marks. axis: what the axis says.
    """

    def __init__(
        self, rows: list[Row], last: float, width: int, responded: float | None, axis: str
    ) -> None:
        self._rows = rows
        self._last = last
        self._width = width
        self._responded = responded
        self._places = 3 if last >= 0.1 else 4
        self._number = len(f"{last:.{self._places}f}")
        told = [len(self._moments(row)) + columns(row.fate) for row in rows]
        self._words = max(*told, len(axis))
        self._axis = axis
        runners = max(columns(row.runner) for row in rows)
        names = max(columns(row.name) for row in rows)
        # What is not needed gives way to the bars, step by step: it is told by the words, too.
        for self._names, self._runners in (
            (min(names, FULL_NAME), runners),
            (min(names, FULL_NAME), min(runners, SHORT_NAME)),
            (min(names, SHORT_NAME), min(runners, SHORT_NAME)),
            (min(names, SHORT_NAME), 0),
        ):
            self._bar = width - self._left - self._words - 2
            if self._bar >= LEAST_BAR:
                break
        if self._bar < 0:
            self._names, self._bar = max(self._names + self._bar, 1), 0

    @property
    def _left(self) -> int:
        return 2 + self._names + 2 + (self._runners and self._runners + 2)

    def lines(self) -> list[Line]:
        """Return a line for each row, and the axis."""
        return [*map(self._line, self._rows), self._below()]

    def _line(self, row: Row) -> Line:
        line = [Piece(f"  {padded(row.name, self._names)}  ")]
        if self._runners:
            line.append(Piece(f"{padded(row.runner, self._runners)}  ", REFERENCE))
        fate = fitted(row.fate, self._width - self._left - self._bar - 2 - len(self._moments(row)))
        line += self._cells(row)
        return [*line, Piece(f"  {self._moments(row)}", row.ink), Piece(fate, STRONG)]

    def _moments(self, row: Row) -> str:
        """The two moments of a row in columns of their own, and room for its fate."""
        if row.at == (None, None):
            return ""
        start, end = (
            f"{'' if at is None else f'{at:.{self._places}f}':>{self._number}}" for at in row.at
        )
        return f"{start} {'  ' if row.at[0] is None else 'to'} {end} s{'  ' if row.fate else ''}"

    def _cells(self, row: Row) -> list[Piece]:
        cells = [Piece(" ")] * self._bar
        if not cells:
            return cells
        if self._responded is not None:
            cells[self._half(self._responded) // 2] = Piece(LEFT, WAITING)
        after = 0
        for begin, end, fill, ink in row.bars:
            first = self._half(begin)
            behind = max(self._half(end), first + 1)
            after = math.ceil(behind / 2)
            for cell in range(first // 2, after):
                left, right = first <= cell * 2, cell * 2 + 1 < behind
                cells[cell] = Piece(fill[2 if left and right else 0 if left else 1], ink)
        if row.sign:
            cells[after] = row.sign
        for at in row.marks:
            cells[self._half(at) // 2] = Piece(ENDED, STRONG)
        return cells

    def _half(self, at: float) -> int:
        """In which half of a cell a moment lies; the last cell is kept for a sign."""
        return min(int(at / self._last * 2 * (self._bar - 1)), 2 * self._bar - 3)

    def _below(self) -> Line:
        drawn = ""
        for tick in ticks(self._last, self._bar):
            drawn = f"{drawn:{self._half(tick) // 2}}╵{plain(tick)}"
        gap = " " * self._left
        return [Piece(f"{gap}{drawn:{self._bar}}  {self._axis}", REFERENCE)]


def ticks(last: float, room: int) -> list[float]:
    """Return the round numbers from 0 to `last` that can be written beside each other.

    room: in columns, for all of them.
    """
    power = 10.0 ** (math.floor(math.log10(last)) - 1)
    for step in (power * each for each in (1, 2, 5, 10, 20, 50)):
        found = [number * step for number in range(int(last / step * 1.000001) + 1)]
        if len(found) <= MOST_TICKS and step / last * room > max(map(len, map(plain, found))) + 2:
            break
    while found and found[-1] / last * room + len(plain(found[-1])) + 1 > room:
        found.pop()
    return found


def plain(number: float) -> str:
    """Return a number without an exponent."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
