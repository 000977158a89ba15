"""A bar that grows with what is done, in a notebook; nothing elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import Any


class Progress:
    """Shows how many of `total` steps are done."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        # Elsewhere than in a cell it would stand wherever output goes just then.
        if in_a_cell():
            from IPython.display import ProgressBar

            bar: Any = ProgressBar(total)  # type: ignore[no-untyped-call]
            bar.display()
            self._bar = bar

    def show(self, done: int) -> None:
        if self._bar:
            self._bar.progress = done


def in_a_cell() -> bool:
    """Whether the main thread of a notebook asks."""
    ipython: Any = sys.modules.get("IPython")
    main = threading.current_thread() is threading.main_thread()
    return ipython is not None and main and ipython.get_ipython() is not None
