"""Ends child processes together with their parent: a child's standard input is its lifeline.

When the lifeline breaks, because the parent has ended in whatever way, the child ends the
processes that it has started, and itself. Until then, each line written to it is an order.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import Any, BinaryIO

import psutil

GROUP_ENDS_WITHIN = 0.05


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


def end_group(group: int) -> None:
    """Kill the other processes that are left in a process group, such as a pool's workers.

    Spares the resource tracker of `multiprocessing`, which removes what they leave in memory, and
    then ends. Waits for their end, at most `GROUP_ENDS_WITHIN` seconds. group: the number of the
    process that it is named after.
    """
    if sys.platform == "win32":
        return
    end = time.monotonic() + GROUP_ENDS_WITHIN
    while left := [each for each in psutil.process_iter() if _is_left(each, group)]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                if any("multiprocessing.resource_tracker" in word for word in process.cmdline()):
                    process.resume()  # it may be frozen, with its group
                else:
                    process.kill()
        if time.monotonic() > end:
            return
        time.sleep(0.001)


def _is_left(process: psutil.Process, group: int) -> bool:
    try:
        in_group = process.pid != os.getpid() and os.getpgid(process.pid) == group
        return in_group and alive(process.pid)
    except OSError:  # it has ended
        return False


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        process = psutil.Process(pid)
        # Its first thread is a zombie already while others, which end after it, still hold its
        # connections open, and may stamp.
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
