"""Enters stamps into the traces of their requests.

Whoever looks at a trace takes no lock, so order matters: assign the field that marks the end last.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from .model import Held, Task, Trace, Traces
from .notes import enter_noted, ledgers

HOLDS_KEPT = 100  # for requests that were sent meanwhile, and are received afterwards


class Ledger:
    """The traces of one server: the newest `limit` of them."""

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        # Stamps of this process, which are entered once somebody looks.
        self.noted: deque[tuple[Any, ...]] = deque()
        self.note = self.noted.append
        self._traces: dict[str, Trace] = {}
        # Looking for a dict's first key takes as long as many have been taken off its front.
        self._ids: deque[str] = deque()
        self._tasks: dict[tuple[str, str], Task] = {}
        self._in_queues: dict[str, tuple[Trace, tuple[str, str]]] = {}
        self._latest: Entry | None = None  # most stamps are of the same request as the one before
        self._missing: str | None = None
        self._held: deque[tuple[int | None, Held]] = deque(maxlen=HOLDS_KEPT)
        ledgers.add(self)

    @property
    def traces(self) -> Traces:
        enter_noted()
        return self._kept()

    def _kept(self) -> Traces:
        return Traces(self._traces.values())

    def open(self, trace: Trace) -> Trace:
        """Enter a request that is about to be sent."""
        trace.unseen = self._missing
        self._traces[trace.id] = trace
        self._ids.append(trace.id)
        while len(self._traces) > self.limit:
            self._drop_oldest()
        return trace

    def receive(
        self, trace_id: str, received: float, method: str, path: str, process: int | None = None
    ) -> Entry:
        """Enter a request that a server has received, from any client; return its entry.

        received: seconds on `time.perf_counter`. process: the server's; None if it is this one.
        """
        trace = self._traces.get(trace_id) or self.open(Trace(trace_id, received))
        trace.method, trace.path, trace.process = method, path, _another(process)
        trace.received = trace.since(received)
        for held_in, held in reversed(self._held):
            if held.ended is not None and held.ended <= trace.sent:
                break
            suffer(trace, held_in, held)
        return Entry(self, trace)

    def enter(self, stamp: tuple[Any, ...]) -> None:
        """Enter a stamp. That of a request whose trace is no longer kept is dropped.

        stamp: the request's id; "received", "held", or the name of a method of an entry; its
        arguments.
        """
        trace_id, what = stamp[0], stamp[1]
        if what == "received":
            self._latest = self.receive(trace_id, *stamp[2:])
        elif what == "held":
            self.held(*stamp[2:])
        else:
            entry = self._latest
            if entry is None or entry.trace_id != trace_id:
                entry = self._latest = self.entry(trace_id)
            if entry is not None:
                getattr(entry, what)(*stamp[2:])

    def held(
        self,
        began: float,
        ended: float | None,
        place: str,
        thread: str,
        process: int | None = None,
    ) -> None:
        """Enter that a server's event loop is held, and again when it is free, with what held it.

        Each request that is open meanwhile tells of it. What begins and ends at once was none.
        began, ended: seconds on `time.perf_counter`; ended is None while it goes on. place, thread:
        as those of `Held`. process: the server's; None if it is this one.
        """
        process = _another(process)
        for held_in, held in reversed(self._held):
            if held_in == process and held.began == began:
                break
        else:
            held = Held(began)
            self._held.append((process, held))
        for trace in self._kept():
            over = trace.settled and trace.sent + (trace.finished or 0.0) <= began
            if trace.received is not None and not over:
                suffer(trace, process, held)
        held.place, held.thread = place, thread
        held.ended = ended

    def entry(self, trace_id: str) -> Entry | None:
        """Return the entry of a request; None when its trace is not, or no longer, kept."""
        trace = self._traces.get(trace_id)
        return None if trace is None else Entry(self, trace)

    def entry_of_queued(self, key: str) -> Entry | None:
        """Return the entry of the request that last put work into a queue under a key, or None."""
        found = self._in_queues.get(key)
        return None if found is None else Entry(self, found[0])

    def miss_stamps(self, why: str) -> None:
        """Mark open requests, and those to come, as missing stamps.

        why: the reason, in words.
        """
        self._missing = why
        for trace in self.traces:
            if not trace.settled:
                trace.unseen = why

    def ending(self, what: str, moment: float, process: int | None = None) -> None:
        """Enter an order to the server to end, or its exit, for each request that is not over.

        what: the signal's name, or "exit". moment: seconds on `time.perf_counter`. process: the
        one that is to end; None for the whole server.
        """
        for trace in self.traces:
            meant = process is None or trace.process == process
            ended = trace.ending[-1:] and trace.ending[-1][0] == "exit"
            if meant and not ended and (trace.ending or not trace.settled):
                trace.ending += ((what, trace.since(moment)),)

    def close(self, moment: float, process: int | None = None) -> None:
        """Enter the server's exit: its open tasks can no longer end, except those of a queue.

        moment: seconds on `time.perf_counter`. process: the one that has ended; None for the last.
        """
        self.ending("exit", moment, process)
        for held_in, held in self._held:
            if held.ended is None and process in (None, held_in):
                held.ended = moment
        for trace in self.traces:
            if not trace.settled and (process is None or trace.process == process):
                gone = trace.since(moment)
                for task in trace.tasks:
                    if task.open and task.runner != "queue":
                        task.gone = gone
                trace.gone = gone

    def task(self, trace: Trace, key: str) -> Task:
        """Return the task of a request that stamps call `key`; a new one at its first stamp."""
        task = self._tasks.get((trace.id, key))
        if task is not None:
            return task
        task = Task(runner="?")  # until it is announced
        if trace.id in self._traces:
            # Two processes may send its first stamps at once.
            known = self._tasks.setdefault((trace.id, key), task)
            if known is not task:
                return known
            trace.tasks.append(task)
        return task

    def put_in(self, in_queue: tuple[str, str], trace: Trace, key: str) -> None:
        """Enter where a task waits: the broker's URL and the queue's name."""
        self._in_queues[key] = trace, in_queue

    def lose_waiting(self, queue: str, moment: float) -> None:
        """Mark the tasks that wait in a queue which has ended: they can no longer start.

        queue: its name, or its broker's URL. moment: seconds on `time.perf_counter`.
        """
        for key, (trace, in_queue) in self._in_queues.copy().items():
            if queue in in_queue and self.task(trace, key).state == "waiting":
                Entry(self, trace).gone(key, moment, None)

    def known(self, trace: Trace, key: str) -> Task | None:
        """Return the task of a request that stamps call `key`; None when it is over, or unknown."""
        return self._tasks.get((trace.id, key))

    def forget(self, trace: Trace, key: str, task: Task) -> None:
        """Stop keeping the key of a task that is over: no more stamps of it will come."""
        over = task.finished is not None and task.added is not None
        # The last stamp of work in another process may come from either side.
        if over and task.runner not in ("process", "queue"):
            self._tasks.pop((trace.id, key), None)

    def _drop_oldest(self) -> None:
        self._latest = None
        oldest = self._ids.popleft()
        self._traces.pop(oldest, None)
        for key in [key for key in self._tasks.copy() if key[0] == oldest]:
            self._tasks.pop(key, None)
            self._in_queues.pop(key[1], None)


def suffer(trace: Trace, held_in: int | None, held: Held) -> None:
    """Have a trace know that the loop of its process was held."""
    if trace.process == held_in and not any(each is held for each in trace.held):
        trace.held += (held,)


def _another(process: int | None) -> int | None:
    return None if process == os.getpid() else process


class Entry:
    """One request in the ledger: enters the stamps of the observer's `Request` into its trace."""

    __slots__ = ("_ledger", "_trace", "trace_id")

    def __init__(self, ledger: Ledger, trace: Trace) -> None:
        self.trace_id = trace.id
        self._ledger = ledger
        self._trace = trace

    def status(self, code: int) -> None:
        self._trace.status = code

    def traced(self, otel: str) -> None:
        self._trace.otel = otel

    def responded(self, at: float, status: int | None = None) -> None:
        if status is not None:
            self._trace.status = status
        self._trace.responded = self._trace.since(at)

    def returned(self, at: float) -> None:
        trace = self._trace
        returned = trace.since(at)
        for task in trace.tasks:
            if task.runner == "background" and task.started is None:
                task.gone = returned
        trace.returned = returned

    def logged(self, level: str, logger: str, text: str) -> None:
        self._trace.log.append(f"{level} {logger}: {text}")

    def added(self, key: str, name: str, runner: str, at: float, parent: str | None = None) -> None:
        task = self._ledger.task(self._trace, key)
        task.name, task.runner = name, runner
        if parent is not None:
            task.parent = self._ledger.known(self._trace, parent)
        task.added = self._trace.since(at)
        self._ledger.forget(self._trace, key, task)

    def queued(self, key: str, at: float, in_queue: tuple[str, str] | None = None) -> None:
        self._ledger.task(self._trace, key).queued = self._trace.since(at)
        if in_queue is not None:
            self._ledger.put_in(in_queue, self._trace, key)

    def started(self, key: str, at: float, where: str) -> None:
        task = self._ledger.task(self._trace, key)
        task.where = where
        process = where.partition("process ")[2].partition(" ")[0]
        task.process = int(process) if process else self._trace.process
        task.started = self._trace.since(at)

    def finished(self, key: str, at: float, error: str | None) -> None:
        task = self._ledger.task(self._trace, key)
        if error is not None:
            task.error = error
        task.finished = self._trace.since(at)
        self._ledger.forget(self._trace, key, task)

    def gone(self, key: str, at: float, error: str | None) -> None:
        task = self._ledger.task(self._trace, key)
        if error is not None:
            task.error = error
        task.gone = self._trace.since(at)


def miss_stamps(why: str) -> None:
    """Mark the open requests of all ledgers as missing stamps from now on.

    why: the reason, in words.
    """
    enter_noted()
    for ledger in list(ledgers):
        ledger.miss_stamps(why)


def lose_waiting(queue: str, moment: float) -> None:
    """Mark the tasks that wait in a queue which has ended, in all ledgers."""
    enter_noted()
    for ledger in list(ledgers):
        ledger.lose_waiting(queue, moment)


def entry_of(trace_id: str) -> Entry | None:
    """Return the entry of a request from the ledger that has it, or None.

    A queue's workers outlive the server, so any ledger may have it.
    """
    enter_noted()
    return next(filter(None, (ledger.entry(trace_id) for ledger in list(ledgers))), None)


def entry_of_queued(key: str) -> Entry | None:
    """Return the entry of the request that queued work under a key, from the ledger that has it."""
    enter_noted()
    return next(filter(None, (ledger.entry_of_queued(key) for ledger in list(ledgers))), None)
