"""Ends child processes with this one: a child's standard input is its lifeline.

When the line breaks, because the parent is gone, however that came, the child ends what it has
started, and itself. A line that is written meanwhile is an order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any, BinaryIO

GROUP_ENDS_WITHIN = 0.5


class Child:
    """The parent's end: a process that runs a module of the lab.

    module: its dotted name. arguments: its command line's. popen: what `subprocess.Popen` takes.
    """

    def __init__(self, module: str, *arguments: str, **popen: Any) -> None:
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            # A cell's interrupt goes to the kernel's group: the child is not to be in it.
            start_new_session=True,
            **popen,
        )
        self.pid = self.process.pid

    def tell(self, order: bytes) -> None:
        """Send an order; a child that has ended takes none."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(order)
            self.process.stdin.flush()

    def let_go(self) -> None:
        """Break the line: the child ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def lifeline() -> BinaryIO:
    """The child's end: orders, and then an end of file when the parent is gone."""
    # A pool's fork closes `sys.stdin`, and would hang on it while a thread reads it.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def end_group(pid: int) -> None:
    """End what a process has left behind in its group, such as a pool's workers; wait for it."""
    if sys.platform != "win32":
        end = time.monotonic() + GROUP_ENDS_WITHIN
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
            while time.monotonic() < end:
                os.killpg(pid, 0)
                time.sleep(0.001)
