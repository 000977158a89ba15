"""Traces: their states, when they are over, how they are shown."""

import pytest
from IPython.lib.pretty import pretty

from lab.traces import Task, Trace, Traces


def over(*tasks: Task, **known: object) -> Trace:
    return Trace("1", 5.0, "POST", "/x", responded=0.1, returned=0.2, tasks=[*tasks], **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "state"),
    [
        (Task(), "waiting"),
        (Task(started=1), "running"),
        (Task(started=1, finished=2), "finished"),
        (Task(started=1, finished=2, error="ValueError: no"), "failed"),
        (Task(started=1, finished=2, error="CancelledError"), "cancelled"),
        (Task(started=1, gone=2), "lost"),
        (Task(gone=2), "never ran"),
    ],
)
def test_a_tasks_stamps_determine_its_state(task: Task, state: str) -> None:
    assert task.state == state
    assert task.open == (state in {"waiting", "running"})


def test_a_request_is_finished_no_sooner_than_its_call() -> None:
    assert over().finished == over().returned
    assert over(Task(started=0.01, finished=0.02)).finished == over().returned
    assert Trace("1", 0.0, responded=0.1).finished is None


def test_a_request_finishes_with_its_last_task() -> None:
    assert over(Task(started=1, finished=3), Task(started=1, finished=2)).finished == 3
    assert over(Task(started=1, finished=3), Task(started=1)).finished is None
    assert over(Task(started=1, finished=3), Task(started=1, gone=2)).finished is None


def test_lost_queue_work_is_finished_once_another_worker_did_it() -> None:
    lost = Task(runner="queue", started=1, gone=2)
    assert over(lost, Task(runner="queue", added=3, started=3, finished=4)).finished == 4
    assert over(Task(runner="queue", added=0, started=0, finished=1), lost).finished is None
    assert over(lost, Task(runner="thread", added=3, started=3, finished=4)).finished is None
    assert over(Task(started=1, finished=3), Task(gone=2)).finished == 3


def test_a_timed_out_wait_names_what_is_missing() -> None:
    stuck = over(Task("send", where="thread 7", started=0.3), Task("log"))
    with pytest.raises(TimeoutError, match=r"send \(running on thread 7 since 0\.300 s\), log"):
        stuck.wait(0)
    with pytest.raises(TimeoutError, match="has not received it"):
        Trace("1", 0.0).wait(0)
    with pytest.raises(TimeoutError, match="endpoint has not returned"):
        Trace("1", 0.0, received=0.1).wait(0)
    with pytest.raises(TimeoutError, match=r"1 of 2 requests .* send"):
        Traces([over(), stuck]).wait(0)


def test_a_parent_is_named_where_its_child_is_shown() -> None:
    store = Task("store", started=0.1, finished=0.2)
    child = Task("resize", "thread", parent=store)
    trace = over(store, child)
    assert str(child) == "resize of store (waiting)"
    assert "<td>thread of store</td>" in trace._repr_html_()
    assert Traces([trace]).task_frame()["parent"].to_list()[1] == "store"


def test_frames_have_one_row_per_request_and_one_per_task() -> None:
    traces = Traces([over(Task("a"), Task("b")), over()])
    assert list(traces.frame()["tasks"]) == [2, 0]
    assert list(traces.task_frame()["name"]) == ["a", "b"]
    assert isinstance(traces[:1], Traces)


@pytest.mark.parametrize(
    ("known", "task", "begun"),
    [
        ({}, Task(added=0), False),
        ({}, Task(started=0.1), True),  # the answer may wait for it
        ({"answered": 0.3}, Task(started=0.1), False),  # it may be over by now
        ({"answered": 0.3, "responded": 0.2}, Task(started=0.1, finished=0.15), False),
        ({"answered": 0.3, "responded": 0.2}, Task(started=0.1, finished=0.25), True),
        ({"answered": 0.3, "responded": 0.2}, Task(started=0.25), True),
        ({"answered": 0.3, "responded": 0.2, "returned": 0.2}, Task(started=0, finished=0.1), True),
    ],
)
def test_work_that_is_over_before_the_answer_leaves_is_not_awaited(
    known: dict[str, float], task: Task, begun: bool
) -> None:
    assert Trace("1", 0.0, tasks=[task], **known).begun == begun  # type: ignore[arg-type]


def test_a_notebook_shows_a_trace_in_a_line() -> None:
    trace = Trace("1", 0.0, "POST", "/x", status=202, answered=0.0123456)
    assert pretty(trace) == str(trace) == "POST /x (202)"
