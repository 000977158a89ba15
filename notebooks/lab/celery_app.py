"""The task queue of the webhook service: its Celery app, and how a delivery gets into it.

CELERY_BROKER_URL names the broker (redis:// or amqp://); CELERY_QUEUE may name the queue. A worker
is started by Celery's own command, `celery -A lab.worker worker`, on any host that has both.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import uuid
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from celery import Celery

from .queue_stamps import ticket

PROCESS = "server.process_and_log_webhook"
PATIENCE = 5.0
AT_ONCE = 8
MARGIN = 5.0
LONGEST_ID = 200
CUT_AFTER = getattr(socket, "TCP_USER_TIMEOUT", None)

logger = logging.getLogger("uvicorn.webhook")
_places: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("lab_queue_places")


class QueueUnavailable(Exception):
    """No broker has confirmed the delivery; one that was frozen may still have it."""


@functools.cache
def celery_app(url: str, queue: str, longest_work: float | None = None) -> Celery:
    """The Celery app for a broker; only settings that are not Celery's own are given.

    url: the broker. queue: its queue. longest_work: for a worker, the seconds that it may take
    over a delivery before another gets it as well; None for who only sends.
    Raises QueueUnavailable for a kind of broker that loses what was not acknowledged.
    """
    if not url.startswith(("redis://", "rediss://", "amqp://", "amqps://")):
        raise QueueUnavailable("CELERY_BROKER_URL must begin with redis:// or amqp://.")
    app = Celery("deliveries", set_as_current=False)
    app.conf.update(
        # Not `broker_url`: the environment, which may name a newer queue's, would win over it.
        broker_read_url=url,
        broker_write_url=url,
        task_default_queue=queue,
        # Acknowledged when done, so that a killed worker's delivery is given to another.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A worker that holds more than it works on keeps it from the others.
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        # With more tries a request would wait longer for a broker that is away.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.1},
        # How soon RabbitMQ gives the deliveries of a worker that is cut off to another.
        broker_heartbeat=10,
    )
    if url.startswith("redis"):
        # Two queues on one broker must not restore each other's deliveries.
        options: dict[str, Any] = {"global_keyprefix": f"{queue}:"}
        options |= _REDIS_SENDS if longest_work is None else _redis_works(longest_work)
        app.conf.broker_transport = "lab.outbox:Transport"
    else:
        options = _AMQP_SENDS if longest_work is None else {"confirm_publish": True}
    app.conf.broker_transport_options = options
    return app


# Without a limit, a frozen broker would hold its callers for ever.
_REDIS_SENDS = {"socket_timeout": 1, "socket_connect_timeout": 1}
# Without confirmation, a frozen broker seems to accept everything.
_AMQP_SENDS = {"confirm_publish": True, "connect_timeout": 1, "read_timeout": 1, "write_timeout": 1}


def _redis_works(longest_work: float) -> dict[str, Any]:
    return {
        # How soon a dead worker's delivery is given to another: by default after an hour.
        "visibility_timeout": longest_work + MARGIN,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # How soon a worker notices that it hears nothing more: by default after 51 s.
        "health_check_interval": 5,
        # No limit on a single answer: a worker whose acknowledgement fails while its connection
        # lives counts that delivery as its own for ever, and takes no other. A link that is cut
        # ends the connection itself.
        "socket_keepalive": True,
        "socket_keepalive_options": {CUT_AFTER: 10_000} if CUT_AFTER else {},
    }


def broker_url() -> str:
    """Where the broker is. Raises QueueUnavailable when CELERY_BROKER_URL does not say so."""
    url = os.environ.get("CELERY_BROKER_URL", "")
    if not url:
        raise QueueUnavailable(
            "There is no task queue: set CELERY_BROKER_URL to redis://... or amqp://..."
        )
    return url


def queue_name() -> str:
    """The queue's name at its broker."""
    return os.environ.get("CELERY_QUEUE", "deliveries")


async def enqueue(headers: dict[str, str], body: Any) -> None:
    """Return when the broker has a delivery to be processed; raise QueueUnavailable in time.

    headers: by lower-case name; x-github-delivery marks the effect, which happens once.
    body: any JSON value. At most `PATIENCE` seconds pass, whatever the broker does.
    """
    url = broker_url()
    delivery = headers.get("x-github-delivery", "")[:LONGEST_ID] or str(uuid.uuid4())
    # As text: a worker's own process would fail, and end, over a body that is nested deeply.
    try:
        text = json.dumps(body)
    except RecursionError:  # it was read with more of the stack left than there is now
        text = json.dumps({"error": "Invalid JSON"})
    publish_it = functools.partial(publish, url, queue_name(), delivery, headers, text)
    with anyio.move_on_after(PATIENCE):
        # Threads of its own: those of the other endpoints are not to wait for a frozen broker.
        await anyio.to_thread.run_sync(publish_it, abandon_on_cancel=True, limiter=_limiter())
        return
    raise QueueUnavailable("The task queue has not confirmed the delivery in time.")


def publish(url: str, queue: str, delivery: str, headers: dict[str, str], body: str) -> None:
    """Give a delivery, its body as JSON, to a queue. Raises QueueUnavailable if it may not be.

    The broker may have it all the same, if it was only its confirmation that did not come.
    """
    with ticket(PROCESS) as tied:
        try:
            hand_over(celery_app(url, queue), [delivery, headers, body], tied)
        except QueueUnavailable:
            raise
        except Exception as error:  # each transport has its own, and a URL may be amiss too
            logger.error(f"The task queue has not taken a delivery: {type(error).__name__}")
            raise QueueUnavailable("The task queue has not taken the delivery.") from error


def hand_over(app: Celery, arguments: list[Any], headers: dict[str, Any]) -> None:
    """Send a delivery: its id, its headers and its body are the arguments of its task."""
    # What the broker logs or shows of it is its id alone.
    app.send_task(PROCESS, arguments, argsrepr=arguments[0], headers=headers)


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _places.get()
    except LookupError:
        _places.set(anyio.CapacityLimiter(AT_ONCE))
        return _places.get()
