"""The app of the playground: an endpoint for each way to hand work over."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, Query

from .choice import Choice, pieces
from .works import send_to_queue


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/inline")
def inline(choice: Annotated[Choice, Query()]) -> None:
    for work, *arguments in pieces(choice):
        work(*arguments)


@app.post("/inline/async")
async def inline_async(choice: Annotated[Choice, Query()]) -> None:
    for work, *arguments in pieces(choice):
        await work(*arguments)


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
        send_to_queue(work.__name__, seconds, fails)
