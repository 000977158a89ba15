"""Ends child processes together with their parent: a child's standard input is its lifeline.

When the lifeline breaks, because the parent has ended in whatever way, the child ends the
processes that it has started, and itself. Until then, each line written to it is an order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any, BinaryIO

GROUP_ENDS_WITHIN = 0.05  # seconds; where nobody reaps orphans, they never do


class Child:
    """A process that runs a module of the lab, seen from its parent.

    module: its dotted name. arguments: of its command line. popen: options of `subprocess.Popen`.
    """

    def __init__(self, module: str, *arguments: str, **popen: Any) -> None:
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            # A cell's interrupt goes to the kernel's group: the child must not be in it.
            start_new_session=True,
            **popen,
        )
        self.pid = self.process.pid

    def order(self, line: bytes) -> None:
        """Send an order; do nothing if the child has ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def let_go(self) -> None:
        """Break the lifeline: the child ends."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def lifeline() -> BinaryIO:
    """Return the child's end of the lifeline: orders, then end of file when the parent is gone."""
    # A pool's fork closes `sys.stdin`, and would hang on it while a thread reads it.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def end_group(pid: int) -> None:
    """Kill the processes that are left in a process group, such as a pool's workers.

    Waits for their end, at most `GROUP_ENDS_WITHIN` seconds. pid: of the process that the group is
    named after.
    """
    if sys.platform != "win32":
        end = time.monotonic() + GROUP_ENDS_WITHIN
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
            while time.monotonic() < end:
                os.killpg(pid, 0)
                time.sleep(0.001)
