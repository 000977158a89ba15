"""A task queue for a notebook; it ends with the notebook's kernel.

Without CELERY_BROKER_URL, the lab starts a broker of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..observer import queue_worker
from ..programs.program import READY_WITHIN, Program, Programs
from ..progress import Progress
from ..servers.collector import Collector
from ..traces.ledger import miss_stamps
from ..traces.tables import table
from .starts import Starts
from .valkey import Valkey

if TYPE_CHECKING:
    import pandas as pd

    from webhooks.deliveries import Deliveries

EMBEDDED = "embedded"
LOOK_EVERY = 0.05
NAMES = BROKER, NAME, DATABASE = "CELERY_BROKER_URL", "CELERY_QUEUE", "DATABASE_URL"
READ_WITHIN = 5.0  # seconds in which the last stamps of workers that have ended are read

Variables = tuple[str | None, ...]
# Of each running queue, oldest first: its variables, and those that the user has set.
_users: dict[Variables, Variables] = {}


class Queue:
    """A task queue: a broker, and workers that take deliveries from it.

    It sets CELERY_BROKER_URL, CELERY_QUEUE and DATABASE_URL, so that servers started later use it.
    It ends, with all its processes, when its name is bound anew, or with the kernel.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        broker: str | None = None,
        database: str | None = None,
        worker: str = "webhooks.worker",
        **environment: Any,
    ) -> None:
        """Start the broker and the workers; return when every worker waits for deliveries.

        workers: number of worker processes. broker: its URL, or "embedded"; by default
        CELERY_BROKER_URL, or the embedded broker if that is unset. database: SQLAlchemy's URL of
        the one that remembers deliveries; by default a file that goes with the queue. worker: the
        module of the workers' Celery app. environment: variables for the workers, such as
        WORK_SECONDS.
        Raises RuntimeError when the broker or a worker does not start.
        """
        if workers < 0:
            raise ValueError(f"workers={workers}: must be 0 or more")
        self.url = broker or users_variables()[0] or EMBEDDED
        self._worker = worker
        # A broker that is not ours may still hold deliveries of an earlier queue: use another name.
        self.name = f"deliveries-{secrets.token_hex(4)}"
        self.broker: Valkey | None = None
        self.workers: list[Program] = []
        ending = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, ending.close)
        self.folder = Path(tempfile.mkdtemp(prefix="background-tasks-queue-"))
        ending.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._programs = Programs(str(self.folder))
        # Not methods of its own: the collector would keep this queue alive.
        starts = Starts(functools.partial(ended_at, self._programs))
        collector = Collector(starts.enter, miss_stamps, starts.enter_delivery, starts.settle)
        ending.callback(starts.end)
        ending.callback(collector.join, READ_WITHIN)
        ending.callback(self._programs.end)
        ending.callback(collector.close)
        try:
            progress = Progress(1 + workers)
            if self.url == EMBEDDED:
                self.broker = Valkey(self._programs, self.folder / "broker")
                self.url = self.broker.url
            # A broker that is not ours has other queues too, which stay.
            starts.queue = self.url if self.broker else self.name
            self._database = database or f"sqlite:///{self.folder}/deliveries.sqlite3"
            variables = self.url, self.name, self._database
            _users[variables] = users_variables()
            ending.callback(restore_variables, variables)
            set_variables(variables)
            self._environment = {
                # A killed worker's delivery is not to be waited for longer than a lesson bears.
                "LEASE_SECONDS": "2",
                **{name: str(value) for name, value in environment.items()},
                **dict(zip(NAMES, variables, strict=True)),
                **queue_worker.reporter_variable(collector.reporter),
            }
            progress.show(1)
            for number in self._started(workers, self._environment):
                progress.show(1 + number)
        except BaseException:
            self.stop()
            raise

    def add_workers(self, number: int = 1, **environment: Any) -> None:
        """Start more workers; return when they wait for deliveries.

        environment: variables for these workers, in place of the queue's.
        """
        progress = Progress(number)
        own = {name: str(value) for name, value in environment.items()}
        for ready in self._started(number, self._environment | own):
            progress.show(ready)

    def _started(self, number: int, environment: dict[str, str]) -> Iterator[int]:
        """Start workers side by side; yield the number of ready workers each time it grows."""
        begun = [self._start_worker(environment) for _ in range(number)]
        for ready, worker in enumerate(begun, 1):
            worker.until(functools.partial(worker.said, " ready."), READY_WITHIN, "ready")
            self.workers.append(worker)
            yield ready

    def _start_worker(self, environment: dict[str, str]) -> Program:
        name = f"worker{sum(each.startswith('worker') for each in self._programs) + 1}"
        command = [
            sys.executable, "-m", "celery", f"--workdir={os.getcwd()}", "-A", self._worker,
            "worker", "--loglevel=info",
            "--concurrency=1", f"--hostname={name}@%h", f"--include={queue_worker.__name__}",
            # Workers of one notebook need not know each other; finding out takes them a second.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        return self._programs.start(name, command, environment)

    @functools.cached_property
    def deliveries(self) -> Deliveries:
        """What the webhook service remembers of its deliveries."""
        from webhooks.database import Database
        from webhooks.deliveries import Deliveries

        database = Database(self._database, READY_WITHIN)
        weakref.finalize(self, database.close)
        database.prepare()
        return Deliveries(database)

    def frame(self) -> pd.DataFrame:
        """Return one row per delivery: its state, how often a worker took it, and its effects."""
        import pandas as pd

        rows = [
            (each.id, each.state, each.starts, each.effects) for each in self.deliveries.known()
        ]
        return pd.DataFrame(rows, columns=["delivery", "state", "starts", "effects"])

    def wait(self, timeout: float = 60) -> None:
        """Wait until no delivery is left to be worked on: each is done, or lies aside.

        timeout: seconds. Raises TimeoutError, which says how many are left.
        """
        end = time.monotonic() + timeout
        while left := sum(each.state in ("waiting", "working") for each in self.deliveries.known()):
            if time.monotonic() > end:
                raise TimeoutError(f"{left} deliveries are not done after {timeout:g} s")
            time.sleep(LOOK_EVERY)

    def replay(self, delivery: str) -> None:
        """Have a delivery that lies aside begin anew; the workers look for it within seconds.

        delivery: its id. Raises KeyError when it does not lie aside.
        """
        if not self.deliveries.replay(delivery):
            raise KeyError(f"delivery {delivery!r} does not lie aside")

    def stop(self) -> None:
        """End the workers and the broker at once, and delete the queue with its deliveries.

        In the traces, what was at work is lost, and what waited never ran.
        """
        if self._finalizer.alive and self.broker is None:
            with contextlib.suppress(Exception):  # the broker is not ours, and may be away
                self._delete()
        self._finalizer()

    def _delete(self) -> None:
        for worker in self.workers:
            if not worker.ended:
                worker.kill()
        from webhooks.queue import delete

        delete(self.url, self.name)

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        programs: list[Any] = [self.broker, *self.workers] if self.broker else [*self.workers]
        rows = [
            (each.name, str(each.pid), "ended" if each.ended else "running") for each in programs
        ]
        return table(f"queue {self.name}", ["", "process", ""], rows)


def current_variables() -> Variables:
    """Return the broker's URL, the queue's name and the database's URL from the environment."""
    return tuple(os.environ.get(name) for name in NAMES)


def set_variables(variables: Variables) -> None:
    for name, value in zip(NAMES, variables, strict=True):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def users_variables() -> Variables:
    """Return the variables that the user has set, before any queue or since."""
    variables = current_variables()
    return _users.get(variables, variables)


def restore_variables(variables: Variables) -> None:
    """Set what holds without this queue, unless the user has set something else since."""
    users = _users.pop(variables)
    if current_variables() == variables:
        newest, before = next(reversed(_users.items()), (users, users))
        set_variables(newest if before == users else users)


def ended_at(programs: Programs, worker: str) -> float | None:
    """Return when a worker ended (`perf_counter`); None while it runs.

    worker: Celery's name of it.
    """
    program = programs.get(worker.partition("@")[0])
    return program.ended_at if program is not None and program.ended else None
