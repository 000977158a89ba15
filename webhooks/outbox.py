"""The outbox of a Redis queue: deliveries that are accepted and not yet acknowledged.

Redis hands a delivery out before it has recorded which worker holds it: if the worker or the
broker dies in that moment, the delivery is lost. So Celery's transport, extended here, notes each
delivery in the call that queues it, and deletes the note in the call that acknowledges it. The
workers look here for deliveries that no worker holds, and queue them again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

# By the settings in queue.py, each key of a queue begins with the queue's name.
NOTED = "noted"


class QoS(kombu_redis.QoS):
    """The deliveries that a worker holds; acknowledging one deletes its note in the same call."""

    def ack(self, delivery_tag: str) -> None:
        together = self._remove_from_indices(delivery_tag)
        # A delivery that was returned as the connection closed is no longer held: its note stays.
        with contextlib.suppress(KeyError):
            together.hdel(NOTED, delivery_of(self.get(delivery_tag).headers))
        together.execute()
        super(kombu_redis.QoS, self).ack(delivery_tag)


class Channel(kombu_redis.Channel):
    """A channel that notes each delivery in the call that queues it."""

    QoS = QoS

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        put(self._one, NOTED, queue, delivery_of(message["headers"]), dumps(message))

    @contextlib.contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Yield the client that calls the broker; Celery's own code makes one for every call."""
        yield client or self._one

    @functools.cached_property
    def _one(self) -> Any:
        return self._create_client()


class Transport(kombu_redis.Transport):
    """Celery's Redis transport, with an outbox."""

    Channel = Channel


class Outbox:
    """The deliveries of one queue that are not yet acknowledged.

    url: the broker's. queue: the queue's name at that broker.
    """

    def __init__(self, url: str, queue: str) -> None:
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=1, socket_connect_timeout=1, decode_responses=True
        )
        self._name = queue
        self._queue = f"{queue}:{queue}"
        self._held = f"{queue}:unacked"
        self._noted = f"{queue}:{NOTED}"
        self._turn = f"{queue}:{NOTED}-turn"

    def waiting(self) -> int:
        """Return how many deliveries wait for a worker."""
        return int(self._redis.llen(self._queue))

    def queue_overdue(self, age: float) -> list[str]:
        """Queue again the deliveries that no worker holds, and return their ids.

        Do nothing while any delivery waits its turn.

        age: seconds after queueing, by which a worker should have begun a delivery.
        """
        # Only one worker at a time looks.
        if self.waiting() or not self._redis.set(self._turn, "", nx=True, px=500):
            return []
        held = {
            delivery_of(json.loads(each)[0]["headers"]) for each in self._redis.hvals(self._held)
        }
        overdue = []
        for delivery, note in self._redis.hgetall(self._noted).items():
            since, _, message = note.partition(" ")
            if float(since) < time.time() - age and delivery not in held:
                put(self._redis, self._noted, self._queue, delivery, message)
                overdue.append(delivery)
        return overdue

    def clear(self) -> None:
        """Remove the queue from its broker, with all its keys."""
        for key in self._redis.scan_iter(f"{self._name}:*"):
            self._redis.delete(key)


def put(client: Any, noted: str, queue: str, delivery: str, message: str) -> None:
    """Note a message, then queue it, in one call to the broker."""
    together = client.pipeline(transaction=False)
    together.hset(noted, delivery, f"{time.time()} {message}")
    together.lpush(queue, message).execute()


def delivery_of(headers: dict[str, Any]) -> str:
    """Return the id of the delivery in a Celery message, from its headers."""
    return str(headers.get("argsrepr"))


@functools.cache
def outbox_of(url: str, queue: str) -> Outbox | None:
    """Return a queue's outbox; None if the broker keeps unacknowledged messages itself."""
    return Outbox(url, queue) if url.startswith("redis") else None
