"""How the service stands, for whoever operates it; what hangs holds one thread, and no caller."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import queue
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import anyio

from .database import Database
from .deliveries import Deliveries, Standing
from .intake import Batches
from .queue import PATIENCE, broker_and_queue, celery_app, queue_ready
from .settings import settings
from .work import logger

KNOWN_WITHIN = 2.0

Answer = TypeVar("Answer")


class Look(Generic[Answer]):
    """Asks, in a thread of its own, once for all callers that have come meanwhile."""

    def __init__(self, name: str, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._callers = Batches[Future[Answer]](f"webhooks {name}", self._answer)

    async def __call__(self) -> Answer | None:
        """Return the answer; None when there is none within `KNOWN_WITHIN` seconds."""
        future: Future[Answer] = Future()
        with contextlib.suppress(queue.Full, Exception), anyio.move_on_after(KNOWN_WITHIN):
            self._callers.put(future)
            return await asyncio.wrap_future(future)
        return None

    def close(self) -> None:
        self._callers.close(0)

    def _answer(self, callers: list[Future[Answer]]) -> None:
        callers = [each for each in callers if each.set_running_or_notify_cancel()]
        if not callers:
            return
        try:
            answer = self._ask()
        except Exception as error:  # each driver and transport has its own
            for each in callers:
                each.set_exception(error)
        else:
            for each in callers:
                each.set_result(answer)


class Lookout:
    """Looks at the database and at the broker of the current settings.

    url: the broker's. name: the queue's. database: SQLAlchemy's URL.
    """

    def __init__(self, url: str, name: str, database: str) -> None:
        self._deliveries = Deliveries(Database(database, PATIENCE))
        self.standing = Look("look at the database", self._standing)
        self.broker = Look("look at the broker", functools.partial(_reach, url, name))

    def _standing(self) -> Standing:
        self._deliveries.database.prepare()
        return self._deliveries.standing()

    def close(self) -> None:
        self.standing.close()
        self.broker.close()
        self._deliveries.database.close()


def _reach(url: str, name: str) -> bool:
    with celery_app(url, name).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        return bool(connection.default_channel)


_lookouts: dict[tuple[int, str, str, str], Lookout] = {}


def lookout_of_process() -> Lookout:
    """Return the lookout for the current settings: one for each process.

    Raises QueueUnavailable when there is no broker, or when a setting is wrong.
    """
    url, name = broker_and_queue()
    key = (os.getpid(), url, name, settings().DATABASE_URL)
    if key not in _lookouts:
        _lookouts[key] = Lookout(*key[1:])
    return _lookouts[key]


async def standing() -> Standing | None:
    """Return how the queue's deliveries stand; None when there is no queue, or it is not known."""
    if settings().CELERY_BROKER_URL is None:
        return None
    return await lookout_of_process().standing()


async def readiness() -> tuple[bool, dict[str, Any]]:
    """Return whether deliveries can be accepted, and what is there of what is needed.

    Without the broker, or without workers, work is late, and nothing is refused.
    """
    if settings().CELERY_BROKER_URL is None:
        return True, {"database": "not used", "broker": "not used", "workers": 0}
    lookout = lookout_of_process()
    standing, broker = await asyncio.gather(lookout.standing(), lookout.broker())
    return standing is not None, {
        "database": "reached" if standing else "not reached",
        "broker": "reached" if broker else "not reached",
        "workers": standing.workers if standing else None,
    }


@contextlib.asynccontextmanager
async def service_ready(app: Any) -> AsyncIterator[None]:
    """Say what is open, have the queue ready before the service starts, and end it at its end."""
    if app.state.webhook_secret is None:
        logger.warning("WEBHOOK_SECRET is not set: anybody can send deliveries")
    async with queue_ready(app):
        gc.collect()
        gc.freeze()  # a collection that looks through all that is here holds up every answer
        try:
            yield
        finally:
            gc.unfreeze()
    for key in [key for key in _lookouts if key[0] == os.getpid()]:
        _lookouts.pop(key).close()
