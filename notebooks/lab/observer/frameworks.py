"""Hooks for the background tasks of frameworks that have their own kind of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .names import describe
from .requests import Request, current
from .work import stamped, this_thread


def on_loop(func: Callable[..., Any], request: Request, key: str) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        request.started(key, perf_counter(), "loop")
        try:
            result = await func(*args, **kwargs)
        except BaseException as error:
            request.finished(key, perf_counter(), describe(error))
            raise
        request.finished(key, perf_counter(), None)
        return result

    return call


def call_litestar_task(original: Callable[..., Any]) -> Callable[..., Any]:
    async def call(self: Any) -> None:
        request = current()
        if request is None:
            await original(self)
            return
        # Litestar gives a `def` function an `AsyncCallable` around it, which calls it in a thread.
        in_threads = type(self.fn).__module__.startswith("litestar.")
        func = self.fn.func if in_threads else self.fn
        key = request.add(func, "background")
        request.queued(key, perf_counter())
        twin = copy.copy(self)
        if in_threads:
            twin.fn = type(self.fn)(stamped(func, request, key, this_thread))
        else:
            twin.fn = on_loop(func, request, key)
        with request.within(key):
            await original(twin)

    return call


def add_quart_task(original: Callable[..., None]) -> Callable[..., None]:
    def add_background_task(self: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        request = current()
        if request is None:
            original(self, func, *args, **kwargs)
            return
        # Quart makes a task of the loop of it at once, and a `def` function's calls a thread.
        key = request.add(func, "create_task")
        if self.ensure_async(func) is func:
            work = on_loop(func, request, key)
        else:
            work = stamped(func, request, key, this_thread)
        with request.within(key):  # the task takes a copy of the context
            original(self, work, *args, **kwargs)

    return add_background_task
