"""What a process has of its own to work on deliveries; made after its fork."""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from .database import Database
from .deliveries import Deliveries, Lease
from .queue import broker_and_queue, celery_app, tell
from .settings import settings
from .work import Seldom, logger

PATIENCE = 30.0
LOOK_EVERY = 1.0
OVERDUE = 2.0
TRY_AGAIN = 0.5
HEARD_EVERY = 5.0
DAY = 86400.0

Result = TypeVar("Result")


@functools.cache
def workplace(process: int) -> Workplace:
    """Return the workplace of a process, given by its number."""
    return Workplace()


class Workplace:
    """Connections to the database, and two threads that look after deliveries.

    One prolongs the leases of what is being worked on, however long that takes. The other looks for
    deliveries that no worker has taken in time, and wakes one: their message was lost.
    """

    def __init__(self) -> None:
        # Not the worker's own app, which waits for a frozen broker: a delivery may be at hand.
        self.sender = celery_app(*broker_and_queue())
        self.deliveries = Deliveries(Database(settings().DATABASE_URL, PATIENCE))
        self._kept: dict[str, tuple[Lease, float]] = {}
        for look_after in (self._prolong, self._look_for_overdue):
            name = f"webhooks {look_after.__name__.strip('_')}"
            threading.Thread(target=look_after, name=name, daemon=True).start()

    def take(self, worker: str, key: str | None = None) -> Lease | None:
        """Lease a delivery that may be worked on; None when there is none.

        worker: the name of who takes it. key: the delivery's; None for the one due for longest.
        """
        patiently(self.deliveries.database.prepare)
        lease = patiently(self.deliveries.take, worker, settings().LEASE_SECONDS, key)
        if lease is None and key is not None and not patiently(self.deliveries.has, key):
            logger.warning(
                f"There is no delivery {key}: it was done and removed, or it is in another "
                f"database than {self.deliveries.database.name}"
            )
        return lease

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        """Keep a lease while the work on its delivery goes on, for `MOST_SECONDS` at most."""
        self._kept[lease.token] = lease, time.monotonic() + settings().MOST_SECONDS
        try:
            yield
        finally:
            del self._kept[lease.token]

    def _prolong(self) -> None:
        seconds = pause = settings().LEASE_SECONDS / 4
        while True:
            time.sleep(pause)
            pause = seconds
            for lease, end in list(self._kept.values()):
                try:
                    if time.monotonic() < end:
                        self.deliveries.prolong(lease, settings().LEASE_SECONDS)
                except DBAPIError:
                    pause = min(seconds, TRY_AGAIN)

    def _look_for_overdue(self) -> None:
        seldom, heard_again = Seldom(), 0.0
        name = f"{socket.gethostname()} {os.getpid()}"[:200]
        while True:
            time.sleep(LOOK_EVERY)
            try:
                if time.monotonic() >= heard_again:
                    self.deliveries.heard(name)
                    heard_again = time.monotonic() + HEARD_EVERY
                self._tell_of_overdue()
                self.deliveries.forget(settings().KEPT_DAYS * DAY)
            except Exception as error:  # the database is away, or the broker: look again later
                seldom.log(f"No look for overdue deliveries: {type(error).__name__}")

    def _tell_of_overdue(self) -> None:
        key = self.deliveries.next_due(OVERDUE)
        # While a message waits, whoever takes it will take what has been due for longest.
        if key is not None and self._messages() == 0:
            tell(self.sender, key)

    def _messages(self) -> int:
        """Count the messages that wait at the broker; make the queue if it is gone."""
        with self.sender.connection_for_write() as connection:
            channel = connection.default_channel
            queue = self.sender.amqp.queues[self.sender.conf.task_default_queue].bind(channel)
            queue.declare()
            found = channel.queue_declare(
                queue=queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
            )
            return int(found.message_count)


def patiently(ask: Callable[..., Result], *given: Any) -> Result:
    """Ask the database until it answers: that it is away is no attempt of any delivery's."""
    seldom = Seldom()
    while True:
        try:
            return ask(*given)
        except DBAPIError as error:
            seldom.log(f"Waiting for the database: {type(error.orig).__name__}")
            time.sleep(TRY_AGAIN)
