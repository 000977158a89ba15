"""What a Redis queue has accepted and nobody holds is found, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from lab.outbox import Noted, Outbox, outbox_of

from .brokers import valkey

NOTED = Noted(["a", {"x-github-event": "push"}, "{}"], {"lab": ["1", "k", "work"]})


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with valkey(tmp_path) as broker:
        yield broker.url


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as client:
        yield client


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    outbox = Outbox(url, "q")
    yield outbox
    outbox._redis.close()


def test_what_nobody_holds_is_taken_as_it_was_noted(outbox: Outbox) -> None:
    outbox.note("a", NOTED)
    assert outbox.take_overdue(age=0) == [NOTED]


def test_what_is_taken_is_noted_anew(outbox: Outbox, client: Any) -> None:
    outbox.note("a", NOTED)
    ((_, before),) = client.hgetall("q:noted").items()
    outbox.take_overdue(age=0)
    ((_, after),) = client.hgetall("q:noted").items()
    assert json.loads(before)[0] < json.loads(after)[0]


def test_what_is_settled_or_young_is_left(outbox: Outbox) -> None:
    outbox.note("a", NOTED)
    outbox.note("b", NOTED)
    outbox.settle("a")
    assert outbox.take_overdue(age=60) == []


def test_while_any_wait_their_turn_none_is_taken(outbox: Outbox, client: Any) -> None:
    outbox.note("a", NOTED)
    client.lpush("q:q", "waiting")
    assert outbox.waiting() == 1
    assert outbox.take_overdue(age=0) == []


def test_what_a_worker_holds_is_left_to_it(outbox: Outbox, client: Any) -> None:
    outbox.note("a", NOTED)
    client.hset("q:unacked", "tag", json.dumps([{"headers": {"argsrepr": "a"}}, "q", "q"]))
    outbox.note("head", NOTED)  # part of the message, and held by nobody
    assert outbox.take_overdue(age=0) == [NOTED]
    assert (
        json.loads(client.hget("q:noted", "a"))[0] < json.loads(client.hget("q:noted", "head"))[0]
    )


def test_of_workers_that_look_at_once_one_takes(outbox: Outbox, url: str) -> None:
    other = Outbox(url, "q")
    outbox.note("a", NOTED)
    assert [outbox.take_overdue(age=0), other.take_overdue(age=0)] == [[NOTED], []]
    other._redis.close()


def test_rabbitmq_needs_none() -> None:
    assert outbox_of("amqp://127.0.0.1:1//", "q") is None
