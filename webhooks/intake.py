"""Takes deliveries in: one thread of each web process commits those that have arrived together.

SQLite's lock is not fair: of threads that commit each for itself, some wait for seconds. And a
database that hangs then holds one thread, not all of them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import Context
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from .database import cut
from .deliveries import Answer, Deliveries, Delivery
from .work import Seldom, logger

MOST_WAITING = 500
MOST_TOGETHER = 50
TELL_EVERY, TELL_SELDOM = 0.01, 0.04

Item = TypeVar("Item")


class QueueUnavailable(Exception):
    """It is not known whether the delivery was accepted; sent again, it is the same delivery."""


class Batches(Generic[Item]):
    """A thread that handles what is put in, together with all that has arrived meanwhile."""

    def __init__(self, name: str, handle: Callable[[list[Item]], None]) -> None:
        self._handle = handle
        self._arrived: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # It serves all requests, so it is to know nothing of the one that happens to start it.
        Context().run(self._thread.start)

    def put(self, item: Item) -> None:
        """Hand in one more. Raises queue.Full when `MOST_WAITING` wait already."""
        if self._arrived.qsize() >= MOST_WAITING:
            raise queue.Full
        self._arrived.put(item)

    def close(self, timeout: float) -> bool:
        """Have all handled that was put in; return whether it was within `timeout` seconds."""
        self._arrived.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for first in iter(self._arrived.get, None):
            self._handle([first, *self._arrived_meanwhile()])

    def _arrived_meanwhile(self) -> Iterator[Item]:
        for _ in range(MOST_TOGETHER - 1):
            try:
                item = self._arrived.get_nowait()
            except queue.Empty:
                return
            if item is None:
                self._arrived.put(None)
                return
            yield item


class Intake:
    """Commits deliveries, and then has the workers woken.

    deliveries: where they are kept. tell: is called with the key of one of those that were accepted
    together, in a thread of its own, so that no caller waits for it.
    """

    def __init__(self, deliveries: Deliveries, tell: Callable[[str], None]) -> None:
        self._deliveries = deliveries
        self._tell = tell
        self._told = Batches[str]("webhooks tell", self._wake_workers)
        self._arrived = Batches[tuple[Delivery, Future[Answer]]]("webhooks intake", self._commit)
        self._connection: sa.Connection | None = None
        self._driver: Any = None
        self._seldom = Seldom()

    def prepare(self) -> None:
        """Have the tables ready; when the database is away, that is left to the first commit.

        Raises WrongDatabase when they are those of another version.
        """
        try:
            self._deliveries.database.prepare()
        except DBAPIError as error:
            logger.warning(f"The database is away: {type(error).__name__}")

    def put(self, delivery: Delivery) -> Future[Answer]:
        """Hand in a delivery; the future tells when it is committed, or why that is not known.

        Raises queue.Full when too many wait already.
        """
        future: Future[Answer] = Future()
        self._arrived.put((delivery, future))
        return future

    def give_up(self, future: Future[Answer]) -> None:
        """Stop waiting for a delivery's commit; break it off if the database is at it."""
        if not future.cancel() and not future.done() and self._driver is not None:
            cut(self._driver)

    def close(self, timeout: float) -> None:
        """Commit what has arrived, and tell of it; wait at most `timeout` seconds for each."""
        if self._arrived.close(timeout) and self._connection is not None:
            self._connection.close()
        self._told.close(timeout)
        self._deliveries.database.close()

    def _commit(self, arrived: list[tuple[Delivery, Future[Answer]]]) -> None:
        arrived = [each for each in arrived if each[1].set_running_or_notify_cancel()]
        if not arrived:
            return
        self._driver = None
        together = [delivery for delivery, _ in arrived]
        try:
            answers = self._accept(together)
        except Exception as error:
            # Not its text: it may hold values.
            self._seldom.log(f"The database has not taken deliveries: {type(error).__name__}")
            for _, future in arrived:
                future.set_exception(QueueUnavailable("The database has not taken the delivery."))
            return
        for (delivery, future), answer in zip(arrived, answers, strict=True):
            future.set_result(answer)
            if answer is Answer.ACCEPTED:
                with contextlib.suppress(queue.Full):  # the workers will look for it
                    self._told.put(delivery.key)

    def _accept(self, together: list[Delivery]) -> list[Answer]:
        self._deliveries.database.prepare()
        if self._connection is None:  # kept: to take one from the pool costs 0.1 ms
            self._connection = self._deliveries.database.promises.connect()
        try:
            return self._commit_by(self._connection, together)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # The server was restarted since the last commit, say: nothing speaks against once more.
            return self._commit_by(self._connection, together)

    def _commit_by(self, connection: sa.Connection, together: list[Delivery]) -> list[Answer]:
        self._driver = connection.connection.driver_connection
        return self._deliveries.accept(together, connection)

    def _wake_workers(self, keys: list[str]) -> None:
        self._tell(keys[0])
        # A message costs as much as an answer. Under load few are needed: the workers pass it on.
        time.sleep(min(TELL_EVERY * len(keys), TELL_SELDOM))
