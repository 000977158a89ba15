"""What the database remembers of deliveries: accepted, leased, done once, tried again, aside."""

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from webhooks import database as tables
from webhooks.database import Database, WrongDatabase
from webhooks.deliveries import MOST_ATTEMPTS, Answer, Deliveries, Delivery, Lease, key_of

from ..databases import PostgreSQL, postgresql

LONG = 3600.0
OVER = 0.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10)
    else:
        database = Database(request.getfixturevalue("server").new_database(), 10)
    database.prepare()
    yield database
    database.close()


@pytest.fixture
def deliveries(database: Database) -> Deliveries:
    return Deliveries(database)


def delivery(id: str, body: bytes = b"{}") -> Delivery:
    return Delivery.of({"x-github-delivery": id, "x-github-event": "push"}, body)


def accepted(deliveries: Deliveries, *ids: str) -> None:
    assert set(deliveries.accept([delivery(id) for id in ids])) == {Answer.ACCEPTED}


def taken(deliveries: Deliveries, seconds: float = LONG, worker: str = "one") -> Lease:
    lease = deliveries.take(worker, seconds)
    assert lease is not None
    return lease


def state(deliveries: Deliveries, id: str) -> str:
    (known,) = deliveries.known(id=id)
    return known.state


def test_the_same_delivery_is_accepted_once(deliveries: Deliveries) -> None:
    a, other = delivery("a"), delivery("a", b"[]")
    assert deliveries.accept([a]) == [Answer.ACCEPTED]
    assert deliveries.accept([a, other]) == [Answer.KNOWN, Answer.ANOTHER]
    assert deliveries.content("a") == (a.headers, a.body)
    assert len(deliveries.known()) == 1


def test_of_those_that_come_together_the_first_is_accepted(deliveries: Deliveries) -> None:
    a, other = delivery("a"), delivery("a", b"[]")
    answers = deliveries.accept([delivery("b"), a, other, a])
    assert answers == [Answer.ACCEPTED, Answer.ACCEPTED, Answer.ANOTHER, Answer.KNOWN]
    assert deliveries.content("a") == (a.headers, a.body)


