"""What the reader's code hands over is seen; what a framework starts for itself is not."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, UploadFile
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lab import serve
from lab.servers.web import Web

Serving = Callable[..., Web]


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


class Worker(threading.Thread):
    def run(self) -> None:
        pass


def background(func: Any) -> Callable[[], Any]:
    async def leave() -> BackgroundTask:
        return BackgroundTask(func)

    return leave


def called(func: Callable[[], Any]) -> Callable[[], Any]:
    async def leave() -> Any:
        return func()

    return leave


async def awaited(made: Any) -> None:
    await made


async def in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(nothing_async())


async def in_anyio_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(nothing_async)


async def by_loop() -> None:
    await asyncio.get_running_loop().create_task(nothing_async())


async def by_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, nothing)


async def under_a_factory() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    try:
        await asyncio.create_task(nothing_async())
    finally:
        loop.set_task_factory(None)


async def eagerly() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    try:
        await asyncio.create_task(nothing_async())
    finally:
        loop.set_task_factory(None)


Kind = tuple[Callable[[], Any], str, str, str]
KINDS: dict[str, Kind] = {
    "def": (background(nothing), "background", "nothing", "thread"),
    "async": (background(nothing_async), "background", "nothing_async", "loop"),
    "partial": (background(partial(nothing)), "background", "nothing", "thread"),
    "library": (background(partial(time.sleep, 0)), "background", "sleep", "thread"),
    "thread": (
        called(lambda: threading.Thread(target=nothing).start()), "thread", "nothing", "thread"),
    "subclass": (called(lambda: Worker().start()), "thread", "Worker", "thread"),
    "timer": (called(lambda: threading.Timer(0, nothing).start()), "thread", "nothing", "thread"),
    "create_task": (
        lambda: awaited(asyncio.create_task(nothing_async())),
        "create_task", "nothing_async", "loop"),
    "somebody's coroutine": (
        lambda: awaited(asyncio.create_task(asyncio.sleep(0))), "create_task", "sleep", "loop"),
    "loop.create_task": (by_loop, "create_task", "nothing_async", "loop"),
    "ensure_future": (
        lambda: awaited(asyncio.ensure_future(nothing_async())),
        "create_task", "nothing_async", "loop"),
    "gather": (
        lambda: awaited(asyncio.gather(nothing_async())), "create_task", "nothing_async", "loop"),
    "TaskGroup": (in_group, "create_task", "nothing_async", "loop"),
    "anyio": (in_anyio_group, "create_task", "nothing_async", "loop"),
    "own factory": (under_a_factory, "create_task", "nothing_async", "loop"),
    "to_thread": (
        lambda: awaited(asyncio.to_thread(partial(nothing))), "executor", "nothing", "thread"),
    "to_thread in a task": (
        lambda: awaited(asyncio.ensure_future(asyncio.to_thread(nothing))),
        "create_task", "nothing", "loop"),
    "run_in_executor": (by_executor, "executor", "nothing", "thread"),
    "run_in_threadpool": (
        lambda: awaited(run_in_threadpool(nothing)), "executor", "nothing", "thread"),
}  # fmt: skip
if sys.version_info >= (3, 12):
    KINDS["eager"] = (eagerly, "create_task", "nothing_async", "loop")
else:
    KINDS["wait_for"] = (
        lambda: awaited(asyncio.wait_for(nothing_async(), 5)),
        "create_task", "nothing_async", "loop",
    )  # fmt: skip


@pytest.mark.parametrize("on", ["thread", "process"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_way_of_leaving_work_behind_is_seen_where_it_runs(
    kind: str, on: str, servers: dict[str, Web]
) -> None:
    _, runner, name, where = KINDS[kind]
    trace = servers[on].get(f"/{kind}").wait(5)
    (task,) = trace.tasks
    assert (task.runner, task.name, task.state) == (runner, name, "finished")
    assert task.where is not None
    assert task.where.partition(" ")[0] == where
    assert task.added is not None
    assert task.started is not None
    assert task.finished is not None
    assert task.added <= task.started <= task.finished


async def every_kind(request: Request) -> Response:
    left = await KINDS[request.path_params["kind"]][0]()
    return Response(background=left if isinstance(left, BackgroundTask) else None)


kinds_app = Starlette(routes=[Route("/{kind}", every_kind)])


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Web]]:
    with serve(kinds_app) as near, serve(kinds_app, on="process") as far:
        yield {"thread": near, "process": far}


FRAMEWORKS_OWN = FastAPI()
FRAMEWORKS_OWN.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, go_on: go_on(request))


def a_dependency() -> Iterator[int]:
    yield 3


@FRAMEWORKS_OWN.post("/")
def a_def_endpoint(
    tasks: BackgroundTasks, file: UploadFile, number: Annotated[int, Depends(a_dependency)]
) -> StreamingResponse:
    tasks.add_task(nothing)
    return StreamingResponse(iter([file.file.read()]), background=tasks)


def test_what_a_framework_starts_for_itself_is_not_seen(serving: Serving) -> None:
    web = serving(FRAMEWORKS_OWN)
    trace = web.post("/", files={"file": b"x" * 3_000_000}).wait(10)
    assert trace.status == 200
    assert [task.name for task in trace.tasks] == ["nothing"]


@pytest.mark.parametrize("on", ["thread", "process"])
def test_the_apps_own_package_is_the_readers_wherever_it_is_installed(
    serving: Serving, on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / f"installed_on_{on}"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("""
import threading

async def app(scope, receive, send):
    threading.Thread(target=int).start()
    await send({"type": "http.response.start", "status": 202})
    await send({"type": "http.response.body", "body": b""})
""")
    monkeypatch.syspath_prepend(package.parent)
    web = serving(f"{package.name}:app", on=on, lifespan="off")
    assert [task.runner for task in web.post("/").wait(10).tasks] == ["thread"]
