"""Keeps the stamps of this process until somebody looks at traces.

To enter each as it comes would cost the watched app several times more: code that runs once in a
while, between a server's calls of the system, finds no processor that remembers it.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ledger import Ledger


ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_turn = threading.RLock()  # of the readers alone


def enter_noted() -> None:
    """Enter all that was noted before this call, in that order."""
    with _turn:
        for ledger in list(ledgers):
            noted, enter = ledger.noted, ledger.enter
            try:
                while noted:
                    enter(noted[0])
                    noted.popleft()  # not before, so that an interrupt loses none
            except Exception:
                noted.popleft()
                raise
