"""uvicorn for a watched app, wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from ..observer.asgi import App, Watched
from ..observer.probe import Probed
from ..observer.protocol import Note
from ..observer.transport import Reporter
from .addresses import family_of, loopback, url_of

DEFAULTS: dict[str, Any] = {
    # A socket bound by hand, without its protocol given, would add 40 ms to every answer.
    "port": 0,
    "loop": "asyncio",
    "log_config": None,
    "access_log": False,
}

# What the webhook service says at its start is for operators: with no handler at all, Python would
# show its warnings in the notebook.
logging.getLogger("uvicorn.webhook").addHandler(logging.NullHandler())


class WatchedServer(uvicorn.Server):
    """uvicorn's server for a watched app; calls `on_ready` with its URL when it listens."""

    def __init__(
        self,
        app: App,
        note: Note,
        reporter: Reporter,
        settings: dict[str, Any],
        on_ready: Callable[[str], None],
        watch_loop: bool = False,
    ) -> None:
        self.probed = Probed(app)
        self.reporter = reporter
        self._on_ready = on_ready
        self._starting: asyncio.Task[Any] | None = None
        settings = {"host": loopback(), **DEFAULTS, **settings}
        watched = Watched(app, note, reporter, watch_loop, self.probed)
        super().__init__(uvicorn.Config(watched, **settings))

    def give_up(self) -> None:
        """End a start: what the app does in it is cancelled."""
        self.should_exit = True
        for task in (self._starting, self.probed.lifespan):
            if task is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                    task.get_loop().call_soon_threadsafe(task.cancel)

    async def startup(self, sockets: Any = None) -> None:
        self._starting = asyncio.current_task()
        try:
            await super().startup(sockets)
        except SystemExit:
            self._tell_of_address()
            raise
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        self._on_ready(url_of(host, port))

    def _tell_of_address(self) -> None:
        """uvicorn only logs that an address cannot be had; keep why as what ended the start."""
        host, port = self.config.host, self.config.port
        try:
            socket.create_server((host, port), family=family_of(host)).close()
        except OSError as error:
            self.probed.startup_error = OSError(f"{url_of(host, port)} cannot be had: {error}")

    def why_not(self, error: BaseException) -> str:
        """Why the server did not start."""
        return why_not(self.probed.startup_error or error)


def why_not(cause: BaseException) -> str:
    return f"the app did not start: {type(cause).__name__}: {cause}"
