"""Draws the timeline: a row for each answer and each task, in seconds after sending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..traces import Task, Trace, Traces
from ..traces.words import answer_of, ended, error_name, in_seconds, last_moment, task_in_words
from .look import (
    INK,
    MANY_MARKS,
    POINTS,
    REFERENCE,
    WAITING,
    WORK,
    Drawing,
    canvas,
    few_ticks,
    fitted,
    floor_of,
    label,
    note,
    some,
    styled,
    text_width,
)

LABELLED_ROWS = 40
ROW = 22.0
BAR = 0.54


def draw_timeline(traces: Trace | Iterable[Trace], now: float | None = None) -> Drawing:
    """Draw the rows of `timeline`.

    now: seconds after the first sending, up to which unfinished work is drawn; by default the
    last known moment. Raises ValueError when there are no traces.
    """
    requests = some(traces)
    now = last_moment(requests) if now is None else now
    rows = len(requests) + len(requests.tasks)
    return (_labelled if rows <= LABELLED_ROWS else _dense)(requests, now)


@styled
def _labelled(requests: Traces, now: float) -> Drawing:
    first = min(trace.sent for trace in requests)
    answers = [answer_of(trace)[0] for trace in requests]
    left = 18 + max(*(text_width(name, 9) for name in answers), names_width(requests.tasks))
    groups = [f"request {number}" for number, _ in enumerate(requests, 1)]
    if len(requests) > 1:
        left += 14 + text_width(groups[-1], 9)
    rows = len(requests) * 1.4 - 0.4 + len(requests.tasks)
    height = (rows * ROW + 54) / POINTS
    figure, axes = canvas(7, height, left, 12, 36, 18)
    room = 7 * POINTS - left - 12
    ends: list[tuple[float, float]] = [(now, 4)]
    row = 0.0
    for trace, group in zip(requests, groups, strict=True):
        offset = trace.sent - first
        if len(requests) > 1:
            label(axes, group, (0, row), 12 - left, 0, xycoords=beside(axes), fontsize=9,
                  color=REFERENCE)  # fmt: skip
        ends.append(_answer(axes, trace, row, offset, now))
        top = row
        ends += task_rows(axes, trace, row + 1, offset, now)
        row += len(trace.tasks)
        if trace.responded is not None and trace.broken is None:
            at = offset + trace.responded
            axes.plot([at, at], [top - 0.5, row + 0.5], color=WAITING, lw=1, ls=(0, (2, 2)))
        row += 1.4
    span = span_for(ends, room)
    axes.set_xlim(0, span)
    axes.set_ylim(rows - 0.5, -0.5)
    if requests[0].responded is not None:
        at = requests[0].sent - first + requests[0].responded
        inward = at / span * room + text_width("responded", 7) > room
        label(axes, "responded", (at, -0.5), 0, 4, color=WAITING, fontsize=7, va="bottom",
              ha="right" if inward else "left")  # fmt: skip
    seconds_below(axes, requests)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    note(figure, floor_of(requests))
    return Drawing(figure, timeline_in_words(requests))


def _answer(axes: Axes, trace: Trace, row: float, offset: float, now: float) -> tuple[float, float]:
    name, at = answer_of(trace)
    label(axes, name, (0, row), -8, 0, xycoords=beside(axes), fontsize=9, ha="right")
    if at is not None:
        end, words = at + offset, in_seconds(at)
    elif trace.error is None and trace.gone is None:
        end, words = max(now, offset), "waiting"
        axes.plot(end, row, ">", color=WAITING, ms=7, clip_on=False)
    else:
        cut = next((at for at in (trace.broken, trace.gone, trace.returned) if at is not None), 0)
        end, words = offset + cut, error_name(trace.error, "lost")
        axes.plot(end, row, "x", color=INK, ms=6, zorder=4, clip_on=False)
    _bar(axes, row, offset, end, facecolor="white", edgecolor=WAITING, lw=1.3)
    return _at_end(axes, words, end, row, WAITING)


def names_of(task: Task) -> tuple[str, str]:
    """Return what a task's row is called, and below it in small how it was handed over."""
    runner = "" if task.runner == "background" else task.runner
    return fitted(task.name, 9, 190), fitted((runner + task.of_parent).strip(), 7, 190)


