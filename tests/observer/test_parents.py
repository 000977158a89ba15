"""Work that work hands over is known by its parent; what the app's own call hands over has none."""

import asyncio
import contextvars
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from celery import Celery
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

from lab.observer.hooks import hooked
from lab.observer.requests import Request, current
from lab.servers.web import Web
from lab.traces import Ledger, Trace, until

from .test_hooks import call, watched

Serving = Callable[..., Web]
celery = Celery(broker="memory://")


def leaf() -> None:
    pass


async def async_leaf() -> None:
    pass


def starts_a_thread() -> None:
    thread = threading.Thread(target=leaf)
    thread.start()
    thread.join()


def submits() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(leaf).result()


def sends() -> None:
    celery.send_task("leaf")


async def makes_a_task() -> None:
    await asyncio.create_task(async_leaf())


async def gives_to_a_thread() -> None:
    await asyncio.to_thread(leaf)
    await run_in_threadpool(leaf)


async def makes_a_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(makes_a_task)
        group.start_soon(async_leaf)


def thread_of_a_thread() -> None:
    thread = threading.Thread(target=starts_a_thread)
    thread.start()
    thread.join()


async def all_at_once() -> None:
    """Work of the app's own call, one after another and each with work of its own."""
    await asyncio.create_task(makes_a_task())
    await anyio.to_thread.run_sync(starts_a_thread)
    with ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(starts_a_thread))
    threading.Thread(target=leaf).start()


Pairs = list[tuple[str, str | None]]

# What the app's call does, what is to run behind its answer, and each task with its parent.
HANDED: dict[str, tuple[Any, list[Any], Pairs]] = {
    "thread": (None, [starts_a_thread], [("starts_a_thread", None), ("leaf", "starts_a_thread")]),
    "executor": (None, [submits], [("submits", None), ("leaf", "submits")]),
    "task": (None, [makes_a_task], [("makes_a_task", None), ("async_leaf", "makes_a_task")]),
    "in threads": (None, [gives_to_a_thread], [
        ("gives_to_a_thread", None), ("leaf", "gives_to_a_thread"), ("leaf", "gives_to_a_thread")]),
    "grandchild": (None, [thread_of_a_thread], [
        ("thread_of_a_thread", None), ("starts_a_thread", "thread_of_a_thread"),
        ("leaf", "starts_a_thread")]),
    "group": (None, [makes_a_group], [
        ("makes_a_group", None), ("makes_a_task", "makes_a_group"), ("async_leaf", "makes_a_group"),
        ("async_leaf", "makes_a_task")]),
    "one after another": (None, [starts_a_thread, makes_a_task], [
        ("starts_a_thread", None), ("makes_a_task", None), ("leaf", "starts_a_thread"),
        ("async_leaf", "makes_a_task")]),
    "at once": (all_at_once, [], [
        ("makes_a_task", None), ("async_leaf", "makes_a_task"),
        ("starts_a_thread", None), ("leaf", "starts_a_thread"),
        ("starts_a_thread", None), ("leaf", "starts_a_thread"), ("leaf", None)]),
    "queue": (None, [sends], [("sends", None), ("leaf", "sends")]),
}  # fmt: skip


async def hand_over(request: Asked) -> Response:
    at_once, behind, _ = HANDED[request.path_params["kind"]]
    if at_once:
        await at_once()
    return Response(background=BackgroundTasks([BackgroundTask(func) for func in behind]))


app = Starlette(routes=[Route("/{kind}", hand_over)])


def pairs(trace: Trace) -> Pairs:
    return [(task.name, task.parent and task.parent.name) for task in trace.tasks]


@pytest.mark.parametrize("on", ["thread", "process"])
def test_work_that_work_hands_over_has_it_as_its_parent(on: str, serving: Serving) -> None:
    web = serving("tests.observer.test_parents:app", on=on)
    for kind, (_, _, wanted) in HANDED.items():
        trace = web.get(f"/{kind}")
        # Nobody takes what is sent to the queue.
        assert until(
            lambda trace=trace: trace.returned and not any(  # type: ignore[misc]
                task.open for task in trace.tasks if task.runner != "queue"),
            20,
        )  # fmt: skip
        assert (kind, pairs(trace)) == (kind, wanted)


async def in_a_fork(asked: Asked) -> Response:
    """Its process is a copy of the server's, made for the first request that needs it."""
    if not hasattr(asked.app.state, "pool"):
        asked.app.state.pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    await asyncio.wrap_future(asked.app.state.pool.submit(starts_a_thread))
    return Response()


forking_app = Starlette(routes=[Route("/", in_a_fork)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_work_in_a_pools_process_is_that_of_its_own_request(serving: Serving) -> None:
    web = serving("tests.observer.test_parents:forking_app", on="process")
    for _ in range(2):
        trace = web.get("/")
        assert until(lambda trace=trace: len(trace.tasks) == 2, 20)  # type: ignore[misc]
        assert pairs(trace.wait(20)) == [("starts_a_thread", None), ("leaf", "starts_a_thread")]


def test_a_context_of_the_apps_own_is_left_as_it_is() -> None:
    own = contextvars.copy_context()
    before = dict(own)

    async def endpoint(request: Asked) -> Response:
        await asyncio.get_running_loop().create_task(async_leaf(), context=own)
        return Response()

    app, ledger = watched(Starlette(routes=[Route("/", endpoint)]))
    with hooked():
        asyncio.run(call(app))
    assert [task.name for task in ledger.traces.tasks] == ["async_leaf"]
    assert dict(own) == before


def test_work_that_is_closed_in_another_context_is_left_quietly() -> None:
    def work() -> Iterator[None]:
        with request.within("key"):
            yield

    request = Request("1", Ledger().note)
    before = current()
    half_done = work()
    contextvars.copy_context().run(next, half_done)
    half_done.close()
    assert current() is before
