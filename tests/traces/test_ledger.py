"""Stamps are entered into the traces of their requests, in whatever order they come."""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.observer.protocol import NOBODY
from lab.observer.requests import Request
from lab.servers.collector import Collector
from lab.traces import Task, Trace, Traces, until
from lab.traces.ledger import Entry, Ledger
from lab.traces.model import Held


def entry_of(ledger: Ledger, sent: float = 0.0) -> tuple[Trace, Entry]:
    trace = ledger.open(Trace("1", sent))
    return trace, ledger.receive("1", sent, "POST", "/x")


def test_moments_become_seconds_after_sending() -> None:
    trace, entry = entry_of(Ledger(), sent=5.0)
    entry.responded(5.5)
    entry.added("k", "a", "thread", 6.0)
    entry.started("k", 6.5, "thread 1")
    entry.logged("INFO", "app", "hello")
    assert (trace.received, trace.responded, trace.path) == (0.0, 0.5, "/x")
    assert trace.log == ["INFO app: hello"]
    assert trace.tasks == [Task("a", "thread", "thread 1", added=1.0, started=1.5)]


def test_a_start_may_be_entered_before_the_announcement() -> None:
    trace, entry = entry_of(Ledger())
    entry.started("k", 2.0, "process 9")
    entry.added("k", "a", "process", 1.0)
    assert [(task.name, task.started) for task in trace.tasks] == [("a", 2.0)]


def test_all_stamps_may_be_entered_before_the_announcement() -> None:
    ledger = Ledger()
    trace, entry = entry_of(ledger)
    entry.started("k", 2.0, "process 9")
    entry.finished("k", 3.0, None)
    entry.added("k", "a", "process", 1.0)
    assert trace.tasks == [
        Task("a", "process", "process 9", 1.0, started=2.0, finished=3.0, process=9)
    ]


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_concurrent_first_stamps_share_one_task() -> None:
    trace, entry = entry_of(Ledger())
    tasks = 10_000
    together = threading.Barrier(2)

    def tell(stamp: Callable[[str], None]) -> None:
        together.wait()
        for number in range(tasks):
            stamp(str(number))

    others = [
        threading.Thread(target=tell, args=(lambda key: entry.started(key, 2.0, "process 9"),)),
        threading.Thread(target=tell, args=(lambda key: entry.added(key, "a", "process", 1.0),)),
    ]
    for each in others:
        each.start()
    for each in others:
        each.join()
    assert len(trace.tasks) == tasks
    assert {(task.added, task.started) for task in trace.tasks} == {(1.0, 2.0)}


@pytest.mark.parametrize("last", ["finished", "gone"])
def test_a_waiting_thread_sees_the_last_stamp(last: str) -> None:
    trace, entry = entry_of(Ledger())
    entry.added("k", "a", "background", 1.0)
    entry.started("k", 2.0, "loop")
    entry.returned(2.0)
    waiting = threading.Thread(target=trace.wait, args=(60,))
    waiting.start()
    assert waiting.is_alive()
    getattr(entry, last)("k", 3.0, None)
    waiting.join(10)
    assert not waiting.is_alive()


def test_error_and_place_are_set_before_the_stamp_that_is_waited_for() -> None:
    """An error is there as soon as its task is over, and a place as soon as it has begun."""
    seen: list[tuple[str | None, str | None]] = []

    class Watched(Task):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name in {"started", "finished"} and value is not None:
                seen.append((self.where, self.error))

    ledger = Ledger()
    trace, entry = entry_of(ledger)
    trace.tasks.append(Watched())
    ledger._tasks["1", "k"] = trace.tasks[0]
    entry.started("k", 2.0, "loop")
    entry.finished("k", 3.0, "ValueError")
    assert seen == [("loop", None), ("loop", "ValueError")]


def test_a_stamp_after_the_servers_end_belongs_to_the_same_task() -> None:
    ledger = Ledger()
    trace, entry = entry_of(ledger)
    entry.added("k", "a", "thread", 1.0)
    entry.started("k", 2.0, "thread 1")
    ledger.close(3.0)
    assert [task.state for task in trace.tasks] == ["lost"]
    entry.finished("k", 4.0, None)
    assert [task.state for task in trace.tasks] == ["finished"]
    assert trace.settled


def test_a_servers_end_is_entered_for_open_requests_only() -> None:
    ledger = Ledger()
    over, at_work = (ledger.open(Trace(name, 5.0)) for name in ("over", "at work"))
    ledger.receive("over", 5.1, "GET", "/").returned(5.2)
    entry = ledger.receive("at work", 5.1, "GET", "/")
    ledger.ending("SIGTERM", 6.0)
    entry.returned(7.0)
    ledger.close(8.0)
    assert (over.ending, over.gone) == ((), None)
    assert at_work.ending == (("SIGTERM", 1.0), ("exit", 3.0))