def names_width(tasks: list[Task]) -> float:
    """Return how wide the names beside the rows are, in points; 0 without any."""
    names = map(names_of, tasks)
    return max((max(text_width(a, 9), text_width(b, 7)) for a, b in names), default=0)


def task_rows(
    axes: Axes, trace: Trace, row: float, offset: float, now: float
) -> list[tuple[float, float]]:
    """Draw a row for each task, from `row` on; return where each one's label begins, and its width.

    From a task, a line leads to each that it handed over, at that moment.
    """
    rows = {id(task): row + place for place, task in enumerate(trace.tasks)}
    for task in trace.tasks:
        parent, child = rows.get(id(task.parent)), rows[id(task)]
        if parent is not None and task.added is not None:
            at = offset + task.added
            edge = parent + BAR / 2 if child > parent else parent - BAR / 2
            axes.plot([at, at], [edge, child], color=REFERENCE, lw=1, zorder=1.4)
            axes.plot(at, edge, "o", color=REFERENCE, ms=3, zorder=3, clip_on=False)
    return [_task_row(axes, task, rows[id(task)], offset, now) for task in trace.tasks]


def _task_row(axes: Axes, task: Task, row: float, offset: float, now: float) -> tuple[float, float]:
    name, below = names_of(task)
    label(axes, name, (0, row), -8, 4 if below else 0, xycoords=beside(axes), fontsize=9,
          ha="right")  # fmt: skip
    if below:
        label(axes, below, (0, row), -8, -6, xycoords=beside(axes), fontsize=7,
              ha="right", color=REFERENCE)  # fmt: skip
    state = task.state
    begin = next((at for at in (task.queued, task.added, task.started) if at is not None), None)
    if state == "never ran":
        box = {"boxstyle": "square,pad=0.35", "fc": "white", "ec": REFERENCE, "ls": "--"}
        return _at_end(axes, "never ran", offset + (task.gone or 0), row, REFERENCE, bbox=box)
    if state == "waiting":
        end = max(now, offset + (begin or 0))
        _wait(axes, row, offset + (begin or 0), end)
        return _at_end(axes, "waiting", end, row, WORK)
    start = offset + (task.started if task.started is not None else begin or 0)
    if begin is not None and offset + begin < start:
        _wait(axes, row, offset + begin, start)
    last = ended(task)
    end = max(now, start) if last is None else offset + last
    hatched = {"facecolor": "white", "hatch": "//////"} if state == "failed" else {}
    _bar(axes, row, start, end, **{"facecolor": WORK, "edgecolor": WORK, "lw": 0.8} | hatched)
    if state == "finished":
        return _at_end(axes, in_seconds(end - start), end, row, WORK)
    if state == "running":
        axes.plot(end, row, ">", color=WORK, ms=7, clip_on=False)
        return _at_end(axes, "running", end, row, WORK)
    axes.plot(end, row, "x", color="white", ms=8, mew=3.4, zorder=4, clip_on=False)
    axes.plot(end, row, "x", color=INK, ms=7, mew=1.6, zorder=5, clip_on=False)
    words = (
        f"{in_seconds(end - start)} {error_name(task.error, '')}" if state == "failed" else state
    )
    return _at_end(axes, words, end, row, INK)


def _bar(axes: Axes, row: float, start: float, end: float, **look: Any) -> None:
    axes.barh(row, end - start, BAR, start, zorder=2, clip_on=False, **look)


def _wait(axes: Axes, row: float, start: float, end: float) -> None:
    axes.plot([start, end], [row, row], color=WORK, lw=1, solid_capstyle="butt", zorder=1.5)


def _at_end(
    axes: Axes, words: str, at: float, row: float, color: str, **look: Any
) -> tuple[float, float]:
    """Write a text at the end of a bar; return that moment and the text's width in points."""
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    label(axes, words, (at, row), 8, 0, color=color, **{"bbox": behind} | look)
    return at, 14 + text_width(words, 8)


def beside(axes: Axes) -> tuple[Any, Any]:
    return (axes.transAxes, axes.transData)


def span_for(ends: list[tuple[float, float]], room: float) -> float:
    """Return how far the axis must reach for each label to end before the plot does.

    ends: where each label begins, in seconds, and its width, in points. room: the plot's width, in
    points.
    """
    return max(at / (1 - min(width, room * 0.8) / room) for at, width in ends) or 1e-3


