"""Servers start, are replaced, drain and end; nothing outlives them."""

import asyncio
import gc
import inspect
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import BackgroundTasks, FastAPI

from lab.observer import hooks
from lab.observer.protocol import TRACE_HEADER
from lab.servers import in_process, in_thread
from lab.servers.web import Web, serve
from lab.traces import Traces

from ..waiting import alive, listens, until

Serving = Callable[..., Web]
PLACES = ["thread", "process"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def app_with(func: Callable[[], object]) -> FastAPI:
    app = FastAPI()

    @app.post("/", status_code=202)
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(func)

    return app


def nap() -> None:
    time.sleep(0.3)


@pytest.mark.parametrize("on", PLACES)
def test_stopping_waits_for_the_work_and_then_refuses(serving: Serving, on: str) -> None:
    web = serving(app_with(nap), on=on)
    port = int(web.url.rpartition(":")[2])
    trace = web.post("/")
    web.stop()
    assert [task.state for task in trace.tasks] == ["finished"]
    assert not listens(port)
    with pytest.raises(RuntimeError, match=r"ended; start one with serve\(app\)"):
        web.post("/")
    web.stop()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test there are the threads, children and hooks of before, and no more."""

    def there() -> tuple[set[object], list[object], list[object]]:
        return set(threading.enumerate()), psutil.Process().children(), [*hooks._hooked]

    before = there()
    yield
    until(lambda: there() == before)


@pytest.mark.slow
@pytest.mark.parametrize("on", PLACES)
def test_rebinding_the_name_replaces_the_server(on: str, nothing_left: None) -> None:
    web = serve(app_with(nap), on=on)
    port, trace = int(web.url.rpartition(":")[2]), web.post("/")
    web = serve(app_with(nap), on=on)
    gc.collect()
    until(lambda: not listens(port))
    assert [task.state for task in trace.wait(10).tasks] == ["finished"]
    assert web.post("/").wait(10).status == 202
    web.stop()


@pytest.mark.slow
@pytest.mark.parametrize("on", PLACES)
def test_nothing_is_left_of_a_server(on: str, nothing_left: None) -> None:
    with serve(app_with(nap), on=on) as web:
        web.post("/").wait(5)
    assert web.exit_code == (0 if on == "process" else None)


def test_stopping_in_vain_names_the_work(serving: Serving, gate: threading.Event) -> None:
    web = serving(app_with(gate.wait))
    trace = web.post("/")
    with pytest.raises(TimeoutError, match=r"0\.1 s: POST / \(202\): wait \(running on thread \d+"):
        web.stop(timeout=0.1)
    gate.set()
    assert [task.state for task in trace.wait(5).tasks] == ["finished"]


@posix
def test_a_server_has_not_ended_because_a_wait_for_it_was_interrupted(
    serving: Serving, gate: threading.Event
) -> None:
    web = serving(app_with(gate.wait))
    web.post("/")
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        web.stop()
    assert not web.ended
    with pytest.raises(TimeoutError, match="has not ended"):
        web.join(timeout=0.1)
    gate.set()
    web.join()
    assert web.ended


@asynccontextmanager
async def no_database(app: FastAPI) -> AsyncIterator[None]:
    raise ValueError("no database")
    yield


@pytest.mark.parametrize("on", PLACES)
def test_an_app_that_does_not_start_says_why(
    on: str, nothing_left: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="the app did not start: ValueError: no database"):
        serve(FastAPI(lifespan=no_database), on=on)


@asynccontextmanager
async def database_away(app: FastAPI) -> AsyncIterator[None]:
    await asyncio.sleep(600)
    yield


@pytest.mark.parametrize("on", PLACES)
def test_an_app_that_is_not_ready_in_time_is_given_up(
    on: str, nothing_left: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (in_process, in_thread):
        monkeypatch.setattr(module, "START_TIMEOUT", 2)
    with pytest.raises(RuntimeError, match="not ready after 2 s"):
        serve(FastAPI(lifespan=database_away), on=on)


@pytest.mark.parametrize("on", PLACES)
def test_a_server_whose_floor_cannot_be_measured_ends(
    on: str, nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(web: Web) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Web, "_measure_floor", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        serve(app_with(nap), on=on)
    # As a notebook does, the traceback keeps the frame in which the server was started.
    until(lambda: not [each for each in threading.enumerate() if each.name == "lab server"])
    del raised


@pytest.mark.parametrize("on", PLACES)
def test_an_import_string_that_leads_nowhere_is_named(on: str, nothing_left: None) -> None:
    for wrong, told in [
        ("nonesuch:app", '"nonesuch"'),
        ("server:nonesuch", '"nonesuch" not found'),
    ]:
        with pytest.raises(RuntimeError, match=f"the app did not start: ImportFrom.*{told}"):
            serve(wrong, on=on)


def test_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'thread', 'kernel', 'process'"):
        serve(FastAPI(), on="moon")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="needs the running loop of a notebook"):
        serve(FastAPI(), on="kernel")


def test_an_app_that_cannot_travel_names_the_way() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"%%writefile name\.py"):
        serve(app_with(lambda: lock.acquire()), on="process")


def test_an_importable_app_is_the_modules_own_and_its_state_travels(serving: Serving) -> None:
    from server import app

    before = app.state.work_seconds
    app.state.work_seconds = 0.0
    try:
        web = serving(app, on="process")
        trace = web.post("/webhook-test", json={}).wait(10)
    finally:
        app.state.work_seconds = before
    (task,) = trace.tasks
    assert task.finished is not None
    assert task.started is not None
    assert task.finished - task.started < before  # or it had slept for the default


@pytest.mark.slow
def test_work_that_a_pool_cannot_import_names_the_way(tmp_path: Path) -> None:
    program = tmp_path / "cell.py"
    program.write_text(
        textwrap.dedent("""
        from concurrent.futures import ProcessPoolExecutor
        from fastapi import FastAPI
        from lab.servers.web import serve

        def crunch():
            return 1

        app = FastAPI()

        @app.post("/")
        def endpoint():
            with ProcessPoolExecutor(1) as pool:
                try:
                    return pool.submit(crunch).result(10)
                except Exception as error:
                    return str(error)

        if __name__ == "__main__":
            with serve(app, on="process") as web:
                trace = web.post("/").wait(10)
                print(trace.body.decode(), [task.state for task in trace.tasks])
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert "crunch" in done.stdout, done.stderr
    assert "%%writefile" in done.stdout
    assert "['never ran']" in done.stdout


@posix
def test_a_signal_needs_a_process_of_its_own(serving: Serving) -> None:
    with pytest.raises(RuntimeError, match="on='process'"):
        serving(app_with(nap)).signal(signal.SIGTERM)


@pytest.mark.slow
@posix
def test_signals_wait_for_the_work_and_sigkill_loses_it(serving: Serving) -> None:
    app = app_with(nap)
    states = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        web = serving(app, on="process")
        trace = web.post("/")
        web.traces.wait_started()
        web.signal(number)
        web.join(20)
        states[number] = ([task.state for task in trace.wait(1).tasks], web.exit_code)
    assert states == {
        signal.SIGINT: (["finished"], 0),
        signal.SIGTERM: (["finished"], -signal.SIGTERM),
        signal.SIGKILL: (["lost"], -signal.SIGKILL),
    }


POOLED = """
import os
from concurrent.futures import ProcessPoolExecutor
from fastapi import FastAPI
"""


def app_with_pool() -> FastAPI:
    app = FastAPI()

    @app.post("/")
    def endpoint() -> list[int]:
        app.state.pool = ProcessPoolExecutor(2)
        return [app.state.pool.submit(os.getpid).result() for _ in range(4)]

    return app


@posix
def test_a_pool_does_not_outlive_its_killed_server(serving: Serving) -> None:
    web = serving(app_with_pool(), on="process")
    workers = [int(pid) for pid in web.post("/").body.decode().strip("[]").split(",")]
    web.signal(signal.SIGKILL)
    web.join(20)
    until(lambda: not any(map(alive, workers)))


SEMAPHORES = """
import multiprocessing
from fastapi import FastAPI

app = FastAPI()
kept = multiprocessing.get_context("spawn").Semaphore()  # which a file in memory stands for

@app.post("/")
def endpoint() -> str:
    return kept._semlock.name
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the files of Linux")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("command", [None, f"{sys.executable} -m uvicorn {{app}} --port {{port}}"])
def test_a_killed_server_leaves_nothing_in_memory(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, frozen: bool
) -> None:
    (tmp_path / "semaphores.py").write_text(SEMAPHORES)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"command": command, "cwd": tmp_path} if command else {"on": "process"}
    web = serving("semaphores:app", **options)
    name = json.loads(web.post("/").body).lstrip("/")
    left = Path("/dev/shm", f"sem.{name}")
    assert left.exists()
    if frozen:
        os.killpg(web.pid, signal.SIGSTOP)
    web.kill()
    until(lambda: not left.exists())


@pytest.mark.slow
@posix
def test_when_this_process_is_killed_nothing_of_it_is_left(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(
        textwrap.dedent("""
        import os, signal
        from lab.servers.web import serve

        if __name__ == "__main__":
            web = serve("tests_serving:pooled", on="process")
            print(web.url.rpartition(":")[2], web.pid, *eval(web.post("/").body), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    module = tmp_path / "tests_serving.py"
    module.write_text(f"{POOLED}\n{inspect.getsource(app_with_pool)}\npooled = app_with_pool()\n")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    port, *pids = map(int, done.stdout.split())
    assert len(pids) > 1
    until(lambda: not any(map(alive, pids)))
    assert not listens(port)


def test_the_readers_log_has_no_lines_of_the_labs_own_requests(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    web = serving(app_with(nap))
    web.get("/")
    assert [record for record in caplog.records if record.name == "httpx"] == []
    httpx.get(f"{web.url}/missing", trust_env=False)
    assert [record.name for record in caplog.records if record.name == "httpx"] == ["httpx"]


@pytest.mark.slow
@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_taken_port_is_named(on: str, nothing_left: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"http://127.0.0.1:{port} cannot be had: .*in use"):
            serve(app_with(nap), on=on, port=port)  # type: ignore[arg-type]


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_a_host_of_ipv6_alone_serves_there(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.servers.watched_uvicorn.loopback", lambda: "::1")
    web = serving(app_with(nap))
    assert web.url.startswith("http://[::1]:")
    assert web.post("/").wait().tasks[0].state == "finished"


@pytest.mark.parametrize("on", PLACES)
def test_no_name_that_a_stranger_gives_its_request_disturbs_the_traces(
    serving: Serving, on: str
) -> None:
    web = serving(app_with(nap), on=on)
    names = ["", "*", "None", "held", "名".encode().decode("latin-1")]
    with httpx.Client(base_url=web.url, trust_env=False) as stranger:
        for name in names:
            stranger.post("/", headers={TRACE_HEADER.encode(): name.encode("latin-1")})
    ours = web.post("/").wait(10)
    others = Traces(trace for trace in web.traces if trace is not ours)
    assert [trace.id for trace in others.wait(10)] == names
    assert {len(trace.tasks) for trace in web.traces} == {1}


def test_a_request_names_its_failed_and_lost_tasks(serving: Serving) -> None:
    def failing() -> None:
        raise ValueError("too bad")

    app = FastAPI()

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(failing)
        tasks.add_task(nap)

    trace = serving(app).post("/").wait()
    assert "failing (failed" in str(trace)
    assert "nap (never ran)" in str(trace)


def test_a_pool_that_outlives_its_server_still_tells_of_its_work(serving: Serving) -> None:
    with ProcessPoolExecutor(1) as pool:
        pool.submit(int).result()
        app = FastAPI()

        @app.post("/", status_code=202)
        async def endpoint() -> None:
            pool.submit(nap)

        web = serving(app)
        trace = web.post("/")
        web.stop()
        assert [task.state for task in trace.wait(10).tasks] == ["finished"]


def test_the_servers_process_loads_no_client() -> None:
    code = "import sys, lab.servers.process_main; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
