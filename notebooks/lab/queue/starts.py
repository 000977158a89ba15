"""Enters workers' stamps of queued work into its trace: each start is a task of its own.

Celery's message carries the request that has sent it; a delivery of the webhook service is known
by its key alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from ..observer.protocol import Stamp
from ..traces.ledger import Entry, entry_of, entry_of_queued, lose_waiting

MOST_EARLY = 1000


@dataclass
class Message:
    """One message and its starts.

    awaited: the key of the task that the next start will be, if it is announced. tasks: the key
    of each start's task. open: the worker of each start whose end is not known.
    """

    awaited: str | None
    name: str = ""
    tasks: dict[str, str] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)


class Starts:
    """The starts of every message, however often it is given to a worker.

    ended_at: returns when a worker, given by name, ended; None while it runs. queue: what ends with
    the workers, a queue by its name or all those of a broker by its URL; none yet if "".
    """

    def __init__(self, ended_at: Callable[[str], float | None]) -> None:
        self._ended_at = ended_at
        self._messages: dict[tuple[str, str], Message] = {}
        self._early: deque[tuple[Any, ...]] = deque(maxlen=MOST_EARLY)
        self._turn = threading.Lock()
        self.queue = ""

    def enter(self, stamp: Stamp) -> None:
        """Enter a worker's stamp of a request's message: `begun` or `ended`, and its key."""
        trace_id, what, *seen = stamp
        entry = entry_of(trace_id)
        if entry is not None:
            self._enter(entry, trace_id, what, *seen)

    def enter_delivery(self, stamp: str, key: str, *seen: Any) -> None:
        """Enter a worker's stamp of the delivery with this key."""
        self._early.append((stamp, key, *seen))

    def settle(self) -> None:
        """Enter the stamps of deliveries whose requests are known by now.

        A worker's may be read before those of the server that has accepted the delivery.
        """
        early, self._early = self._early, deque(maxlen=MOST_EARLY)
        for stamp, key, *seen in early:
            entry = entry_of_queued(key)
            if entry is None:
                self._early.append((stamp, key, *seen))
            else:
                self._enter(entry, entry.trace_id, stamp, key, *seen)

    def _enter(self, entry: Entry, trace_id: str, stamp: str, key: str, *seen: Any) -> None:
        with self._turn:
            message = self._messages.setdefault((trace_id, key), Message(awaited=key))
            getattr(self, f"_{stamp}")(entry, message, *seen)

    def _begun(
        self,
        entry: Entry,
        message: Message,
        start: str,
        name: str,
        at: float,
        where: str,
        on: str,
    ) -> None:
        task = message.awaited or start
        if message.awaited is None:
            entry.added(task, name, "queue", at)
        entry.started(task, at, where)
        # The worker that had the message before has sent no end: that start was lost.
        for lost, before in message.open.items():
            entry.gone(message.tasks[lost], self._ended_at(before) or at, None)
        message.awaited, message.name = None, name
        message.tasks[start] = task
        message.open = {start: on}

    def _ended(
        self, entry: Entry, message: Message, start: str, at: float, error: str | None, again: bool
    ) -> None:
        message.open.pop(start, None)
        # Announced before this start is over: without open work the trace would count as over.
        if again and message.awaited is None and not message.open:
            message.awaited = f"{start}, again"
            entry.added(message.awaited, message.name, "queue", at)
        entry.finished(message.tasks[start], at, error)

    def end(self) -> None:
        """Enter the queue's end: its open starts are lost, and what waits in it never runs."""
        now = perf_counter()
        with self._turn:
            for (trace_id, _), message in self._messages.items():
                if entry := entry_of(trace_id):
                    for start, on in message.open.items():
                        entry.gone(message.tasks[start], self._ended_at(on) or now, None)
                    if message.awaited is not None:
                        entry.gone(message.awaited, now, None)
        lose_waiting(self.queue, now)
