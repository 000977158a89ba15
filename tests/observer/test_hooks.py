"""The observer sees each piece of work where it runs, and changes nothing."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lab.observer import hooks
from lab.observer.asgi import App, Watched
from lab.observer.hooks import hooked
from lab.servers.web import Web
from lab.traces import Ledger, Trace, Traces

Serving = Callable[..., Web]


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


def boom() -> None:
    raise ValueError("boom")


def in_place() -> list[Any]:
    return [getattr(owner, name) for owner, name, _ in hooks.places()]


async def call(app: App, path: str = "/", **scope: Any) -> list[Any]:
    """Make one request as a server would, and return what the app sends."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    plain = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app({**plain, **scope}, receive, send)
    return sent


def watched(app: App) -> tuple[Watched, Ledger]:
    ledger = Ledger()
    return Watched(app, ledger.enter), ledger


def test_work_in_pools_is_seen_and_the_pools_own_workers_are_not(serving: Serving) -> None:
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1) as processes:

        async def endpoint(request: Request) -> Response:
            futures = [threads.submit(pow, 2, 3), processes.submit(pow, 2, 5)]
            loop = asyncio.get_running_loop()
            answers = [await asyncio.wrap_future(future) for future in futures]
            return JSONResponse([*answers, await loop.run_in_executor(threads, pow, 2, 2)])

        trace = serving(Starlette(routes=[Route("/", endpoint)])).get("/").wait(20)
    assert trace.body == b"[8,32,4]"
    assert [task.runner for task in trace.tasks] == ["executor", "process", "executor"]
    assert {task.state for task in trace.tasks} == {"finished"}
    assert trace.tasks[1].where is not None
    assert trace.tasks[1].where.startswith("process ")


def in_a_pool() -> list[int]:
    with ProcessPoolExecutor(1) as pool:
        return [pool.submit(divmod, 7, 2).result()[0], pool.submit(pow, 2, exp=3).result()]


def test_a_pool_of_a_server_process_is_seen_from_here(serving: Serving) -> None:
    app = FastAPI()
    app.post("/")(in_a_pool)
    web = serving(app, on="process")
    trace = web.post("/").wait(20)
    assert trace.body == b"[3,8]"
    assert [(task.name, task.runner, task.state) for task in trace.tasks] == [
        ("divmod", "process", "finished"), ("pow", "process", "finished"),
    ]  # fmt: skip
    worker = f"process {web.pid}"
    assert all(task.where and task.where != worker for task in trace.tasks)


def test_the_pool_of_a_request_from_another_client_is_seen(serving: Serving) -> None:
    app = FastAPI()
    app.get("/")(in_a_pool)
    web = serving(app)
    assert httpx.get(web.url, trust_env=False, timeout=20).json() == [3, 8]
    (trace,) = web.traces.wait(20)
    assert [task.state for task in trace.tasks] == ["finished", "finished"]


def test_many_at_once_in_a_pool_are_each_seen_once(serving: Serving) -> None:
    with ProcessPoolExecutor(2) as pool:
        app = FastAPI()

        @app.post("/")
        async def endpoint() -> int:
            return await asyncio.wrap_future(pool.submit(abs, -1))

        traces = serving(app).burst("/", [{}] * 200).wait(20)
    assert [[task.state for task in trace.tasks] for trace in traces] == [["finished"]] * 200


def cancelled() -> None:
    with ThreadPoolExecutor(1) as pool:
        going = threading.Event()
        pool.submit(going.wait, 10)
        pool.submit(nothing).cancel()
        going.set()


def refused() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    pool.submit(nothing)


def broken() -> None:
    with ProcessPoolExecutor(1) as pool:
        worker = pool.submit(os.getpid).result()
        pool.submit(os.kill, worker, signal.SIGTERM).result()


def unfit() -> None:
    with ProcessPoolExecutor(1) as pool:
        pool.submit(nothing, lambda: None).result()  # type: ignore[call-arg]


def twice() -> None:
    thread = threading.Thread(target=nothing)
    thread.start()
    thread.start()


@pytest.mark.parametrize(
    ("func", "states"),
    [
        (cancelled, ["finished", "never ran"]),
        (refused, ["never ran"]),
        (broken, ["finished", "lost"]),
        (unfit, ["never ran"]),
        (twice, ["finished"]),
    ],
)
def test_work_that_cannot_be_done_is_not_awaited(
    serving: Serving, func: Callable[[], None], states: list[str]
) -> None:
    errors = []

    def endpoint(request: Request) -> Response:
        try:
            func()
        except Exception as error:
            errors.append(type(error).__name__)
        return Response()

    trace = serving(Starlette(routes=[Route("/", endpoint)])).get("/").wait(20)
    # A killed worker's own stamp comes over its connection, maybe after the news of its death.
    end = time.monotonic() + 10
    while [task.state for task in trace.tasks] != states and time.monotonic() < end:
        time.sleep(0.01)
    assert [task.state for task in trace.tasks] == states
    assert len(errors) == (func is not cancelled)


