"""An app that is put together from parts named in its path, and tells what became of them."""

import asyncio
import gc
import inspect
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

log = logging.getLogger("generated")
log.setLevel(logging.INFO)


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Teller(logging.Handler):
    """Tells what is logged as it stands in the record: no argument is shown."""

    def __init__(self, told: list[Any]) -> None:
        super().__init__()
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        self.told.append([record.levelname, str(record.msg)[:40], kind])


TOLD: dict[str, list[Any]] = {}
OVER: dict[str, asyncio.Event] = {}
Told = list[Any]


def logs_badly(told: Told) -> None:
    log.warning("%d items", "three")
    log.warning("%s and %s", "one")
    told.append("logged badly")


def logs_what_cannot_be_shown(told: Told) -> None:
    log.warning("%s", Mute())
    log.warning(Mute)
    told.append("logged")


def logs_an_error(told: Told) -> None:
    try:
        raise Mute
    except Mute:
        log.exception("it broke")
    told.append("told")


def catches_its_own(told: Told) -> None:
    def work() -> None:
        raise Mute

    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(work).result()
        except Mute:
            told.append("caught")


def starts_a_thread(told: Told) -> None:
    thread = threading.Thread(target=told.append, args=["in a thread"])
    thread.start()
    thread.join()


def starts_a_thread_twice(told: Told) -> None:
    thread = threading.Thread(target=told.append, args=["once"])
    thread.start()
    thread.join()
    try:
        thread.start()
    except RuntimeError as error:
        told.append(str(error))


def is_in_a_cycle(told: Told) -> None:
    class Node:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            log.info("gone %s", Mute())

    Node()
    gc.collect()
    told.append("collected")


def names_itself_oddly(told: Told) -> None:
    class Odd:
        @property
        def __name__(self) -> str:
            raise LookupError

        @property
        def __module__(self) -> str:  # type: ignore[override]
            raise LookupError

        def __call__(self) -> None:
            told.append("called")

    thread = threading.Thread(target=Odd())
    thread.start()
    thread.join()


def raises(told: Told) -> None:
    raise ValueError("as it should")


def raises_mutely(told: Told) -> None:
    raise Mute


async def makes_a_task(told: Told) -> None:
    told.append(await asyncio.create_task(asyncio.sleep(0, "slept")))


async def makes_a_task_and_cancels_it(told: Told) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    told.append([type(end).__name__ for end in await asyncio.gather(task, return_exceptions=True)])


async def cancels_before_the_first_step(told: Told) -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel("enough")
    (end,) = await asyncio.gather(task, return_exceptions=True)
    told.append([type(end).__name__, task.cancelled()])


async def groups(told: Told) -> None:
    async def fail() -> None:
        raise Mute

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))
    except* Mute as caught:
        told.append(len(caught.exceptions))


async def looks_at_its_tasks(told: Told) -> None:
    async def work() -> None:
        await asyncio.sleep(60)

    coro = work()
    task = asyncio.create_task(coro, name="mine")
    await asyncio.sleep(0)
    told.append(
        f"{task.get_coro() is coro} {task in asyncio.all_tasks()} {len(task.get_stack())} "
        f"{inspect.getcoroutinestate(coro)} {task.get_name()} {type(task).__name__}"
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def sets_a_factory(told: Told) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop: Any, coro: Any, **options: Any) -> Any:
        if coro.__name__ == "sleep":  # and none of the server's
            made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        await asyncio.create_task(asyncio.sleep(0))
    finally:
        loop.set_task_factory(before)
    told.append(made)


async def lets_a_failed_task_go(told: Told) -> None:
    async def fail() -> None:
        raise ValueError("never retrieved")

    asyncio.create_task(fail())  # noqa: RUF006
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    told.append("let go")


async def uses_threads_of_the_loop(told: Told) -> None:
    loop = asyncio.get_running_loop()
    told.append(await loop.run_in_executor(None, pow, 2, 3))
    told.append(await asyncio.to_thread(pow, 2, 4))


PARTS: dict[str, Callable[[Told], Any]] = {
    each.__name__: each
    for each in (
        logs_badly, logs_what_cannot_be_shown, logs_an_error, catches_its_own, starts_a_thread,
        starts_a_thread_twice, is_in_a_cycle, names_itself_oddly, raises, raises_mutely,
        makes_a_task, makes_a_task_and_cancels_it, cancels_before_the_first_step, groups,
        looks_at_its_tasks, sets_a_factory, lets_a_failed_task_go, uses_threads_of_the_loop,
    )
}  # fmt: skip


class Log:
    """Keeps what is logged while a request is at work."""

    def __init__(self, told: Told) -> None:
        self.handlers = [(logging.getLogger(name), Teller(told)) for name in ("generated", "asyncio", "uvicorn.error")]  # fmt: skip # noqa: E501
        for logger, handler in self.handlers:
            logger.addHandler(handler)

    def close(self) -> None:
        for logger, handler in self.handlers:
            logger.removeHandler(handler)


def made(shape: Any, told: Told) -> FastAPI:
    """The app of a shape: how its endpoint is written, what stands around it, parts and tasks."""
    kind, around, parts, tasks = shape
    inner = FastAPI()

    def dependency() -> Iterator[int]:
        told.append("entered")
        yield 1
        told.append("left")

    def background(tasks_: BackgroundTasks) -> None:
        for name in tasks:
            tasks_.add_task(PARTS[name], told)

    def response() -> Response:
        if around != "streaming":
            return Response(json.dumps(parts), 202)

        async def pieces() -> AsyncIterator[bytes]:
            for name in parts:
                yield name.encode()
                await asyncio.sleep(0)

        return StreamingResponse(pieces(), 202)

    depends = [Depends(dependency)] if around == "yield" else []
    if kind == "async":

        @inner.post("/", dependencies=depends)
        async def endpoint(tasks_: BackgroundTasks) -> Response:
            background(tasks_)
            for name in parts:
                done = PARTS[name](told)
                if isinstance(done, Awaitable):
                    await done
            reply = response()
            reply.background = tasks_
            return reply
    else:

        @inner.post("/", dependencies=depends)
        def endpoint(tasks_: BackgroundTasks) -> Response:
            background(tasks_)
            for name in parts:
                if not inspect.iscoroutinefunction(PARTS[name]):
                    PARTS[name](told)
            reply = response()
            reply.background = tasks_
            return reply

    if around == "middleware":

        async def dispatch(request: Request, go_on: Any) -> Any:
            told.append("before")
            answer = await go_on(request)
            told.append("after")
            return answer

        inner.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    return inner


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/HEX` serves the shape that the hexadecimal names; `/told/HEX` tells what became of it."""
    if scope["type"] != "http":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    name = scope["path"].rpartition("/")[2]
    if scope["path"].startswith("/told/"):
        await OVER[name].wait()
        told = TOLD.pop(name)
        await Response(json.dumps(told))(scope, receive, send)
        return
    told, over = TOLD[name], OVER[name] = [], asyncio.Event()
    log_ = Log(told)
    try:
        shape = json.loads(bytes.fromhex(name))
        await made(shape, told)({**scope, "path": "/", "raw_path": b"/"}, receive, send)
    except Exception as error:
        told.append(["raised", type(error).__name__])
        raise
    finally:
        await asyncio.sleep(0)
        gc.collect()
        log_.close()
        over.set()
