"""Stamps a piece of work from inside, on the loop, in a thread or in another process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from time import perf_counter
from typing import Any

from .names import describe, name_of, unwrapped
from .pages import Page
from .requests import Request, current
from .transport import DistantPage, Reporter


class Stamp:
    """Stamps one piece of work from inside: where it runs, around its first and last line."""

    __slots__ = ("key", "page", "where")

    def __init__(self, page: Page, key: str, where: str) -> None:
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