def test_tasks_keep_their_order_and_a_failure_skips_the_rest(serving: Serving) -> None:
    app = FastAPI()

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        for func in (nothing, nothing_async, boom, nothing):
            tasks.add_task(func)

    trace = serving(app).post("/").wait(5)
    assert [task.name for task in trace.tasks] == ["nothing", "nothing_async", "boom", "nothing"]
    assert [task.state for task in trace.tasks] == ["finished", "finished", "failed", "never ran"]
    assert trace.tasks[2].error == "ValueError: boom"
    assert trace.status == 200
    assert any("Exception in ASGI application (ValueError: boom)" in line for line in trace.log)


@pytest.mark.parametrize("error", [None, "ValueError: boom"])
def test_a_def_task_that_no_thread_pool_calls_is_seen_too(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, error: str | None
) -> None:
    async def call_here(func: Callable[..., Any], *args: Any) -> Any:
        return func(*args)

    monkeypatch.setattr("starlette.background.run_in_threadpool", call_here)
    task = BackgroundTask(boom if error else nothing)
    routes = [Route("/", lambda request: Response(background=task))]
    (seen,) = serving(Starlette(routes=routes)).get("/").wait(5).tasks
    assert (seen.state, seen.error) == ("failed" if error else "finished", error)


def test_tasks_that_an_error_drops_are_seen_as_never_run(serving: Serving) -> None:
    app = FastAPI()

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(nothing)
        raise HTTPException(400)

    trace = serving(app).post("/").wait(5)
    assert (trace.status, [task.state for task in trace.tasks]) == (400, ["never ran"])


LEAVING: dict[str, Callable[[Callable[[], None]], Any]] = {
    "background": BackgroundTask,
    "thread": lambda func: threading.Thread(target=func).start(),
    "executor": lambda func: asyncio.get_running_loop().run_in_executor(None, func),
    "create_task": lambda func: asyncio.create_task(asyncio.to_thread(func)),
}


@pytest.mark.parametrize("way", LEAVING)
def test_log_lines_of_work_stand_on_its_request_whichever_way_it_left(
    serving: Serving, way: str
) -> None:
    def work() -> None:
        logging.getLogger("work").warning("at it")

    async def endpoint(request: Request) -> Response:
        left = LEAVING[way](work)
        return Response(background=left if isinstance(left, BackgroundTask) else None)

    web = serving(Starlette(routes=[Route("/", endpoint)]))
    traces = Traces(web.get("/") for _ in range(2)).wait(5)
    assert [trace.log for trace in traces] == [["WARNING work: at it"]] * 2


def test_a_log_record_whose_names_cannot_be_told_is_logged_as_ever(serving: Serving) -> None:
    class Nameless:
        def __str__(self) -> str:
            raise RuntimeError

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append(record)

    log, name = logging.Logger("its own"), Nameless()
    log.addHandler(Kept())
    handled: list[logging.LogRecord] = []

    async def endpoint(request: Request) -> Response:
        record = logging.LogRecord(name, logging.INFO, "", 1, "at it", (), None)  # type: ignore[arg-type]
        record.levelname = name  # type: ignore[assignment]
        log.handle(record)
        return Response()

    trace = serving(Starlette(routes=[Route("/", endpoint)])).get("/").wait(5)
    assert (trace.status, trace.log, len(handled)) == (200, ["? ?: at it"], 1)


def test_log_lines_stand_on_their_own_request(serving: Serving, gate: threading.Event) -> None:
    app = FastAPI()
    both = threading.Barrier(2)

    def log(name: str) -> None:
        both.wait(5)
        logging.getLogger("test").warning("by %s", name)

    @app.post("/{name}")
    async def endpoint(name: str, tasks: BackgroundTasks) -> None:
        tasks.add_task(log, name)

    web = serving(app)
    traces = [web.post("/one"), web.post("/two")]
    lines = [[line for line in trace.wait(5).log if "by " in line] for trace in traces]
    assert lines == [["WARNING test: by one"], ["WARNING test: by two"]]


def test_the_header_that_ties_a_request_to_its_trace_never_reaches_the_app(
    serving: Serving,
) -> None:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(request.headers.keys())

    trace = serving(Starlette(routes=[Route("/", endpoint)])).get("/", headers={"x-own": "1"})
    assert b"x-own" in trace.body
    assert b"x-lab" not in trace.body


