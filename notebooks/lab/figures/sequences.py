"""Draws the sequence of one request: the calls behind it, each with its measured moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from ..traces import Task, Trace
from ..traces.words import ended, error_name, in_seconds
from .look import (
    INK,
    POINTS,
    REFERENCE,
    WAITING,
    WORK,
    Drawing,
    canvas,
    fitted,
    floor_of,
    label,
    note,
    styled,
)

# The places of the lifelines, and distances, in points.
CLIENT, SERVER, BACKGROUND = 30.0, 186.0, 362.0
TOP = 54.0
STEP = 30.0
THICK = 8.0


class Step(NamedTuple):
    """A step of a request.

    moment: seconds after sending. draw: draws the step at a height, in points.
    """

    moment: float
    words: str
    draw: Callable[[float], None]


@styled
def draw_sequence(trace: Trace) -> Drawing:
    """Draw the three lifelines of `sequence`: steps from top to bottom, in order, not to scale."""
    lanes = lanes_of(trace.tasks)
    figure, axes = canvas(7, 1, 0, 0, 0, 0)
    steps = sorted(Steps(axes, trace, lanes).all(), key=lambda step: step.moment)
    deep = TOP + STEP * len(steps)
    figure.set_figheight(deep / POINTS)
    axes.set_xlim(0, 7 * POINTS)
    axes.set_ylim(deep, 0)
    axes.set_axis_off()
    for x, name in (
        (CLIENT, "client"), (SERVER, "server (FastAPI)"), (BACKGROUND, "background work")
    ):  # fmt: skip
        label(axes, name, (x, 14), 0, 0, ha="center", fontsize=9)
        axes.plot([x, x], [32, deep - 18], color=REFERENCE, lw=0.8, ls=(0, (3, 3)), zorder=0.5)
    if trace.tasks and all(task.runner == "background" for task in trace.tasks):
        label(axes, "no queue: run by the same call", (BACKGROUND, 25), 0, 0, ha="center",
              fontsize=7, color=REFERENCE)  # fmt: skip
    for number, step in enumerate(steps):
        step.draw(TOP + STEP * number)
    note(figure, floor_of([trace]))
    parts = [f"{step.words} at {in_seconds(step.moment)}" for step in steps]
    return Drawing(figure, f"Sequence of {trace}: {'; '.join(parts)}")


def lanes_of(tasks: list[Task]) -> list[int]:
    """Return for each task the first lane that is free while it runs.

    Tasks side by side ran at the same time.
    """
    lanes = [0] * len(tasks)
    free_from: list[float] = []
    began = [(task.started, n) for n, task in enumerate(tasks) if task.started is not None]
    for start, n in sorted(began):
        end = ended(tasks[n])
        until = float("inf") if end is None else end
        lane = next((i for i, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[lane : lane + 1] = [until]
        lanes[n] = lane
    return lanes


class Steps:
    """The steps of one request; they must be drawn from the first to the last."""

    def __init__(self, axes: Axes, trace: Trace, lanes: list[int]) -> None:
        self._axes = axes
        self._trace = trace
        self._lanes = lanes
        self._words_from = BACKGROUND + max(lanes, default=0) * (THICK + 2) + 10
        self._call_began = TOP
        self._began = [TOP] * len(lanes)

    def all(self) -> list[Step]:
        trace = self._trace
        steps = [Step(0.0, f"{trace.method} {trace.path}", self._request)]
        if trace.responded is not None:
            steps.append(Step(trace.responded, f"{trace.status} responded", self._response))
        for n, task in enumerate(trace.tasks):
            steps += self._of(n, task)
        if trace.returned is not None:
            steps.append(Step(trace.returned, "call returned", self._end_of_call))
        elif trace.gone is not None:
            steps.append(Step(trace.gone, "server gone", self._end_of_call))
        return steps

    def _of(self, n: int, task: Task) -> list[Step]:
        steps = []
        if task.added is not None and task.runner == "background":
            steps.append(Step(task.added, f"add_task({task.name})", lambda y: self._add(task, y)))
        if task.started is not None:
            words = f"{task.name} started"
            steps.append(Step(task.started, words, lambda y: self._start(n, task, y)))
        end = ended(task)
        if end is not None:
            steps.append(Step(end, f"{task.name} {task.state}", lambda y: self._end(n, task, y)))
        return steps

    def _request(self, y: float) -> None:
        trace = self._trace
        received = "" if trace.received is None else f"received {in_seconds(trace.received)}"
        words = f"{trace.method} {trace.path}"
        self._arrow(CLIENT, SERVER - THICK / 2, y, words, INK, "sent 0 s", received)
        self._call_began = y

    def _response(self, y: float) -> None:
        trace = self._trace
        answered = (
            "no answer" if trace.answered is None else f"answered {in_seconds(trace.answered)}"
        )
        responded = f"responded {in_seconds(trace.responded or 0)}"
        self._axes.plot([CLIENT] * 2, [self._call_began, y], color=WAITING, lw=1.6)
        words = str(trace.status or "")
        self._arrow(SERVER - THICK / 2, CLIENT, y, words, WAITING, answered, responded)

    def _end_of_call(self, y: float) -> None:
        self._block(SERVER, self._call_began, y, facecolor="white", edgecolor=REFERENCE)
        at = self._trace.returned
        words = "gone" if at is None else f"returned {in_seconds(at)}"
        label(self._axes, words, (SERVER, y), -10, 0, ha="right", fontsize=7, color=REFERENCE)

    def _add(self, task: Task, y: float) -> None:
        start, end = SERVER + THICK / 2, BACKGROUND - THICK / 2
        self._arrow(start, end, y, f"add_task({task.name})", INK, in_seconds(task.added or 0))

    def _start(self, n: int, task: Task, y: float) -> None:
        self._began[n] = y
        x = BACKGROUND + self._lanes[n] * (THICK + 2)
        runner = "run" if task.runner == "background" else task.runner
        self._arrow(SERVER + THICK / 2, x - THICK / 2, y, runner, WORK)
        self._write(x, y, task.name, f"started {in_seconds(task.started or 0)}", WORK)

    def _end(self, n: int, task: Task, y: float) -> None:
        state = task.state
        if state == "never ran":
            self._write(self._words_from - 10, y, task.name, state, REFERENCE)
            return
        x = BACKGROUND + self._lanes[n] * (THICK + 2)
        look = {"facecolor": "white", "hatch": "//////"} if state == "failed" else {}
        self._block(x, self._began[n], y, **{"facecolor": WORK, "edgecolor": WORK} | look)
        if state != "finished":
            self._axes.plot(x, y, "x", color="white", ms=8, mew=3.4, zorder=5)
            self._axes.plot(x, y, "x", color=INK, ms=7, mew=1.6, zorder=5)
        words = error_name(task.error, state) if state == "failed" else state
        at = ended(task) or 0
        name = task.name if max(self._lanes) else ""
        color = WORK if state == "finished" else INK
        self._write(x, y, name, f"{words} {in_seconds(at)}", color)

    def _block(self, x: float, top: float, low: float, **look: Any) -> None:
        self._axes.bar(x, low - top, THICK, top, lw=1, **look)

    def _write(self, x: float, y: float, words: str, moment: str, color: str) -> None:
        left = self._words_from
        if left > x + 10:
            self._axes.plot([x, left - 2], [y, y], color=REFERENCE, lw=0.5, zorder=0.4)
        words = fitted(words, 8, 7 * POINTS - left - 8)
        label(self._axes, words, (left, y), 0, 5, color=color)
        label(self._axes, moment, (left, y), 0, -5 if words else 0, color=color, fontsize=7)

    def _arrow(
        self, start: float, end: float, y: float, words: str, color: str,
        left: str = "", right: str = "",
    ) -> None:  # fmt: skip
        """Draw an arrow with words above it and a moment below each of its ends."""
        arrow = {"arrowstyle": "-|>", "color": color, "lw": 1, "shrinkA": 0, "shrinkB": 0}
        self._axes.annotate("", (end, y), (start, y), arrowprops=arrow)
        low, high = min(start, end), max(start, end)
        label(self._axes, fitted(words, 8, high - low - 4), ((low + high) / 2, y), 0, 6,
              ha="center", color=color)  # fmt: skip
        label(self._axes, left, (low, y), 6, -7, fontsize=7, color=color)
        label(self._axes, right, (high, y), -6, -7, ha="right", fontsize=7, color=color)
