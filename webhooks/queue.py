"""The task queue of the service: deliveries are accepted by a database, and handed out by Celery.

A message holds the key of a delivery and nothing else, so the broker may lose any of them: the
workers look into the database for what was not handed out. Start a worker with Celery's own
command, `celery -A webhooks.worker worker`, on any host that reaches both.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import socket
from collections.abc import AsyncIterator

import anyio.to_thread
from celery import Celery

from .database import Database
from .deliveries import Answer, Deliveries, Delivery
from .intake import Intake, QueueUnavailable
from .settings import WrongSetting, settings
from .work import Seldom

PROCESS = "webhooks.process_and_log_webhook"
COMMITTED_WITHIN = 5.0
PATIENCE = 4.0
CUT_AFTER = getattr(socket, "TCP_USER_TIMEOUT", None)


class AnotherBody(Exception):
    """The delivery's id belongs to a delivery with another body."""


@functools.cache
def celery_app(url: str, name: str, works: bool = False) -> Celery:
    """Return the Celery app for a broker and a queue.

    url: the broker's. name: the queue's. works: for a worker, and not for an app that only sends.
    """
    app = Celery("deliveries", set_as_current=False)
    app.conf.update(
        # Not `broker_url`: the environment, which may name a newer queue's, would win over it.
        broker_read_url=url,
        broker_write_url=url,
        task_default_queue=name,
        # A worker that holds more than it works on keeps it from the others.
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        worker_enable_remote_control=False,
        # By default a worker gives up after a hundred tries.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.1},
        # How soon a link that is cut is noticed.
        broker_heartbeat=10,
    )
    if url.startswith("redis"):
        # What Celery keeps beside the queue is the queue's own, and goes with it.
        app.conf.broker_transport_options = {"global_keyprefix": f"{name}:"} | (
            _REDIS_WORKS if works else {"socket_timeout": 1, "socket_connect_timeout": 1}
        )
    elif not works:
        times = {"connect_timeout": 1, "read_timeout": 1, "write_timeout": 1}
        app.conf.broker_transport_options = times
    return app


_REDIS_WORKS = {
    # How soon a worker notices that it hears nothing more: by default after 51 s.
    "health_check_interval": 5,
    "socket_keepalive": True,
    "socket_keepalive_options": {CUT_AFTER: 10_000} if CUT_AFTER else {},
}


def broker_and_queue() -> tuple[str, str]:
    """Return the broker's URL and the queue's name from the settings.

    Raises QueueUnavailable when there is no broker, or when a setting is wrong.
    """
    try:
        given = settings()
    except WrongSetting as error:
        raise QueueUnavailable(f"There is no task queue: {error}.") from error
    if given.CELERY_BROKER_URL is None:
        raise QueueUnavailable(
            "There is no task queue: set CELERY_BROKER_URL to redis://... or amqp://..."
        )
    return given.CELERY_BROKER_URL, given.CELERY_QUEUE


async def accept(headers: dict[str, str], body: bytes) -> None:
    """Accept a delivery: return when the database has it on its disk.

    headers: by lower-case name; x-github-delivery is the id under which its effect happens once.
    body: the bytes that came. Raises QueueUnavailable when the commit is not known to have happened
    within `COMMITTED_WITHIN` seconds; AnotherBody when the id is that of another delivery.
    """
    intake = intake_of_process()
    try:
        future = intake.put(Delivery.of(headers, body))
    except queue.Full:
        raise QueueUnavailable("Too many deliveries wait to be accepted.") from None
    try:
        async with asyncio.timeout(COMMITTED_WITHIN):
            answer = await asyncio.wrap_future(future)
    except TimeoutError:
        intake.give_up(future)
        raise QueueUnavailable("The database has not taken the delivery in time.") from None
    if answer is Answer.ANOTHER:
        raise AnotherBody("The id is that of a delivery with another body, accepted before.")


_intakes: dict[tuple[int, str, str, str], Intake] = {}


def intake_of_process() -> Intake:
    """Return the intake for the current settings: one for each process, as a fork has no threads.

    Raises QueueUnavailable when there is no broker, or when a setting is wrong.
    """
    url, name = broker_and_queue()
    database = settings().DATABASE_URL
    key = (os.getpid(), url, name, database)
    if key not in _intakes:
        deliveries = Deliveries(Database(database, PATIENCE))
        _intakes[key] = Intake(deliveries, functools.partial(tell, celery_app(url, name)))
    return _intakes[key]


def tell(app: Celery, key: str, pause: float | None = None) -> None:
    """Tell the broker of a delivery that is to be worked on.

    key: its key. pause: when, in seconds from now. When the broker is away nothing is lost: the
    workers look for what they were not told of.
    """
    try:
        app.send_task(PROCESS, [key], countdown=pause)
    except Exception as error:  # each transport has its own, and the URL may be wrong
        _seldom(app).log(f"The broker was not told of a delivery: {type(error).__name__}")


@functools.cache
def _seldom(app: Celery) -> Seldom:
    return Seldom()


@contextlib.asynccontextmanager
async def queue_ready(app: object) -> AsyncIterator[None]:
    """Have the tables ready before the service starts, and commit what has arrived when it ends.

    Raises WrongDatabase when they are those of another version.
    """
    if settings().CELERY_BROKER_URL is not None:
        await anyio.to_thread.run_sync(intake_of_process().prepare)
    yield
    for key in [key for key in _intakes if key[0] == os.getpid()]:
        await anyio.to_thread.run_sync(_intakes.pop(key).close, COMMITTED_WITHIN)


def delete(url: str, name: str) -> None:
    """Remove a queue from its broker, with the keys that wait in it."""
    app = celery_app(url, name)
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[name].bind(connection.default_channel)
        queue.declare()  # a connection that knows nothing of it deletes nothing from a Redis
        queue.delete()
        queue.exchange.delete()
