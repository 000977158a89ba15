"""What a Redis broker has accepted and no worker has done yet, noted beside its queue.

Redis gives a delivery away before anybody has noted who has it: a worker or a broker that dies in
that moment would lose it. The workers look here for what nobody holds, and hand it over again.
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any, NamedTuple

import redis


class Noted(NamedTuple):
    """A delivery as it was handed over: the arguments of its task, and the message's headers."""

    arguments: list[Any]
    headers: dict[str, Any]


class Outbox:
    """The deliveries of one queue that are on their way.

    url: the broker. queue: the queue's name at it.
    """

    def __init__(self, url: str, queue: str) -> None:
        # Bounded, like all that a request waits for.
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=1, socket_connect_timeout=1, decode_responses=True
        )
        self._name = queue
        self._queue = f"{queue}:{queue}"
        self._held = f"{queue}:unacked"
        self._noted = f"{queue}:noted"
        self._turn = f"{queue}:noted-turn"

    def note(self, delivery: str, noted: Noted) -> None:
        """Note a delivery, before its caller is told that it is accepted."""
        self._redis.hset(self._noted, delivery, json.dumps([time.time(), *noted]))

    def settle(self, delivery: str) -> None:
        """Strike out a delivery that is done, or set aside."""
        self._redis.hdel(self._noted, delivery)

    def waiting(self) -> int:
        """How many deliveries wait for a worker."""
        return int(self._redis.llen(self._queue))

    def take_overdue(self, age: float) -> list[Noted]:
        """The deliveries that nobody holds, each noted anew; none while any still waits its turn.

        age: seconds since it was noted, after which a delivery should have been begun.
        """
        # One worker at a time looks.
        if self.waiting() or not self._redis.set(self._turn, "", nx=True, px=500):
            return []
        # Celery's messages name what they carry in their headers: here, the delivery's id.
        messages = [json.loads(held)[0] for held in self._redis.hvals(self._held)]
        held = {message["headers"].get("argsrepr") for message in messages}
        taken = []
        for delivery, text in self._redis.hgetall(self._noted).items():
            since, *noted = json.loads(text)
            if since < time.time() - age and delivery not in held:
                taken.append(Noted(*noted))
                self.note(delivery, taken[-1])
        return taken

    def clear(self) -> None:
        """Remove the queue from its broker, with all that was kept for it."""
        for key in self._redis.scan_iter(f"{self._name}:*"):
            self._redis.delete(key)


@functools.cache
def outbox_of(url: str, queue: str) -> Outbox | None:
    """The outbox of a queue; None where the broker itself keeps what is not acknowledged."""
    return Outbox(url, queue) if url.startswith("redis") else None
