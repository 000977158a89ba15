"""What a person is told of a trace: each problem in a sentence, and nothing where all is well."""

from pathlib import Path
from typing import Any

import pytest

from lab.traces import Task, Trace, Traces
from lab.traces.model import Held


def answered(*tasks: Task, **known: Any) -> Trace:
    stamps = {"received": 0.0, "responded": 0.1, "returned": 0.2} | known
    return Trace("1", 5.0, "POST", "/x", tasks=[*tasks], **stamps)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task("store", started=0.2, finished=0.3), []),
        (Task("store", started=0.0, finished=0.1), []),  # the answer waited for it
        (Task("store", started=0.2), []),
        (Task("store", started=0.2, finished=0.3, error="CancelledError"), []),  # by the app itself
        (Task("store", started=0.2, finished=0.3, error="ValueError: no"),
         ["store failed: ValueError: no"]),
        (Task("store", started=0.2, gone=0.3), ["store was lost: its process ended first"]),
        (Task("store", gone=0.3), ["store never ran"]),
        (Task("store", gone=0.3, error="OSError: full"), ["store never ran: OSError: full"]),
        (Task("store", started=0.2, gone=0.3, error="destroyed while it was pending"),
         ["store was destroyed while it was pending: nobody kept it"]),
        (Task("store", started=0.0, finished=0.3),
         ["store began before the answer, and was not over by then"]),
        (Task("resize", started=0.2, gone=0.3, parent=Task("store")),
         ["resize of store was lost: its process ended first"]),
    ],
)  # fmt: skip
def test_each_fate_of_a_task_has_its_sentence(task: Task, told: list[str]) -> None:
    assert answered(task).problems == told


def test_a_task_that_is_cancelled_when_the_server_ends_is_told() -> None:
    task = Task("store", started=0.2, finished=0.5, error="CancelledError")
    told = ["store was cancelled: the server ended first"]
    assert answered(task, ending=(("stop", 0.4),)).problems == told
    assert answered(task, ending=(("stop", 0.6),)).problems == []


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (Held(5.0, 5.5, "orders.py:31"), ["the event loop was held for 0.5 s at orders.py:31"]),
        (Held(5.0, 5.5), ["the event loop was held for 0.5 s by many short turns"]),
        (Held(5.0, 5.5, "orders.py:31", "crunch"),
         ["the event loop waited 0.5 s for the interpreter, which crunch at orders.py:31 had"]),
        (Held(5.0, 5.05, "orders.py:31"), []),
        (Held(5.0, 5.0), []),
        (Held(5.0), []),
    ],
)  # fmt: skip
def test_a_held_loop_is_told_with_what_had_it(held: Held, told: list[str]) -> None:
    assert answered(held=(held,)).problems == told


def test_a_trace_is_not_over_while_its_loop_is_held() -> None:
    held = Held(5.0)
    trace = answered(held=(held,))
    assert not trace.settled
    held.place = "orders.py:31"
    with pytest.raises(TimeoutError, match=r"the event loop is held at orders\.py:31"):
        trace.wait(0)
    held.ended = 5.5
    assert trace.settled


def test_a_broken_connection_and_missing_stamps_are_told() -> None:
    trace = answered(broken=0.1, error="ReadError: cut", unseen="no room")
    assert trace.problems == [
        "the connection broke: ReadError: cut",
        "stamps may be missing: no room",
    ]


def test_many_requests_tell_which_of_them_it_was() -> None:
    traces = Traces([answered(), answered(Task("store", gone=0.3))])
    assert traces.problems == ["POST /x: store never ran"]


def test_the_answer_came_first_when_no_work_had_begun() -> None:
    assert answered().answered_first
    assert answered(Task(started=0.2), Task(gone=0.3)).answered_first
    assert not answered(Task(started=0.2), Task(started=0.05, finished=0.06)).answered_first
    assert not answered(responded=None).answered_first


def test_a_held_loop_is_saved(tmp_path: Path) -> None:
    traces = Traces([answered(held=(Held(5.0, 5.5, "orders.py:31", "crunch"),))])
    traces.save(tmp_path / "run.json")
    assert Traces.load(tmp_path / "run.json") == traces