def test_open_tasks_are_gone_when_the_server_ends() -> None:
    ledger = Ledger()
    trace, entry = entry_of(ledger, sent=1.0)
    entry.started("a", 2.0, "loop")
    entry.added("b", "b", "background", 2.0)
    ledger.close(4.0)
    assert [task.state for task in trace.tasks] == ["lost", "never ran"]
    assert trace.settled
    assert trace.gone == 3.0


def test_another_clients_request_is_entered_when_it_is_received() -> None:
    ledger = Ledger()
    ledger.enter(("x", "logged", "INFO", "app", "too early"))
    ledger.enter(("x", "received", 7.0, "GET", "/x"))
    assert [(trace.sent, trace.received, trace.log) for trace in ledger.traces] == [(7.0, 0.0, [])]


def test_a_background_task_not_begun_when_the_call_returns_never_ran() -> None:
    trace, entry = entry_of(Ledger())
    for key, runner in [("a", "background"), ("b", "thread")]:
        entry.added(key, key, runner, 0.5)
    entry.returned(1.0)
    assert [task.state for task in trace.tasks] == ["never ran", "waiting"]
    assert not trace.settled


def test_only_the_newest_traces_are_kept_and_stamps_of_others_dropped() -> None:
    ledger = Ledger(limit=2)
    trace, entry = entry_of(ledger)
    entry.added("k", "a", "background", 0.5)
    for number in "23":
        ledger.open(Trace(number, sent=0.0))
    entry.started("k", 1.0, "loop")
    entry.added("l", "b", "background", 1.5)
    ledger.enter(("1", "logged", "INFO", "app", "too late"))
    assert [trace.id for trace in ledger.traces] == ["2", "3"]
    assert ledger._tasks == {}
    assert trace.log == []


def test_stamps_from_another_process_give_the_same_trace() -> None:
    ledger = Ledger()
    collector = Collector(ledger.enter, ledger.miss_stamps)
    trace, near = entry_of(ledger)
    far = Request("2", collector.reporter.note)
    far.received(5.0, "POST", "/x")
    for entry in (near, far):
        entry.status(202)
        entry.added("k", "a", "background", 6.0)
        entry.queued("k", 6.5)
        entry.started("k", 7.0, "loop")
        entry.finished("k", 8.0, "ValueError: 3")
        entry.added("l", "b", "thread", 6.0)
        entry.gone("l", 9.0, None)
        entry.logged("INFO", "app", "hello")
        entry.responded(6.0, None)
        entry.returned(9.0)
    assert until(lambda: len(ledger.traces) == 2, 10)
    _, other = ledger.traces.wait(10)
    collector.close()
    assert other.sent == 5.0
    assert (other.status, other.log) == (trace.status, trace.log)
    moments = [(t.added, t.queued, t.started, t.finished, t.gone, t.error) for t in other.tasks]
    assert moments == [(1.0, 1.5, 2.0, 3.0, None, "ValueError: 3"), (1.0, None, None, None, 4.0, None)]  # fmt: skip # noqa: E501
    assert [task.state for task in other.tasks] == [task.state for task in trace.tasks]


@pytest.mark.parametrize("runner", ["process", "queue"])
def test_stamps_in_any_order_leave_no_ghost_task(runner: str) -> None:
    stamps: list[tuple[Any, ...]] = [
        ("added", "k", "a", runner, 1.0),
        ("queued", "k", 1.5),
        ("started", "k", 2.0, "process 1"),
        ("finished", "k", 3.0, None),
        ("returned", 4.0),
    ]
    for order in itertools.permutations(stamps):
        trace, entry = entry_of(Ledger())
        for stamp, *seen in order:
            getattr(entry, stamp)(*seen)
        assert trace.tasks == [
            Task(
                "a",
                runner,
                "process 1",
                added=1.0,
                queued=1.5,
                started=2.0,
                finished=3.0,
                process=1,
            )
        ], order


def test_a_task_that_starts_as_its_call_returns_is_not_lost() -> None:
    stamps = [("started", "k", 2.0, "loop"), ("finished", "k", 3.0, None), ("returned", 4.0)]
    orders = [
        order
        for order in itertools.permutations(stamps)
        if order.index(stamps[0]) < order.index(stamps[1])
    ]
    for order in orders:  # a process sends the start before the end
        trace, entry = entry_of(Ledger())
        entry.added("k", "a", "background", 1.0)
        for stamp, *seen in order:
            getattr(entry, stamp)(*seen)
        assert [task.state for task in trace.tasks] == ["finished"], order


