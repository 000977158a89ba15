"""The few functions through which work leaves a request, and what stamps it there.

Each hook takes the place of the function it is given and calls it. For calls that no watched
request makes, it does nothing else. To see one more kind of work, write its hook and add a row to
`_HOOKS`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from time import perf_counter
from typing import Any

from .frameworks import add_quart_task, call_litestar_task
from .handing import handed_over_by_reader
from .loops import hook_loops, unhook_loops
from .names import describe, module_of, name_of, told
from .protocol import TICKET
from .requests import Request, current
from .watch import unwatch_loops
from .work import InProcess, on_behalf_of, stamped, this_thread

Hook = Callable[[Callable[..., Any]], Callable[..., Any]]

LONGEST_LINE = 500
_KEY = "_lab_key"


def _init_background_task(original: Callable[..., None]) -> Callable[..., None]:
    def init(self: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        original(self, func, *args, **kwargs)
        request = current()
        if request is not None:
            object.__setattr__(self, _KEY, request.add(func, "background"))

    return init


def _call_background_task(original: Callable[..., Any]) -> Callable[..., Any]:
    async def call(self: Any) -> None:
        request = current()
        if request is None:
            await original(self)
            return
        key = getattr(self, _KEY, None) or request.add(self.func, "background")
        at = perf_counter()
        request.queued(key, at)
        work, error = request.within(key), None
        work.called = not self.is_async
        if self.is_async:
            request.started(key, perf_counter(), "loop")
        try:
            with work:
                await original(self)
        except BaseException as raised:
            error = describe(raised)
            raise
        finally:
            if work.called:  # in a way that no hook sees
                request.started(key, at, "?")
            if work.called or self.is_async:
                request.finished(key, perf_counter(), error)

    return call


def _called(request: Request, func: Any) -> Any:
    """A function that a framework calls in a thread, as the work that it was announced as."""
    request.called = False
    return stamped(func, request, request.work or "", this_thread)


def _start_thread(original: Callable[..., None]) -> Callable[..., None]:
    def start(self: threading.Thread) -> None:
        request = current()
        work = None if request is None else _work_of(self)
        if request is None or work is None or self.ident is not None or not handed_over_by_reader():
            original(self)
            return
        key = request.add(work, "thread")
        run = self.run

        def first() -> None:
            del self.__dict__["run"]
            on_behalf_of(request.within(key), stamped(run, request, key, this_thread))()

        self.__dict__["run"] = first
        with _dropping(request, key):
            original(self)

    return start


@contextlib.contextmanager
def _dropping(request: Request, key: str) -> Iterator[None]:
    """Have the trace know of work that is refused."""
    try:
        yield
    except BaseException as error:
        request.drop(key, error)
        raise


def _drop_if_not_run(request: Request, key: str, future: Future[Any]) -> None:
    if future.cancelled():
        request.drop(key, CancelledError())
    elif isinstance(error := future.exception(), BrokenExecutor):
        request.drop(key, error)


def _work_of(thread: threading.Thread) -> Any:
    """What a thread was started for; None for the workers of pools, which outlive a request."""
    work = getattr(thread, "function", None) or getattr(thread, "_target", None) or type(thread)
    package = module_of(work).partition(".")[0]
    return None if package in {"anyio", "asyncio", "concurrent", "multiprocessing"} else work


def _looks_up(fn: Any) -> bool:
    """Whether a loop asks for an address, as it does for every connection."""
    return module_of(fn) == "socket"


def _run_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    def run_sync(func: Any, *args: Any, **options: Any) -> Any:
        request = current()
        if request is not None and request.called:
            return original(_called(request, func), *args, **options)
        if request is None or not handed_over_by_reader():
            return original(func, *args, **options)
        return watched(request, func, *args, **options)

    async def watched(request: Request, func: Any, *args: Any, **options: Any) -> Any:
        key = request.add(func, "executor")
        call, begun = stamped(func, request, key, this_thread), threading.Event()

        def work(*given: Any) -> Any:
            begun.set()
            return call(*given)

        try:
            with request.within(key):
                return await original(work, *args, **options)
        except BaseException as error:
            if not begun.is_set():
                request.drop(key, error)
            raise

    return run_sync


def _submit_to_threads(original: Callable[..., Future[Any]]) -> Callable[..., Any]:
    def submit(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        request = current()
        if request is not None and request.called:
            return original(self, _called(request, fn), *args, **kwargs)
        if request is None or _looks_up(fn) or not handed_over_by_reader():
            return original(self, fn, *args, **kwargs)
        key = request.add(fn, "executor")
        work = on_behalf_of(request.within(key), stamped(fn, request, key, this_thread))
        with _dropping(request, key):
            future: Future[Any] = original(self, work, *args, **kwargs)
        future.add_done_callback(functools.partial(_drop_if_not_run, request, key))
        return future

    return submit


def _submit_to_processes(original: Callable[..., Future[Any]]) -> Callable[..., Any]:
    def submit(self: ProcessPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        request = current()
        if request is None or request.reporter is None or not handed_over_by_reader():
            return original(self, fn, *args, **kwargs)
        key = request.add(fn, "process")
        call = functools.partial(fn, *args, **kwargs)
        with _dropping(request, key):
            future: Future[Any] = original(self, InProcess(call, request.id, key, request.reporter))
        future.add_done_callback(functools.partial(_drop_if_not_run, request, key))
        return future

    return submit


def _send_task(original: Callable[..., Any]) -> Callable[..., Any]:
    def send_task(self: Any, name: str, *args: Any, **options: Any) -> Any:
        request = current()
        if request is None or not handed_over_by_reader():
            return original(self, name, *args, **options)
        shown = name_of(name).rpartition(".")[2]
        key = request.add(shown, "queue")
        headers = {**(options.pop("headers", None) or {}), TICKET: [request.id, key, shown]}
        try:
            url = told(lambda: str(self.conf.broker_write_url)) or ""
            queue = told(lambda: str(self.conf.task_default_queue)) or ""
            request.queued(key, perf_counter(), (url, queue))
            return original(self, name, *args, headers=headers, **options)
        except Exception:
            # Not its error: if the broker has it after all, a worker will still stamp its start.
            request.gone(key, perf_counter(), None)
            raise

    return send_task


def _put_in(original: Callable[..., Future[Any]]) -> Callable[..., Any]:
    def put(self: Any, delivery: Any) -> Future[Any]:
        request = current()
        future: Future[Any] = original(self, delivery)
        if request is not None:
            announce = functools.partial(_accepted, request, delivery.key, perf_counter())
            future.add_done_callback(announce)
        return future

    return put


def _accepted(request: Request, key: str, at: float, future: Future[Any]) -> None:
    """Announce a delivery once it is accepted anew: by its key, which workers know it by."""
    if not future.cancelled() and future.exception() is None and future.result().name == "ACCEPTED":
        request.added(key, "process_and_log_webhook", "queue", at)
        request.queued(key, perf_counter(), sys.modules["webhooks.queue"].broker_and_queue())


def _log(request: Request, record: logging.LogRecord) -> None:
    """Stamp what is logged on a request's behalf; logging never raises, and nor may this."""
    # Nearly always texts that are whole: to have them told takes as long as all the rest.
    if type(record) is logging.LogRecord and not record.args and not record.exc_info:
        level, logger, text = record.levelname, record.name, record.msg
        if type(text) is type(level) is type(logger) is str:
            request.logged(level, logger, text.strip()[:LONGEST_LINE])
            return
    level = told(lambda: str(record.levelname)) or "?"
    logger = told(lambda: str(record.name)) or "?"
    text = told(record.getMessage)
    if text is None:  # arguments that do not fit, or that cannot be shown
        text = f"{name_of(record.msg)} [cannot be shown]"
    text = text.strip()[:LONGEST_LINE]
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        text = f"{text} ({describe(error)[:LONGEST_LINE]})"
    request.logged(level, logger, text)