def test_a_body_is_known_again_after_it_is_done(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    assert deliveries.finish(taken(deliveries).delivery)
    assert deliveries.content("a") == (delivery("a").headers, None)
    assert deliveries.accept([delivery("a"), delivery("a", b"[]")]) == [
        Answer.KNOWN,
        Answer.ANOTHER,
    ]


def test_ids_of_any_length_and_kind_stay_distinct(deliveries: Deliveries) -> None:
    ids = ["x" * 5000 + end for end in "ab"] + ["", "\x85", "\x00", "名" * 100]
    given = [Delivery.of({"x-github-delivery": id}, b"1") for id in ids]
    assert set(deliveries.accept(given)) == {Answer.ACCEPTED}
    assert len({each.key for each in given}) == len(ids)
    assert len(deliveries.known()) == len(ids)


def test_any_body_comes_back_as_the_bytes_that_it_was(deliveries: Deliveries) -> None:
    bodies = [b"", b"\x00\xff", b"[" * 100_000, bytes(range(256)) * 4096]
    given = [delivery(str(number), body) for number, body in enumerate(bodies)]
    deliveries.accept(given)
    assert sorted(taken(deliveries).delivery for _ in bodies) == sorted(given)


def test_a_leased_delivery_is_not_taken_again(deliveries: Deliveries) -> None:
    accepted(deliveries, "a", "b")
    first = deliveries.take("one", LONG, key_of("a"))
    assert first is not None
    assert first.delivery == delivery("a")
    assert first.attempt == 1
    assert deliveries.take("two", LONG, key_of("a")) is None
    assert taken(deliveries).delivery.id == "b"
    assert deliveries.take("two", LONG) is None


def test_those_due_for_longest_come_first(deliveries: Deliveries) -> None:
    for id in "cab":
        accepted(deliveries, id)
        time.sleep(0.002)  # SQLite's clock counts milliseconds
    assert deliveries.next_due() == key_of("c")
    assert [taken(deliveries).delivery.id for _ in range(3)] == ["c", "a", "b"]
    assert deliveries.next_due() is None


def test_a_lease_that_ran_out_is_an_attempt_and_names_the_worker(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    taken(deliveries, OVER, worker="one")
    again = taken(deliveries, worker="two")
    assert again.attempt == 2
    assert again.reason == "one was not heard of again"


def test_a_lease_that_is_prolonged_is_no_attempt(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    lease = taken(deliveries, OVER)
    assert deliveries.prolong(lease, LONG)
    assert deliveries.take("two", LONG) is None
    (known,) = deliveries.known()
    assert (known.state, known.attempts, known.starts) == ("working", 0, 1)


def test_only_the_current_lease_prolongs_fails_and_sets_aside(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    frozen = taken(deliveries, OVER, worker="frozen")
    current = taken(deliveries, worker="two")
    assert not deliveries.prolong(frozen, LONG)
    assert not deliveries.fail(frozen, "no", OVER)
    assert not deliveries.set_aside(frozen, "no")
    assert state(deliveries, "a") == "working"
    assert deliveries.fail(current, "no", OVER)


def test_whoever_finishes_first_has_the_effect(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    frozen = taken(deliveries, OVER)
    current = taken(deliveries)
    assert deliveries.finish(frozen.delivery)
    assert not deliveries.finish(current.delivery)
    assert not deliveries.fail(current, "no", OVER)
    assert not deliveries.set_aside(current, "no")
    assert deliveries.tally() == {"push": 1}
    assert state(deliveries, "a") == "done"


def test_mark_and_effect_are_written_in_one_transaction(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10)
    database.prepare()
    deliveries = Deliveries(database)
    accepted(deliveries, "a")
    lease = taken(deliveries)
    with closing(sqlite3.connect(tmp_path / "deliveries.sqlite3")) as db:  # no effect, but a mark
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON effects BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(sa.exc.IntegrityError, match="full"):
            deliveries.finish(lease.delivery)
    assert state(deliveries, "a") == "working"
    assert deliveries.tally() == {}
    database.close()


def test_a_failed_attempt_pauses_before_the_next(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    lease = taken(deliveries)
    assert deliveries.fail(lease, "no", LONG)
    assert deliveries.take("two", LONG) is None
    (known,) = deliveries.known()
    assert known.due is not None
    assert known.due > known.accepted + LONG / 2
    assert (known.state, known.attempts, known.reason) == ("waiting", 1, "no")


def aside(deliveries: Deliveries, id: str) -> None:
    accepted(deliveries, id)
    for _ in range(MOST_ATTEMPTS - 1):
        deliveries.fail(taken(deliveries), "no", OVER)
    assert deliveries.set_aside(taken(deliveries), "at last")


def test_a_delivery_aside_is_given_to_nobody_and_keeps_its_reason(deliveries: Deliveries) -> None:
    aside(deliveries, "a")
    assert deliveries.take("one", LONG) is None
    assert deliveries.take("one", LONG, key_of("a")) is None
    (known,) = deliveries.known("aside")
    assert (known.attempts, known.reason, known.effects) == (MOST_ATTEMPTS, "at last", 0)
    assert deliveries.content("a") == (delivery("a").headers, delivery("a").body)


def test_sent_again_a_delivery_aside_begins_anew(deliveries: Deliveries) -> None:
    aside(deliveries, "a")
    assert deliveries.accept([delivery("a", b"other")]) == [Answer.ANOTHER]
    assert state(deliveries, "a") == "aside"
    assert deliveries.accept([delivery("a")]) == [Answer.ACCEPTED]
    lease = taken(deliveries)
    assert (lease.attempt, lease.reason) == (1, None)


def test_replayed_a_delivery_begins_anew_and_discarded_it_is_gone(deliveries: Deliveries) -> None:
    aside(deliveries, "a")
    aside(deliveries, "b")
    accepted(deliveries, "c")
    assert deliveries.replay("a")
    assert deliveries.discard("b")
    assert [deliveries.replay(id) for id in "bcx"] == [False] * 3
    assert [deliveries.discard(id) for id in "acx"] == [False] * 3
    assert {each.id for each in deliveries.known()} == {"a", "c"}
    assert deliveries.content("b") is None
    with deliveries.database.leases.connect() as connection:
        assert len(connection.execute(sa.select(tables.bodies.c.delivery)).all()) == 2


def test_done_deliveries_are_forgotten_and_have_no_second_effect(deliveries: Deliveries) -> None:
    accepted(deliveries, "a")
    deliveries.finish(taken(deliveries).delivery)
    accepted(deliveries, "b")
    deliveries.forget(LONG)
    assert len(deliveries.known()) == 2
    deliveries.forget(-1)
    assert [each.state for each in deliveries.known()] == ["waiting"]
    accepted(deliveries, "a")
    for _ in range(2):
        deliveries.finish(taken(deliveries).delivery)
    assert deliveries.tally() == {"push": 2}


def test_racing_workers_have_one_effect_per_delivery(database: Database) -> None:
    ids = [str(number) for number in range(60)]
    accepted(Deliveries(database), *ids)
    url = database.promises.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=take_and_finish_all, args=(url, f"w{number}")) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    known = Deliveries(database).known()
    assert {(each.state, each.starts, each.effects) for each in known} == {("done", 1, 1)}
    assert len(known) == len(ids)


def take_and_finish_all(url: str, worker: str) -> None:
    database = Database(url, 30)
    deliveries = Deliveries(database)
    while lease := deliveries.take(worker, LONG):
        deliveries.finish(lease.delivery)
    database.close()


def test_processes_that_accept_the_same_ids_in_any_order_do_not_wait_for_each_other(
    database: Database,
) -> None:
    ids = [str(number) for number in range(40)]
    together = threading.Barrier(4)

    def accept(turn: int) -> list[Answer]:
        together.wait()
        given = [delivery(id) for id in (ids if turn % 2 else reversed(ids))]
        return Deliveries(database).accept(given)

    with ThreadPoolExecutor(4) as pool:
        answers = [each for answers in pool.map(accept, range(4)) for each in answers]
    assert answers.count(Answer.ACCEPTED) == len(ids)
    assert answers.count(Answer.KNOWN) == 3 * len(ids)


@pytest.mark.parametrize("sessions", [12])
def test_sessions_can_make_the_tables_at_once(
    database: Database, sessions: int, request: pytest.FixtureRequest
) -> None:
    with database.promises.begin() as connection:
        tables.metadata.drop_all(connection)
    url = database.promises.url.render_as_string(hide_password=False)
    made = [Database(url, 30) for _ in range(sessions)]
    together = threading.Barrier(sessions)

    def prepare(each: Database) -> None:
        together.wait()
        each.prepare()
        each.close()

    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(prepare, made))
    with database.leases.connect() as connection:
        assert connection.execute(sa.select(tables.version.c.number)).all() == [(tables.VERSION,)]


def test_another_version_ends_the_start_and_names_the_mend(database: Database) -> None:
    with database.promises.begin() as connection:
        connection.execute(sa.update(tables.version).values(number=tables.VERSION + 1))
    url = database.promises.url.render_as_string(hide_password=False)
    later = Database(url, 10)
    with pytest.raises(WrongDatabase, match="set DATABASE_URL to a new database"):
        later.prepare()
    later.close()


def test_a_file_that_was_removed_takes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10)
    database.prepare()
    deliveries = Deliveries(database)
    accepted(deliveries, "a")
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(sa.exc.OperationalError, match="FileNotFoundError"):
        deliveries.accept([delivery("b")])
    database.close()


@pytest.mark.slow
def test_what_is_promised_is_on_the_disk_and_leases_need_not_be(
    server: PostgreSQL, tmp_path: Path
) -> None:
    on_server = Database(server.new_database(), 10)
    for engine, durable in ((on_server.promises, "on"), (on_server.leases, "off")):
        with engine.connect() as connection:
            asked = "SHOW synchronous_commit"
            assert connection.exec_driver_sql(asked).scalar_one() == durable
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "10s"
    on_server.close()


def test_a_file_is_synced_for_what_is_promised(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deliveries.sqlite3", 10)
    for engine, level in ((database.promises, 2), (database.leases, 1)):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    database.close()


@pytest.mark.slow
def test_a_server_without_fsync_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with postgresql("fsync=off") as server:
        database = Database(server.url, 10)
        with caplog.at_level("WARNING"):
            database.prepare()
        database.close()
    assert "fsync=off" in caplog.text
