"""The kinds of work in the playground, and how to send a piece of work to its queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from webhooks.queue import broker_and_queue, celery_app

from ..lessons.crunch import crunch


def sleep(seconds: float, fails: bool = False) -> None:
    time.sleep(seconds)
    if fails:
        raise RuntimeError("this task was chosen to fail")


async def async_sleep(seconds: float, fails: bool = False) -> None:
    await asyncio.sleep(seconds)
    if fails:
        raise RuntimeError("this task was chosen to fail")


async def blocking_in_async(seconds: float, fails: bool = False) -> None:
    time.sleep(seconds)  # noqa: ASYNC251
    if fails:
        raise RuntimeError("this task was chosen to fail")


def compute(seconds: float, fails: bool = False) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        crunch(1_000)
    if fails:
        raise RuntimeError("this task was chosen to fail")


WORKS: dict[str, Callable[..., Any]] = {
    work.__name__: work for work in (sleep, async_sleep, blocking_in_async, compute)
}


def send_to_queue(work: str, seconds: float, fails: bool = False) -> None:
    """Send a piece of work to the broker, for a worker of `lab.playground.worker`.

    work: its name in `WORKS`. seconds: of sleep, or of processor time. Raises QueueUnavailable
    when there is no broker.
    """
    celery_app(*broker_and_queue()).send_task(task_name(work), [seconds, fails])


def task_name(work: str) -> str:
    """Return the name of a piece of work in the queue."""
    return f"lab.playground.{work}"
