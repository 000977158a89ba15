"""The bounds on accepted work: what is above them is refused, and every place is given back."""

import asyncio
import gc
import threading

import pytest

import server
from webhooks.backlog import Backlog, TooMuchHeld, start_thread

from .test_server import call


def work(*given: object) -> tuple[object, ...]:
    return given


def test_more_pieces_than_may_be_held_are_refused_until_one_is_done() -> None:
    backlog = Backlog("test", 2, 100)
    first, second = backlog.hold(work), backlog.hold(work)
    with pytest.raises(TooMuchHeld):
        backlog.hold(work)
    assert first(1, "a") == (1, "a")
    third = backlog.hold(work)
    assert [second(), third()] == [(), ()]


def test_larger_bodies_than_may_be_held_are_refused_but_a_single_one_never() -> None:
    backlog = Backlog("test", 10, 100)
    large = backlog.hold(work, 1000)
    with pytest.raises(TooMuchHeld):
        backlog.hold(work, 1)
    large()
    held = [backlog.hold(work, 50), backlog.hold(work, 50)]
    with pytest.raises(TooMuchHeld):
        backlog.hold(work, 1)
    assert len(held) == 2


def test_a_place_is_given_back_by_work_that_fails_or_is_never_called() -> None:
    def fail() -> None:
        raise ValueError("told to fail")

    async def fail_later() -> None:
        fail()

    backlog = Backlog("test", 1, 100)
    for _ in range(3):
        with pytest.raises(ValueError, match="told"):
            backlog.hold(fail)()
        with pytest.raises(ValueError, match="told"):
            asyncio.run(backlog.hold(fail_later)())
        backlog.hold(work)
        gc.collect()
    assert backlog.hold(work)() == ()


def test_held_work_keeps_its_name() -> None:
    assert Backlog("test", 1, 1).hold(work).__name__ == "work"


def test_when_the_system_gives_no_thread_the_work_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(TooMuchHeld, match="no thread"):
        start_thread(work)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/webhook-test", {"json": {}}),
        ("/webhook-test/inline", {"json": {}}),
        ("/webhook-test/thread", {"json": {}}),
        ("/webhook-test/queue", {"json": {}}),
        ("/send-email", {"params": {"email": "ada@example.com"}}),
        ("/send-email/thread", {"params": {"email": "ada@example.com"}}),
    ],
)
def test_every_hand_over_answers_503_above_its_bound_and_ping_does_not(
    path: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    for name in ("deliveries", "arriving", "mails"):
        full = Backlog("test", 1, 100)
        held.append(full.hold(work))
        monkeypatch.setattr(server, name, full)
    response = call("POST", path, **options)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert call("GET", "/ping").status_code == 200
