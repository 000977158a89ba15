"""The watched request on whose behalf code runs, and where its stamps go."""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from .names import describe, name_of
from .protocol import Note
from .transport import Reporter

_current: ContextVar[Request | None] = ContextVar("lab_request", default=None)
# By names of their own: CPython 3.11 is slow to find a method of what a module has imported.
current, set_current, reset_current = _current.get, _current.set, _current.reset
_serial = itertools.count(1)
_process = os.getpid()


def new_key() -> str:
    """A name that no other request or task of this host has."""
    return f"{_process}-{next(_serial)}"


def _forked() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Request:
    """The watched request on whose behalf code is running; each of its stamps is a method.

    work: the key of the work of the request that is running; None in the app's own call.
    called: whether that is a `def` function that its framework is about to call in a thread.
    key: names a piece of work among that of its request. at: seconds on `time.perf_counter`, the
    machine's monotonic clock, which all processes of one host share.
    """

    # Each stamp has `_note` as a local name first: CPython 3.11 looks for a method of that name
    # anew in every call of an attribute, and finds none.

    __slots__ = ("_note", "_token", "called", "id", "reporter", "work")

    def __init__(
        self, id: str, note: Note, reporter: Reporter | None = None, work: str | None = None
    ) -> None:
        self.id = id
        self.reporter = reporter
        self.work = work
        self.called = False
        self._note = note

    def within(self, key: str) -> Request:
        """The request as its work with this key sees it; a context, for the work to run in."""
        return Request(self.id, self._note, self.reporter, key)

    def __enter__(self) -> Request:
        self._token = set_current(self)
        return self

    def __exit__(self, *error: object) -> None:
        try:  # noqa: SIM105 - a call of `suppress` would take as long as all the rest
            reset_current(self._token)
        except ValueError:  # a coroutine may be closed in another context
            pass

    def add(self, func: Any, runner: str) -> str:
        """Announce a piece of work; the key names it in later stamps."""
        key = new_key()
        self.added(key, name_of(func), runner, perf_counter(), self.work)
        return key

    def drop(self, key: str, error: BaseException) -> None:
        """A piece of work that was announced can no longer begin or end."""
        self.gone(key, perf_counter(), describe(error))

    def received(self, at: float, method: str, path: str) -> None:
        """The server of this process has called the app with the request."""
        note = self._note
        note((self.id, "received", at, method, path, _process))

    def status(self, code: int) -> None:
        """The app has begun its response with this status, and is not at its end."""
        note = self._note
        note((self.id, "status", code))

    def traced(self, otel: str) -> None:
        """The app begins its response within an OpenTelemetry trace with this id."""
        note = self._note
        note((self.id, "traced", otel))

    def responded(self, at: float, status: int | None) -> None:
        """The app hands the end of its response to the server; its status, unless that is known."""
        note = self._note
        note((self.id, "responded", at, status))

    def returned(self, at: float) -> None:
        """The app's call is over, background tasks included."""
        note = self._note
        note((self.id, "returned", at))

    def logged(self, level: str, logger: str, text: str) -> None:
        """Something was logged on the request's behalf."""
        note = self._note
        note((self.id, "logged", level, logger, text))

    def added(self, key: str, name: str, runner: str, at: float, parent: str | None = None) -> None:
        """A piece of work was announced: `add_task`, `Thread.start`, `submit` was called.

        parent: the key of the work that announced it; None when the app's call did.
        """
        note = self._note
        note((self.id, "added", key, name, runner, at, parent))

    def queued(self, key: str, at: float, in_queue: tuple[str, str] | None = None) -> None:
        """A piece of work waits for its turn: for a thread, or for a worker.

        in_queue: the broker's URL and the queue's name, if it is for a worker.
        """
        note = self._note
        note((self.id, "queued", key, at, in_queue))

    def started(self, key: str, at: float, where: str) -> None:
        """A piece of work begins: before its first line, in its own thread or process."""
        note = self._note
        note((self.id, "started", key, at, where))

    def finished(self, key: str, at: float, error: str | None) -> None:
        """A piece of work has ended: after its last line; with what it raised, if it did."""
        note = self._note
        note((self.id, "finished", key, at, error))

    def gone(self, key: str, at: float, error: str | None) -> None:
        """A piece of work can no longer begin or end: it was refused, or lost with its process."""
        note = self._note
        note((self.id, "gone", key, at, error))
