"""Draws the timeline of one request in text: a row for the answer and for each task."""

from __future__ import annotations

from collections import Counter

from ..traces import Task, Trace, Traces
from ..traces.words import answer_of, ended, last_moment
from .inked import REFERENCE, STRONG, WAITING, WORK, Line, Piece, fitted, written
from .rows import Row, Table

MOST_ROWS, MOST_NOTES = 40, 8
NARROWEST = 40
SHORTEST = 1e-3  # seconds; without any stamp, too, there is an axis

# What fills a cell: its left half, its right half, both.
ANSWER, WAIT, RUN, FAILED, NEVER = "╸╺━", "╴╶─", "▌▐█", "▒▒▒", "╌╌╌"
CUT, OPEN = "✗", "►"


def text_timeline(trace: Trace, width: int = 80, colours: bool = False) -> str:
    """Return a trace as a timeline in lines of text.

    width: of the window, in columns; under 40 it counts as 40. colours: whether to colour it, by
    ANSI sequences.
    """
    return "\n".join(written(line, colours) for line in lines_of(trace, width))


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
    """Return what went wrong behind a request, a sentence each, and what was logged of it."""
    # The answer of a failed endpoint does not say why; what was logged may.
    failed = (trace.status or 0) >= 500
    logged = [line for line in trace.log if line.startswith("ERROR")] if failed else []
    return logged + trace.problems


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
        never = ((begin, begin if end is None else end, NEVER, REFERENCE),)
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
