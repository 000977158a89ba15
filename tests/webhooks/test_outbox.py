"""The outbox finds accepted deliveries that no worker holds, and no others."""

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
    """Queue a delivery, and take it as a worker does that then dies."""
    message = json.dumps({"headers": {"argsrepr": delivery}, "body": "..."})
    put(client, f"q:{NOTED}", "q:q", delivery, message)
    assert client.rpop("q:q") == message
    return message


def test_queueing_notes_a_delivery_and_acknowledging_deletes_the_note(
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


def test_a_requeued_delivery_stays_noted(url: str, client: Any) -> None:
    app = celery_app(url, "q")
    publish(url, "q", "a", {}, "{}")
    with app.connection_for_read() as connection:
        kept = connection.SimpleQueue("q")
        kept.get(timeout=5).requeue()
        kept.close()
    assert list(client.hgetall("q:noted")) == ["a"]
    assert client.llen("q:q") == 1


def test_a_late_acknowledgement_of_a_restored_delivery_keeps_its_note(
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


def test_a_delivery_that_no_worker_holds_is_queued_again_unchanged(
    outbox: Outbox, client: Any
) -> None:
    message = lose(client, "a")
    assert outbox.queue_overdue(age=0) == ["a"]
    assert client.lrange("q:q", 0, -1) == [message]


def test_queueing_again_renews_the_note(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    ((_, before),) = client.hgetall("q:noted").items()
    outbox.queue_overdue(age=0)
    ((_, after),) = client.hgetall("q:noted").items()
    assert float(before.partition(" ")[0]) < float(after.partition(" ")[0])


def test_a_young_delivery_is_not_queued_again(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    assert outbox.queue_overdue(age=60) == []
    assert client.llen("q:q") == 0


def test_nothing_is_queued_again_while_deliveries_wait(outbox: Outbox, client: Any) -> None:
    lose(client, "a")
    client.lpush("q:q", "waiting")
    assert outbox.waiting() == 1
    assert outbox.queue_overdue(age=0) == []


def test_a_delivery_that_a_worker_holds_is_not_queued_again(outbox: Outbox, client: Any) -> None:
    message = json.loads(lose(client, "a"))
    client.hset("q:unacked", "tag", json.dumps([message, "q", "q"]))
    lose(client, "head")  # part of the message, and held by nobody
    assert outbox.queue_overdue(age=0) == ["head"]


def test_only_one_of_two_workers_queues_a_delivery_again(
    outbox: Outbox, client: Any, url: str
) -> None:
    other = Outbox(url, "q")
    lose(client, "a")
    assert [outbox.queue_overdue(age=0), other.queue_overdue(age=0)] == [["a"], []]
    other._redis.close()


def test_rabbitmq_has_no_outbox() -> None:
    assert outbox_of("amqp://127.0.0.1:1//", "q") is None
