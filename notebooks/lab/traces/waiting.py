"""Waits until a condition on traces holds: whoever waits looks, so that a stamp wakes nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .notes import enter_noted

LOOK_EVERY = 0.001

Until = Callable[[Callable[[], object], float | None], bool]

# Set while a thread waits: the reader of other processes' stamps then looks for them more often.
waited_for = threading.Event()

_waiting: list[object] = []


def until(settled: Callable[[], object], timeout: float | None) -> bool:
    """Block until `settled()` holds; return False when `timeout` seconds pass first."""
    end = None if timeout is None else time.monotonic() + timeout
    _waiting.append(settled)
    try:
        while True:
            if not waited_for.is_set():  # at first; and again when another's wait has just ended
                waited_for.set()
            over = end is not None and time.monotonic() >= end
            enter_noted()
            if settled():
                return True
            if over:
                return False
            time.sleep(LOOK_EVERY)
    finally:
        _waiting.remove(settled)
        if not _waiting:
            waited_for.clear()
