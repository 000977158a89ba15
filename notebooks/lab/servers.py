"""Runs uvicorn for a watched app in the notebook's process: on a thread, or on its own loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import anyio.to_thread
import nest_asyncio2
import uvicorn
from uvicorn.importer import import_from_string

from .collecting import Collector, Reporter
from .hooks import watching
from .ledger import Ledger
from .traces import until
from .watching import App, OpenPage, Receive, Scope, Send, Watched

T = TypeVar("T")

PROBE = "/.lab/probe"
START_TIMEOUT = 20.0
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


class InThread:
    """A server on a thread of this process, with an event loop of its own."""

    place = "thread"
    exit_code: int | None = None

    def __init__(self, app: App | str, ledger: Ledger, settings: dict[str, Any]) -> None:
        if isinstance(app, str):
            try:
                imported: App = import_from_string(app)
            except Exception as error:
                raise RuntimeError(why_not(error)) from error
            app = imported
        self.port = 0
        self.pid = os.getpid()
        self.until = until
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._collector = Collector(ledger.enter)
        self._server = self._make(
            app, ledger.open_page, self._collector.reporter, settings, self._up
        )
        self._start()
        if self.port == 0:
            self._collector.close()
            late = TimeoutError(f"not ready after {START_TIMEOUT:g} s")
            cause = self._server.probed.startup_error or self._failure or late
            raise RuntimeError(why_not(cause)) from cause

    _make = Server

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="lab server", daemon=True)
        self._thread.start()
        self._ready.wait(START_TIMEOUT)

    def _up(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def _run(self) -> None:
        try:
            with watching():
                self._server.run()
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
            self._collector.close()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def drain(self) -> None:
        """Take no more requests; end when the work is done."""
        self._server.should_exit = True

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return self.ended

    def call(self, blocking: Callable[[], T]) -> T:
        """Make a call that blocks this thread while the server works."""
        return blocking()

    def signal(self, number: int) -> None:
        raise RuntimeError(
            "this server shares the notebook's process; serve(app, on='process') gives it its own"
        )


class KernelServer(Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # on the main thread uvicorn would take the kernel's own interrupt


class InKernel(InThread):
    """A server on the event loop that runs the notebook's cells.

    While a cell runs, that loop runs nothing else: whatever waits here must drive it, nested.
    """

    place = "kernel"
    _make = KernelServer

    def _start(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "on='kernel' needs the running loop of a notebook; here use on='thread'"
            ) from None
        nest_asyncio2.apply(self._loop)
        self.until = self._until
        self._serving = self._loop.create_task(self._serve())
        self.call(lambda: self._ready.wait(START_TIMEOUT))

    async def _serve(self) -> None:
        try:
            with watching():
                await self._server.serve()
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()
            self._collector.close()

    @property
    def ended(self) -> bool:
        return self._serving.done()

    def join(self, timeout: float) -> bool:
        async def wait() -> None:
            await asyncio.wait([self._serving], timeout=timeout)

        self._loop.run_until_complete(wait())
        return self.ended

    def call(self, blocking: Callable[[], T]) -> T:
        result: T = self._loop.run_until_complete(self._loop.run_in_executor(None, blocking))
        return result

    def _until(self, settled: Callable[[], bool], timeout: float | None) -> bool:
        return self.call(lambda: until(settled, timeout))
