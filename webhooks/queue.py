"""The task queue of the service: its Celery app, and the hand-over of deliveries to it.

Start a worker with Celery's own command, `celery -A webhooks.worker worker`, on any host that
has the broker's URL.
"""

from __future__ import annotations

import functools
import json
import socket
import uuid
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from celery import Celery

from .outbox import outbox_of
from .settings import WrongSetting, settings
from .work import logger

PROCESS = "webhooks.process_and_log_webhook"
CONFIRM_WITHIN = 5.0
AT_ONCE = 8
LONGEST_ID = 200
CUT_AFTER = getattr(socket, "TCP_USER_TIMEOUT", None)

_places: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar(
    "webhooks_queue_places"
)


class QueueUnavailable(Exception):
    """The broker has not confirmed the delivery; if it was frozen, it may still have it."""


@functools.cache
def celery_app(url: str, queue: str, longest_work: float | None = None) -> Celery:
    """Return the Celery app for a broker and a queue.

    url: the broker's. queue: the queue's name. longest_work: seconds that a worker may take over
    a delivery before another gets it as well; None for an app that only sends.
    """
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
        app.conf.broker_transport = "webhooks.outbox:Transport"
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
        "visibility_timeout": longest_work,
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


def broker_and_queue() -> tuple[str, str]:
    """Return the broker's URL and the queue's name from the settings.

    Raises QueueUnavailable when there is no broker, or when a setting is wrong.
    """
    try:
        url, queue = settings().CELERY_BROKER_URL, settings().CELERY_QUEUE
    except WrongSetting as error:
        raise QueueUnavailable(f"There is no task queue: {error}.") from error
    if url is None:
        raise QueueUnavailable(
            "There is no task queue: set CELERY_BROKER_URL to redis://... or amqp://..."
        )
    return url, queue


async def enqueue(headers: dict[str, str], body: Any) -> None:
    """Hand a delivery over to the queue; return when the broker has confirmed it.

    headers: by lower-case name; x-github-delivery is the id under which its effect happens once.
    body: any JSON value. Raises QueueUnavailable when the broker has not confirmed the delivery
    within `CONFIRM_WITHIN` seconds, whatever the broker does.
    """
    url, queue = broker_and_queue()
    delivery = headers.get("x-github-delivery", "")[:LONGEST_ID] or str(uuid.uuid4())
    # As text: a worker process would fail, and end, on a deeply nested body.
    try:
        text = json.dumps(body)
    except RecursionError:  # it was read with more of the stack left than there is now
        text = json.dumps({"error": "Invalid JSON"})
    publish_it = functools.partial(publish, url, queue, delivery, headers, text)
    with anyio.move_on_after(CONFIRM_WITHIN):
        # Threads of its own: those of the other endpoints are not to wait for a frozen broker.
        await anyio.to_thread.run_sync(publish_it, abandon_on_cancel=True, limiter=_limiter())
        return
    raise QueueUnavailable("The task queue has not confirmed the delivery in time.")


def publish(url: str, queue: str, delivery: str, headers: dict[str, str], body: str) -> None:
    """Publish a delivery to a queue.

    url: the broker's. queue: the queue's name. delivery: its id. body: JSON. Raises
    QueueUnavailable when the broker has not confirmed it; the broker may have it all the same.
    """
    try:
        # The broker logs and shows only the delivery's id.
        celery_app(url, queue).send_task(PROCESS, [delivery, headers, body], argsrepr=delivery)
    except Exception as error:  # each transport has its own, and the URL may be wrong
        logger.error(f"The task queue has not taken a delivery: {type(error).__name__}")
        raise QueueUnavailable("The task queue has not taken the delivery.") from error


def delete(url: str, queue: str) -> None:
    """Remove a queue from its broker, with its outbox."""
    with celery_app(url, queue).connection_for_write() as connection:
        connection.default_channel.queue_delete(queue)
        connection.default_channel.exchange_delete(queue)
    if outbox := outbox_of(url, queue):
        outbox.clear()


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _places.get()
    except LookupError:
        _places.set(anyio.CapacityLimiter(AT_ONCE))
        return _places.get()
