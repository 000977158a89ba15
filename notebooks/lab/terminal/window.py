"""Prints traces in a window as wide as that is, in colours where there are some."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TextIO

from ..traces import Trace, Traces
from ..traces.words import answer_of, in_seconds
from .timelines import text_timeline


class Window:
    """Where timelines are printed: a terminal's window, or a pipe, which is told no colours."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        reconfigure = getattr(self._out, "reconfigure", None)
        if reconfigure:  # an encoding without bars must not end the watch
            reconfigure(errors="replace")
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self._colours = self._out.isatty() and not plain

    def show(self, trace: Trace) -> None:
        """Print a request's timeline."""
        text = text_timeline(trace, shutil.get_terminal_size().columns, self._colours)
        self.say(f"{text}\n" if "\n" in text else text)

    def say(self, text: str) -> None:
        try:
            print(text, file=self._out, flush=True)
        except BrokenPipeError:  # whoever read has seen enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            raise SystemExit(0) from None


def show(path: str | Path) -> int:
    """Print the requests of a file, and sum them up; return the exit code."""
    try:
        traces = Traces.load(path)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    window = Window()
    for trace in traces:
        window.show(trace)
    window.say(summary(traces))
    return 0


def summary(traces: Traces) -> str:
    """Return how many requests there were, when they were answered, and what became of tasks."""
    told = [counted(len(traces), "request")]
    for name in ("answered", "responded"):
        moments = sorted(
            at for known, at in map(answer_of, traces) if known == name and at is not None
        )
        if moments:
            p50, p99 = moments[len(moments) // 2], moments[len(moments) * 99 // 100]
            told.append(f"{name} after {in_seconds(p50)} (p50), {in_seconds(p99)} (p99)")
    fates = Counter(task.state for task in traces.tasks)
    fates_told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    tasks = f"{counted(fates.total(), 'task')}: {fates_told}" if fates else "no tasks"
    return f"{'; '.join(told)}\n{tasks}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