def seconds_below(axes: Axes, requests: Traces) -> None:
    others = all(trace.of_another_client for trace in requests)
    few_ticks(axes.xaxis)
    axes.set_xlabel(f"seconds after {'receiving' if others else 'sending'}")


@styled
def _dense(requests: Traces, now: float) -> Drawing:
    """Draw rows without names: one per task, or for many requests one per request."""
    first = min(trace.sent for trace in requests)
    whole = len(requests) > LABELLED_ROWS
    spans: dict[str, list[tuple[float, float, float]]] = {WORK: [], INK: [], WAITING: []}
    begins = []
    row = -1
    for trace in requests:
        offset = trace.sent - first
        row += 1
        begins.append(row)
        answered = now - offset if trace.answered is None else trace.answered
        spans[WAITING].append((row, offset, offset + answered))
        for task in trace.tasks:
            row += not whole
            if task.started is not None:
                last = ended(task)
                sound = task.error is None and task.gone is None
                end = now if last is None else offset + last
                spans[WORK if sound else INK].append((row, offset + task.started, end))
    marks = sum(map(len, spans.values()))
    figure, axes = canvas(7, 4, 56, 12, 36, 12)
    span = max(end for bars in spans.values() for _, _, end in bars) * 1.02 or 1e-3
    axes.set_xlim(0, span)
    axes.set_ylim(row + 0.5, -0.5)
    # Thinner or shorter than this, in points, a row or an answer would not be visible.
    thickness = max(0.8 * (4 * POINTS - 48) / (row + 1), 0.75)
    shortest = 0.75 * span / (7 * POINTS - 68)
    for color, bars in spans.items():
        if bars:
            rows, starts, ends = np.array(bars).T
            gap = np.full_like(starts, np.nan)
            across = np.stack([starts, np.maximum(ends, starts + shortest), gap], 1)
            # One path with gaps draws three times as fast as a collection.
            axes.plot(across.ravel(), np.repeat(rows, 3), color=color, lw=thickness,
                      solid_capstyle="butt", rasterized=marks > MANY_MARKS)  # fmt: skip
    seconds_below(axes, requests)
    alone = len(requests) == 1
    if alone and requests[0].responded is not None:
        axes.axvline(requests[0].responded, color=WAITING, lw=1, ls=(0, (2, 2)))
    axes.set_ylabel("task" if alone else "request")
    number_rows(axes, list(range(row + 1)) if alone else begins, 0 if alone else 1)
    states = Counter(task.state for task in requests.tasks)
    del states["finished"]
    note(figure, *(f"{n} {state}" for state, n in states.items()), floor_of(requests))
    return Drawing(figure, timeline_in_words(requests))


def number_rows(axes: Axes, rows: list[int], first: int) -> None:
    """Number the rows of an axis, but only as many as can be read."""
    step = next(step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power)
                if len(rows) <= 6 * step)  # fmt: skip
    picked = [n for n in range(first, len(rows) + first) if n % step == 0 or n == first == 1]
    axes.set_yticks([rows[n - first] for n in picked], [str(n) for n in picked])


def timeline_in_words(requests: Traces) -> str:
    """Return the content of a timeline as one sentence."""
    name, _ = answer_of(requests[0])
    answers = [at for trace in requests for _, at in [answer_of(trace)] if at is not None]
    if len(requests) > 1:
        states = Counter(task.state for task in requests.tasks)
        parts = [f"{len(answers)} {name}"]
        if answers:
            parts[0] += f" after {in_seconds(min(answers))} to {in_seconds(max(answers))}"
        parts += [f"{count} tasks {state}" for state, count in states.items()]
        return f"Timeline of {len(requests)} requests: {'; '.join(parts)}"
    parts = [f"{name} at {in_seconds(answers[0])}" if answers else f"not {name}"]
    tasks = requests.tasks
    parts += [task_in_words(task) for task in tasks[:LABELLED_ROWS]]
    if len(tasks) > LABELLED_ROWS:
        parts.append(f"and {len(tasks) - LABELLED_ROWS} more tasks")
    return f"Timeline: {'; '.join(parts)}"
