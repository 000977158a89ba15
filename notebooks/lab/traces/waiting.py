"""Waits until a condition on traces holds."""

from __future__ import annotations

import threading
from collections.abc import Callable

Until = Callable[[Callable[[], bool], float | None], bool]

_changed = threading.Condition()
_waiting = 0


def until(settled: Callable[[], bool], timeout: float | None) -> bool:
    """Block until `settled()` holds; return False when `timeout` seconds pass first."""
    global _waiting
    with _changed:
        _waiting += 1
        try:
            return _changed.wait_for(settled, timeout)
        finally:
            _waiting -= 1


def wake() -> None:
    """Wake every `until` so that it checks its condition again. Call it after changing a trace."""
    # A thread that begins to wait after this check sees all that was entered before it.
    if _waiting:
        with _changed:
            _changed.notify_all()
