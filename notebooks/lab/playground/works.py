"""The work that can be chosen, and how a piece of it is given to the playground's queue."""

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


def send_to_queue(work: str, seconds: float, fails: bool = False) -> None:
    """Give a piece of work to the broker; a worker of `lab.playground.worker` does it.

    seconds: of sleep, or of processor time. Raises QueueUnavailable when there is no broker.
    """
    celery_app(*broker_and_queue()).send_task(task_name(work), [seconds, fails])


def task_name(work: str) -> str:
    """The name by which the queue knows a piece of work."""
    return f"lab.playground.{work}"
