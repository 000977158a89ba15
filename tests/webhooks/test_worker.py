"""Leases and attempts: work is done once, and given up for the reason that holds."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from lab import Queue, delivery, serve
from lab.programs.program import Program
from webhooks.deliveries import Answer, Delivery, Known
from webhooks.queue import celery_app, tell

from ..databases import PostgreSQL, freeze_at_rest, postgresql
from ..waiting import until

pytestmark = pytest.mark.slow

SCRIPTED = "tests.webhooks.scripted"
WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*right)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = right(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += atoi(getenv("CLOCK_AHEAD"));
    return failed;
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deliveries.sqlite3"
    server: PostgreSQL = request.getfixturevalue("server")
    return server.new_database()


on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def queue_of(database: str) -> Iterator[Callable[..., Queue]]:
    """A queue that ends with the test, whose leases are short."""
    queues: list[Queue] = []

    def start(workers: int, **options: Any) -> Queue:
        options = {"LEASE_SECONDS": 1, "broker": "embedded", **options}
        queues.append(Queue(workers, database=database, **options))
        return queues[-1]

    yield start
    for queue in queues:
        queue.stop()


class Script:
    """What becomes of the work on a delivery; until it is written, the work goes on."""

    def __init__(self, folder: Path, id: str) -> None:
        self.id = id
        self._path = folder / id
        body = json.dumps(str(self._path)).encode()
        self.delivery = Delivery.of({"x-github-delivery": id, "x-github-event": "push"}, body)

    def write(self, what: str) -> None:
        draft = self._path.with_suffix(".draft")
        draft.write_text(what)
        draft.replace(self._path)

    def hand_in(self, queue: Queue) -> Answer:
        (answer,) = queue.deliveries.accept([self.delivery])
        tell(celery_app(queue.url, queue.name), self.delivery.key)
        return answer

    def known(self, queue: Queue) -> Known:
        (known,) = queue.deliveries.known(id=self.id)
        return known

    def until(self, queue: Queue, **wanted: Any) -> Known:
        """Wait until these of its fields have these values."""
        until(lambda: wanted.items() <= self.known(queue)._asdict().items())
        return self.known(queue)


# Once


def test_one_id_six_times_at_once_is_one_delivery(queue_of: Callable[..., Queue]) -> None:
    queue = queue_of(6, WORK_SECONDS=0.5)
    same = delivery("push")
    with serve("server:app", on="process") as web:
        traces = web.burst("/webhook-test/queue", [same] * 6, at_once=6)
    assert [trace.status for trace in traces] == [202] * 6
    until(lambda: queue.deliveries.known("done"))
    (known,) = queue.deliveries.known()
    assert (known.starts, known.attempts, known.effects) == (1, 0, 1)
    assert queue.deliveries.tally() == {"push": 1}


def test_further_messages_of_a_delivery_at_work_begin_nothing(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> None:
    queue = queue_of(2, worker=SCRIPTED)
    script, other = Script(tmp_path, "told of thrice"), Script(tmp_path, "other")
    script.hand_in(queue)
    script.until(queue, starts=1)
    for _ in range(3):  # of which the worker that is at it may hold one
        tell(celery_app(queue.url, queue.name), script.delivery.key)
    other.write("")
    other.hand_in(queue)
    other.until(queue, state="done")
    script.write("")
    assert script.until(queue, state="done").starts == 1


@on_sqlite
def test_work_that_outlasts_many_leases_is_begun_once(queue_of: Callable[..., Queue]) -> None:
    queue = queue_of(2, WORK_SECONDS=5)
    queue.deliveries.accept([Delivery.of({"x-github-delivery": "long"}, b"{}")])
    until(lambda: queue.deliveries.known("done"))
    (known,) = queue.deliveries.known()
    assert (known.starts, known.attempts, known.effects) == (1, 0, 1)


@on_sqlite
def test_under_more_work_than_cores_each_delivery_is_begun_once(
    queue_of: Callable[..., Queue],
) -> None:
    queue = queue_of(4, WORK_KIND="compute", WORK_SECONDS=0.4, LEASE_SECONDS=2)
    queue.deliveries.accept([Delivery.of({}, b"{}") for _ in range(10)])
    until(lambda: len(queue.deliveries.known("done")) == 10)
    assert {(each.starts, each.attempts) for each in queue.deliveries.known()} == {(1, 0)}


# A worker that has one message at work, and another in hand


@pytest.fixture
def two_messages(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> tuple[Queue, Script, Script, Script]:
    """A queue, the scripts of what its worker has, and that of a delivery that comes after."""
    queue = queue_of(1, worker=SCRIPTED)
    first, second, third = (Script(tmp_path, id) for id in ("first", "second", "third"))
    first.hand_in(queue)
    begun = time.monotonic()
    first.until(queue, starts=1)
    second.hand_in(queue)
    with redis.Redis.from_url(queue.url) as client:
        until(lambda: client.hlen(f"{queue.name}:unacked") == 1)
    until(lambda: time.monotonic() > begun + 2)  # it goes on for a second, and that is over
    return queue, first, second, third


@on_sqlite
def test_a_frozen_broker_stops_no_worker_that_has_a_message(
    two_messages: tuple[Queue, Script, Script, Script],
) -> None:
    queue, first, second, third = two_messages
    third.hand_in(queue)
    assert queue.broker is not None
    queue.broker.freeze()
    second.write("")
    first.write("")
    second.until(queue, state="done")
    queue.broker.thaw()
    third.write("")
    assert third.until(queue, state="done").starts == 1


@on_sqlite
def test_a_worker_that_cannot_acknowledge_a_message_takes_others_later(
    two_messages: tuple[Queue, Script, Script, Script],
) -> None:
    queue, first, second, third = two_messages
    assert queue.broker is not None
    queue.broker.kill()
    second.write("")
    first.write("")
    second.until(queue, state="done")
    queue.broker.restart()
    third.write("")
    third.hand_in(queue)
    assert third.until(queue, state="done").starts == 1


# Frozen, and thawed: two are at work


@pytest.fixture
def both_at_work(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> tuple[Queue, Program, Program, Script]:
    """A worker that is frozen in mid-work, another that has taken its delivery, and its script."""
    queue, script = queue_of(1, worker=SCRIPTED), Script(tmp_path, "contended")
    script.hand_in(queue)
    script.until(queue, starts=1)
    (frozen,) = queue.workers
    frozen.freeze()
    queue.add_workers(1)
    script.until(queue, starts=2, state="working")
    return queue, frozen, queue.workers[1], script


def let_end(queue: Queue, worker: Program, folder: Path) -> None:
    """Have a worker that is alone end what it is at: then it takes another delivery."""
    for other in queue.workers:
        if other is not worker and not other.ended:
            other.kill()
    next_one = Script(folder, f"after {worker.name}")
    next_one.write("")
    next_one.hand_in(queue)
    next_one.until(queue, state="done")


@pytest.mark.parametrize("outcome", ["", "fail"])
def test_what_ends_second_changes_nothing(
    both_at_work: tuple[Queue, Program, Program, Script], tmp_path: Path, outcome: str
) -> None:
    queue, frozen, other, script = both_at_work
    script.write("")
    done = script.until(queue, state="done")
    assert done.worker is not None
    assert done.worker.startswith(other.name)
    script.write(outcome)
    frozen.thaw()
    let_end(queue, frozen, tmp_path)
    assert script.known(queue) == done
    assert queue.deliveries.tally() == {"push": 2}
    assert queue.deliveries.known("aside") == []


def test_who_was_frozen_may_end_first(
    both_at_work: tuple[Queue, Program, Program, Script], tmp_path: Path
) -> None:
    queue, frozen, other, script = both_at_work
    other.freeze()
    script.write("")
    frozen.thaw()
    done = script.until(queue, state="done")
    other.thaw()
    let_end(queue, other, tmp_path)
    assert script.known(queue) == done
    assert (done.starts, done.effects) == (2, 1)


def test_who_was_frozen_does_not_prolong_the_others_lease(
    both_at_work: tuple[Queue, Program, Program, Script],
) -> None:
    queue, frozen, other, script = both_at_work
    other.freeze()
    frozen.thaw()  # it works on, and would prolong
    queue.add_workers(1)
    script.until(queue, starts=3)
    script.write("")
    assert script.until(queue, state="done").effects == 1
    other.thaw()


@pytest.mark.parametrize(("outcome", "state"), [("", "done"), ("fail", "aside")])
def test_one_that_was_given_up_is_done_if_its_work_ends_well(
    queue_of: Callable[..., Queue], tmp_path: Path, outcome: str, state: str
) -> None:
    queue, script = queue_of(1, worker=SCRIPTED), Script(tmp_path, "given up")
    script.hand_in(queue)
    for starts in (1, 2, 3):
        script.until(queue, starts=starts)
        freeze_at_rest(queue, queue.workers[-1])
        queue.add_workers(1)
    aside = script.until(queue, state="aside")
    assert aside.attempts == 3
    assert aside.reason == f"{queue.workers[2].name}@{socket.gethostname()} was not heard of again"
    script.write(outcome)
    queue.workers[2].thaw()
    let_end(queue, queue.workers[2], tmp_path)
    known = script.known(queue)
    assert (known.state, known.effects) == (state, int(state == "done"))
    assert state == "done" or known == aside


# Attempts


def test_attempts_follow_with_growing_pauses(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> None:
    queue, script = queue_of(2, worker=SCRIPTED), Script(tmp_path, "failing")
    script.write("fail")
    script.hand_in(queue)
    first = script.until(queue, starts=1, attempts=1, state="waiting")
    second = script.until(queue, starts=2, attempts=2, state="waiting")
    third = script.until(queue, state="aside")
    assert first.due is not None
    assert second.due is not None
    # By the database's clock alone. A pause begins after the attempt, an attempt after the pause.
    assert first.due >= first.accepted + 1
    assert second.due >= first.due + 2
    assert (third.starts, third.attempts) == (3, 3)
    assert third.reason == "ValueError('told to fail')"

    script.write("")
    assert script.hand_in(queue) is Answer.ACCEPTED
    done = script.until(queue, state="done")
    assert (done.starts, done.attempts, done.effects, done.reason) == (4, 0, 1, None)


@on_sqlite
def test_work_that_hangs_is_ended_and_counts_as_an_attempt(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> None:
    queue, script = queue_of(1, worker=SCRIPTED, MOST_SECONDS=1), Script(tmp_path, "hanging")
    script.write("hang")
    script.hand_in(queue)
    failed = script.until(queue, attempts=1, state="waiting")
    assert (failed.starts, failed.reason) == (1, "not done after 1 s")
    script.write("")
    done = script.until(queue, state="done")
    assert (done.starts, done.effects) == (2, 1)


@on_sqlite
def test_what_was_at_hand_in_three_deaths_lies_aside_until_it_is_replayed(
    queue_of: Callable[..., Queue], tmp_path: Path
) -> None:
    queue, script = queue_of(1, worker=SCRIPTED), Script(tmp_path, "deadly")
    script.hand_in(queue)
    for starts in (1, 2, 3):
        script.until(queue, starts=starts)
        queue.workers[-1].kill()
        queue.add_workers(1)
    aside = script.until(queue, state="aside")
    assert aside.attempts == 3
    assert aside.reason == f"{queue.workers[2].name}@{socket.gethostname()} was not heard of again"
    script.write("")
    command = [sys.executable, "-m", "webhooks", "replay", "--all", "--json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(told.stdout) == {"id": "deadly", "state": "replayed"}
    assert script.until(queue, state="done").effects == 1


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process loads to have a clock that is CLOCK_AHEAD seconds ahead."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(WRONG_CLOCK)
    command = ["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "clock.so"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("ahead", [3600, -3600])
def test_the_clocks_of_workers_do_not_matter(
    queue_of: Callable[..., Queue], tmp_path: Path, wrong_clock: Path, ahead: int
) -> None:
    queue = queue_of(2, worker=SCRIPTED, LD_PRELOAD=wrong_clock, CLOCK_AHEAD=ahead)
    script = Script(tmp_path, "timeless")
    script.hand_in(queue)
    taken = script.until(queue, starts=1)
    assert taken.due is not None
    until(lambda: (script.known(queue).due or 0) > (taken.due or 0) + 2)  # two leases later
    assert script.known(queue).starts == 1
    script.write("fail")
    failed = script.until(queue, attempts=1, state="waiting")
    script.write("")
    done = script.until(queue, state="done")
    assert (done.starts, done.attempts, done.effects) == (2, 1, 1)
    assert taken.accepted < (failed.due or 0) < (done.done or 0) < taken.accepted + 600
