"""The model of a request: its answer, the work behind it, and when each began and ended.

Every moment is in seconds after the request was sent. ``Trace.sent`` itself stands on the
machine's monotonic clock, which all processes of one host share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, SupportsIndex, overload

from .problems import problems
from .tables import moment, table
from .waiting import Until, until

if TYPE_CHECKING:
    import pandas as pd

# The columns of the frames.
REQUEST = ("id", "sent", "method", "path", "status", "received", "responded", "answered", "finished", "error")  # fmt: skip # noqa: E501
TASK = (
    "name",
    "runner",
    "where",
    "process",
    "added",
    "queued",
    "started",
    "finished",
    "state",
    "error",
)


class Floor(NamedTuple):
    """How long an empty answer takes here, in seconds: differences below it mean nothing.

    p50: half of a hundred empty answers came within this time. p99: ninety-nine of them did.
    """

    p50: float
    p99: float

    @classmethod
    def of(cls, answered: list[float]) -> Floor | None:
        """The floor that a number of empty answers make; None without any."""
        ordered = sorted(answered)
        if not ordered:
            return None
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])

    def __str__(self) -> str:
        return f"noise floor {self.p50 * 1000:.1f} ms (p50), {self.p99 * 1000:.1f} ms (p99)"


@dataclass(slots=True)
class Task:
    """One piece of work that a request leaves behind.

    Moments are by the clock of the process that saw them, in seconds after the request was sent.

    name: the function's. runner: what runs it: background, thread, executor, process, create_task,
    queue. where: the loop, or the thread or process by its number, once it has started.
    added: it was announced (`add_task`, `start`, `submit` was called).
    queued: it began to wait for its turn; None if its runner has no queue.
    started: its function begins, on its own thread: after `added` and `queued`.
    finished: its function has ended, by return or by raising; for a task of the event loop, when
    the loop tells of it, at the end of that turn of the loop.
    gone: it can no longer begin or end: it was refused, cancelled before its first step or
    destroyed, or its process ended; None when it ran.
    error: what it raised, as "Class: message".
    process: the number of the process that it runs in, where that is not the notebook's.
    parent: the task that handed it over while it ran; None if the app's call did.
    """

    name: str = "?"
    runner: str = "background"
    where: str | None = None
    added: float | None = None
    queued: float | None = None
    started: float | None = None
    finished: float | None = None
    gone: float | None = None
    error: str | None = None
    process: int | None = None
    parent: Task | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        """Whether the task may still begin or end."""
        return self.finished is None and self.gone is None

    @property
    def state(self) -> str:
        """One of: waiting, running, finished, failed, cancelled, lost, never ran."""
        if self.finished is not None:
            if self.error is None:
                return "finished"
            return "cancelled" if self.error.startswith("CancelledError") else "failed"
        if self.started is None:
            return "waiting" if self.gone is None else "never ran"
        return "running" if self.gone is None else "lost"

    @property
    def place(self) -> str:
        """Where it runs, in words; "" before it has started."""
        where = self.where or ""
        if self.process is None or str(self.process) in where:
            return where
        return f"{where} of process {self.process}"

    @property
    def of_parent(self) -> str:
        """What follows its name or runner in words: whose it is, if it has a parent."""
        return f" of {self.parent.name}" if self.parent else ""

    def __str__(self) -> str:
        place = f" on {self.place}" if self.place else ""
        since = f" since {self.started:.3f} s" if self.state == "running" else ""
        return f"{self.name}{self.of_parent} ({self.state}{place}{since})"


@dataclass(slots=True)
class Held:
    """A time in which the event loop of a server could run nothing else.

    began, ended: seconds on `time.perf_counter`, as `Trace.sent`; ended is None while it goes on.
    place: the file and line that had the loop, or the interpreter; "" when many short turns did.
    thread: the name of the thread that had the interpreter; "" when it was the loop's own.
    """

    began: float
    ended: float | None = None
    place: str = ""
    thread: str = ""


@dataclass(slots=True, weakref_slot=True)
class Trace:
    """One request's life: the answer, and the work that went on behind it.

    Moments are in seconds after `sent`; None until they come.

    id: names the request among all of its server. sent: its first byte left the client: seconds on
    `time.perf_counter`; for other clients' requests, when it was received.
    method, path: as the app was asked. status, headers, body: as the client read them, the body up
    to 64 KiB; of other clients' requests the status alone.
    process: the number of the process that received it, where that is not the notebook's.
    received: the app was called with it, before it read a byte of the body; by the server.
    responded: the app hands the end of its response to the server; after `received`, and
    before the client can have it all.
    returned: the app's call is over, its background tasks included; by the server.
    answered: the client has read the last byte; by the client, so it may read late.
    gone: its server's process has ended before the call was over.
    broken: the client learnt that its connection had broken. error: how.
    tasks: its work, in the order in which it was announced. log: what was logged on its behalf.
    ending: what told the server to end while this request was open, and when: (name, moment).
    floor: the noise floor of the client that sent it.
    unseen: why some of its stamps may be missing, where that is so.
    otel: the app's own OpenTelemetry trace, where it has begun one: 32 hexadecimal digits.
    date: `sent` by the clock of the day, in seconds since 1970; of traces from a file alone.
    held: when its server's event loop was held, where that is watched.
    """

    id: str
    sent: float
    method: str = ""
    path: str = ""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    process: int | None = None
    received: float | None = None
    responded: float | None = None
    returned: float | None = None
    answered: float | None = None
    gone: float | None = None
    broken: float | None = None
    error: str | None = None
    tasks: list[Task] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ending: tuple[tuple[str, float], ...] = ()
    floor: Floor | None = None
    unseen: str | None = None
    otel: str | None = None
    date: float | None = field(default=None, compare=False, repr=False)
    held: tuple[Held, ...] = ()
    _until: Until = field(default=until, compare=False, repr=False)

    @property
    def of_another_client(self) -> bool:
        """Whether it is told from `received` on, for want of a client that stamps the wire."""
        return self.received == 0.0

    def since(self, at: float) -> float:
        """A moment on `perf_counter` in seconds after `sent`, to a tenth of a microsecond."""
        return int((at - self.sent) * 1e7 + 0.5) / 1e7  # round() takes twice as long

    @property
    def settled(self) -> bool:
        """Whether nothing more can be seen: the server's call has returned and no task is open."""
        if self.unseen is not None:
            return True
        over = self.returned is not None or self.gone is not None
        if self.held and any(each.ended is None for each in self.held):
            return False  # what has the loop is told when it lets go
        return over and not any(task.open for task in self.tasks)

    @property
    def begun(self) -> bool:
        """Whether work has begun that outlives the answer, or that the answer waits for."""
        if self.settled:
            return True
        if self.answered is not None and self.responded is None:
            return False  # the server's stamps are still on their way
        left = self.responded
        return any(
            task.started is not None
            and (task.finished is None or (left is not None and task.finished > left))
            for task in self.tasks
        )

    @property
    def answered_first(self) -> bool:
        """Whether all of the answer was handed over before any work began, by the server."""
        began = self.started
        return self.responded is not None and (began is None or self.responded < began)

    @property
    def problems(self) -> list[str]:
        """Return what went wrong behind this request, a sentence each."""
        return problems(self)

    @property
    def started(self) -> float | None:
        """When its first task began."""
        return min((task.started for task in self.tasks if task.started is not None), default=None)

    @property
    def finished(self) -> float | None:
        """When the last of its work ended, and the app's call with it; None if work was lost."""
        lost = (task for task in self.tasks if task.state == "lost")
        if not self.settled or not all(self._begun_again(task) for task in lost):
            return None
        moments = [*(task.finished for task in self.tasks), self.responded, self.returned]
        return max((at for at in moments if at is not None), default=None)

    def _begun_again(self, lost: Task) -> bool:
        """Return whether a queue has given a dead worker's task to another worker."""
        return lost.runner == "queue" and any(
            task.runner == "queue" and task.added is not None and task.added >= (lost.gone or 0)
            for task in self.tasks
        )

    def wait(self, timeout: float = 30) -> Self:
        """Wait until the work behind this request is over.

        timeout: seconds. Raises TimeoutError, which names the tasks that are still open.
        """
        if not self._until(lambda: self.settled, timeout):
            raise TimeoutError(f"{self} is not over after {timeout:g} s: {self.missing()}")
        return self

    def missing(self) -> str:
        """Return what this request still waits for, in words."""
        for held in self.held:
            if held.ended is None:
                return f"the event loop is held{held.place and f' at {held.place}'}"
        still_open = [str(task) for task in self.tasks if task.open]
        if still_open:
            return ", ".join(still_open)
        if self.received is None:
            return "the server has not received it"
        return "the endpoint has not returned"

    def __str__(self) -> str:
        parts = [str(self.error or self.status or "no answer yet")]
        parts += [str(task) for task in self.tasks if task.state in ("failed", "lost", "never ran")]
        parts += [self.unseen] if self.unseen else []
        return f"{self.method} {self.path} ({'; '.join(parts)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        moments = [("received", self.received), ("responded", self.responded)]
        rows = [(name, "", moment(at), "", "", "") for name, at in moments if at is not None]
        rows += [
            (task.name, task.runner + task.of_parent, moment(task.started), moment(task.finished),
             task.place, f"{task.state}: {task.error}" if task.error else task.state)
            for task in self.tasks
        ]  # fmt: skip
        if self.answered is not None:
            rows.insert(2, ("answered", "", moment(self.answered), "", "", ""))
        return table(str(self), ["", "runner", "at (s)", "to (s)", "where", "state"], rows)


