"""A server on a thread of the notebook's process."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..observer.asgi import App
from ..observer.hooks import hooked
from ..traces import Ledger, until
from .collector import Collector
from .travelling import imported
from .watched_uvicorn import WatchedServer, why_not

T = TypeVar("T")

START_TIMEOUT = 20.0


class InThread:
    """A server on a thread of this process, with an event loop of its own."""

    place = "thread"
    exit_code: int | None = None

    def __init__(
        self, app: App | str, ledger: Ledger, settings: dict[str, Any], watch_loop: bool = False
    ) -> None:
        if isinstance(app, str):
            try:
                app = imported(app)
            except Exception as error:
                raise RuntimeError(why_not(error)) from error
        self.url = ""
        self.pid = os.getpid()
        self.until = until
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.collector = Collector(
            ledger.enter, ledger.miss_stamps, noted=functools.partial(len, ledger.noted)
        )
        self._server = self._make(
            app, ledger.note, self.collector.reporter, settings, self._up, watch_loop
        )
        with contextlib.ExitStack() as ending:
            ending.callback(self.collector.close)
            ending.callback(self._server.give_up)
            self._start()
            if not self.url:
                late = TimeoutError(f"not ready after {START_TIMEOUT:g} s")
                cause = self._server.probed.startup_error or self._failure or late
                raise RuntimeError(why_not(cause)) from cause
            ending.pop_all()

    _make = WatchedServer

    def _start(self) -> None:
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="lab server", daemon=True).start()
        self._ready.wait(START_TIMEOUT)

    def _up(self, url: str) -> None:
        self.url = url
        self._ready.set()

    def _run(self) -> None:
        try:
            with self._attended():
                self._server.run()
        finally:
            self._ended.set()

    @contextlib.contextmanager
    def _attended(self) -> Iterator[None]:
        """Watch while the server runs; keep what ends it before it is ready."""
        try:
            with hooked():
                yield
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
            self.collector.close()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def drain(self) -> None:
        """Take no more requests; end when the work is done."""
        self._server.should_exit = True

    def join(self, timeout: float) -> bool:
        # Not by the thread: CPython before 3.13 takes one for ended whose join was interrupted.
        return self._ended.wait(timeout)

    def call(self, blocking: Callable[[], T]) -> T:
        """Make a call that blocks this thread while the server works."""
        return blocking()

    def signal(self, number: int, to: int | None = None) -> None:
        raise RuntimeError(
            "this server shares the notebook's process; serve(app, on='process') gives it its own"
        )

    def kill(self) -> None:
        self.signal(0)
