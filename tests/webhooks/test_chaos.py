"""Whatever is killed, frozen, emptied or full: an accepted delivery has one effect.

CHAOS_ROUNDS sets how many rounds of chaos each pair of broker and database gets; CHAOS_SEED the
first round's number.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from ..databases import PostgreSQL, open_folder
from ..waiting import until
from . import stage as on
from .stage import Caller, Stage, staged, under

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
FIRST = int(os.environ.get("CHAOS_SEED", "1"))
EACH = 24

WITH_SQLITE = [("valkey", "sqlite"), ("redis", "sqlite"), ("rabbitmq", "sqlite")]
WITH_VALKEY = [("valkey", "sqlite"), ("valkey", "postgresql")]

BROKER_FAULTS = [on.broker_killed, on.broker_frozen, on.broker_flushed, on.broker_wiped,
                 on.queue_deleted, on.queue_deleted_without_workers]  # fmt: skip
WORKER_FAULTS = [on.worker_killed, on.worker_frozen, on.process_killed]
WEB_FAULTS = [on.web_killed, on.web_frozen]
DATABASE_FAULTS = [on.database_killed, on.database_frozen, on.database_full]


def small(number: int) -> Iterator[bytes]:
    return (b'{"number": %d}' % each for each in range(number))


def large(number: int) -> Iterator[bytes]:
    """Bodies for which a database needs more room than it has set aside."""
    return (b'"%s"' % os.urandom(300_000).hex().encode() for _ in range(number))


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with open_folder() as folder, staged(folder, *request.param) as stage:
        yield stage


def each_of(pairs: Iterable[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stage", pairs, ids="-".join, indirect=True, scope="module")


def skip_what_cannot_happen(stage: Stage, fault: object) -> None:
    if fault is on.database_killed and not isinstance(stage.database, PostgreSQL):
        pytest.skip("SQLite has no process of its own")
    if fault is on.database_full and not stage.room:
        pytest.skip("needs root, to mount a small disk")


@each_of(WITH_SQLITE)
@pytest.mark.parametrize("fault", BROKER_FAULTS)
def test_a_callers_answer_does_not_depend_on_the_broker(stage: Stage, fault: on.Fault) -> None:
    caller = Caller(stage)
    with fault(stage, random.Random(FIRST)):
        caller.send_all(small(12))
    assert caller.statuses() == [202] * 12
    stage.until_done(caller.accepted)


@each_of(WITH_VALKEY)
@pytest.mark.parametrize("fault", DATABASE_FAULTS)
def test_what_the_database_cannot_take_is_refused_in_time(stage: Stage, fault: on.Fault) -> None:
    skip_what_cannot_happen(stage, fault)
    before, during, after = Caller(stage), Caller(stage), Caller(stage)
    before.send_all(small(24))
    with fault(stage, random.Random(FIRST)):
        during.send_all(large(30) if fault is on.database_full else small(8), at_once=8)
    assert before.statuses() == [202] * 24
    if fault is on.database_full:  # there may be room for some, where others have been removed
        assert {503} <= set(during.statuses()) <= {202, 503}
    else:
        assert during.statuses() == [503] * 8
    until(lambda: (after.send_all(small(1)), after.accepted)[1])
    stage.until_done(before.accepted | during.accepted | after.accepted)


@each_of(WITH_VALKEY)
@pytest.mark.parametrize("fault", WORKER_FAULTS)
def test_a_worker_takes_nothing_with_it(stage: Stage, fault: on.Fault) -> None:
    caller = Caller(stage)
    under(
        stage, fault, random.Random(FIRST),
        send=lambda: caller.send_all(small(24)),
        before=lambda: len(stage.known("working")) > 0,
        lasts=2,
    )  # fmt: skip
    # A frozen process may hold SQLite's lock.
    may_be = {202} if isinstance(stage.database, PostgreSQL) else {202, 503}
    assert set(caller.statuses()) <= may_be
    stage.until_done(caller.accepted)


@each_of([*WITH_SQLITE, WITH_VALKEY[-1]])
@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
@pytest.mark.timeout(600)
def test_whatever_happens_what_was_accepted_has_one_effect(
    stage: Stage, seed: int, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(seed)
    faults = [*BROKER_FAULTS, *WORKER_FAULTS, *WEB_FAULTS, *DATABASE_FAULTS]
    if not isinstance(stage.database, PostgreSQL):
        faults.remove(on.database_killed)
    if not stage.room:
        faults.remove(on.database_full)
    chance.shuffle(faults)
    stage.database.vacuum()
    before = {each.id for each in stage.known()}
    caller = Caller(stage, tries=3)
    for fault in faults:
        begin = len(caller.answers) + chance.randrange(EACH)
        bodies = [next(large(1) if chance.random() < 0.2 else small(1)) for _ in range(EACH)]
        under(
            stage, fault, chance,
            send=lambda bodies=bodies: caller.send_all(bodies, pauses=lambda: chance.random() / 5),
            before=lambda begin=begin: len(caller.answers) > begin,
            lasts=chance.random() * 2,
        )  # fmt: skip
    until(lambda: not {each.state for each in stage.known()} & {"waiting", "working"}, 120)
    aside = stage.known("aside")
    assert {(each.attempts, each.effects) for each in aside} <= {(3, 0)}
    assert all(each.reason and each.reason.endswith("was not heard of again") for each in aside)
    subprocess.run([sys.executable, "-m", "webhooks", "replay", "--all"], check=True)
    stage.until_done(caller.accepted)
    new = [each for each in stage.known() if each.id not in before]
    counted = {
        "faults": len(faults),
        "sent": len(caller.answers),
        "accepted": len(caller.accepted),
        "effects": sum(stage.queue.deliveries.tally().values()) - len(before),
        "begun again": sum(each.starts > 1 for each in new),
        "aside": len(aside),
    }
    print(request.node.name, counted, Counter(caller.statuses()))
    assert counted["accepted"] > counted["sent"] / 2
    # Those that were refused, or whose answer was cut off, may have been done as well.
    assert {each.id for each in new} <= set(caller.answers)
    assert caller.accepted <= {each.id for each in new if each.effects == 1}
    assert counted["effects"] == sum(each.effects for each in new) == len(new)
