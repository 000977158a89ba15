"""uvicorn for a watched app, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.to_thread
import uvicorn

from ..observer.asgi import App, OpenPage, Receive, Scope, Send, Watched
from ..observer.transport import Reporter

PROBE = "/.lab/probe"
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    # A socket bound by hand, without its protocol given, would add 40 ms to every answer.
    "port": 0,
    "loop": "asyncio",
    "log_config": None,
    "access_log": False,
}


class Probed:
    """Answers the lab's own probes with an empty 202, and gives all else to the watched app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.startup_error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self.app(scope, receive, send)
            except BaseException as error:
                self.startup_error = error
                raise
        elif scope["type"] == "http" and scope["path"] == PROBE:
            if scope["method"] == "PUT":
                # The first call to a thread imports what it needs on the loop: 14-28 ms, once.
                await anyio.to_thread.run_sync(lambda: None)
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 202, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, send)


class Server(uvicorn.Server):
    """uvicorn's server for a watched app; calls `on_ready` when it listens."""

    def __init__(
        self,
        app: App,
        open_page: OpenPage,
        reporter: Reporter,
        settings: dict[str, Any],
        on_ready: Callable[[int], None],
    ) -> None:
        self.probed = Probed(Watched(app, open_page, reporter))
        self.reporter = reporter
        self._on_ready = on_ready
        super().__init__(uvicorn.Config(self.probed, **{**DEFAULTS, **settings}))

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._on_ready(self.servers[0].sockets[0].getsockname()[1])

    def why_not(self, error: BaseException) -> str:
        """Why the server did not start."""
        return why_not(self.probed.startup_error or error)


def why_not(cause: BaseException) -> str:
    return f"the app did not start: {type(cause).__name__}: {cause}"
