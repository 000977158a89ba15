"""A server in a process of its own, which ends when the notebook's does."""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from uvicorn.server import HANDLED_SIGNALS

from ..observer.asgi import App
from ..programs.lifeline import Child, end_group
from ..traces import Ledger, until
from .collector import Collector
from .in_thread import START_TIMEOUT
from .process_main import STOP
from .travelling import pack

T = TypeVar("T")

SIGNAL_TIMEOUT = 5.0
LAST_STAMPS_WITHIN = 2.0


class InOwnProcess:
    """A server in a process of its own: this is its notebook's end."""

    place = "process"

    def __init__(
        self, app: App | str, ledger: Ledger, settings: dict[str, Any], watch_loop: bool = False
    ) -> None:
        self.url = ""
        self.until = until
        self._ledger = ledger
        self._signals_taken = 0
        self._failure = ""
        order = pack(app) | {"settings": settings, "path": sys.path, "watch_loop": watch_loop}
        self.collector = Collector(ledger.enter, ledger.miss_stamps, self._learn)
        order["reporter"] = self.collector.reporter
        self._child = Child("lab.servers.process_main")
        self.pid = self._child.pid
        self._ended = threading.Event()
        threading.Thread(target=self._attend, name="lab server", daemon=True).start()
        with contextlib.ExitStack() as ending:
            ending.callback(self.kill)
            self._child.order(pickle.dumps(order))
            if not until(lambda: self.url or self._failure, START_TIMEOUT):
                self._failure = f"not ready after {START_TIMEOUT:g} s"
            if self._failure:
                raise RuntimeError(self._failure)
            ending.pop_all()

    def _learn(self, what: str, *told: Any) -> None:
        """Take what the server's process tells of itself."""
        if what == "taken":
            self._signals_taken += 1
        elif what == "up":
            (self.url,) = told
        else:
            (self._failure,) = told

    def _attend(self) -> None:
        self._child.process.wait()
        moment = perf_counter()
        end_group(self.pid)
        self.collector.close()
        self.collector.join(LAST_STAMPS_WITHIN)
        self._ledger.close(moment)
        if not self.url and not self._failure:
            self._failure = f"the server's process ended with {self.exit_code} before it was ready"
        self._child.let_go()
        self._ended.set()

    @property
    def exit_code(self) -> int | None:
        return self._child.process.returncode

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def drain(self) -> None:
        """Take no more requests; end when the work is done."""
        self._child.order(STOP)

    def join(self, timeout: float) -> bool:
        return self._ended.wait(timeout)

    def signal(self, number: int, to: int | None = None) -> None:
        if to not in (None, self.pid):
            raise ValueError(f"to={to}: this server has one process, {self.pid}")
        self._ledger.ending(signal.Signals(number).name, perf_counter())
        before = self._signals_taken
        self._child.process.send_signal(number)
        # Two signals sent at once may reach the process as one: wait until this one has.
        if number in HANDLED_SIGNALS:
            until(lambda: self._signals_taken > before or self.ended, SIGNAL_TIMEOUT)

    def kill(self) -> None:
        """End the server with all its processes at once."""
        self._child.process.kill()
        self.join(LAST_STAMPS_WITHIN)

    def call(self, blocking: Callable[[], T]) -> T:
        """Make a call that blocks this thread while the server works."""
        return blocking()
