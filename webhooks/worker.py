"""The worker of the task queue: `celery -A webhooks.worker worker`.

A message only says that there is a delivery to work on; the database says whether that is so, who
has it, and how often it was tried.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Task, signals
from celery.concurrency.prefork import TaskPool
from celery.exceptions import Retry, SoftTimeLimitExceeded
from celery.worker.request import Request
from sqlalchemy.exc import DBAPIError

from .database import Database, WrongDatabase
from .deliveries import MOST_ATTEMPTS, Lease
from .queue import PATIENCE, PROCESS, broker_and_queue, celery_app, tell
from .settings import settings
from .work import logger, parsed, process_and_log_webhook, shortened
from .workplace import Workplace, patiently, workplace

GO_ON = 1.0

app = celery_app(*broker_and_queue(), works=True)
# The first raises in the work; the second ends a process whose work does not heed it.
app.conf.task_soft_time_limit = settings().MOST_SECONDS
app.conf.task_time_limit = settings().MOST_SECONDS + 10


class Received(Request):  # type: ignore[misc]
    """A message that a worker has received.

    When the broker is gone before it is acknowledged, Celery would log that and go on. Such a
    message counts as held for ever, and a worker that holds as much as it may takes no other.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        # Not one of the errors to be passed over: it has the worker connect anew.
        super().__init__(*given, **options | {"connection_errors": ()})


@app.task(bind=True, name=PROCESS, Request=Received)  # type: ignore[untyped-decorator]
def process(task: Task, key: str) -> None:
    """Work on a delivery, and then for a second on those that have been due for longest.

    key: the delivery's. While more is due, one message is on its way: whoever takes one and sees
    that sends the next, so that every idle worker is woken, and no message is needed for each.
    """
    place, worker = workplace(os.getpid()), task.request.hostname
    end = time.monotonic() + GO_ON
    lease = place.take(worker, key) or place.take(worker)
    if lease is not None and (more := patiently(place.deliveries.next_due)):
        tell(place.sender, more)
    while lease is not None:
        try:
            attempt(place, lease)
        except Retry as again:
            tell(place.sender, lease.delivery.key, again.when)
        except Exception:
            pass  # logged, and kept with the delivery
        lease = place.take(worker) if time.monotonic() < end else None


def attempt(place: Workplace, lease: Lease) -> None:
    """Work on a delivery once, and record what came of it.

    Raises Retry when it failed and is to be tried again; otherwise what it failed with.
    """
    delivery, deliveries = lease.delivery, place.deliveries
    try:
        if lease.attempt > MOST_ATTEMPTS:
            raise TooManyAttempts(lease.reason)
        with place.keeping(lease):
            body = parsed(delivery.headers, delivery.body)
            process_and_log_webhook(delivery.headers, body, settings().WORK_SECONDS)
    except Exception as error:
        name = shortened(delivery.id)
        logger.error(f"Attempt {lease.attempt} at delivery {name} failed: {why(error)}")
        if lease.attempt >= MOST_ATTEMPTS:
            if patiently(deliveries.set_aside, lease, why(error)):
                logger.error(f"Delivery {name} lies aside")
        elif patiently(deliveries.fail, lease, why(error), pause := float(lease.attempt)):
            raise Retry(exc=error, when=pause) from error
        raise
    patiently(deliveries.finish, delivery)


class TooManyAttempts(Exception):
    """As many attempts as are allowed have come to nothing; the text is why the last one did."""


def why(error: Exception) -> str:
    """Return why an attempt has come to nothing, as one line."""
    if isinstance(error, SoftTimeLimitExceeded):
        return f"not done after {settings().MOST_SECONDS} s"
    if isinstance(error, TooManyAttempts):
        return str(error)
    return shortened(repr(error))


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def check_database(**_: Any) -> None:
    """Have the tables ready before any process is forked, which is not to inherit a connection."""
    database = Database(settings().DATABASE_URL, PATIENCE)
    try:
        database.prepare()
    except WrongDatabase as error:
        raise SystemExit(f"The worker has not started: {error}") from error
    except DBAPIError as error:
        logger.warning(f"The database is away: {type(error.orig).__name__}")
    finally:
        database.close()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def open_workplace(**_: Any) -> None:
    workplace(os.getpid())


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def open_workplace_here(sender: Any, **_: Any) -> None:
    if not isinstance(sender.pool, TaskPool):  # its work is done in this process
        workplace(os.getpid())
