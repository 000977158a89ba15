"""A bar that grows with what is done, in a notebook; nothing elsewhere."""

from __future__ import annotations

import threading
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import ProgressBar


class Progress:
    """Shows how many of `total` steps are done."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        # Elsewhere than in a cell it would stand wherever output goes just then.
        if get_ipython() and threading.current_thread() is threading.main_thread():
            bar: Any = ProgressBar(total)  # type: ignore[no-untyped-call]
            bar.display()
            self._bar = bar

    def show(self, done: int) -> None:
        if self._bar:
            self._bar.progress = done
