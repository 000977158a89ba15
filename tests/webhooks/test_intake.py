"""The intake: what arrives together is committed together, and promised only then."""

import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from webhooks.database import Database
from webhooks.deliveries import Answer, Deliveries, Delivery
from webhooks.intake import (
    MOST_TOGETHER,
    MOST_WAITING,
    TELL_EVERY,
    TELL_SELDOM,
    Intake,
    QueueUnavailable,
)

from ..databases import postgresql
from ..waiting import until


class Slow(Deliveries):
    """Deliveries whose commit waits for a gate; notes how many each commit has."""

    def __init__(self, database: Database, gate: threading.Event) -> None:
        super().__init__(database)
        self.gate = gate
        self.together: list[int] = []

    def accept(self, arrived: Any, connection: sa.Connection | None = None) -> list[Answer]:
        self.together.append(len(arrived))
        self.gate.wait()
        return super().accept(arrived, connection)


@pytest.fixture
def deliveries(tmp_path: Path, gate: threading.Event) -> Slow:
    return Slow(Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10), gate)


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def intake(deliveries: Slow, woken: list[str], gate: threading.Event) -> Iterator[Intake]:
    intake = Intake(deliveries, woken.append)
    yield intake
    gate.set()
    intake.close(10)


def delivery(id: object, body: bytes = b"{}") -> Delivery:
    return Delivery.of({"x-github-delivery": str(id)}, body)


def test_what_arrives_during_a_commit_is_committed_together(
    intake: Intake, deliveries: Slow, gate: threading.Event
) -> None:
    futures = [intake.put(delivery("first"))]
    until(lambda: deliveries.together == [1])
    futures += [intake.put(delivery(number)) for number in range(MOST_TOGETHER + 1)]
    assert not any(future.done() for future in futures)
    gate.set()
    assert {future.result(10) for future in futures} == {Answer.ACCEPTED}
    assert deliveries.together == [1, MOST_TOGETHER, 1]


def test_more_than_may_wait_are_refused(intake: Intake, deliveries: Slow) -> None:
    intake.put(delivery("first"))
    until(lambda: deliveries.together == [1])
    for number in range(MOST_WAITING):
        intake.put(delivery(number))
    with pytest.raises(queue.Full):
        intake.put(delivery("one too many"))


def test_one_given_up_before_its_commit_is_never_accepted(
    intake: Intake, deliveries: Slow, gate: threading.Event
) -> None:
    first = intake.put(delivery("first"))
    until(lambda: deliveries.together == [1])
    late = intake.put(delivery("late"))
    intake.give_up(late)
    gate.set()
    assert first.result(10) is Answer.ACCEPTED
    with pytest.raises(CancelledError):
        late.result(10)
    assert intake.put(delivery("next")).result(10) is Answer.ACCEPTED
    assert [each.id for each in deliveries.known()] == ["first", "next"]


def test_workers_are_woken_for_what_is_new(
    intake: Intake, woken: list[str], gate: threading.Event
) -> None:
    gate.set()
    for body in (b"{}", b"{}", b"another"):
        intake.put(delivery("a", body)).result(10)
    intake.close(10)
    assert woken == [delivery("a").key]


@pytest.mark.parametrize(("meanwhile", "pause"), [(1, TELL_EVERY), (20, TELL_SELDOM)])
def test_the_more_has_come_the_longer_no_worker_is_woken_again(
    tmp_path: Path,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: int,
    pause: float,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("webhooks.intake.time", SimpleNamespace(sleep=pauses.append))
    told: list[str] = []

    def tell(key: str) -> None:
        told.append(key)
        gate.wait()

    intake = Intake(Deliveries(Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10)), tell)
    intake.put(delivery("first")).result(10)
    until(lambda: told)
    for number in range(meanwhile):
        intake.put(delivery(number)).result(10)
    gate.set()
    intake.close(10)
    assert told == [delivery("first").key, delivery(0).key]
    assert pauses == [TELL_EVERY, pause]


def test_what_has_arrived_is_committed_and_told_of_at_the_end(
    intake: Intake, deliveries: Slow, woken: list[str], gate: threading.Event
) -> None:
    futures = [intake.put(delivery(number)) for number in range(10)]
    gate.set()
    intake.close(10)
    assert {future.result(0) for future in futures} == {Answer.ACCEPTED}
    assert len(woken) >= 1


def test_a_database_that_fails_is_told_without_what_it_was_given(
    intake: Intake, deliveries: Slow, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    gate.set()
    intake.put(delivery("before")).result(10)
    with deliveries.database.promises.begin() as connection:
        connection.execute(sa.text("CREATE TRIGGER full BEFORE INSERT ON deliveries "
                                   "BEGIN SELECT RAISE(ABORT, 'full'); END"))  # fmt: skip
    refused = intake.put(delivery("a", b"secret"))
    with pytest.raises(QueueUnavailable) as raised:
        refused.result(10)
    with deliveries.database.promises.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER full"))
    assert intake.put(delivery("a", b"secret")).result(10) is Answer.ACCEPTED
    assert "secret" not in caplog.text + str(raised.value)
    assert "has not taken deliveries: IntegrityError" in caplog.text


def test_a_database_that_others_hold_refuses_until_they_let_go(
    tmp_path: Path, woken: list[str]
) -> None:
    database = Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 0.01)
    intake = Intake(Deliveries(database), woken.append)
    assert intake.put(delivery("before")).result(10) is Answer.ACCEPTED
    with database.promises.begin():
        for number in range(2):
            assert isinstance(intake.put(delivery(number)).exception(10), QueueUnavailable)
    assert intake.put(delivery("after")).result(10) is Answer.ACCEPTED
    intake.close(10)


@pytest.mark.slow
def test_a_server_that_was_restarted_refuses_nobody(woken: list[str]) -> None:
    with postgresql() as server:
        intake = Intake(Deliveries(Database(server.url, 4)), woken.append)
        assert intake.put(delivery("before")).result(10) is Answer.ACCEPTED
        server.kill()
        server.start()
        assert intake.put(delivery("after")).result(10) is Answer.ACCEPTED
        intake.close(10)


@pytest.mark.slow
def test_a_frozen_server_holds_one_thread_until_it_is_given_up(woken: list[str]) -> None:
    with postgresql() as server:
        intake = Intake(Deliveries(Database(server.url, 4)), woken.append)
        assert intake.put(delivery("before")).result(10) is Answer.ACCEPTED
        threads = threading.active_count()
        server.signal(signal.SIGSTOP)
        futures: list[Future[Answer]] = [intake.put(delivery("at work"))]
        until(futures[0].running)
        futures += [intake.put(delivery(number)) for number in range(20)]
        assert threading.active_count() == threads
        for future in futures:
            intake.give_up(future)
        with pytest.raises(QueueUnavailable):
            futures[0].result(30)
        assert all(future.cancelled() for future in futures[1:])
        server.signal(signal.SIGCONT)
        until(lambda: accepted(intake))
        intake.close(10)


def accepted(intake: Intake) -> bool:
    future = intake.put(delivery("after"))
    return future.exception(30) is None


def test_a_database_that_stays_away_is_told_of_once_a_minute(
    woken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    intake = Intake(Deliveries(Database("postgresql+psycopg://127.0.0.1:1/none", 4)), woken.append)
    for number in range(5):
        assert isinstance(intake.put(delivery(number)).exception(30), QueueUnavailable)
    intake.close(10)
    assert caplog.text.count("has not taken deliveries") == 1
