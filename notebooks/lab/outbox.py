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
        self._waiting = f"{queue}:{queue}"
        self._held = f"{queue}:unacked"
        self._noted = f"{queue}:noted"
        self._since = f"{queue}:noted-since"

    def note(self, delivery: str, noted: Noted) -> None:
        """Note a delivery, before its caller is told that it is accepted."""
        with self._redis.pipeline() as pipe:
            pipe.hset(self._noted, delivery, json.dumps(noted))
            pipe.zadd(self._since, {delivery: time.time()})
            pipe.execute()

    def settle(self, delivery: str) -> None:
        """Strike out a delivery that is done, or set aside."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._noted, delivery)
            pipe.zrem(self._since, delivery)
            pipe.execute()

    def take_overdue(self, age: float) -> list[Noted]:
        """The deliveries that nobody holds, each noted anew; none while any still waits its turn.

        age: seconds since it was noted, after which a delivery should have been begun.
        """
        if self._redis.llen(self._waiting):
            return []
        late = self._redis.zrangebyscore(self._since, 0, time.time() - age)
        if not late:
            return []
        held = "\n".join(self._redis.hvals(self._held))
        taken = []
        for delivery in late:
            text = self._redis.hget(self._noted, delivery)
            # Of several workers that look at once, the one that changes the moment takes it.
            if delivery not in held and text and self._claim(delivery):
                taken.append(Noted(*json.loads(text)))
        return taken

    def _claim(self, delivery: str) -> bool:
        now = {delivery: time.time()}
        changed: int = self._redis.zadd(self._since, now, xx=True, gt=True, ch=True)
        return changed == 1


@functools.cache
def outbox_of(url: str, queue: str) -> Outbox | None:
    """The outbox of a queue; None where the broker itself keeps what is not acknowledged."""
    return Outbox(url, queue) if url.startswith("redis") else None
