"""A task queue for a notebook, which ends with it.

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
from typing import TYPE_CHECKING, Any

from ..observer import queue_worker
from ..progress import Progress
from ..servers.collector import Collector
from ..traces.tables import table
from .programs import READY_WITHIN, Program, Programs
from .starts import Starts
from .valkey import Valkey

if TYPE_CHECKING:
    from webhooks.effects import Effects

EMBEDDED = "embedded"
BROKER, NAME = "CELERY_BROKER_URL", "CELERY_QUEUE"

Said = tuple[str | None, str | None]
# For what each queue has the environment say, what it said before.
_before: dict[Said, Said] = {}


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
        worker: str = "webhooks.worker",
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
        self.url = broker or users_own()[0] or EMBEDDED
        self._worker = worker
        # On a broker that is not ours, what an earlier queue has left is not to be mixed in.
        self.name = f"deliveries-{secrets.token_hex(4)}"
        self.broker: Valkey | None = None
        self.workers: list[Program] = []
        ending = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, ending.close)
        self._folder = Path(tempfile.mkdtemp(prefix="background-tasks-queue-"))
        ending.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._programs = Programs(str(self._folder))
        ending.callback(self._programs.end)
        # Not methods of its own: the collector would keep this queue alive.
        collector = Collector(Starts(functools.partial(ended_at, self._programs)).enter)
        ending.callback(collector.close)
        try:
            progress = Progress(1 + workers)
            if self.url == EMBEDDED:
                self.broker = Valkey(self._programs, self._folder / "broker")
                self.url = self.broker.url
            words = self.url, self.name
            _before[words] = said()
            ending.callback(give_back, words)
            say(words)
            self._environment = {
                **{name: str(value) for name, value in environment.items()},
                BROKER: self.url,
                NAME: self.name,
                "EFFECTS_DATABASE": str(self._folder / "effects.sqlite3"),
                **queue_worker.reporter_variable(collector.reporter),
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
            worker.until(functools.partial(worker.said, " ready."), READY_WITHIN, "ready")
            self.workers.append(worker)
            yield ready

    def _start_worker(self) -> Program:
        name = f"worker{sum(each.startswith('worker') for each in self._programs) + 1}"
        command = [
            sys.executable, "-m", "celery", f"--workdir={os.getcwd()}", "-A", self._worker,
            "worker", "--loglevel=info",
            "--concurrency=1", f"--hostname={name}@%h", f"--include={queue_worker.__name__}",
            # Workers of one notebook need not know of each other; asking takes them a second.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        return self._programs.start(name, command, self._environment)

    @functools.cached_property
    def effects(self) -> Effects:
        """What the deliveries of the webhook service have brought about."""
        from webhooks.effects import Effects

        return Effects(self._environment["EFFECTS_DATABASE"])

    def replay(self, delivery: str) -> None:
        """Hand a delivery that was set aside over once more, with all its attempts.

        Raises KeyError when it does not lie aside, QueueUnavailable when the broker is away.
        """
        from webhooks.queue import publish

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


def said() -> Said:
    """What the environment says of a broker and a queue."""
    return os.environ.get(BROKER), os.environ.get(NAME)


def say(words: Said) -> None:
    for name, value in zip((BROKER, NAME), words, strict=True):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def users_own() -> Said:
    """What the user has said, before any queue or since."""
    words = said()
    while words in _before:
        words = _before[words]
    return words


def give_back(words: Said) -> None:
    """Say again what was said before a queue, unless something newer has been said."""
    before = _before.pop(words)
    for newer, earlier in _before.items():
        if earlier == words:
            _before[newer] = before
    if said() == words:
        say(before)


def ended_at(programs: Programs, worker: str) -> float | None:
    """When a worker, by Celery's name for it, has ended; None while it has not."""
    program = programs.get(worker.partition("@")[0])
    return program.ended_at if program is not None and program.ended else None
