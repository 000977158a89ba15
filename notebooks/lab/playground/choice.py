"""The choices of the playground.

Each way to hand work over is an entry in `HAND_OVERS` and an endpoint of that name in `app.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from .works import WORKS

MOST_TASKS = 6
LEAST_SECONDS, MOST_SECONDS = 0.05, 2.0
MOST_AT_ONCE = 5

POOL = """
@asynccontextmanager
async def lifespan(app):
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=lifespan)"""


@dataclass(frozen=True)
class HandOver:
    """A way to hand over a piece of work, as the code of an endpoint."""

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
        'send_to_queue("{work}", {arguments})',
        blocks=True,
        lab="Queue, serve, timeline",
        imported="send_to_queue",
        app='queue = Queue(worker="lab.playground.worker")\napp = FastAPI()',
    ),
}


class Choice(BaseModel, frozen=True):
    """One experiment: the work, the way it is handed over, and how often.

    seconds: of sleep, or of processor time, per task. failing: the number of the task that fails,
    0 for none. Raises ValueError (pydantic's) for a value out of range, or values that do not fit
    together.
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

    @property
    def path(self) -> str:
        """The endpoint that does it."""
        asynchronous = self.hand_over == "inline" and self.is_async
        return f"/{self.hand_over}{'/async' if asynchronous else ''}"

    def __str__(self) -> str:
        failing = f", task {self.failing} fails" if self.failing else ""
        requests = "1 request" if self.at_once == 1 else f"{self.at_once} requests at once"
        return (
            f"{self.hand_over}: {self.tasks} × {self.work} {self.seconds:g} s{failing}; {requests}"
        )


def pieces(choice: Choice) -> Iterator[tuple[Callable[..., Any], float, bool]]:
    """Yield each piece of work with its arguments."""
    for number in range(1, choice.tasks + 1):
        yield WORKS[choice.work], choice.seconds, number == choice.failing
