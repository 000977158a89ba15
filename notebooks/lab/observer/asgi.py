"""Stamps a request's moments on the server: wraps any ASGI app, and answers as that does."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from .loops import running_loop
from .names import plain
from .protocol import NOBODY, PROBE, TRACE_HEADER, Note
from .requests import Request, new_key, reset_current, set_current
from .transport import Reporter
from .watch import watch_loop

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACE_HEADER = TRACE_HEADER.encode()
_LENGTH = b"content-length"
_NAME = operator.itemgetter(0)


class Watched:
    """An ASGI app that behaves as the one it wraps, and has each request stamped.

    note: keeps the stamps of this process; reporter, those of processes that the app makes.
    watch: whether to note for how long the event loop is held, and by what. aside: gets what is no
    request of the app's: its lifespan, and probes; by default the app does.
    """

    def __init__(
        self,
        app: App,
        note: Note,
        reporter: Reporter | None = None,
        watch: bool = False,
        aside: App | None = None,
    ) -> None:
        self.app = app
        self.note = note
        self.reporter = reporter
        self.watch = watch
        self.aside = aside or app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.watch:
            watch_loop(self._held)
        if scope["type"] != "http" or scope["path"] == PROBE:
            await self.aside(scope, receive, send)
            return
        received = perf_counter()
        trace_id, scope = take_trace_id(scope)
        loop = running_loop()
        request = Request(trace_id, self.note, self.reporter)
        request.received(received, scope["method"], plain(scope["path"]))
        token = set_current(request)
        response = Response(request, send, scope["method"])
        app = self.app
        try:
            await app(scope, receive, response.send)
        except BaseException:
            response.leave()
            # The request stays the current one, and the stamp waits for the next turn of the loop:
            # what the server logs of the error is written for it, and before it counts as over.
            if loop is None:
                request.returned(perf_counter())
            else:
                loop.call_soon(request.returned, perf_counter())
            raise
        response.leave()
        reset_current(token)
        request.returned(perf_counter())

    def _held(self, began: float, ended: float | None, place: str, thread: str) -> None:
        self.note((NOBODY, "held", began, ended, place, thread, os.getpid()))


class Response:
    """Stamps a response as it is sent: over when all the bytes that it declares are handed over.

    An old middleware holds the message that ends it back until the background tasks are done, when
    the client has long had all of it.
    """

    __slots__ = ("_left", "_method", "_over", "_request", "_send", "_status")

    def __init__(self, request: Request, send: Send, method: str) -> None:
        self._request = request
        self._send = send
        self._method = method
        self._status: int | None = None
        self._left: int | None = None
        self._over = False

    async def send(self, message: Message) -> None:
        if not self._over:
            # Before the server has it: once it does, the client may read faster than we stamp.
            try:
                kind = message["type"]
                if kind == "http.response.body":
                    if self._left is not None:
                        self._left -= len(message.get("body", b""))
                        self._over = self._left <= 0
                    if self._over or not message.get("more_body"):
                        self._end()
                    elif self._status is not None:
                        self.leave()
                elif kind == "http.response.start":
                    self._begin(message["status"], message.get("headers") or ())
            except Exception:  # the server will say what is wrong with it
                pass
        send = self._send
        await send(message)

    def _begin(self, status: int, headers: Any) -> None:
        self._left = self._declared(status, headers)
        self._status = int(status)  # no HTTPStatus, which cannot travel
        if self._left == 0:
            self._end()
        if "opentelemetry.trace" in sys.modules:
            self._see_own_trace(sys.modules["opentelemetry.trace"])

    def _end(self) -> None:
        self._over = True
        self._request.responded(perf_counter(), self._status)
        self._status = None

    def leave(self) -> None:
        """Stamp the status now: of what was begun, the end is late, or never comes."""
        if self._status is not None:
            self._request.status(self._status)
            self._status = None

    def _see_own_trace(self, opentelemetry: Any) -> None:
        # Not where the request is received: by now, what the app has around it has begun its span.
        span = opentelemetry.get_current_span().get_span_context()
        if span.is_valid:
            self._request.traced(f"{span.trace_id:032x}")

    def _declared(self, status: int, headers: Any) -> int | None:
        """How many bytes of a body are to come; None when the head does not say."""
        if self._method == "HEAD" or status in (204, 304):
            return 0
        for name, value in headers:
            # Told by its length alone, nearly every other header is passed over.
            if len(name) == 14 and (name == _LENGTH or bytes(name).lower() == _LENGTH):
                value = bytes(value)
                return int(value) if value.isdigit() else None
        return None


def take_trace_id(scope: Scope) -> tuple[str, Scope]:
    """The id that the lab's client gave a request, and the scope without it."""
    headers = scope["headers"]
    if _TRACE_HEADER not in map(_NAME, headers):
        return new_key(), scope
    value = next(value for name, value in headers if name == _TRACE_HEADER)
    rest = [header for header in headers if header[0] != _TRACE_HEADER]
    return value.decode("latin-1"), {**scope, "headers": rest}