def _call_handlers(original: Callable[..., None]) -> Callable[..., None]:
    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        request = current()
        if request is not None:
            _log(request, record)
            if not self.handlers and not self.hasHandlers():
                return  # the trace has the line; stderr need not repeat it
        original(self, record)

    return call_handlers


# Where the function stands, as far as the app has brought it, and its hook.
_HOOKS: list[tuple[str, str, str, Hook]] = [
    ("starlette.background", "BackgroundTask", "__init__", _init_background_task),
    ("starlette.background", "BackgroundTask", "__call__", _call_background_task),
    ("litestar.background_tasks", "BackgroundTask", "__call__", call_litestar_task),
    ("quart", "Quart", "add_background_task", add_quart_task),
    ("threading", "Thread", "start", _start_thread),
    ("anyio.to_thread", "", "run_sync", _run_sync),
    ("concurrent.futures", "ThreadPoolExecutor", "submit", _submit_to_threads),
    ("concurrent.futures", "ProcessPoolExecutor", "submit", _submit_to_processes),
    ("celery", "Celery", "send_task", _send_task),
    ("webhooks.intake", "Intake", "put", _put_in),
    ("logging", "Logger", "callHandlers", _call_handlers),
]
_watchers = 0
_watchers_lock = threading.Lock()
_hooked: dict[tuple[Any, str], Any] = {}


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """Have the hooks in place; they are taken off when the last server that needs them ends."""
    global _watchers
    with _watchers_lock:
        _watchers += 1
        _hook()
    try:
        yield
    finally:
        with _watchers_lock:
            _watchers -= 1
            if _watchers == 0:
                _unhook()


def _hook() -> None:
    hook_loops()
    with contextlib.suppress(ImportError):
        # A framework may import it as late as with its first call to a thread.
        importlib.import_module("anyio.to_thread")
    for owner, name, hook in places():
        if (owner, name) not in _hooked:
            original = getattr(owner, name)
            setattr(owner, name, functools.wraps(original)(hook(original)))
            _hooked[owner, name] = original


def places() -> Iterator[tuple[Any, str, Hook]]:
    """What can be hooked in this process: the owner of each function, its name, and its hook."""
    for module, owner, name, hook in _HOOKS:
        if module in sys.modules:
            found = sys.modules[module]
            yield (getattr(found, owner) if owner else found), name, hook


def _unhook() -> None:
    unhook_loops()
    unwatch_loops()
    for (owner, name), original in _hooked.items():
        setattr(owner, name, original)
    _hooked.clear()
