"""Ties a delivery in the queue to the trace of its request, and stamps it in the worker.

The ticket travels with the message. The stamps come home to the notebook that has started the
worker; those of a worker that somebody else has started go nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
from collections.abc import Iterator
from time import perf_counter

from .collecting import DistantPage, Reporter
from .effects import Start
from .watching import Stamp, current

COLLECTOR = "LAB_COLLECTOR"
HEADER = "lab"
LOST = "lost"


@contextlib.contextmanager
def ticket(name: str) -> Iterator[dict[str, list[str]]]:
    """The message headers that tie a piece of work to the current request, if one is watched."""
    request = current.get()
    if request is None:
        yield {}
        return
    shown = name.rpartition(".")[2]
    key = request.add(shown, "queue")
    request.page.queued(key, perf_counter())
    try:
        yield {HEADER: [request.id, key, shown]}
    except Exception:
        # Not its error: if the broker has it after all, a worker will still stamp its start.
        request.page.gone(key, perf_counter(), None)
        raise


@contextlib.contextmanager
def stamped(tied: list[str] | None, start: Start, last: bool) -> Iterator[None]:
    """Stamp a start of a delivery from inside its worker.

    tied: the ticket, if it has one. last: whether a failure now is not followed by another start.
    """
    report = reporter()
    if report is None or tied is None:
        yield
        return
    trace_id, ticket_key, name = tied
    page = DistantPage(report, trace_id)

    def key(number: int) -> str:
        return ticket_key if number == 1 else f"{ticket_key}.{number}"

    # Announced before the one before is over: without open work the trace would count as over.
    def announce(number: int) -> None:
        page.added(key(number), name, "queue", perf_counter())

    if start.number > 1:
        announce(start.number)
        report(trace_id, LOST, key(start.number - 1), perf_counter(), start.before)
    where = f"process {os.getpid()} on {socket.gethostname()}"
    with Stamp(page, key(start.number), where):
        try:
            yield
        except Exception:
            if not last:
                announce(start.number + 1)
            raise


@functools.cache
def reporter() -> Reporter | None:
    """Where the stamps of this worker go; None when no notebook has started it."""
    given = os.environ.get(COLLECTOR)
    return Reporter(*json.loads(given)) if given else None


def collector_variable(report: Reporter) -> dict[str, str]:
    """The variable that tells a worker where its stamps go."""
    return {COLLECTOR: json.dumps([report.address, report.key])}
