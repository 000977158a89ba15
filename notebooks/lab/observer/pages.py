"""What is seen of a request: the stamps, and the names by which both sides know them."""

from __future__ import annotations

from collections.abc import Callable

TRACE_HEADER = "x-lab-trace"
"""The header by which the lab's client names a request's trace; the watched app never sees it."""

PROBE = "/.lab/probe"
"""The path that the lab's server answers with an empty 202, without a call of the app."""

EVERY = "*"
"""In the place of a request's id: the stamp concerns all requests of the process it comes from."""

TICKET = "lab"
"""The header of a message in a queue that names the trace and the task of who has sent it."""

Note = Callable[..., None]
"""Keeps a stamp: the request's id, what was seen of it (a method of `Page`), its arguments."""


class Page:
    """What is seen of one request: each method notes one stamp.

    key: names a task among those of its request. at: seconds on `time.perf_counter`, the machine's
    monotonic clock, which all processes of one host share.
    """

    __slots__ = ("_note", "_trace_id")

    def __init__(self, note: Note, trace_id: str) -> None:
        self._note = note
        self._trace_id = trace_id

    def received(self, at: float, method: str, path: str, process: int) -> None:
        """A process's server has called the app with the request."""
        self._note(self._trace_id, "received", at, method, path, process)

    def status(self, code: int) -> None:
        """The app begins its response with this status."""
        self._note(self._trace_id, "status", code)

    def traced(self, otel: str) -> None:
        """The app begins its response within an OpenTelemetry trace with this id."""
        self._note(self._trace_id, "traced", otel)

    def responded(self, at: float) -> None:
        """The app hands the end of its response to the server."""
        self._note(self._trace_id, "responded", at)

    def returned(self, at: float) -> None:
        """The app's call is over, background tasks included."""
        self._note(self._trace_id, "returned", at)

    def line(self, text: str) -> None:
        """Something was logged on the request's behalf."""
        self._note(self._trace_id, "line", text)

    def added(self, key: str, name: str, runner: str, at: float, parent: str | None = None) -> None:
        """A piece of work was announced: `add_task`, `Thread.start`, `submit` was called.

        parent: the key of the work that announced it; None when the app's call did.
        """
        self._note(self._trace_id, "added", key, name, runner, at, parent)

    def queued(self, key: str, at: float, in_queue: tuple[str, str] | None = None) -> None:
        """A piece of work waits for its turn: for a thread, or for a worker.

        in_queue: the broker's URL and the queue's name, if it is for a worker.
        """
        self._note(self._trace_id, "queued", key, at, in_queue)

    def started(self, key: str, at: float, where: str) -> None:
        """A piece of work begins: before its first line, in its own thread or process."""
        self._note(self._trace_id, "started", key, at, where)

    def finished(self, key: str, at: float, error: str | None) -> None:
        """A piece of work has ended: after its last line; with what it raised, if it did."""
        self._note(self._trace_id, "finished", key, at, error)

    def gone(self, key: str, at: float, error: str | None) -> None:
        """A piece of work can no longer begin or end: it was refused, or lost with its process."""
        self._note(self._trace_id, "gone", key, at, error)
