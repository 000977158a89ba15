import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.servers.web import Web, serve

# A shell starts what runs in its background deaf to this; tests send it to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
