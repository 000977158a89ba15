"""Draws the timeline of one request in text: a row for the answer and for each task."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections import Counter
from typing import NamedTuple

from ..traces import Task, Trace, Traces
from ..traces.words import answer_of, ended, last_moment

MOST_ROWS, MOST_NOTES = 40, 8
NARROWEST = 40
LEAST_BAR = 12
SHORTEST = 1e-3  # seconds; without any stamp, too, there is an axis
MOST_TICKS = 6
FULL_NAME, SHORT_NAME = 28, 14

# One ink per meaning, as in the figures; each as a terminal with 256 colours is told.
WAITING, WORK, REFERENCE, STRONG, PLAIN = "38;5;166", "38;5;32", "38;5;245", "1", ""

# What fills a cell: its left half, its right half, both.
ANSWER, WAIT, RUN, FAILED = "╸╺━", "╴╶─", "▌▐█", "▒▒▒"
CUT, OPEN, NEVER, LEFT, ENDED = "✗", "►", "╌", "┊", "╎"


class Piece(NamedTuple):
    """A piece of a line. ink: its colour or weight, as the numbers of an SGR sequence."""

    text: str
    ink: str = PLAIN


Line = list[Piece]


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


def text_timeline(trace: Trace, width: int = 80, colours: bool = False) -> str:
    """Return a trace as a timeline in lines of text.

    width: of the window, in columns; under 40 it counts as 40. colours: whether to colour it, by
    ANSI sequences.
    """
    return "\n".join(written(line, colours) for line in lines_of(trace, width))


def written(line: Line, colours: bool) -> str:
    """Return a line as a terminal is told it, or plain."""
    told = ""
    for ink, pieces in itertools.groupby(line, key=lambda piece: piece.ink):
        text = "".join(piece.text for piece in pieces)
        told += f"\x1b[{ink}m{text}\x1b[m" if colours and ink and text.strip() else text
    return told.rstrip()


def lines_of(trace: Trace, width: int) -> list[Line]:
    """Return the lines of a timeline, none wider than `width` columns; without tasks, one line."""
    width = max(width, NARROWEST)
    name, at = answer_of(trace)
    alone = at is not None and not trace.tasks and not trace.ending
    moment = f"  {name} after {at:.3f} s" if alone else ""
    status = f"  {trace.status or 'no answer'}"
    room = width - len(status) - len(moment)
    head = [Piece(fitted(f"{trace.method} {trace.path}", room), STRONG), Piece(status)]
    lines = [[*head, Piece(moment, WAITING)]]
    if not alone:
        rows = [answer_row(trace), *map(task_row, trace.tasks[:MOST_ROWS])]
        rows += [ending_row(trace)] if trace.ending else []
        last = max(last_moment(Traces([trace])), *(at for _, at in trace.ending), SHORTEST)
        zero = "receiving" if trace.of_another_client else "sending"
        lines += Table(rows, last, width, trace.responded, f"s after {zero}").lines()
    return lines + [[Piece("  " + fitted(note, width - 2), ink)] for note, ink in notes(trace)]


def notes(trace: Trace) -> list[tuple[str, str]]:
    """Return what stands below a timeline: what it has no room for, and what went wrong."""
    rest = Counter(task.state for task in trace.tasks[MOST_ROWS:])
    more = ", ".join(f"{count} {state}" for state, count in rest.items())
    told = [(f"and {rest.total()} more tasks: {more}", REFERENCE)] if rest else []
    times = Counter(problems(trace))
    for what in [*times][:MOST_NOTES]:
        told.append((f"! {what}" + (f" ({times[what]} times)" if times[what] > 1 else ""), STRONG))
    if len(times) > MOST_NOTES:
        told.append((f"! and {len(times) - MOST_NOTES} more", STRONG))
    return told


def problems(trace: Trace) -> list[str]:
    """Return what went wrong behind a request, a sentence each."""
    told = [f"no answer: {trace.error}"] if trace.error else []
    if (trace.status or 0) >= 500:  # the answer does not say why; what was logged may
        told += [line for line in trace.log if line.startswith("ERROR")]
    told += [f"{task.name} failed: {task.error}" for task in trace.tasks if task.state == "failed"]
    return told + ([f"stamps may be missing: {trace.unseen}"] if trace.unseen else [])


def answer_row(trace: Trace) -> Row:
    name, at = answer_of(trace)
    if at is not None:
        return Row(name, bars=((0, at, ANSWER, WAITING),), at=(None, at), ink=WAITING)
    if trace.error is None and trace.gone is None:
        bar = (0, last_moment(Traces([trace])), ANSWER, WAITING)
        return Row(name, bars=(bar,), sign=Piece(OPEN, WAITING), fate="waiting")
    cut = next((at for at in (trace.broken, trace.gone, trace.returned) if at is not None), 0.0)
    fate = "broken" if trace.error else "lost"
    bar = (0, cut, ANSWER, WAITING)
    return Row(name, bars=(bar,), sign=Piece(CUT, STRONG), at=(None, cut), fate=fate)


def task_row(task: Task) -> Row:
    name, runner, state = task.name, task.runner + task.of_parent, task.state
    begin = next((at for at in (task.queued, task.added, task.started) if at is not None), 0.0)
    start, end = task.started, ended(task)
    if start is None:
        never = ((begin, begin if end is None else end, NEVER * 3, REFERENCE),)
        sign = Piece(OPEN, REFERENCE) if end is None else None
        return Row(name, runner, never, sign, fate=state)
    bars = [(begin, start, WAIT, WORK)] if begin < start else []
    bars.append((start, start if end is None else end, FAILED if state == "failed" else RUN, WORK))
    if state == "finished":
        return Row(name, runner, (*bars,), at=(start, end), ink=WORK)
    if end is None:
        return Row(name, runner, (*bars,), Piece(OPEN, WORK), (None, start), state)
    return Row(name, runner, (*bars,), Piece(CUT, STRONG), (start, end), state)


def ending_row(trace: Trace) -> Row:
    fate = ", ".join(what for what, _ in trace.ending)
    return Row("server", fate=fate, marks=tuple(at for _, at in trace.ending))


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


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "FW")
        for sign in text
    )


def fitted(text: str, room: int) -> str:
    """Return a text in one line of at most `room` columns, shortened in its middle.

    Signs that a terminal might obey are shown as replaced.
    """
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    kept, short = len(text), text
    while columns(short) > room and kept > 1:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def padded(text: str, room: int) -> str:
    """Return a text that takes exactly `room` columns."""
    short = fitted(text, room)
    return short + " " * (room - columns(short))