class Traces(list[Trace]):
    """Many requests, in the order of sending."""

    def wait(self, timeout: float = 30) -> Self:
        """Wait until the work behind every request is over.

        timeout: seconds for all of them together. Raises TimeoutError, which names the open tasks.
        """
        if not self or self[0]._until(lambda: all(trace.settled for trace in self), timeout):
            return self
        late = [trace for trace in self if not trace.settled]
        first = f"{late[0]}: {late[0].missing()}"
        raise TimeoutError(
            f"{len(late)} of {len(self)} requests are not over after {timeout:g} s; first {first}"
        )

    def wait_started(self, timeout: float = 30) -> Self:
        """Wait until work that outlives its answer has begun behind every request.

        timeout: seconds for all of them together. Raises TimeoutError, which names a request
        without any.
        """
        if not self or self[0]._until(lambda: all(trace.begun for trace in self), timeout):
            return self
        idle = next(trace for trace in self if not trace.begun)
        raise TimeoutError(f"no work has begun behind {idle} after {timeout:g} s")

    @property
    def tasks(self) -> list[Task]:
        """The tasks of all requests, one request after the other."""
        return [task for trace in self for task in trace.tasks]

    @property
    def problems(self) -> list[str]:
        """Return what went wrong behind these requests, a sentence each with its request."""
        return [f"{one.method} {one.path}: {told}" for one in self for told in one.problems]

    def frame(self) -> pd.DataFrame:
        """Return one row per request; all moments in seconds after sending."""
        import pandas as pd

        rows = [[getattr(trace, name) for name in REQUEST] + [len(trace.tasks)] for trace in self]
        return pd.DataFrame(rows, columns=[*REQUEST, "tasks"])

    def task_frame(self) -> pd.DataFrame:
        """Return one row per task; all moments in seconds after its request was sent."""
        import pandas as pd

        rows = [
            [trace.id, *(getattr(task, name) for name in TASK), task.parent and task.parent.name]
            for trace in self
            for task in trace.tasks
        ]
        return pd.DataFrame(rows, columns=["request", *TASK, "parent"])

    def save(self, path: str | Path) -> None:
        """Write the traces to a file, a line of JSON for each, in place of one that may be there.

        What may hold a secret is written as "[redacted]": an answer's body, its headers but for
        those that are known to hold none, and what a location says after its path. Paths, names,
        errors and lines of the log are written as they are.
        """
        from .files import save

        save(self, path)

    def export(self, path: str | Path) -> None:
        """Write the traces for other tools to read, in place of a file that may be there.

        path: ends in ".perfetto.json" (trace events, which Perfetto opens) or ".otlp.json" (spans,
        as OpenTelemetry's collector reads them). Raises ValueError for another ending.
        """
        from .exports import export

        export(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the traces that `save`, or `lab watch --save`, wrote; those of older labs, too.

        A last line that was cut is left out. Raises ValueError for any other file, with the reason.
        """
        from .files import load

        return cls(load(path))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> Traces: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Trace | Traces:
        item = super().__getitem__(index)
        return Traces(item) if isinstance(item, list) else item

    def _repr_html_(self) -> str:
        shown = 10
        rows = [
            (trace.method, trace.path, str(trace.error or trace.status or ""),
             moment(trace.answered), moment(trace.finished), str(len(trace.tasks)))
            for trace in self[:shown]
        ]  # fmt: skip
        rest = f", the first {shown}" if len(self) > shown else ""
        heads = ["", "path", "status", "answered (s)", "finished (s)", "tasks"]
        return table(f"{len(self)} requests{rest}", heads, rows)
