"""Waiting in tests: for what is to come to hold, with an end."""

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], timeout: float = 60) -> None:
    """Return when `holds()` does; fail after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, "it has not come to hold"
        time.sleep(0.02)
