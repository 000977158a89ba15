"""Runs code where it can do no harm: in a throw-away kernel, or in a process of its own.

SILENCE: seconds without a message after which the kernel is probed. LONGEST: seconds that all
cells together may take.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from traitlets.config import Config

SILENCE = 0.3
LONGEST = 30.0


@contextmanager
def own_sockets() -> Iterator[Config]:
    """Have a kernel listen at files instead of ports while this lasts, where the system can.

    Jupyter picks ports before the kernel binds them: another program may come first, and the
    kernel then says nothing for as long as it is waited for.
    """
    # Not in Jupyter's own folder: it may be too deep for the path of a socket, some 100 characters.
    with TemporaryDirectory() as place:
        if os.name == "posix":
            reached = {"transport": "ipc", "ip": os.path.join(place, "kernel")}
        else:
            # Without this a kernel warns of ports, which never leave the machine.
            reached = {"transport_encryption": "auto"}
        yield Config(KernelManager=reached)


def run_all(*cells: str) -> list[str]:
    """Queue cells in a fresh kernel, all at once as Run All does; return the fate of each.

    A fate is one of: ran, raised (with the error's name), lost. A kernel runs cells in the order
    of their arrival: a cell is lost when a probe, sent once the kernel was silent, has run before
    it; or when it has not run after `LONGEST` seconds.
    """
    with fresh_kernel() as client:
        queued = [client.execute(cell, stop_on_error=False) for cell in cells]
        fate = dict.fromkeys(queued, "lost")
        probes: set[str] = set()
        deadline = time.monotonic() + LONGEST
        while "lost" in fate.values() and time.monotonic() < deadline:
            try:
                reply = client.get_shell_msg(timeout=SILENCE)
            except queue.Empty:
                probes.add(client.execute("", silent=True))
                continue
            content, cell = reply["content"], reply["parent_header"].get("msg_id")
            if cell in probes:
                break
            if cell in fate:
                error = content.get("ename")
                fate[cell] = f"raised {error}" if error else "ran"
        return list(fate.values())


@contextmanager
def fresh_kernel() -> Iterator[BlockingKernelClient]:
    """Give a kernel that waits for cells, as its client sees it; end it afterwards."""
    with own_sockets() as config:
        manager = KernelManager(kernel_name="python3", config=config)
        manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def last_line(program: str, timeout: float = 20) -> str:
    """Run a Python program in a process of its own; return the last line that it prints.

    timeout: seconds after which it is killed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"still running after {timeout:g} s"
    return (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
