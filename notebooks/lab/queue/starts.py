"""Enters workers' stamps of a message into its trace: each start is a task of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..traces.ledger import Page, page_of


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

    ended_at: returns when a worker, given by name, ended; None while it runs.
    """

    def __init__(self, ended_at: Callable[[str], float | None]) -> None:
        self._ended_at = ended_at
        self._messages: dict[tuple[str, str], Message] = {}
        self._turn = threading.Lock()

    def enter(self, trace_id: str, stamp: str, key: str, *seen: Any) -> None:
        """Enter a worker's stamp, `begun` or `ended`, of the message with this key."""
        page = page_of(trace_id)
        if page is not None:
            with self._turn:
                message = self._messages.setdefault((trace_id, key), Message(awaited=key))
                getattr(self, f"_{stamp}")(page, message, *seen)

    def _begun(
        self,
        page: Page,
        message: Message,
        start: str,
        name: str,
        at: float,
        where: str,
        on: str,
    ) -> None:
        task = message.awaited or start
        if message.awaited is None:
            page.added(task, name, "queue", at)
        page.started(task, at, where)
        # The worker that had the message before has sent no end: that start was lost.
        for lost, before in message.open.items():
            page.gone(message.tasks[lost], self._ended_at(before) or at, None)
        message.awaited, message.name = None, name
        message.tasks[start] = task
        message.open = {start: on}

    def _ended(
        self, page: Page, message: Message, start: str, at: float, error: str | None, again: bool
    ) -> None:
        message.open.pop(start, None)
        # Announced before this start is over: without open work the trace would count as over.
        if again and message.awaited is None and not message.open:
            message.awaited = f"{start}, again"
            page.added(message.awaited, message.name, "queue", at)
        page.finished(message.tasks[start], at, error)
