"""Serves an app and prints each of its requests, whoever sends it, as it settles."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..servers.web import Web, serve
from ..traces import Trace
from ..traces.files import TraceFile
from .window import Window, summary

LOOK_EVERY = 0.05  # seconds
LET_FINISH = 30.0

DEFAULT = [sys.executable, "-m", "uvicorn", "{app}", "--port", "{port}"]


def watch(app: str, command: list[str], cwd: Path | None, save: Path | None) -> int:
    """Serve an app until Control-C, and print its requests; return the exit code.

    app: where to import it from ("shop.main:app"). command: what serves it, with {app} and {port}
    in it; uvicorn, if empty. cwd: the folder that it is started in. save: a file that each request
    is added to.
    """
    with contextlib.ExitStack() as ends:
        ends.enter_context(terminated_like_interrupted())
        try:
            file = ends.enter_context(TraceFile(save)) if save else None
            web = serve(app, command=shlex.join(command or DEFAULT), cwd=cwd, watch_loop=True)
        except (OSError, RuntimeError, ValueError) as error:
            note(str(error))
            return 1
        except KeyboardInterrupt:
            return 130  # as a shell says it
        return Watch(web, file).run()


class Watch:
    """The watch on a running server. file: where its requests are kept, too."""

    def __init__(self, web: Web, file: TraceFile | None) -> None:
        self._web = web
        self._file = file
        self._window = Window()
        self._last = ""
        self._open: dict[str, Trace] = {}

    def run(self) -> int:
        """Print requests until Control-C, or until the server ends by itself: an error."""
        note(f"watching {self._web.url}; Control-C ends it")
        try:
            while not self._web.ended:
                self._print_settled()
                time.sleep(LOOK_EVERY)
        except KeyboardInterrupt:
            with contextlib.suppress(KeyboardInterrupt, TimeoutError):
                note("ending when its work is done; Control-C again ends it now")
                self._web.stop(LET_FINISH)
            exit_code = 0
        else:
            note(f"the server has ended by itself, with {self._web.exit_code}")
            exit_code = 1
        self._print_settled()
        for trace in self._open.values():
            self._print(trace)
        self._window.say(summary(self._web.traces))
        return exit_code

    def _print_settled(self) -> None:
        for trace in self._new():
            self._open[trace.id] = trace
        for trace in [trace for trace in self._open.values() if trace.settled]:
            del self._open[trace.id]
            self._print(trace)

    def _new(self) -> list[Trace]:
        """The requests that have come since the last look."""
        traces, new = self._web.traces, []
        for trace in reversed(traces):
            if trace.id == self._last:
                break
            new.append(trace)
        self._last = traces[-1].id if traces else ""
        return new[::-1]

    def _print(self, trace: Trace) -> None:
        if self._file:
            try:
                self._file.add(trace)
            except OSError as error:
                self._file = None
                note(f"{error}: from here on, requests are not kept")
        self._window.show(trace)


def note(text: str) -> None:
    """Tell of the watch itself, beside what it prints."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Take SIGTERM for Control-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
