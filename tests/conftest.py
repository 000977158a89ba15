import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.servers.web import Web, serve


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
