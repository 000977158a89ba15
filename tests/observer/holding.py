"""An app that holds its event loop in several ways; each notes when, and marks the line."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROWS = [{"name": str(number), "parts": [number] * 9} for number in range(60_000)]


async def sleep(request: Request) -> Response:
    begin = perf_counter()
    time.sleep(0.3)  # noqa: ASYNC251 # line: sleep
    return JSONResponse([begin, perf_counter()])


async def compute(request: Request) -> Response:
    begin, end = perf_counter(), time.thread_time() + 0.3
    any(time.thread_time() > end for _ in iter(int, 1))  # line: compute
    return JSONResponse([begin, perf_counter()])


async def match(request: Request) -> Response:
    """One long call that never lets go of the interpreter."""
    begin = perf_counter()
    long_call()  # the innermost line of the reader's is within
    return JSONResponse([begin, perf_counter()])


def long_call() -> None:
    re.match(r"(a+)+$", "a" * 23 + "b")  # line: match


async def dump(request: Request) -> Response:
    begin = perf_counter()
    json.dumps(ROWS * 4)  # line: dump
    return JSONResponse([begin, perf_counter()])


async def behind(request: Request) -> Response:
    return Response(background=BackgroundTask(late))


async def late() -> None:
    time.sleep(0.3)  # noqa: ASYNC251 # line: late


SHORT = [
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
    lambda: time.sleep(0.002),
]


async def turns(request: Request) -> Response:
    for _ in range(30):
        for each in SHORT:
            asyncio.get_running_loop().call_soon(each)
    await asyncio.sleep(0)
    return Response()


def long_calls() -> None:
    for _ in range(3):  # between two of them, others have a look
        long_call()


async def beside(request: Request) -> Response:
    thread = threading.Thread(target=long_calls, name="cruncher")
    asyncio.get_running_loop().call_later(0.05, thread.start)
    await asyncio.sleep(0.1)
    await asyncio.to_thread(thread.join)
    return Response()


async def quick(request: Request) -> Response:
    return Response()


async def nap(request: Request) -> Response:
    await asyncio.sleep(1)
    return Response()


async def stuck(request: Request) -> Response:
    time.sleep(60)  # noqa: ASYNC251 # line: stuck
    return Response()


ALL: list[Callable[..., Any]] = [
    sleep, compute, match, dump, behind, turns, beside, quick, nap, stuck
]  # fmt: skip
app = Starlette(routes=[Route(f"/{each.__name__}", each) for each in ALL])


def line(name: str) -> str:
    """The place of a marked line, as a reader is told it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(n for n, text in enumerate(lines, 1) if text.endswith(f"# line: {name}"))
    return f"tests/observer/holding.py:{number}"
