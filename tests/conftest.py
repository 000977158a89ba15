import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from lab.servers.web import Web, serve

from .waiting import family, is_resource_tracker

# A shell starts what runs in its background deaf to this; tests send it to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process outlives the tests of the file that has started it."""
    before = family()
    yield
    # One that the standard library starts once, for all of the run, is not ours.
    started = [each for each in family() - before if not is_resource_tracker(each)]
    _, left = psutil.wait_procs(started, timeout=60)
    told = [process.cmdline() for process in left]
    for process in left:
        process.kill()  # so that the tests of other files do not meet it
    assert told == []


@pytest.fixture
def serving() -> Iterator[Callable[..., Web]]:
    """`serve`, whose servers end with the test."""
    started: list[Web] = []

    def start(app: Any, **options: Any) -> Web:
        started.append(serve(app, **options))
        return started[-1]

    yield start
    for web in started:
        web.stop()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that work can wait for; opened at the end whatever happens."""
    event = threading.Event()
    yield event
    event.set()
