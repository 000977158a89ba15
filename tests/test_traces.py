"""What a trace knows, and when it counts as over."""

import threading
from pathlib import Path

import pytest

from lab.traces import Floor, Ledger, Task, Trace, Traces


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
def test_states_of_a_task(task: Task, state: str) -> None:
    assert task.state == state
    assert task.open == (state in {"waiting", "running"})


def test_a_request_without_work_is_finished_when_the_response_has_left() -> None:
    assert over().finished == 0.1
    assert Trace("1", 0.0, responded=0.1).finished is None


def test_a_request_is_finished_with_its_last_task() -> None:
    assert over(Task(started=1, finished=3), Task(started=1, finished=2)).finished == 3
    assert over(Task(started=1, finished=3), Task(started=1)).finished is None
    assert over(Task(started=1, finished=3), Task(started=1, gone=2)).finished is None


def test_lost_work_of_a_queue_is_finished_when_another_worker_has_done_it() -> None:
    lost = Task(runner="queue", started=1, gone=2)
    assert over(lost, Task(runner="queue", added=3, started=3, finished=4)).finished == 4
    assert over(Task(runner="queue", added=0, started=0, finished=1), lost).finished is None
    assert over(lost, Task(runner="thread", added=3, started=3, finished=4)).finished is None
    assert over(Task(started=1, finished=3), Task(gone=2)).finished == 3


def test_waiting_in_vain_names_what_is_missing() -> None:
    stuck = over(Task("send", where="thread 7", started=0.3), Task("log"))
    with pytest.raises(TimeoutError, match=r"send \(running on thread 7 since 0\.300 s\), log"):
        stuck.wait(0)
    with pytest.raises(TimeoutError, match="has not received it"):
        Trace("1", 0.0).wait(0)
    with pytest.raises(TimeoutError, match="endpoint has not returned"):
        Trace("1", 0.0, received=0.1).wait(0)
    with pytest.raises(TimeoutError, match=r"1 of 2 requests .* send"):
        Traces([over(), stuck]).wait(0)


def test_saved_traces_load_equal(tmp_path: Path) -> None:
    traces = Traces(
        [
            over(
                Task("a", started=0.1, finished=0.2, where="loop"), body=b"\xff\x00{}", status=202
            ),
            over(headers={"a": "é"}, error="ReadError", floor=Floor(0.1, 0.2), log=["名\ud800"]),
            over(Task(started=1, gone=2), gone=2.0, broken=0.3, ending=[("SIGTERM", 1.0)]),
            over(body=bytes(range(256))),
        ]
    )
    traces.save(tmp_path / "run.json")
    assert Traces.load(tmp_path / "run.json") == traces


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\xfd", b'{"a": 1}', b"[1]", b'[{"id": "1"}]', b"[{}]"]
)
def test_a_file_that_holds_no_traces_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.json holds no traces"):
        Traces.load(tmp_path / "odd.json")


def test_frames_have_a_row_for_each_request_and_each_task() -> None:
    traces = Traces([over(Task("a"), Task("b")), over()])
    assert list(traces.frame()["tasks"]) == [2, 0]
    assert list(traces.task_frame()["name"]) == ["a", "b"]
    assert isinstance(traces[:1], Traces)


class TestLedger:
    def test_moments_become_seconds_after_sending(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=5.0))
        ledger.enter("1", None, {"received": 5.5, "path": "/x"})
        ledger.enter("1", "k", {"name": "a", "runner": "thread", "added": 6.0})
        ledger.enter("1", "k", {"started": 6.5, "where": "thread 1"})
        ledger.enter("1", None, {"line": "INFO hello"})
        assert (trace.received, trace.path, trace.log) == (0.5, "/x", ["INFO hello"])
        assert trace.tasks == [Task("a", "thread", "thread 1", added=1.0, started=1.5)]

    def test_stamps_may_come_before_the_announcement(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=0.0))
        ledger.enter("1", "k", {"started": 2.0, "where": "process 9"})
        ledger.enter("1", "k", {"name": "a", "runner": "process", "added": 1.0})
        assert [(task.name, task.started) for task in trace.tasks] == [("a", 2.0)]

    def test_stamps_may_all_come_before_the_announcement(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=0.0))
        ledger.enter("1", "k", {"started": 2.0, "where": "process 9"})
        ledger.enter("1", "k", {"finished": 3.0})
        ledger.enter("1", "k", {"name": "a", "runner": "process", "added": 1.0})
        assert trace.tasks == [Task("a", "process", "process 9", 1.0, started=2.0, finished=3.0)]
        assert ledger._tasks == {}

    @pytest.mark.parametrize("stamps", [{"finished": 3.0}, {"gone": 3.0}], ids=str)
    def test_the_last_stamp_wakes_who_waits(self, stamps: dict[str, float]) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=0.0))
        ledger.enter("1", "k", {"name": "a", "added": 1.0, "started": 2.0})
        ledger.enter("1", None, {"returned": 2.0})
        waiting = threading.Thread(target=trace.wait, args=(60,))
        waiting.start()
        assert waiting.is_alive()
        ledger.enter("1", "k", stamps)
        waiting.join(10)
        assert not waiting.is_alive()

    def test_work_that_outlives_its_server_is_still_one_task(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=0.0))
        ledger.enter("1", "k", {"name": "a", "added": 1.0, "started": 2.0})
        ledger.close(3.0)
        assert [task.state for task in trace.tasks] == ["lost"]
        ledger.enter("1", "k", {"finished": 4.0})
        assert [task.state for task in trace.tasks] == ["finished"]
        assert trace.settled

    def test_the_end_is_entered_where_it_was_still_awaited(self) -> None:
        ledger = Ledger()
        over, going = (ledger.open(Trace(id, sent=1.0)) for id in "12")
        ledger.enter("1", None, {"returned": 2.0})
        ledger.ending("SIGTERM", 3.0)
        ledger.close(4.0)
        assert (over.ending, over.gone) == ([], None)
        assert (going.ending, going.gone) == ([("SIGTERM", 2.0), ("exit", 3.0)], 3.0)

    def test_a_request_of_another_client_is_taken_up_when_it_is_received(self) -> None:
        ledger = Ledger()
        ledger.enter("x", None, {"line": "too early"})
        ledger.enter("x", None, {"received": 7.0, "path": "/x"})
        assert [(trace.sent, trace.received) for trace in ledger.traces] == [(7.0, 0.0)]

    def test_a_background_task_that_has_not_begun_by_the_end_never_ran(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=0.0))
        for key, runner in [("a", "background"), ("b", "thread")]:
            ledger.enter("1", key, {"name": key, "runner": runner})
        ledger.enter("1", None, {"returned": 1.0})
        assert [task.state for task in trace.tasks] == ["never ran", "waiting"]
        assert not trace.settled

    def test_when_the_server_ends_what_is_open_is_lost(self) -> None:
        ledger = Ledger()
        trace = ledger.open(Trace("1", sent=1.0))
        ledger.enter("1", "a", {"started": 2.0})
        ledger.enter("1", "b", {"name": "b"})
        ledger.close(4.0)
        assert [task.state for task in trace.tasks] == ["lost", "never ran"]
        assert trace.settled
        assert trace.gone == 3.0

    def test_only_the_newest_are_kept(self) -> None:
        ledger = Ledger(limit=2)
        for number in "123":
            ledger.open(Trace(number, sent=0.0))
        ledger.enter("1", "k", {"started": 1.0})
        assert [trace.id for trace in ledger.traces] == ["2", "3"]