def test_wait_started_waits_until_a_task_has_begun() -> None:
    ledger = Ledger()
    ledger.open(Trace("1", 5.0, "POST", "/work"))
    with pytest.raises(TimeoutError, match=r"no work has begun behind POST /work .* after 0.01 s"):
        ledger.traces.wait_started(timeout=0.01)
    ledger.enter(("1", "started", "task", 5.5, "loop"))
    assert ledger.traces.wait_started(timeout=0.01)[0].started == 0.5
    assert Traces().wait_started() == []


def test_wait_started_sees_a_start_that_comes_meanwhile() -> None:
    ledger = Ledger()
    ledger.open(Trace("1", 5.0))
    starter = threading.Timer(0.05, ledger.enter, [("1", "started", "task", 5.5, "loop")])
    starter.start()
    assert ledger.traces.wait_started(timeout=10)
    starter.join()


def test_a_parent_is_found_by_its_key_while_it_runs_and_makes_no_task_afterwards() -> None:
    ledger = Ledger()
    entry = ledger.receive("1", 0.0, "POST", "/")
    entry.added("k", "store", "thread", 1.0)
    entry.added("l", "during", "thread", 2.0, "k")
    entry.started("k", 1.0, "thread 7")
    entry.finished("k", 3.0, None)
    entry.added("m", "afterwards", "thread", 4.0, "k")
    store, during, afterwards = ledger.traces.tasks
    assert during.parent is store
    assert (store.parent, afterwards.parent) == (None, None)


def test_each_process_ends_with_its_own_requests() -> None:
    ledger = Ledger()
    for number, process in (("1", 11), ("2", 12)):
        entry = ledger.receive(number, 0.0, "POST", "/", process)
        entry.added("k", "work", "thread", 1.0)
        entry.started("k", 2.0, "thread 5")
    one, other = ledger.traces
    ledger.ending("SIGKILL", 3.0, 11)
    ledger.close(4.0, 11)
    assert [task.state for task in ledger.traces.tasks] == ["lost", "running"]
    assert str(one.tasks[0]) == "work (lost on thread 5 of process 11)"
    ledger.close(5.0)
    assert one.ending == (("SIGKILL", 3.0), ("exit", 4.0))
    assert other.ending == (("exit", 5.0),)
    assert [task.state for task in ledger.traces.tasks] == ["lost", "lost"]


def sent(ledger: Ledger, id: str, at: float, process: int | None = None) -> Trace:
    trace = ledger.open(Trace(id, at))
    ledger.receive(id, at, "POST", "/x", process)
    return trace


def test_whoever_is_open_while_the_loop_is_held_knows_of_it() -> None:
    ledger = Ledger()
    before, during = sent(ledger, "1", 1.0), sent(ledger, "2", 2.0)
    ledger.entry("1").returned(1.5)  # type: ignore[union-attr]
    waits = ledger.open(Trace("3", 2.2))
    ledger.enter((NOBODY, "held", 2.0, None, "a.py:1", ""))
    ledger.entry("2").returned(2.5)  # type: ignore[union-attr]
    assert not during.settled
    ledger.receive("3", 2.5, "POST", "/x")
    ledger.enter((NOBODY, "held", 2.0, 2.5, "a.py:2", ""))
    later, late = sent(ledger, "4", 2.6), ledger.open(Trace("5", 2.4))
    ledger.receive("5", 2.6, "POST", "/x")
    told = [Held(2.0, 2.5, "a.py:2")]
    assert [[*each.held] for each in (before, during, waits, later, late)] == [
        [], told, told, [], told,
    ]  # fmt: skip
    assert during.settled


def test_a_loop_that_is_held_in_one_process_does_not_concern_another() -> None:
    ledger = Ledger()
    one, two = sent(ledger, "1", 1.0, process=11), sent(ledger, "2", 1.0, process=12)
    ledger.held(1.0, 1.5, "a.py:1", "", process=11)
    assert (len(one.held), len(two.held)) == (1, 0)


def test_a_loop_is_free_when_its_server_has_ended() -> None:
    ledger = Ledger()
    trace = sent(ledger, "1", 1.0)
    ledger.held(1.0, None, "a.py:1", "")
    ledger.close(3.0)
    assert trace.settled
    assert trace.held == (Held(1.0, 3.0, "a.py:1"),)
