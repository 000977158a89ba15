"""uvicorn for a watched app, wherever it runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import uvicorn

from ..observer.asgi import App, OpenPage, Receive, Scope, Send, Watched
from ..observer.pages import PROBE
from ..observer.transport import Reporter
from ..observer.watch import Tell

DEFAULTS: dict[str, Any] = {
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
    """uvicorn's server for a watched app; calls `on_ready` with its URL when it listens."""

    def __init__(
        self,
        app: App,
        open_page: OpenPage,
        reporter: Reporter,
        settings: dict[str, Any],
        on_ready: Callable[[str], None],
        held: Tell | None = None,
    ) -> None:
        self.probed = Probed(Watched(app, open_page, reporter, held))
        self.reporter = reporter
        self._on_ready = on_ready
        settings = {"host": loopback(), **DEFAULTS, **settings}
        super().__init__(uvicorn.Config(self.probed, **settings))

    async def startup(self, sockets: Any = None) -> None:
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


def loopback() -> str:
    """This host's own address: 127.0.0.1, or ::1 where there is IPv6 alone."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return "::1"
    return "127.0.0.1"


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(host: str, port: int) -> str:
    """Where a server that listens on an address, or on all, can be reached from here."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
