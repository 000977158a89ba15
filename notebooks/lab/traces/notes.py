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


FEW, MOST = 500, 200_000  # stamps: more than few since the last look make a server under load

ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_turn = threading.RLock()  # of the readers alone


def enter_noted() -> None:
    """Enter all that was noted before this call, in that order."""
    with _turn:
        for ledger in list(ledgers):
            while ledger.noted:
                try:
                    ledger.enter(*ledger.noted[0])
                except Exception:
                    ledger.noted.popleft()
                    raise
                ledger.noted.popleft()  # not before, so that an interrupt loses none


class InPassing:
    """Enters what was noted now and then, unless under load: this interpreter is the server's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left = 0

    def __call__(self) -> None:
        noted = len(self._ledger.noted)
        if noted - self._left < FEW or noted > MOST:
            enter_noted()
        self._left = len(self._ledger.noted)
