"""Waits until traces hold what is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable

Until = Callable[[Callable[[], object], float | None], bool]

# Set while somebody waits: who brings stamps from elsewhere then looks for them more often.
waited_for = threading.Event()

_changed = threading.Condition()
_waiting = 0


def until(settled: Callable[[], object], timeout: float | None) -> bool:
    """Block until `settled()` holds; False when `timeout` seconds pass first."""
    global _waiting
    with _changed:
        _waiting += 1
        waited_for.set()
        try:
            return bool(_changed.wait_for(settled, timeout))
        finally:
            _waiting -= 1
            if not _waiting:
                waited_for.clear()


def wake() -> None:
    """Wake every `until` so that it checks its condition again. Call it after changing a trace."""
    # Whoever begins to wait after this look sees what has been entered before it.
    if _waiting:
        with _changed:
            _changed.notify_all()
