"""The stamps of this process are entered when somebody looks: all of them, each once, in order."""

import signal
import threading
from typing import Any

import pytest

from lab.observer.protocol import Stamp
from lab.traces import Ledger, Trace, until
from lab.traces.notes import enter_noted


def noted(*stamps: tuple[Any, ...]) -> tuple[Ledger, Trace]:
    ledger = Ledger()
    trace = ledger.open(Trace("1", sent=0.0))
    for what, *seen in stamps:
        ledger.note(("1", what, *seen))
    return ledger, trace


def test_who_looks_at_a_ledger_sees_all_that_was_noted() -> None:
    ledger, trace = noted(("received", 0.5, "GET", "/"), ("responded", 1.0))
    assert trace.received is None
    assert ledger.traces == [trace]
    assert (trace.received, trace.responded) == (0.5, 1.0)


def test_who_waits_for_a_trace_sees_what_is_noted_meanwhile() -> None:
    ledger, trace = noted(("received", 0.5, "GET", "/"))
    later = threading.Timer(0.05, ledger.note, [("1", "returned", 1.0)])
    later.start()
    trace.wait(10)
    assert trace.returned == 1.0
    later.join()


@pytest.mark.parametrize("look", ["ending", "close", "miss_stamps"])
def test_what_is_entered_of_all_requests_is_entered_after_what_was_noted(look: str) -> None:
    ledger, trace = noted(("received", 0.5, "GET", "/"), ("returned", 1.0))
    orders = {"ending": ("SIGTERM", 2.0), "close": (2.0,), "miss_stamps": ("no room",)}
    getattr(ledger, look)(*orders[look])
    assert (trace.ending, trace.gone, trace.unseen) == ((), None, None)


def test_an_interrupt_loses_no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, trace = noted(("received", 0.5, "GET", "/"), ("returned", 1.0))
    enter = ledger.enter

    def interrupted(stamp: Stamp) -> None:
        monkeypatch.setattr(ledger, "enter", enter)
        signal.raise_signal(signal.SIGINT)
        enter(stamp)

    monkeypatch.setattr(ledger, "enter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        enter_noted()
    assert until(lambda: trace.returned == 1.0, 0)
    assert trace.received == 0.5


def test_a_stamp_may_be_noted_while_others_are_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, trace = noted(("logged", "INFO", "app", "0"))
    enter = ledger.enter

    def entered(stamp: Stamp) -> None:
        *same, text = stamp
        if int(text) < 100:  # as a finalizer does that runs meanwhile
            ledger.note((*same, str(int(text) + 1)))
        enter(stamp)

    monkeypatch.setattr(ledger, "enter", entered)
    enter_noted()
    assert trace.log == [f"INFO app: {number}" for number in range(101)]
