"""What the radar serves in each environment: written for every FastAPI from 0.68 on.

A path that begins with /wrapped goes through a `BaseHTTPMiddleware` first.
"""

import asyncio
import os
import threading
import time

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, File, HTTPException, UploadFile
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse

router = APIRouter()
seen = []
calls = 0


async def nothing():
    pass


async def wait(seconds):
    await asyncio.sleep(seconds)


def sleep(seconds):
    time.sleep(seconds)


async def block(seconds):
    time.sleep(seconds)  # noqa: ASYNC251 - on purpose: what it does to others is watched


async def fail():
    raise ValueError("on purpose")


async def note(what):
    seen.append(what)


async def session():
    yield
    seen.append("exit")


async def adding_late(tasks: BackgroundTasks):
    yield
    tasks.add_task(note, "late")


@router.get("/ping")
async def ping():
    return {}


@router.get("/seen")
async def what_was_seen():
    said = list(seen)
    seen.clear()
    return said


@router.get("/calls")
async def count_calls():
    global calls
    calls += 1
    return [os.getpid(), calls]


@router.post("/session")
async def with_session(tasks: BackgroundTasks, session=Depends(session)):
    tasks.add_task(note, "task")
    return {}


@router.post("/upload")
async def upload(tasks: BackgroundTasks, file: UploadFile = File(...)):
    async def read():
        try:
            seen.append(len(await file.read()))
        except ValueError:
            seen.append("closed")

    tasks.add_task(read)
    return {}


@router.post("/late")
async def late(tasks: BackgroundTasks, added=Depends(adding_late)):
    return {}


@router.post("/refused")
async def refused(tasks: BackgroundTasks):
    tasks.add_task(nothing)
    raise HTTPException(409)


@router.post("/own")
async def own(tasks: BackgroundTasks):
    tasks.add_task(nothing)
    return JSONResponse({}, background=BackgroundTask(wait, 0))


@router.post("/fail")
async def failing(tasks: BackgroundTasks):
    tasks.add_task(fail)
    tasks.add_task(nothing)
    return {}


@router.post("/wait")
async def waiting(seconds: float, tasks: BackgroundTasks):
    tasks.add_task(wait, seconds)
    return {}


@router.post("/two")
async def two(seconds: float, tasks: BackgroundTasks):
    tasks.add_task(wait, seconds)
    tasks.add_task(nothing)
    return {}


@router.post("/sleep")
async def sleeping(seconds: float, tasks: BackgroundTasks):
    tasks.add_task(sleep, seconds)
    return {}


@router.post("/thread")
async def in_thread(seconds: float):
    threading.Thread(target=sleep, args=(seconds,)).start()
    return {}


@router.post("/block")
async def blocking(seconds: float, tasks: BackgroundTasks):
    tasks.add_task(block, seconds)
    return {}


class Wrapping(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


plain, wrapped = FastAPI(), FastAPI()
plain.include_router(router)
wrapped.include_router(router, prefix="/wrapped")
wrapped.add_middleware(Wrapping)


async def app(scope, receive, send):
    chosen = wrapped if scope.get("path", "").startswith("/wrapped") else plain
    await chosen(scope, receive, send)
