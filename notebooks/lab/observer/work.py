"""Stamps a piece of work from inside, in a thread or in another process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from time import perf_counter
from typing import Any

from .names import describe, name_of, unwrapped
from .requests import Request
from .transport import Reporter


def stamped(
    func: Callable[..., Any], request: Request, key: str, where: Callable[[], str]
) -> Callable[..., Any]:
    """The function, stamped from inside where it runs, around its first and last line."""

    def call(*args: Any, **kwargs: Any) -> Any:
        request.started(key, perf_counter(), where())
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            request.finished(key, perf_counter(), describe(error))
            raise
        request.finished(key, perf_counter(), None)
        return result

    return call


def this_thread() -> str:
    return f"thread {threading.get_native_id()}"


def this_process() -> str:
    return f"process {os.getpid()}"


def on_behalf_of(request: Request, func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for a thread that knows nothing of the request that it runs for."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with request:
            return func(*args, **kwargs)

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
            Request(self.trace_id, self.report.note).drop(self.key, error)
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
        with Request(self.trace_id, self.report.note, self.report, self.key) as request:
            return stamped(self.call, request, self.key, this_process)()


def _arrived(call: bytes, trace_id: str, key: str, report: Reporter) -> InProcess:
    return InProcess(ForkingPickler.loads(call), trace_id, key, report)
