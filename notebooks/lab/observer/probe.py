"""Answers the lab's own probes, and tells when an app is ready or why it does not start."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable
from typing import Any

from .asgi import App, Message, Receive, Scope, Send
from .names import plain
from .protocol import PROBE


class Probed:
    """Answers probes with an empty 202, and gives all else to the app.

    name: what its answers say, so that no other server's are taken for it. told: is called once
    with None when the app is ready, or with why its lifespan has failed.
    """

    def __init__(
        self, app: App, name: str = "", told: Callable[[str | None], None] = lambda why: None
    ) -> None:
        self.app = app
        self.startup_error: BaseException | None = None
        self.lifespan: asyncio.Task[Any] | None = None
        self._name = name
        self._told = told
        self._starting = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == PROBE:
            await self._answer(scope["method"], send)
        else:
            await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._starting = True
        with contextlib.suppress(RuntimeError):  # trio has no such tasks
            self.lifespan = asyncio.current_task()

        async def seen(message: Message) -> None:
            self._see(message)
            await send(message)

        try:
            await self.app(scope, receive, seen)
        except BaseException as error:
            # An app that knows no lifespan may raise too; servers then go on without it.
            self.startup_error = error
            raise
        finally:
            self._starting = False

    def _see(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._starting = False
            self._told(None)
        elif kind == "lifespan.startup.failed":
            self._told(plain(message.get("message") or "its lifespan has failed"))

    async def _answer(self, method: str, send: Send) -> None:
        if method == "PUT":
            # The first call to a thread imports what it needs on the loop: 14-28 ms, once.
            with contextlib.suppress(ImportError):
                to_thread: Any = importlib.import_module("anyio.to_thread")
                await to_thread.run_sync(lambda: None)
        headers = [(b"content-length", b"0"), (b"x-lab-probe", self._name.encode())]
        status = 503 if self._starting else 202
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
