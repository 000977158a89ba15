"""Each delivery has its effect once, whatever happens in between."""

import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from webhooks.effects import Effects


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.sqlite3")


def test_a_second_effect_of_a_delivery_is_refused(effects: Effects) -> None:
    assert effects.apply("a", "push", "w1")
    assert not effects.apply("a", "push", "w2")
    assert effects.apply("b", "push", "w2")
    assert effects.tally == {"push": 2}
    assert effects.done == {"a", "b"}


def test_mark_and_effect_are_written_in_one_transaction(effects: Effects) -> None:
    effects.apply("first", "push", "w1")
    with closing(sqlite3.connect(effects.path)) as db:  # refuses the effect, not the mark
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tally BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        effects.apply("second", "push", "w1")
    assert effects.done == {"first"}
    assert effects.tally == {"push": 1}


def test_starts_and_attempts_are_counted(effects: Effects) -> None:
    assert effects.begin("a", "w1") == (1, False)
    assert effects.begin("a", "w2") == (2, False)
    assert effects.begin("a", "w0") == (3, False)
    assert effects.begin("b", "w1") == (1, False)
    assert effects.starts == {"a": 3, "b": 1}
    assert effects.workers == {"a": "w0", "b": "w1"}


def test_a_start_after_the_effect_does_not_count_as_attempt(effects: Effects) -> None:
    effects.begin("a", "w1")
    effects.apply("a", "push", "w1")
    start = effects.begin("a", "w2")
    assert start.done
    assert start.attempt == 0
    assert effects.starts == {"a": 2}


def test_deliveries_set_aside_can_be_listed_and_readmitted(effects: Effects) -> None:
    body = json.dumps({"名": [1, None, "\ud800"]})
    for _ in range(3):
        effects.begin("a", "w1")
    effects.set_aside("a", "it broke", {"x-github-event": "push"}, body)
    (aside,) = effects.aside
    assert aside[:4] == ("a", "it broke", {"x-github-event": "push"}, body)
    assert list(effects.frame()["set aside"]) == [True]
    assert effects.readmit("a") == aside
    assert effects.begin("a", "w1").attempt == 1
    effects.forget(aside)
    assert effects.aside == []
    with pytest.raises(KeyError, match="delivery 'a' is not set aside"):
        effects.readmit("a")


def test_forget_keeps_a_delivery_that_was_set_aside_again(effects: Effects) -> None:
    effects.set_aside("a", "first", {}, "1")
    readmitted = effects.readmit("a")
    effects.set_aside("a", "second", {}, "1")
    effects.forget(readmitted)
    assert [aside.reason for aside in effects.aside] == ["second"]


def apply_all(path: Path, worker: str, deliveries: Iterable[str]) -> None:
    effects = Effects(path)
    for delivery in deliveries:
        effects.begin(delivery, worker)
        effects.apply(delivery, "push", worker)


def test_racing_workers_have_one_effect_per_delivery(effects: Effects) -> None:
    deliveries = [str(number) for number in range(100)]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=apply_all, args=(effects.path, f"w{number}", deliveries))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert effects.tally == {"push": 100}
    assert set(effects.starts.values()) == {4}


def begin(path: Path, together: threading.Barrier) -> int:
    effects = Effects(path)
    together.wait()
    return effects.begin("a", "w").attempt


def test_workers_can_open_a_new_file_at_once(tmp_path: Path) -> None:
    workers = 8
    for number in range(10):
        together = threading.Barrier(workers)

        def begin(
            path: Path = tmp_path / str(number), together: threading.Barrier = together
        ) -> int:
            effects = Effects(path)
            together.wait()
            return effects.begin("a", "w").attempt

        with ThreadPoolExecutor(workers) as pool:
            begun = [pool.submit(begin) for _ in range(workers)]
        assert sorted(start.result() for start in begun) == list(range(1, workers + 1))
