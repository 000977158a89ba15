"""What a Redis queue has accepted and nobody holds is found, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from webhooks.outbox import NOTED, Outbox, outbox_of, put
from webhooks.queue import celery_app, publish

from ..brokers import valkey


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with valkey(tmp_path) as broker:
        yield broker.url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    outbox = Outbox(url, "q")
    yield outbox
    outbox._redis.close()


def lose(client: Any, delivery: str) -> str:
    """Queue a delivery, and take it as somebody does who then dies."""
    message = json.dumps({"headers": {"argsrepr": delivery}, "body": "..."})
    put(client, f"q:{NOTED}", "q:q", delivery, message)
    assert client.rpop("q:q") == message
    return message


def test_a_delivery_is_noted_as_it_is_queued_and_struck_out_as_it_is_acknowledged(
    url: str, client: Any
) -> None:
    app = celery_app(url, "q")
    publish(url, "q", "a", {}, "{}")
    (note,) = client.hgetall("q:noted").values()
    assert client.lrange("q:q", 0, -1) == [note.partition(" ")[2]]
    with app.connection_for_read() as connection:
        kept = connection.SimpleQueue("q")
        message = kept.get(timeout=5)
        assert list(client.hgetall("q:noted")) == ["a"]
        message.ack()
        kept.close()
    assert client.keys("q:noted") == []


def test_what_is_rejected_to_be_tried_again_stays_noted(url: str, client: Any) -> None:
    app = celery_app(url, "q")
    publish(url, "q", "a", {}, "{}")
    with app.connection_for_read() as connection:
        kept = connection.SimpleQueue("q")
        kept.get(timeout=5).requeue()
        kept.close()
    assert list(client.hgetall("q:noted")) == ["a"]
    assert client.llen("q:q") == 1


def test_what_was_given_back_stays_noted_when_it_is_acknowledged_too_late(
    url: str, client: Any
) -> None:
    app = celery_app(url, "q")
    publish(url, "q", "a", {}, "{}")
    with app.connection_for_read() as connection:
        kept = connection.SimpleQueue("q")
        message = kept.get(timeout=5)
        message.channel.qos.restore_unacked()  # as a channel does that is closed
        message.ack()
        kept.close()
    assert list(client.hgetall("q:noted")) == ["a"]
    assert client.llen("q:q") == 1


def test_what_nobody_holds_is_queued_again_as_it_was(outbox: Outbox, client: Any) -> None:
    message = lose(client, "a")
    assert outbox.queue_overdue(age=0) == ["a"]
    assert client.lrange("q:q", 0, -1) == [message]


def test_what_is_queued_again_is_noted_anew(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    ((_, before),) = client.hgetall("q:noted").items()
    outbox.queue_overdue(age=0)
    ((_, after),) = client.hgetall("q:noted").items()
    assert float(before.partition(" ")[0]) < float(after.partition(" ")[0])


def test_what_is_young_is_left(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    assert outbox.queue_overdue(age=60) == []
    assert client.llen("q:q") == 0


def test_while_any_wait_their_turn_none_is_queued_again(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    client.lpush("q:q", "waiting")
    assert outbox.waiting() == 1
    assert outbox.queue_overdue(age=0) == []


def test_what_a_worker_holds_is_left_to_it(outbox: Outbox, client: Any) -> None:
    message = json.loads(lose(client, "a"))
    client.hset("q:unacked", "tag", json.dumps([message, "q", "q"]))
    lose(client, "head")  # part of the message, and held by nobody
    assert outbox.queue_overdue(age=0) == ["head"]


def test_of_workers_that_look_at_once_one_queues_again(
    outbox: Outbox, client: Any, url: str
) -> None:
    other = Outbox(url, "q")
    lose(client, "a")
    assert [outbox.queue_overdue(age=0), other.queue_overdue(age=0)] == [["a"], []]
    other._redis.close()


def test_rabbitmq_needs_none() -> None:
    assert outbox_of("amqp://127.0.0.1:1//", "q") is None
