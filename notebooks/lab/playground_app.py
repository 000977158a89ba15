"""What can be chosen in the playground, the app that does it, and the code that does the same.

A way to hand work over is an entry in `HAND_OVERS` and an endpoint of its name.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import BackgroundTasks, FastAPI, Query
from pydantic import BaseModel, Field, model_validator
from starlette.concurrency import run_in_threadpool

from .celery_app import broker_url, celery_app, queue_name
from .queue_stamps import ticket
from .work import crunch

MOST_TASKS = 6
LEAST_SECONDS, MOST_SECONDS = 0.05, 2.0
MOST_AT_ONCE = 5


def sleep(seconds: float, fails: bool = False) -> None:
    time.sleep(seconds)
    if fails:
        raise RuntimeError("this one was to fail")


async def async_sleep(seconds: float, fails: bool = False) -> None:
    await asyncio.sleep(seconds)
    if fails:
        raise RuntimeError("this one was to fail")


async def blocking_in_async(seconds: float, fails: bool = False) -> None:
    time.sleep(seconds)  # noqa: ASYNC251
    if fails:
        raise RuntimeError("this one was to fail")


def compute(seconds: float, fails: bool = False) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        crunch(1_000)
    if fails:
        raise RuntimeError("this one was to fail")


WORKS: dict[str, Callable[..., Any]] = {
    work.__name__: work for work in (sleep, async_sleep, blocking_in_async, compute)
}

IMPORTS = {
    "sleep": "import time",
    "async_sleep": "import asyncio",
    "blocking_in_async": "import time",
    "compute": "import time",
}

POOL = """
@asynccontextmanager
async def lifespan(app):
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=lifespan)"""


@dataclass(frozen=True)
class HandOver:
    """How a handler gives a piece of work away, as somebody writes it."""

    line: str
    parameter: str = ""
    status: int = 202
    runs_async: bool = False
    blocks: bool = False
    lab: str = "serve, timeline"
    imported: str = ""
    app: str = "app = FastAPI()"
    imports: str = ""


HAND_OVERS = {
    "inline": HandOver("{work}({arguments})", status=200, runs_async=True, blocks=True),
    "background": HandOver(
        "background_tasks.add_task({work}, {arguments})",
        parameter="background_tasks: BackgroundTasks",
        runs_async=True,
    ),
    "thread": HandOver(
        "threading.Thread(target={work}, args=[{arguments}]).start()",
        imports="import threading",
    ),
    "process": HandOver(
        "app.state.pool.submit({work}, {arguments})",
        imported="{work}",
        app=POOL,
        imports="from concurrent.futures import ProcessPoolExecutor\n"
        "from contextlib import asynccontextmanager",
    ),
    "queue": HandOver(
        'enqueue("{work}", {arguments})',
        blocks=True,
        lab="Queue, serve, timeline",
        imported="enqueue",
        app='queue = Queue(worker="lab.playground_worker")\napp = FastAPI()',
    ),
}
PIECE = "lab.playground.piece"


class Choice(BaseModel, frozen=True):
    """One experiment: what is handed over, how, and how often.

    seconds: of sleep, or of processor time. failing: the number of the task that fails, 0 for none.
    Raises ValueError (pydantic's) for what is out of range or cannot go together.
    """

    hand_over: str = "background"
    work: str = "sleep"
    tasks: int = Field(3, ge=1, le=MOST_TASKS)
    seconds: float = Field(0.3, ge=LEAST_SECONDS, le=MOST_SECONDS)
    at_once: int = Field(1, ge=1, le=MOST_AT_ONCE)
    failing: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        for name, known in (("hand_over", HAND_OVERS), ("work", WORKS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}")
        if self.failing > self.tasks:
            raise ValueError(f"task {self.failing} cannot fail: there are {self.tasks}")
        if self.is_async and not HAND_OVERS[self.hand_over].runs_async:
            raise ValueError(
                f"{self.work} is an async function, and a {self.hand_over} has no event loop to "
                f"run it: choose sleep or compute, or hand it over inline or in the background"
            )
        return self

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(WORKS[self.work])

    def __str__(self) -> str:
        failing = f", task {self.failing} fails" if self.failing else ""
        requests = "1 request" if self.at_once == 1 else f"{self.at_once} requests at once"
        return (
            f"{self.hand_over}: {self.tasks} × {self.work} {self.seconds:g} s{failing}; {requests}"
        )


def pieces(choice: Choice) -> Iterator[tuple[Callable[..., Any], float, bool]]:
    """Each piece of work with its arguments."""
    for number in range(1, choice.tasks + 1):
        yield WORKS[choice.work], choice.seconds, number == choice.failing


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/inline")
async def inline(choice: Annotated[Choice, Query()]) -> None:
    for work, *arguments in pieces(choice):
        await (work(*arguments) if choice.is_async else run_in_threadpool(work, *arguments))


@app.post("/background", status_code=202)
async def background(choice: Annotated[Choice, Query()], background_tasks: BackgroundTasks) -> None:
    for work, *arguments in pieces(choice):
        background_tasks.add_task(work, *arguments)


@app.post("/thread", status_code=202)
async def thread(choice: Annotated[Choice, Query()]) -> None:
    for work, *arguments in pieces(choice):
        threading.Thread(target=work, args=arguments).start()


@app.post("/process", status_code=202)
async def process(choice: Annotated[Choice, Query()]) -> None:
    for work, *arguments in pieces(choice):
        app.state.pool.submit(work, *arguments)


@app.post("/queue", status_code=202)
def queue(choice: Annotated[Choice, Query()]) -> None:
    for work, seconds, fails in pieces(choice):
        enqueue(work.__name__, seconds, fails)


def enqueue(work: str, seconds: float, fails: bool = False) -> None:
    """Give a piece of work to the broker; a worker of `lab.playground_worker` does it.

    seconds: of sleep, or of processor time. Raises QueueUnavailable when there is no broker.
    """
    with ticket(work) as tied:
        celery = celery_app(broker_url(), queue_name())
        celery.send_task(PIECE, [work, seconds, fails], headers=tied)


SEND_ONE = 'trace = web.post("/")\ntimeline(trace)'
SEND_MANY = 'traces = web.burst("/", [{{}}] * {number})\ntimeline(traces)'
CODE = """\
{standard}

from fastapi import {fastapi}

{lab}

{app}

{work}
@app.post("/", status_code={status})
{handler} endpoint({parameter}):
    for {number} in {numbers}:
        {line}


web = serve(app, on="process")
{send}
"""


def code(choice: Choice) -> str:
    """The code that does by hand what the playground does; it runs as it is in a cell."""
    way, work = HAND_OVERS[choice.hand_over], WORKS[choice.work]
    awaited = choice.hand_over == "inline" and choice.is_async
    arguments = f"{choice.seconds:g}"
    if choice.failing:
        arguments += f", number == {choice.failing}"
    line = way.line.format(work=choice.work, arguments=arguments)
    lab = [f"from lab import {way.lab}"]
    if imported := way.imported.format(work=choice.work):
        lab.append(f"from lab.playground_app import {imported}  # not a cell's: others import it")
    elif choice.work == "compute":
        lab.append("from lab.work import crunch")
    standard = [way.imports, "" if imported else IMPORTS[choice.work]]
    return CODE.format(
        standard="\n".join(sorted(filter(None, standard))),
        fastapi="BackgroundTasks, FastAPI" if way.parameter else "FastAPI",
        lab="\n".join(lab),
        app=way.app,
        work="" if imported else f"\n{source(work)}\n",
        status=way.status,
        handler="def" if way.blocks and not choice.is_async else "async def",
        parameter=way.parameter,
        number="number" if choice.failing else "_",
        numbers=f"range(1, {choice.tasks + 1})" if choice.failing else f"range({choice.tasks})",
        line=f"await {line}" if awaited else line,
        send=SEND_ONE if choice.at_once == 1 else SEND_MANY.format(number=choice.at_once),
    )


def source(work: Callable[..., Any]) -> str:
    """A function as it stands above, without the remarks that are for a linter."""
    return inspect.getsource(work).replace("  # noqa: ASYNC251", "")
