"""The worker of the task queue: `celery -A webhooks.worker worker`.

A delivery is acknowledged after its effect, so the delivery of a worker that dies goes to another
worker. Attempts are counted here, not by the broker, so that all brokers behave alike.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from celery import Task, bootsteps
from celery.exceptions import Reject
from redis import RedisError

from .effects import Effects, Start
from .outbox import outbox_of
from .queue import PROCESS, broker_and_queue, celery_app
from .settings import settings
from .work import logger, process_and_log_webhook

MOST_ATTEMPTS = 3
LOOK_EVERY = 1.0
PAUSE = 1.0


class TooManyAttempts(Exception):
    """A delivery has ended its worker in as many attempts as are allowed."""


app = celery_app(*broker_and_queue(), settings().longest_work)
effects = Effects(settings().EFFECTS_DATABASE)
outbox = outbox_of(*broker_and_queue())


@app.task(bind=True, name=PROCESS)  # type: ignore[untyped-decorator]
def process(task: Task, delivery: str, headers: dict[str, str], body: str) -> None:
    """Process a delivery and apply its effect once; set it aside after `MOST_ATTEMPTS`.

    delivery: its id. headers: by lower-case name. body: JSON.
    """
    with kept_without_database(delivery):
        start = effects.begin(delivery, task.request.hostname)
    try:
        attempt(start, task.request.hostname, delivery, headers, body)
    except Exception as error:
        logger.error(f"Attempt {start.attempt} at delivery {delivery} failed: {error!r}")
        if start.attempt < MOST_ATTEMPTS:
            raise Reject(error, requeue=True) from error
        with kept_without_database(delivery):
            effects.set_aside(delivery, repr(error), headers, body)
        raise


@contextlib.contextmanager
def kept_without_database(delivery: str) -> Iterator[None]:
    """Return a delivery to the queue while the database fails, because its disk is full, say."""
    try:
        yield
    except sqlite3.Error as error:
        logger.error(f"Delivery {delivery} waits for {effects.path}: {error!r}")
        time.sleep(PAUSE)
        raise Reject(error, requeue=True) from error


def attempt(start: Start, worker: str, delivery: str, headers: dict[str, str], body: str) -> None:
    """Do the work and apply its effect, unless it is done or was tried too often.

    Raises TooManyAttempts after `MOST_ATTEMPTS` that ended their workers.
    """
    if start.done:
        return
    if start.attempt > MOST_ATTEMPTS:
        raise TooManyAttempts(f"{MOST_ATTEMPTS} attempts, each of which ended its worker")
    process_and_log_webhook(headers, json.loads(body), settings().WORK_SECONDS)
    effects.apply(delivery, headers.get("x-github-event", "unnamed"), worker)


class LookAfterOutbox(bootsteps.StartStopStep):  # type: ignore[misc]
    """A worker step that re-queues deliveries that Redis gave to a worker which then died."""

    requires = {"celery.worker.components:Timer"}  # noqa: RUF012

    def start(self, worker: Any) -> None:
        if outbox:
            self.looking = worker.timer.call_repeatedly(LOOK_EVERY, self.look)

    def stop(self, worker: Any) -> None:
        if outbox:
            self.looking.cancel()

    def look(self) -> None:
        assert outbox is not None
        with contextlib.suppress(RedisError):  # the broker is away: look again later
            outbox.queue_overdue(settings().longest_work)


app.steps["worker"].add(LookAfterOutbox)
