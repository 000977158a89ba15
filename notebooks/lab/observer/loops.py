"""Stamps the tasks of an event loop: whatever makes one asks the loop, so its class is hooked.

The coroutine and the task stay as they are. A task's start is stamped by a callback that the loop
runs right before the task's first step, its end when the loop tells of it, at the end of that turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .handing import handed_over_by_reader
from .names import describe
from .requests import Request, current

_pending: set[LoopTask] = set()
_in_place = False


class ClassHook:
    """A hook in the place of one method, for all objects of the classes that it is put on.

    An attribute of the object itself would have CPython look for each of its others anew.
    """

    def __init__(self, name: str, hook: Callable[..., Callable[..., Any]]) -> None:
        self.on: dict[Any, Callable[..., Any]] = {}
        self._name = name
        self._hook = hook

    def put_on(self, kind: Any) -> None:
        original = getattr(kind, self._name)
        if original in self.on.values():  # it is on a base already
            self.on[kind] = original
            return
        hook = functools.wraps(original)(self._hook(original))
        if self.on.setdefault(kind, hook) is hook:  # no other thread was first
            with contextlib.suppress(TypeError):  # a class that is written in C stays as it is
                setattr(kind, self._name, hook)

    def take_off(self) -> None:
        """Leave the classes as they were, less what the app itself has put in our place."""
        for kind, hook in list(self.on.items()):
            if vars(kind).get(self._name) is hook:
                original = hook.__wrapped__
                delattr(kind, self._name)
                if getattr(kind, self._name, None) is not original:  # it was not inherited
                    setattr(kind, self._name, original)
        self.on.clear()


def hook_loops() -> None:
    """From now on, hook the class of each loop that serves a watched request."""
    global _in_place
    _in_place = True


def unhook_loops() -> None:
    global _in_place
    _in_place = False
    _hook.take_off()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs here, hooked if it is to be; None under another library."""
    loop = asyncio._get_running_loop()
    if _in_place and loop is not None and type(loop) not in _hook.on:
        _hook.put_on(type(loop))
    return loop


def _create_task(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_task(self: Any, coro: Any, **options: Any) -> Any:
        request = current()
        if request is None or not handed_over_by_reader():
            return original(self, coro, **options)
        made = LoopTask(request, request.add(coro, "create_task"))
        before = perf_counter()
        try:
            start = self.call_soon(made.begins)
            with request.within(made.key):  # the task takes a copy of the context
                task = original(self, coro, **options)
        except BaseException as error:
            made.refused(error)
            raise
        made.follow(task)
        if has_begun(coro):  # an eager task runs within the call that makes it
            start.cancel()
            made.begins(before)
        if task.done():
            made.ends(task)
        else:
            task.add_done_callback(made.ends)
        return task

    return create_task


# Not a task factory, which would be lost when the app sets its own.
_hook = ClassHook("create_task", _create_task)


def has_begun(coro: Any) -> bool:
    return inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) != inspect.CORO_CREATED


class LoopTask:
    """The stamps of one task of a loop."""

    def __init__(self, request: Request, key: str) -> None:
        self.key = key
        self._request = request
        self._begun = False
        self._task: weakref.ref[Any] | None = None

    def follow(self, task: Any) -> None:
        """Learn of the task's end, even when nobody keeps it and it is destroyed."""
        self._task = weakref.ref(task, self._destroyed)
        _pending.add(self)

    def refused(self, error: BaseException) -> None:
        """The loop has made no task: no start is to be stamped any more."""
        self._begun = True
        self._request.drop(self.key, error)

    def begins(self, at: float | None = None) -> None:
        task = self._task and self._task()
        # One that is cancelled before its first step never runs a line.
        if not self._begun and not getattr(task, "_must_cancel", False):
            self._begun = True
            self._request.started(self.key, at or perf_counter(), "loop")

    def ends(self, task: Any) -> None:
        at = perf_counter()
        _pending.discard(self)
        if task.cancelled():
            cancelled = asyncio.CancelledError()
            if self._begun:
                self._request.finished(self.key, at, describe(cancelled))
            else:
                self._request.drop(self.key, cancelled)
            return
        # Asked for by its method, the error would count as retrieved.
        error = getattr(task, "_exception", None)
        self._request.finished(self.key, at, None if error is None else describe(error))

    def _destroyed(self, _: object) -> None:
        if self in _pending:
            _pending.discard(self)
            self._request.gone(self.key, perf_counter(), "destroyed while it was pending")
