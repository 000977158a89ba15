"""A progress bar in a notebook; nothing elsewhere."""

from __future__ import annotations

import sys
import threading
from typing import Any


class Progress:
    """A progress bar of `total` steps."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        # Outside a cell the bar would appear wherever output goes at that moment.
        if in_a_cell():
            from IPython.display import ProgressBar

            bar: Any = ProgressBar(total)  # type: ignore[no-untyped-call]
            bar.display()
            self._bar = bar

    def show(self, done: int) -> None:
        if self._bar:
            self._bar.progress = done


def in_a_cell() -> bool:
    """Return whether the caller is the main thread of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    main = threading.current_thread() is threading.main_thread()
    return ipython is not None and main and ipython.get_ipython() is not None
