"""Stamps a request's moments on the server, and those of the work that it leaves behind.

`Watched` wraps any ASGI app and stamps the request and its response; the work is stamped from
inside, by the wrappers that the hooks (hooks.py) put around it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from contextvars import Context, ContextVar
from multiprocessing.reduction import ForkingPickler
from time import perf_counter
from typing import Any

from .collecting import DistantPage, Reporter
from .ledger import Page

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
OpenPage = Callable[[str, float, str, str], Page | DistantPage]

TRACE_HEADER = b"x-lab-trace"

current: ContextVar[Request | None] = ContextVar("lab_request", default=None)
_serial = itertools.count(1)


class Request:
    """The request on whose behalf code is running: where its stamps go."""

    __slots__ = ("id", "page", "reporter")

    def __init__(self, id: str, page: Page | DistantPage, reporter: Reporter | None) -> None:
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
        if name == TRACE_HEADER:
            rest = [header for header in headers if header[0] != TRACE_HEADER]
            return value.decode("latin-1"), {**scope, "headers": rest}
    return f"{os.getpid()}-{next(_serial)}", scope


def unwrapped(func: Any) -> Any:
    """The function that somebody wrote, out of the partials around it."""
    while isinstance(func, functools.partial):
        # asyncio.to_thread makes a function `context.run(function)`.
        in_context = isinstance(getattr(func.func, "__self__", None), Context)
        func = func.args[0] if in_context else func.func
    return func


def name_of(func: Any) -> str:
    """The name a reader knows a function by; work in a queue is known by name alone."""
    if isinstance(func, str):
        return func
    func = unwrapped(func)
    return str(getattr(func, "__name__", type(func).__name__))


def describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Stamp:
    """Stamps one piece of work from inside: where it runs, around its first and last line."""

    __slots__ = ("key", "page", "where")

    def __init__(self, page: Page | DistantPage, key: str, where: str) -> None:
        self.page = page
        self.key = key
        self.where = where

    def __enter__(self) -> None:
        self.page.started(self.key, perf_counter(), self.where)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        moment = perf_counter()
        self.page.finished(self.key, moment, None if error is None else describe(error))


def on_loop(func: Callable[..., Any], request: Request, key: str) -> Callable[..., Any]:
    async def stamped(*args: Any, **kwargs: Any) -> Any:
        with Stamp(request.page, key, "loop"):
            return await func(*args, **kwargs)

    return stamped


def in_thread(func: Callable[..., Any], request: Request, key: str) -> Callable[..., Any]:
    def stamped(*args: Any, **kwargs: Any) -> Any:
        with Stamp(request.page, key, f"thread {threading.get_native_id()}"):
            return func(*args, **kwargs)

    return stamped


def on_behalf_of(request: Request, func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for a thread that knows nothing of the request that it runs for."""

    def call(*args: Any, **kwargs: Any) -> Any:
        token = current.set(request)
        try:
            return func(*args, **kwargs)
        finally:
            current.reset(token)

    return call


class InProcess:
    """A call that stamps itself in whichever process it is sent to."""

    def __init__(self, call: Callable[[], Any], trace_id: str, key: str, report: Reporter) -> None:
        self.call = call
        self.trace_id = trace_id
        self.key = key
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        # A pool tells only the future of what cannot travel: pickled here, the trace learns it too.
        try:
            self._refuse_cells()
            call = bytes(ForkingPickler.dumps(self.call))
        except Exception as error:
            page = DistantPage(self.report, self.trace_id)
            page.gone(self.key, perf_counter(), describe(error))
            raise
        return _arrived, (call, self.trace_id, self.key, self.report)

    def _refuse_cells(self) -> None:
        func, name = unwrapped(self.call), name_of(self.call)
        if getattr(func, "__module__", None) == "__main__" and not hasattr(
            sys.modules["__main__"], name
        ):
            raise TypeError(
                f"{name} was written in a notebook, where the pool of another process cannot "
                f"import it: put it into a file with %%writefile name.py and import it from there"
            )

    def __call__(self) -> Any:
        page = DistantPage(self.report, self.trace_id)
        with Stamp(page, self.key, f"process {os.getpid()}"):
            return self.call()


def _arrived(call: bytes, trace_id: str, key: str, report: Reporter) -> InProcess:
    return InProcess(ForkingPickler.loads(call), trace_id, key, report)


class StampedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine that stamps its first step and its end.

    A wrapping `async def` would leave the inner one never awaited when its task is cancelled
    before the first step.
    """

    def __init__(self, coro: Any, request: Request, key: str) -> None:
        self.__name__ = coro.__name__
        self.__qualname__ = coro.__qualname__
        self._coro = coro
        self._stamp = Stamp(request.page, key, "loop")
        self._started = False

    def send(self, value: Any) -> Any:
        if not self._started:
            self._started = True
            self._stamp.__enter__()
        return self._step(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coro.throw, *error)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return step(*args)
        except StopIteration:
            self._stamp.__exit__(None, None, None)
            raise
        except BaseException as error:
            self._stamp.__exit__(type(error), error, None)
            raise

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any]:
        yield from self._coro.__await__()
