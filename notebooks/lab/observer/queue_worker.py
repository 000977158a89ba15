"""Stamps the tasks of any Celery app from inside its worker, which imports it: `worker --include`.

A ticket travels with each message that was sent on behalf of a watched request. The stamps go to
the notebook that has started the worker; those of a worker that somebody else has started go
nowhere.
"""

from __future__ import annotations

import functools
import importlib
import os
import socket
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .names import describe
from .pages import TICKET
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


def stamped(task: Any) -> Callable[..., Any]:
    """What a Celery task runs, stamped around its first and last line.

    Two stamps travel: `begun` with the message's key, and `ended` with whether the message will be
    given to a worker again.
    """
    run = task.run

    @functools.wraps(run)
    def stamped_run(*args: Any, **kwargs: Any) -> Any:
        report, ticket = reporter(), task.request.get(TICKET)
        if report is None or ticket is None:
            return run(*args, **kwargs)
        trace_id, key, name = ticket
        start = new_key()
        where = f"process {os.getpid()} on {socket.gethostname()}"
        report(trace_id, "begun", key, start, name, perf_counter(), where, task.request.hostname)
        try:
            result = run(*args, **kwargs)
        except BaseException as error:
            report(trace_id, "ended", key, start, perf_counter(), *_outcome(error))
            raise
        report(trace_id, "ended", key, start, perf_counter(), None, False)
        return result

    return stamped_run


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
            task.run = stamped(task)


if "celery" in sys.modules:
    importlib.import_module("celery.signals").celeryd_after_setup.connect(_stamp_tasks, weak=False)
