"""An app of few lines, which FastAPI of every version takes."""

import asyncio
import os
import time

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def bill():
    time.sleep(0.2)


async def ship():
    await asyncio.sleep(0.2)


async def pack():
    await asyncio.sleep(600)


@app.post("/orders", status_code=202)
async def order(tasks: BackgroundTasks):
    tasks.add_task(bill)
    tasks.add_task(ship)
    return {"process": os.getpid()}


@app.post("/pack", status_code=202)
async def packing(tasks: BackgroundTasks):
    tasks.add_task(pack)
    return {"process": os.getpid()}


def create_app():
    return app


@app.post("/block")
async def blocking():
    time.sleep(0.4)  # noqa: ASYNC251 - what holds the loop is to be named