def test_middleware_streams_and_lifespans_work_as_ever(serving: Serving) -> None:
    seen = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
        seen.append("up")
        yield {"number": 7}
        seen.append("down")

    async def stream() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def endpoint(request: Request) -> Response:
        assert request.state.number == 7
        return StreamingResponse(stream(), background=BackgroundTask(nothing))

    async def passing(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response

    app = Starlette(routes=[Route("/", endpoint)], lifespan=lifespan)
    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    web = serving(app)
    trace = web.get("/").wait(5)
    assert (trace.body, trace.headers["x-passed"]) == (b"ab", "yes")
    assert [task.state for task in trace.tasks] == ["finished"]
    web.stop()
    assert seen == ["up", "down"]


def test_websockets_pass_untouched() -> None:
    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    app, ledger = watched(Starlette(routes=[WebSocketRoute("/", endpoint)]))
    inbox = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(inbox)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"",
             "root_path": "", "subprotocols": []}  # fmt: skip
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == [
        "websocket.accept", "websocket.send", "websocket.close",
    ]  # fmt: skip
    assert ledger.traces == []


variable: ContextVar[str] = ContextVar("variable", default="unset")


def behaviour(app: App) -> Any:
    """All that an app lets be seen of one request, and what its tasks saw."""

    async def main() -> Any:
        try:
            sent = await call(app)
            return sent, variable.get(), {var.name for var in copy_context()}
        except Exception as error:
            return type(error), str(error), variable.get()

    return asyncio.run(main())


def app_that_tells(seen: list[Any], fail: str) -> App:
    def sync_task() -> None:
        seen.append(("sync", variable.get(), threading.current_thread() is threading.main_thread()))

    async def async_task(*, value: int) -> None:
        seen.append(("async", variable.get(), value))
        variable.set("changed by the task")

    async def cancelled() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def endpoint(request: Request) -> Response:
        variable.set("set by the endpoint")
        running = asyncio.create_task(cancelled(), name="long")
        await asyncio.sleep(0)
        running.cancel()
        unstarted = asyncio.create_task(nothing_async())
        unstarted.cancel()
        results = await asyncio.gather(running, unstarted, return_exceptions=True)
        seen.append([type(result).__name__ for result in results])
        threads = [asyncio.to_thread(func) for func in (boom, variable.get)]
        seen.append([repr(end) for end in await asyncio.gather(*threads, return_exceptions=True)])
        seen.append((running.get_name(), await asyncio.create_task(asyncio.sleep(0, "value"))))
        tasks = BackgroundTasks()
        tasks.add_task(sync_task)
        tasks.add_task(async_task, value=3)
        if fail == "endpoint":
            raise KeyError("endpoint")
        if fail == "task":
            tasks.add_task(boom)
        tasks.add_task(lambda: seen.append(("last", variable.get())))
        return JSONResponse({"a": 1}, 202, {"x-own": "1"}, background=tasks)

    return Starlette(routes=[Route("/", endpoint)])


@pytest.mark.parametrize("fail", ["nowhere", "task", "endpoint"])
def test_watching_changes_nothing(fail: str) -> None:
    alone: list[Any] = []
    plain = behaviour(app_that_tells(alone, fail))
    observed: list[Any] = []
    with hooked():
        app, ledger = watched(app_that_tells(observed, fail))
        assert behaviour(app) == plain
    assert observed == alone
    assert "cancelled" in observed
    (trace,) = ledger.traces
    assert [(task.name, task.state) for task in trace.tasks if task.runner == "create_task"] == [
        ("cancelled", "cancelled"), ("nothing_async", "never ran"), ("boom", "failed"),
        ("get", "finished"), ("sleep", "finished"),
    ]  # fmt: skip


async def cancelled_call(app: App, begun: asyncio.Event) -> Any:
    calling = asyncio.create_task(call(app))
    await begun.wait()
    calling.cancel("enough")
    return await asyncio.gather(calling, return_exceptions=True)


@pytest.mark.parametrize("watch", [False, True])
def test_a_cancelled_call_is_cancelled_with_its_task(watch: bool) -> None:
    seen: list[str] = []

    async def main() -> Ledger:
        begun = asyncio.Event()

        async def task() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                seen.append(str(error))
                raise

        async def endpoint(request: Request) -> Response:
            tasks = BackgroundTasks()
            tasks.add_task(task)
            tasks.add_task(seen.append, "not after a cancelled one")
            return Response(background=tasks)

        plain = Starlette(routes=[Route("/", endpoint)])
        app, ledger = watched(plain)
        (end,) = await cancelled_call(app if watch else plain, begun)
        assert isinstance(end, asyncio.CancelledError)
        await asyncio.sleep(0)
        return ledger

    if watch:
        with hooked():
            ledger = asyncio.run(main())
        assert [task.state for task in ledger.traces.tasks] == ["cancelled", "never ran"]
        assert ledger.traces[0].settled
    else:
        asyncio.run(main())
    assert seen == ["enough"]


