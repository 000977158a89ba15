"""Stamps the tasks of any Celery app from inside its worker, which imports it: `worker --include`.

A ticket travels with each message that was sent on behalf of a watched request. The stamps go to
the notebook that has started the worker; those of a worker that somebody else has started go
nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from .names import describe, name_of
from .protocol import NOBODY, TICKET
from .requests import new_key
from .transport import Reporter

STAMPS = "BACKGROUND_TASKS_LAB_STAMPS"


@functools.cache
def reporter() -> Reporter | None:
    """Where the stamps of this worker go; None when no notebook has started it."""
    folder = os.environ.get(STAMPS)
    return Reporter(folder) if folder else None


def reporter_variable(report: Reporter) -> dict[str, str]:
    """The variable that tells a worker where its stamps go."""
    return {STAMPS: report.folder}


def stamped_task(task: Any) -> Callable[..., Any]:
    """What a Celery task runs, stamped for the request that has sent its message."""
    run = task.run

    @functools.wraps(run)
    def stamped_run(*args: Any, **kwargs: Any) -> Any:
        ticket = task.request.get(TICKET)
        if ticket is None:
            return run(*args, **kwargs)
        trace_id, key, name = ticket
        with start_stamped(trace_id, key, name, task.request.hostname):
            return run(*args, **kwargs)

    return stamped_run


def stamped_attempt(attempt: Callable[..., None], name: str) -> Callable[..., None]:
    """The webhook service's attempt at a delivery, stamped: its key tells for which request."""

    @functools.wraps(attempt)
    def stamped_attempt(place: Any, lease: Any) -> None:
        with start_stamped(NOBODY, lease.delivery.key, name, lease.worker):
            attempt(place, lease)

    return stamped_attempt


@contextlib.contextmanager
def start_stamped(trace_id: str | None, key: str, name: str, worker: str) -> Iterator[None]:
    """Stamp one start of queued work around its first and last line.

    Two stamps travel: `begun` with the work's key, and `ended` with whether it will be given to a
    worker again.
    """
    report = reporter()
    if report is None:
        yield
        return
    start, where = new_key(), f"process {os.getpid()} on {socket.gethostname()}"
    report.note((trace_id, "begun", key, start, name, perf_counter(), where, worker))
    try:
        yield
    except BaseException as error:
        report.note((trace_id, "ended", key, start, perf_counter(), *_outcome(error)))
        raise
    report.note((trace_id, "ended", key, start, perf_counter(), None, False))


def _outcome(error: BaseException) -> tuple[str | None, bool]:
    """What a task failed with, if it did, and whether its message will be given out again."""
    celery = importlib.import_module("celery.exceptions")
    if isinstance(error, celery.Retry):
        return describe(error.exc or error), True
    if isinstance(error, celery.Reject):
        return describe(error.__cause__ or error), bool(error.requeue)
    return (None if isinstance(error, celery.Ignore) else describe(error)), False


def _stamp_tasks(instance: Any, **_: Any) -> None:
    for name, task in instance.app.tasks.items():
        if not name.startswith("celery."):
            task.run = stamped_task(task)
    service: Any = sys.modules.get("webhooks.worker")
    if service is not None:
        attempt, name = service.attempt, name_of(service.process_and_log_webhook)
        service.attempt = stamped_attempt(attempt, name)


if "celery" in sys.modules:
    importlib.import_module("celery.signals").celeryd_after_setup.connect(_stamp_tasks, weak=False)
