"""Waiting in tests, with an end; and what they wait for: processes and ports to go."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest


def until_it_says(process: subprocess.Popen[bytes], log: Path, word: str) -> None:
    """Return when a program has written a word into its log; fail with the log if it does not."""
    end = time.monotonic() + 60
    while word not in (said := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{process.args!r} has not started:\n{said}")
        time.sleep(0.02)


def until(holds: Callable[[], Any], timeout: float = 60) -> None:
    """Return when `holds()` does; fail after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, "it has not come to hold"
        time.sleep(0.02)


def family() -> set[psutil.Process]:
    """The processes that this one has started, and those that they have."""
    return set(psutil.Process().children(recursive=True))


def is_resource_tracker(process: psutil.Process) -> bool:
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(process: psutil.Process | int) -> bool:
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1
        return process.is_running() and not ended
    except psutil.NoSuchProcess:
        return False
