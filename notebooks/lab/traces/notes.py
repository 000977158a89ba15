"""Keeps the stamps of this process until somebody looks at traces.

To enter each as it comes would cost the watched app several times more: code that runs once in a
while, between a server's calls of the system, finds no processor that remembers it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_noted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
# Of the readers alone; to note a stamp takes no lock.
_turn = threading.RLock()


def note(enter: Callable[..., None], stamp: tuple[Any, ...]) -> None:
    """Keep a stamp for `enter`, wherever it comes: in a signal handler, say, or in a finalizer."""
    _noted.append((enter, stamp))


def enter_noted() -> None:
    """Enter all that was noted before this call, in that order."""
    with _turn:
        while _noted:
            enter, stamp = _noted[0]
            try:
                enter(*stamp)
            except Exception:
                _noted.popleft()
                raise
            _noted.popleft()  # not before, so that an interrupt loses none
