"""Stamps a request's moments on the server: wraps any ASGI app, and answers as that does."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from .names import describe, name_of
from .pages import TRACE_HEADER, Page
from .transport import Reporter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
OpenPage = Callable[[str, float, str, str], Page]

current: ContextVar[Request | None] = ContextVar("lab_request", default=None)
_serial = itertools.count(1)
_TRACE_HEADER = TRACE_HEADER.encode()


class Request:
    """The request on whose behalf code is running: where its stamps go."""

    __slots__ = ("id", "page", "reporter")

    def __init__(self, id: str, page: Page, reporter: Reporter | None) -> None:
        self.id = id
        self.page = page
        self.reporter = reporter

    def add(self, func: Any, runner: str) -> str:
        """Announce a piece of work; the key names it in later stamps."""
        key = f"{os.getpid()}-{next(_serial)}"
        self.page.added(key, name_of(func), runner, perf_counter())
        return key

    def drop(self, key: str, error: BaseException) -> None:
        """A piece of work that was announced can no longer begin or end."""
        self.page.gone(key, perf_counter(), describe(error))


class Watched:
    """An ASGI app that behaves as the one it wraps, and has each request stamped."""

    def __init__(self, app: App, open_page: OpenPage, reporter: Reporter | None = None) -> None:
        self.app = app
        self.open_page = open_page
        self.reporter = reporter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = perf_counter()
        trace_id, scope = take_trace_id(scope)
        page = self.open_page(trace_id, received, scope["method"], scope["path"])

        async def stamped_send(message: Message) -> None:
            await send(message)
            kind = message["type"]
            if kind == "http.response.start":
                page.status(message["status"])
            elif not message.get("more_body", False):
                page.responded(perf_counter())

        token = current.set(Request(trace_id, page, self.reporter))
        try:
            await self.app(scope, receive, stamped_send)
        except BaseException:
            # `current` stays, and the stamp waits for the next turn of the loop: what the server
            # logs of the error is written for this request, and before it counts as over.
            asyncio.get_running_loop().call_soon(page.returned, perf_counter())
            raise
        current.reset(token)
        page.returned(perf_counter())


def take_trace_id(scope: Scope) -> tuple[str, Scope]:
    """The id that the lab's client gave a request, and the scope without it."""
    headers = scope["headers"]
    for name, value in headers:
        if name == _TRACE_HEADER:
            rest = [header for header in headers if header[0] != _TRACE_HEADER]
            return value.decode("latin-1"), {**scope, "headers": rest}
    return f"{os.getpid()}-{next(_serial)}", scope
