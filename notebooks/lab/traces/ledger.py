"""Enters what is seen of requests into their traces, as it happens.

Each stamp is entered without a lock, by the thread that has seen it. Readers take no lock either,
so order matters: assign the field that marks the end last.
"""

from __future__ import annotations

import contextlib
import weakref

from .model import Task, Trace, Traces
from .waiting import wake


class Ledger:
    """Keeps the traces of one server; of many, the newest `limit`."""

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        self._traces: dict[str, Trace] = {}
        self._tasks: dict[tuple[str, str], Task] = {}
        self._missing: str | None = None
        _ledgers.add(self)

    @property
    def traces(self) -> Traces:
        return Traces(self._traces.values())

    def open(self, trace: Trace) -> Trace:
        """Take up a request that is about to be sent."""
        trace.unseen = self._missing
        self._traces[trace.id] = trace
        if len(self._traces) > self.limit:
            self._drop_oldest()
        return trace

    def open_page(self, trace_id: str, received: float, method: str, path: str) -> Page:
        """Take up a request that a server has received, from whichever client."""
        trace = self._traces.get(trace_id) or self.open(Trace(trace_id, sent=received))
        trace.method, trace.path = method, path
        trace.received = received - trace.sent
        return Page(self, trace)

    def enter(self, trace_id: str, stamp: str, *seen: object) -> None:
        """Enter what another process has seen: the method of a page, and its arguments.

        Stamps for a request that is no longer kept are dropped.
        """
        if stamp == "received":
            self.open_page(trace_id, *seen)  # type: ignore[arg-type]
        elif page := self.page(trace_id):
            getattr(page, stamp)(*seen)

    def page(self, trace_id: str) -> Page | None:
        """The page of a request; None when its trace is not kept, or no longer."""
        trace = self._traces.get(trace_id)
        return None if trace is None else Page(self, trace)

    def miss_stamps(self, why: str) -> None:
        """Say so of each request that is not over, and of those to come."""
        self._missing = why
        for trace in self.traces:
            if not trace.settled:
                trace.unseen = why

    def ending(self, what: str, moment: float) -> None:
        """The server is told to end, or ends; entered for each request that is not over."""
        for trace in self.traces:
            if trace.ending or not trace.settled:
                trace.ending += ((what, moment - trace.sent),)

    def close(self, moment: float) -> None:
        """The server has ended: what is open now can no longer end, but for a queue's work."""
        self.ending("exit", moment)
        for trace in self.traces:
            if not trace.settled:
                gone = moment - trace.sent
                for task in trace.tasks:
                    if task.open and task.runner != "queue":
                        task.gone = gone
                trace.gone = gone
        wake()

    def task(self, trace: Trace, key: str) -> Task:
        """The task of a request that its stamps name so; a new one at its first stamp."""
        task = self._tasks.get((trace.id, key))
        if task is not None:
            return task
        task = Task(runner="?")  # until it is announced
        if trace.id in self._traces:
            # Two processes may tell of it at once.
            found = self._tasks.setdefault((trace.id, key), task)
            if found is not task:
                return found
            trace.tasks.append(task)
        return task

    def forget(self, trace: Trace, key: str, task: Task) -> None:
        """Await no more stamps of a task that is over."""
        # Of work in another process, either side may tell of it last.
        alone = task.runner not in ("process", "queue")
        if alone and task.added is not None and task.finished is not None:
            self._tasks.pop((trace.id, key), None)

    def _drop_oldest(self) -> None:
        with contextlib.suppress(RuntimeError):  # another thread is at it
            oldest = next(iter(self._traces))
            self._traces.pop(oldest, None)
            for key in [key for key in self._tasks.copy() if key[0] == oldest]:
                self._tasks.pop(key, None)


class Page:
    """Enters what is seen of one request: the stamps of the observer's `Page`, into its trace."""

    __slots__ = ("_ledger", "_trace")

    def __init__(self, ledger: Ledger, trace: Trace) -> None:
        self._ledger = ledger
        self._trace = trace

    def status(self, code: int) -> None:
        self._trace.status = code

    def responded(self, at: float) -> None:
        self._trace.responded = at - self._trace.sent

    def returned(self, at: float) -> None:
        trace = self._trace
        returned = at - trace.sent
        for task in trace.tasks:
            if task.runner == "background" and task.started is None:
                task.gone = returned
        trace.returned = returned
        wake()

    def line(self, text: str) -> None:
        self._trace.log.append(text)

    def added(self, key: str, name: str, runner: str, at: float) -> None:
        task = self._ledger.task(self._trace, key)
        task.name, task.runner = name, runner
        task.added = at - self._trace.sent
        self._ledger.forget(self._trace, key, task)

    def queued(self, key: str, at: float) -> None:
        self._ledger.task(self._trace, key).queued = at - self._trace.sent

    def started(self, key: str, at: float, where: str) -> None:
        task = self._ledger.task(self._trace, key)
        task.where = where
        task.started = at - self._trace.sent
        wake()

    def finished(self, key: str, at: float, error: str | None) -> None:
        task = self._ledger.task(self._trace, key)
        if error is not None:
            task.error = error
        task.finished = at - self._trace.sent
        self._ledger.forget(self._trace, key, task)
        wake()

    def gone(self, key: str, at: float, error: str | None) -> None:
        task = self._ledger.task(self._trace, key)
        if error is not None:
            task.error = error
        task.gone = at - self._trace.sent
        wake()


_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


def miss_stamps(why: str) -> None:
    """Say of each request that is not over that its stamps may be missing from now on."""
    for ledger in list(_ledgers):
        ledger.miss_stamps(why)
    wake()


def page_of(trace_id: str) -> Page | None:
    """The page of a request in whichever ledger has it: a queue's workers outlive the server."""
    return next(filter(None, (ledger.page(trace_id) for ledger in list(_ledgers))), None)
