"""In a real kernel: queued cells, interrupts, restarts, and a kernel that is killed."""

import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import KernelManager

from lab.lessons.kernels import own_sockets

from ..waiting import listens, until

pytestmark = pytest.mark.slow

APP = """
import asyncio, threading, time
from fastapi import BackgroundTasks, FastAPI
from lab import serve
app = FastAPI()

@app.post("/", status_code=202)
async def endpoint(tasks: BackgroundTasks):
    tasks.add_task(time.sleep, 0.05)
    tasks.add_task(asyncio.sleep, 0.05)

def listening(web):
    return int(web.url.rpartition(":")[2])
"""


class Kernel:
    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.connect()

    def connect(self) -> None:
        self.client: Any = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def start(self, *cells: str) -> list[str]:
        """Queue all cells at once, as Run All does."""
        return [self.client.execute(cell) for cell in cells]

    def outcome(self, started: list[str]) -> list[str]:
        """What each queued cell printed, or the name of its error; `not run` if it was lost."""
        printed: dict[str, str] = dict.fromkeys(started, "")
        done: set[str] = set()
        end = time.monotonic() + 60
        while not done.issuperset(started) and time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            cell, content = message["parent_header"].get("msg_id"), message["content"]
            if cell not in printed:
                continue
            if message["msg_type"] == "stream":
                printed[cell] += content["text"]
            elif message["msg_type"] == "error":
                printed[cell] += content["ename"]
            elif content.get("execution_state") == "idle":
                done.add(cell)
        return [printed[cell].strip() if cell in done else "not run" for cell in started]

    def run(self, *cells: str) -> list[str]:
        return self.outcome(self.start(*cells))


@contextmanager
def kernel_in(folder: Path) -> Iterator[Kernel]:
    with own_sockets() as config:
        manager = KernelManager(kernel_name="python3", config=config)
        manager.start_kernel(cwd=str(folder))
        kernel = Kernel(manager)
        try:
            yield kernel
        finally:
            kernel.client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.context.destroy()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with kernel_in(tmp_path) as kernel:
        yield kernel


@pytest.mark.parametrize("on", ["thread", "kernel", "process"])
def test_cells_queued_at_once_all_run(kernel: Kernel, on: str) -> None:
    outcome = kernel.run(
        APP,
        f"web = serve(app, on={on!r})",
        "trace = web.post('/')",
        "print([task.state for task in trace.wait(10).tasks])",
        "print(len(web.burst('/', [{}] * 5, rate=50).wait(10)))",
        "await asyncio.sleep(0.01); print('awaited')",
        "web = serve(app, on='thread'); print(web.post('/').status)",
        "print('last')",
    )
    assert outcome == ["", "", "", "['finished', 'finished']", "5", "awaited", "202", "last"]


@pytest.mark.parametrize(
    ("on", "cell"),
    [
        ("thread", "time.sleep(60)"),
        ("thread", "trace.wait(60)"),
        ("thread", "web.burst('/', [{}] * 600, rate=10)"),
        ("process", "time.sleep(60)"),
    ],
)
def test_an_interrupted_cell_leaves_the_server_as_it_was(
    kernel: Kernel, on: str, cell: str
) -> None:
    kernel.run(
        APP,
        "@app.post('/stuck')\n"
        "async def stuck(tasks: BackgroundTasks): tasks.add_task(asyncio.sleep, 60)",
        f"web = serve(app, on={on!r}); trace = web.post('/stuck')",
    )
    started = kernel.start(f"print('here', flush=True); {cell}")
    while True:
        message = kernel.client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "stream":
            break
    kernel.manager.interrupt_kernel()
    assert kernel.outcome(started)[0].endswith("KeyboardInterrupt")
    assert kernel.run("print(web.post('/').wait(10).status)") == ["202"]


HANGING = """
import asyncio, pathlib
from contextlib import asynccontextmanager
from fastapi import FastAPI

@asynccontextmanager
async def lifespan(app):
    pathlib.Path("starting").touch()
    try:
        await asyncio.sleep(600)
    finally:
        pathlib.Path("ended").touch()
    yield

app = FastAPI(lifespan=lifespan)
"""
LEFT = """
import asyncio, threading, time
import psutil
from lab import serve

def left():
    threads = {each.name for each in threading.enumerate() if each.name.startswith("lab")}
    tasks = {each.get_coro().__qualname__ for each in asyncio.all_tasks()}
    children = {str(each.cmdline()) for each in psutil.Process().children(recursive=True)}
    return threads | tasks | children
"""