@contextmanager
def unwatched(app: App) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, loop="asyncio"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def spoken(port: int, request: bytes) -> bytes:
    """All that a server says to these bytes, without the date."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    return re.sub(rb"date: [^\r]+\r\n", b"", said)


def test_responses_are_the_same_byte_for_byte(serving: Serving) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def endpoint(request: Request) -> Response:
        match request.url.path:
            case "/json":
                headers = {"x-own": "1", "x-body": (await request.body()).hex()}
                return JSONResponse({"a": [1]}, 201, headers, background=BackgroundTask(nothing))
            case "/stream":
                return StreamingResponse(stream())
            case "/task":
                return Response(b"x", background=BackgroundTask(boom))
            case _:
                raise ValueError("endpoint")

    methods = ["GET", "HEAD", "POST"]
    app = Starlette(routes=[Route("/{path}", endpoint, methods=methods)])
    closing = b"HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n"
    requests = [
        b"POST /json " + closing + b"content-length: 2\r\n\r\n{}",
        b"POST /json " + closing + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        *(method + closing + b"\r\n" for method in [b"GET /stream ", b"HEAD /json ", b"GET / "]),
        *(method + closing + b"\r\n" for method in [b"GET /raise ", b"GET /task ", b"PUT /json "]),
        b"GET /stream HTTP/1.0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ]
    with unwatched(app) as port:
        alone = [spoken(port, request) for request in requests]
    port = int(serving(app).url.rpartition(":")[2])
    assert [spoken(port, request) for request in requests] == alone
    statuses = [said.split()[1] for said in alone]
    assert statuses == [
        b"201",
        b"201",
        b"200",
        b"201",
        b"404",
        b"500",
        b"200",
        b"405",
        b"200",
        b"400",
    ]


def test_the_hooks_are_taken_off_when_the_last_server_has_ended(serving: Serving) -> None:
    before = in_place()
    one, two = serving(Starlette()), serving(Starlette())
    assert in_place() != before
    one.stop()
    assert in_place() != before
    two.stop()
    assert in_place() == before


def test_work_handed_to_a_library_that_is_imported_late_is_seen() -> None:
    """In a process of its own: here pytest has had AnyIO loaded."""
    program = """
import asyncio, sys
from lab.observer.asgi import Watched
from lab.observer.hooks import hooked
from lab.traces import Ledger

async def app(scope, receive, send):
    from starlette.concurrency import run_in_threadpool
    await run_in_threadpool(int)

ledger = Ledger()
assert "anyio" not in sys.modules
with hooked():
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Watched(app, ledger.enter)(scope, None, None))
assert [task.name for task in ledger.traces.tasks] == ["int"]
from anyio import to_thread
assert not hasattr(to_thread.run_sync, "__wrapped__")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def in_order(trace: Trace) -> bool:
    (task,) = trace.tasks
    assert trace.responded is not None
    assert task.started is not None
    return trace.responded < task.started


@pytest.mark.parametrize("on", ["thread", "process"])
def test_the_answer_is_there_before_the_work_can_end(serving: Serving, on: str) -> None:
    """The work waits for a second request, which the client sends only when it is answered."""
    app = FastAPI()
    app.state.told = False

    def wait_to_be_told() -> None:
        for _ in range(1000):
            if app.state.told:
                return
            time.sleep(0.01)
        raise TimeoutError("nobody had the answer before the work ended")

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(wait_to_be_told)

    @app.post("/tell")
    async def tell() -> None:
        app.state.told = True

    web = serving(app, on=on)
    trace = web.post("/")
    web.post("/tell")
    trace.wait(20)
    assert [task.state for task in trace.tasks] == ["finished"]
    assert in_order(trace)


@pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
@pytest.mark.parametrize("client", ["httpx", "starlette"])
def test_in_memory_clients_hide_that_the_answer_comes_first(client: str) -> None:
    """The control: here the client is answered only when the work is over, told or not."""
    told, outcomes = threading.Event(), []
    app = FastAPI()

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: outcomes.append(told.wait(0.2)))

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:
            await client.post("/")
            told.set()

    if client == "httpx":
        asyncio.run(main())
    else:
        from starlette.testclient import TestClient

        TestClient(app).post("/")
        told.set()
    assert outcomes == [False]


def test_a_thread_started_in_the_handler_breaks_the_order(serving: Serving) -> None:
    """The control: the trace shows it when work does begin before the answer."""
    app = FastAPI()

    @app.post("/")
    def endpoint() -> None:
        begun = threading.Event()
        threading.Thread(target=begun.set).start()
        begun.wait(5)

    assert not in_order(serving(app).post("/").wait(5))
