"""Waits until a condition on traces holds, without a lock that a stamp could meet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from .notes import enter_noted

Until = Callable[[Callable[[], object], float | None], bool]

# Set while a thread waits: the reader of other processes' stamps then looks for them more often.
waited_for = threading.Event()

# One lock per waiting thread: locked while the thread sleeps, released to wake it.
bells: list[threading.Lock] = []


def until(settled: Callable[[], object], timeout: float | None) -> bool:
    """Block until `settled()` holds; return False when `timeout` seconds pass first."""
    end = None if timeout is None else time.monotonic() + timeout
    bell = threading.Lock()
    bell.acquire()
    bells.append(bell)
    waited_for.set()
    try:
        while not up_to_now(settled):
            left = -1.0 if end is None else end - time.monotonic()
            if (end is not None and left <= 0) or not bell.acquire(timeout=left):
                return bool(up_to_now(settled))
        return True
    finally:
        bells.remove(bell)
        if not bells:
            waited_for.clear()


def up_to_now(settled: Callable[[], object]) -> object:
    enter_noted()
    return settled()


def wake() -> None:
    """Wake every `until` so that it checks its condition again. Call it after changing a trace."""
    if bells:
        for bell in tuple(bells):
            with contextlib.suppress(RuntimeError):  # it is released already
                bell.release()
