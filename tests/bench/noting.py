"""An app that notes its own moments: around each hand-over, and within the work itself."""

import asyncio
import contextlib
import multiprocessing
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from time import perf_counter
from typing import Any

import anyio
from celery import Celery
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.responses import Response

from lab.observer.asgi import Message, Receive, Scope, Send

noted: list[dict[str, float]] = []
threads = ThreadPoolExecutor(1)
celery = Celery(broker="memory://")


at_first: list[Callable[[], object]] = []  # what the pool's process does before all else


def begin(work: list[Callable[[], object]]) -> None:
    for each in work:
        each()


@contextlib.contextmanager
def pool() -> Iterator[None]:
    """Have a pool of one process; nothing is in it but what it is given."""
    global _pool
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, begin, (at_first,)) as _pool:
        yield


def in_pool() -> tuple[float, float]:
    return perf_counter(), perf_counter()


class Note(dict[str, float]):
    """What the app notes of one request: moments by name."""

    def take(self, moment: str) -> None:
        self[moment] = perf_counter()

    def work(self, name: str) -> Callable[[], None]:
        def work() -> None:
            self.take(f"{name} first")
            self.take(f"{name} last")

        work.__name__ = name
        return work

    def async_work(self, name: str) -> Callable[[], Any]:
        async def work() -> None:
            self.work(name)()

        work.__name__ = name
        return work


async def by_thread(note: Note, name: str) -> None:
    thread = threading.Thread(target=note.work(name))
    thread.start()
    thread.join()


async def by_executor(note: Note, name: str) -> None:
    await asyncio.wrap_future(threads.submit(note.work(name)))


async def by_loop(note: Note, name: str) -> None:
    await asyncio.create_task(note.async_work(name)())


async def by_anyio(note: Note, name: str) -> None:
    await anyio.to_thread.run_sync(note.work(name))


async def by_pool(note: Note, name: str) -> None:
    note["in_pool first"], note["in_pool last"] = await asyncio.wrap_future(_pool.submit(in_pool))


AT_ONCE: dict[str, Callable[[Note, str], Awaitable[None]]] = {
    "in_thread": by_thread,
    "in_executor": by_executor,
    "in_loop": by_loop,
    "in_anyio": by_anyio,
    "in_pool": by_pool,
}


async def noting(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand over work in every way, some at once, some behind the answer."""
    note = Note()
    note.take("entered")
    noted.append(note)

    async def noted_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            note.take("sending")
        await send(message)
        note.take("sent")

    for name, hand_over in AT_ONCE.items():
        note.take(f"{name} called")
        await hand_over(note, name)
        note.take(f"{name} over")
    note.take("to_queue called")
    celery.send_task("to_queue")
    note.take("to_queue left")
    behind = []
    for name, work in (("def_task", note.work), ("async_task", note.async_work)):
        note.take(f"{name} called")
        behind.append(BackgroundTask(work(name)))
        note.take(f"{name} left")
    # With a body: the head of an empty answer would be all of it, and what ends it.
    await Response("{}", background=BackgroundTasks(behind))(scope, receive, noted_send)
    note.take("leaving")
    asyncio.get_running_loop().call_soon(note.take, "left")