@pytest.mark.parametrize("on", ["thread", "kernel", "process", "command"])
def test_a_start_that_is_interrupted_leaves_nothing_behind(
    kernel: Kernel, on: str, tmp_path: Path
) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    kernel.run(LEFT, "await asyncio.sleep(0); before = left()")
    command = f"{sys.executable} -m uvicorn {{app}} --port {{port}}"
    how = f"command={command!r}" if on == "command" else f"on={on!r}"
    started = kernel.start(f"serve('hanging:app', {how})")
    until((tmp_path / "starting").exists)
    kernel.manager.interrupt_kernel()
    assert kernel.outcome(started)[0].endswith("KeyboardInterrupt")
    assert kernel.run(
        "end = time.monotonic() + 10\n"
        "while left() - before and time.monotonic() < end:\n"
        "    await asyncio.sleep(0.01)\n"
        "print(left() - before)"
    ) == ["set()"]
    if on in ("thread", "kernel"):  # a process is killed
        assert (tmp_path / "ended").exists()


def test_waiting_for_work_without_end_raises_and_the_next_cell_runs(kernel: Kernel) -> None:
    outcome = kernel.run(
        APP,
        "gate = threading.Event()",
        "@app.post('/stuck')\nasync def stuck(tasks: BackgroundTasks): tasks.add_task(gate.wait)",
        "web = serve(app); trace = web.post('/stuck')",
        "trace.wait(0.1)",
    )
    assert outcome[-1] == "TimeoutError"
    assert kernel.run("gate.set(); print(trace.wait(10).tasks[0].state)") == ["finished"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("ending", ["restart", "kill"])
def test_a_kernel_that_goes_leaves_nothing_behind(kernel: Kernel, ending: str) -> None:
    *_, told = kernel.run(
        APP,
        "one, two = serve(app), serve(app, on='process')",
        "import os; one.post('/'); two.post('/')",
        "print(os.getpid(), two.pid, listening(one), listening(two))",
    )
    own, child, *ports = map(int, told.split())
    assert all(map(listens, ports))
    if ending == "restart":
        kernel.manager.restart_kernel(now=False)
    else:
        psutil.Process(own).kill()
    until(lambda: not psutil.pid_exists(child) and not any(map(listens, ports)))


QUEUE = """
from lab import Queue, delivery, serve
queue = Queue(workers=2, broker="embedded", WORK_SECONDS=0.05)
web = serve("server:app", on="process")
"""
PROCESSES = (
    "print(queue._programs.pid, queue.broker.pid, *(worker.pid for worker in queue.workers),"
    " queue.broker.port)"
)
HAND_OVER = "print(web.post('/webhook-test/queue', **delivery('push')).wait(20).tasks[0].state)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_or_an_error_leaves_broker_and_workers_as_they_were(kernel: Kernel) -> None:
    *_, before, state = kernel.run(QUEUE, PROCESSES, HAND_OVER)
    assert state == "finished"
    started = kernel.start("print('here', flush=True); import time; time.sleep(60)")
    while kernel.client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
        pass
    kernel.manager.interrupt_kernel()
    kernel.outcome(started)
    assert kernel.run("1 / 0") == ["ZeroDivisionError"]
    assert kernel.run(PROCESSES, HAND_OVER) == [before, "finished"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("ending", ["restart", "kill", "rebound"])
def test_broker_and_workers_end_with_the_kernel_or_their_name(kernel: Kernel, ending: str) -> None:
    *_, told, own = kernel.run(QUEUE, PROCESSES, "import os; print(os.getpid())")
    *pids, port = map(int, told.split())
    family = [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]
    assert listens(port)
    if ending == "restart":
        kernel.manager.restart_kernel(now=False)
    elif ending == "kill":
        psutil.Process(int(own)).kill()
    else:
        kernel.run("queue = None")
    ids = [*pids, *(child.pid for child in family)]
    until(lambda: not listens(port) and not any(map(psutil.pid_exists, ids)))
