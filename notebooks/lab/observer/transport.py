"""Brings home the stamps of other processes: a server's, a pool's, a queue's workers.

Each process that reports holds one connection to the notebook's process, over which every
stamp travels at once: what a killed process had reported is not lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from .pages import Page

# A request's id, what was seen of it (a method of `Page`), and that method's arguments.
Enter = Callable[..., None]


class Reporter:
    """Sends stamps to the process that collects them; may travel to any process of this host."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.key = key
        self._connection: Connection | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __call__(self, trace_id: str, stamp: str, *seen: Any) -> None:
        message = json.dumps([trace_id, stamp, *seen]).encode()
        with self._lock, contextlib.suppress(OSError):  # the collector has gone: nobody to tell
            self._connected().send_bytes(message)

    def control(self, what: str, *told: Any) -> None:
        """Tell of this process itself: that it is ready, say."""
        self("", what, *told)

    def open_page(self, trace_id: str, received: float, method: str, path: str) -> Page:
        """Tell of a request that this process's server has received."""
        self(trace_id, "received", received, method, path)
        return DistantPage(self, trace_id)

    def _connected(self) -> Connection:
        if self._connection is None or self._pid != os.getpid():  # a fork needs its own
            self._connection = Client(self.address, authkey=bytes.fromhex(self.key))
            self._pid = os.getpid()
        return self._connection

    def __reduce__(self) -> tuple[type[Reporter], tuple[str, str]]:
        return Reporter, (self.address, self.key)


class DistantPage:
    """A request's page in another process, the notebook's: whatever is seen travels there."""

    __slots__ = ("_report", "_trace_id")

    def __init__(self, report: Reporter, trace_id: str) -> None:
        self._report = report
        self._trace_id = trace_id

    def status(self, code: int) -> None:
        self._report(self._trace_id, "status", code)

    def responded(self, at: float) -> None:
        self._report(self._trace_id, "responded", at)

    def returned(self, at: float) -> None:
        self._report(self._trace_id, "returned", at)

    def line(self, text: str) -> None:
        self._report(self._trace_id, "line", text)

    def added(self, key: str, name: str, runner: str, at: float) -> None:
        self._report(self._trace_id, "added", key, name, runner, at)

    def queued(self, key: str, at: float) -> None:
        self._report(self._trace_id, "queued", key, at)

    def started(self, key: str, at: float, where: str) -> None:
        self._report(self._trace_id, "started", key, at, where)

    def finished(self, key: str, at: float, error: str | None) -> None:
        self._report(self._trace_id, "finished", key, at, error)

    def gone(self, key: str, at: float, error: str | None) -> None:
        self._report(self._trace_id, "gone", key, at, error)


class Collector:
    """Receives what reporters send.

    enter: is given each stamp of a request. control: is given what a process tells of itself.
    """

    def __init__(self, enter: Enter, control: Enter | None = None) -> None:
        key = secrets.token_hex(16)
        # An abstract socket leaves no file behind, however its process ends.
        address = f"\0background-tasks-lab-{key[:8]}" if sys.platform == "linux" else None
        self._listener = Listener(address, authkey=bytes.fromhex(key), backlog=64)
        own_address = self._listener.address
        self.reporter = Reporter(
            own_address.decode() if isinstance(own_address, bytes) else str(own_address), key
        )
        self._enter = enter
        self._control = control
        self._closed = False
        self._connected = 0
        self._left = threading.Condition()
        self._acceptor = threading.Thread(target=self._accept, name="lab collector", daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except Exception:  # a stranger without the key, or one that died while knocking
                continue
            with self._left:
                self._connected += 1
            threading.Thread(
                target=self._read, args=(connection,), name="lab collector", daemon=True
            ).start()

    def _read(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):
            while True:
                trace_id, *seen = json.loads(connection.recv_bytes())
                if trace_id:
                    self._enter(trace_id, *seen)
                elif self._control is not None:
                    self._control(*seen)
        with self._left:
            self._connected -= 1
            self._left.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until every reporter has left and its stamps are entered.

        timeout: seconds. False when some process still reports.
        """
        with self._left:
            return self._left.wait_for(lambda: self._connected == 0, timeout)

    def close(self) -> None:
        """Take no new reporters; those connected may still finish."""
        self._closed = True
        # Closing a socket does not wake an accept that waits on it: knock.
        with contextlib.suppress(OSError, EOFError):
            Client(self.reporter.address).close()
        self._acceptor.join()
        self._listener.close()
