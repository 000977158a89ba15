"""Starts a broker and workers for the notebooks, which end with them.

Without CELERY_BROKER_URL the broker is the lab's own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .broker import Valkey
from .celery_app import celery_app, publish
from .collecting import Collector
from .effects import DATABASE, Effects
from .ledger import ledgers
from .outbox import outbox_of
from .programs import START_TIMEOUT, Program, Programs
from .progress import Progress
from .queue_stamps import LOST, collector_variable
from .traces import table

EMBEDDED = "embedded"


class Queue:
    """A task queue: a broker, and workers that take deliveries from it.

    It sets CELERY_BROKER_URL and CELERY_QUEUE, so that servers started after it hand over to it,
    and it ends, with all its processes, when its name is bound anew, or with the kernel.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        broker: str | None = None,
        worker: str = "lab.worker",
        **environment: Any,
    ) -> None:
        """Return when the broker answers and every worker waits for deliveries.

        workers: how many processes take deliveries. broker: its URL, or "embedded"; by default
        CELERY_BROKER_URL, or the embedded one without it. worker: the module of their Celery app.
        environment: variables for the workers, such as WORK_SECONDS.
        Raises RuntimeError when something does not start.
        """
        if workers < 0:
            raise ValueError(f"workers={workers}: there cannot be fewer than none")
        url = broker or newest.given("CELERY_BROKER_URL") or EMBEDDED
        self._worker = worker
        # On a broker that is not ours, what an earlier queue has left is not to be mixed in.
        self.name = f"deliveries-{secrets.token_hex(4)}"
        self.workers: list[Program] = []
        ending = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, ending.close)
        folder = tempfile.mkdtemp(prefix="background-tasks-lab-")
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        self.effects = Effects(Path(folder) / "effects.sqlite3")
        self._programs = Programs(folder)
        ending.callback(self._programs.end)
        # Not a method of its own: the collector would keep this queue alive.
        collector = Collector(functools.partial(enter, self._programs))
        ending.callback(collector.close)
        try:
            progress = Progress(1 + workers)
            self.broker = (
                Valkey(self._programs, Path(folder) / "broker") if url == EMBEDDED else None
            )
            self.url = self.broker.url if self.broker else url
            celery_app(self.url, self.name)  # refuses a broker that loses deliveries
            self.variables = {"CELERY_BROKER_URL": self.url, "CELERY_QUEUE": self.name}
            newest.set(self.variables)
            ending.callback(newest.unset, self.variables)
            self._environment = {
                **{name: str(value) for name, value in environment.items()},
                **self.variables,
                DATABASE: str(self.effects.path),
                **collector_variable(collector.reporter),
            }
            progress.show(1)
            for number in self._started(workers):
                progress.show(1 + number)
        except BaseException:
            self.stop()
            raise

    def add_workers(self, number: int = 1) -> None:
        """Start more workers; return when they wait for deliveries."""
        progress = Progress(number)
        for ready in self._started(number):
            progress.show(ready)

    def _started(self, number: int) -> Iterator[int]:
        """Start workers side by side; yield how many are ready, as they become so."""
        begun = [self._start_worker() for _ in range(number)]
        for ready, worker in enumerate(begun, 1):
            worker.until(functools.partial(worker.said, " ready."), START_TIMEOUT, "ready")
            self.workers.append(worker)
            yield ready

    def _start_worker(self) -> Program:
        name = f"worker{sum(each.startswith('worker') for each in self._programs) + 1}"
        command = [
            sys.executable, "-m", "celery", "-A", self._worker, "worker", "--loglevel=info",
            "--concurrency=1", f"--hostname={name}@%h",
            # Workers of one notebook need not know of each other; asking takes them a second.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        return self._programs.start(name, command, self._environment)

    def replay(self, delivery: str) -> None:
        """Hand a delivery that was set aside over once more, with all its attempts.

        Raises KeyError when it does not lie aside, QueueUnavailable when the broker is away.
        """
        aside = self.effects.readmit(delivery)
        publish(self.url, self.name, delivery, aside.headers, aside.body)
        self.effects.forget(aside)

    def stop(self) -> None:
        """End the workers and the broker at once; the queue is gone, with what was in it."""
        if self._finalizer.alive and self.broker is None:
            with contextlib.suppress(Exception):  # the broker is not ours, and may be away
                self._delete()
        self._finalizer()

    def _delete(self) -> None:
        for worker in self.workers:
            if not worker.ended:
                worker.kill()
        with celery_app(self.url, self.name).connection_for_write() as connection:
            connection.default_channel.queue_delete(self.name)
            connection.default_channel.exchange_delete(self.name)
        if outbox := outbox_of(self.url, self.name):
            outbox.clear()

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


def enter(programs: dict[str, Program], trace_id: str, stamp: str, *seen: Any) -> None:
    """Enter what a worker has seen; of work lost with another, the moment at which that ended."""
    if stamp == LOST:
        key, noticed, name = seen
        worker = programs.get((name or "").partition("@")[0])
        ended_at = worker.ended_at if worker is not None and worker.ended else noticed
        stamp, seen = "gone", (key, ended_at, None)
    for ledger in list(ledgers):
        ledger.enter(trace_id, stamp, *seen)


class Variables:
    """What the environment says of a queue: the newest queue's word, or else the user's own."""

    def __init__(self) -> None:
        self._words: list[dict[str, str]] = []
        self._own: dict[str, str | None] = {}

    def given(self, name: str) -> str | None:
        """What the user has set, before any queue or since."""
        value = os.environ.get(name)
        by_a_queue = self._words and value == self._words[-1].get(name)
        return self._own.get(name) if by_a_queue else value

    def set(self, word: dict[str, str]) -> None:
        self._own = {name: self.given(name) for name in word}
        self._words.append(word)
        os.environ.update(word)

    def unset(self, word: dict[str, str]) -> None:
        own = {name: self.given(name) for name in word}
        self._words.remove(word)
        for name, value in (self._words[-1] if self._words else own).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


newest = Variables()
