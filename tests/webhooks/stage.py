"""The service with all that it needs, each part a process of its own, and what may befall them."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import redis

from lab import Queue, serve
from lab.programs.program import Program
from webhooks.deliveries import Known
from webhooks.queue import celery_app, delete
from webhooks.workplace import patiently

from ..brokers import Broker, broker_of
from ..databases import KINDS, ROOM, Database, PostgreSQL, no_room, small_disk
from ..waiting import until

PATH = "/webhook-test/queue"
ANSWERED_WITHIN = 10.0  # of which the service takes 5 s


class Caller:
    """Sends deliveries, and keeps how each was answered: its status, None for a broken connection.

    A refused delivery is sent again, under the same id, as callers do.
    """

    def __init__(self, stage: Stage, tries: int = 1) -> None:
        self.stage = stage
        self.tries = tries
        self.answers: dict[str, list[int | None]] = {}

    @property
    def accepted(self) -> set[str]:
        return {id for id, answers in self.answers.items() if 202 in answers}

    def statuses(self) -> list[int | None]:
        return [status for answers in self.answers.values() for status in answers]

    def send(self, client: httpx.Client, id: str, body: bytes, pause: float = 0) -> None:
        answers = self.answers.setdefault(id, [])
        for _ in range(self.tries):
            time.sleep(pause)
            try:
                headers = {"X-GitHub-Delivery": id, "X-GitHub-Event": "push"}
                url = self.stage.web.url + PATH
                answers.append(client.post(url, headers=headers, content=body).status_code)
            except httpx.TransportError:
                answers.append(None)
            if answers[-1] == 202:
                return

    def send_all(
        self,
        bodies: Iterable[bytes],
        at_once: int = 4,
        pauses: Callable[[], float] = lambda: 0,
    ) -> None:
        with httpx.Client(
            timeout=ANSWERED_WITHIN, trust_env=False, limits=httpx.Limits(max_connections=at_once)
        ) as client, ThreadPoolExecutor(at_once) as pool:  # fmt: skip
            sent = [
                pool.submit(self.send, client, str(uuid.uuid4()), body, pauses()) for body in bodies
            ]
            for each in sent:
                each.result()


class Stage:
    """Web, workers, broker and database."""

    def __init__(self, broker: Broker, database: Database, queue: Queue, room: bool) -> None:
        self.broker = broker
        self.database = database
        self.queue = queue
        self.room = room
        """Whether the database's disk can be filled."""
        self.web = serve("server:app", on="process")

    def known(self, state: str | None = None) -> list[Known]:
        """What is known of deliveries, as soon as the database answers."""
        return patiently(self.queue.deliveries.known, state)

    def until_done(self, ids: set[str], timeout: float = 60) -> None:
        until(lambda: ids <= {each.id for each in self.known("done")}, timeout)
        assert {each.effects for each in self.known("done")} == {1}

    def any_worker(self, chance: random.Random) -> Program:
        return self.queue.workers[chance.randrange(len(self.queue.workers))]


@contextlib.contextmanager
def staged(folder: Path, broker: str, database: str, workers: int = 2) -> Iterator[Stage]:
    disk = folder / "database"
    with (
        small_disk(disk, ROOM[database]) as mounted,
        broker_of(broker, folder / "broker") as running,
        KINDS[database](disk / "files") as remembering,
        Queue(
            workers, broker=running.url, database=remembering.url, WORK_SECONDS=0.1, LEASE_SECONDS=1
        ) as queue,
    ):
        stage = Stage(running, remembering, queue, mounted)
        try:
            yield stage
        finally:
            stage.web.stop()


# What may befall them. Each has it happen on entering, and is over on leaving.


@contextlib.contextmanager
def broker_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.broker.kill()
    yield
    stage.broker.start()


@contextlib.contextmanager
def broker_frozen(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.broker.freeze()
    yield
    stage.broker.thaw()


@contextlib.contextmanager
def broker_flushed(stage: Stage, chance: random.Random) -> Iterator[None]:
    if stage.broker.url.startswith("redis"):
        with redis.Redis.from_url(stage.broker.url) as client:
            client.flushall()
    else:
        with celery_app(stage.broker.url, stage.queue.name).connection_for_write() as connection:
            connection.default_channel.queue_purge(stage.queue.name)
    yield


@contextlib.contextmanager
def broker_wiped(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.broker.wipe()
    yield
    stage.broker.start()


@contextlib.contextmanager
def queue_deleted(stage: Stage, chance: random.Random) -> Iterator[None]:
    delete(stage.broker.url, stage.queue.name)
    yield


@contextlib.contextmanager
def queue_deleted_without_workers(stage: Stage, chance: random.Random) -> Iterator[None]:
    workers = len(stage.queue.workers)
    while stage.queue.workers:
        stage.queue.workers.pop().kill()
    yield
    time.sleep(0.5)  # the broker is told after the answer: a later message would save the others
    delete(stage.broker.url, stage.queue.name)
    stage.queue.add_workers(workers)


@contextlib.contextmanager
def worker_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    worker = stage.any_worker(chance)
    stage.queue.workers.remove(worker)
    worker.kill()
    yield
    stage.queue.add_workers(1)


@contextlib.contextmanager
def worker_frozen(stage: Stage, chance: random.Random) -> Iterator[None]:
    worker = stage.any_worker(chance)
    worker.freeze()
    yield
    worker.thaw()


@contextlib.contextmanager
def process_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    """As the system does when memory runs out: the worker starts another that works for it."""
    for process in psutil.Process(stage.any_worker(chance).pid).children():
        process.kill()
    yield


@contextlib.contextmanager
def web_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.web.signal(signal.SIGKILL)
    stage.web.join()
    yield
    stage.web = serve("server:app", on="process")


@contextlib.contextmanager
def web_frozen(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.web.signal(signal.SIGSTOP)
    yield
    stage.web.signal(signal.SIGCONT)


@contextlib.contextmanager
def database_killed(stage: Stage, chance: random.Random) -> Iterator[None]:
    assert isinstance(stage.database, PostgreSQL)
    stage.database.kill()
    yield
    stage.database.start()


@contextlib.contextmanager
def database_frozen(stage: Stage, chance: random.Random) -> Iterator[None]:
    stage.database.freeze()
    yield
    stage.database.thaw()


@contextlib.contextmanager
def database_full(stage: Stage, chance: random.Random) -> Iterator[None]:
    assert stage.room
    with no_room(stage.database.folder):
        yield
    stage.database.revive()


Fault = Callable[[Stage, random.Random], contextlib.AbstractContextManager[None]]


def under(
    stage: Stage,
    fault: Fault,
    chance: random.Random,
    send: Callable[[], None],
    before: Callable[[], bool],
    lasts: float,
) -> None:
    """Have a fault happen while deliveries are being sent.

    before: whether it may begin. lasts: in seconds; a fault may be over before the last is sent.
    """
    sending = threading.Thread(target=send, name="caller")
    sending.start()
    until(lambda: before() or not sending.is_alive())
    with fault(stage, chance):
        sending.join(lasts)
    sending.join()
