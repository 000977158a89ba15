"""A second instrument beside ours: the spans that FastAPI itself emits for each background task.

`python -m tests.bench.spans NUMBER` prints how many requests were asked, in how many both agree on
the order, and in how many of NUMBER undisturbed ones on the moments, too, within the noise floor.
`... NUMBER STAMP before` (or `after`) does so while that stamp's hook dawdles for ten noise floors.

Between two readings of the clock the machine may stand still. That is told by FastAPI's spans
alone: some step from one of their moments to the next takes longer than it usually does, by half
the noise floor. So twice NUMBER are asked. What takes long in every request is usual.
"""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

from lab import serve
from lab.publishing.notebooks import ROOT
from lab.servers.web import Web
from lab.traces import Trace, until

from .apps import two
from .planted import planted
from .row import Row

REQUEST = b"POST /two HTTP/1.1\r\nhost: lab\r\ncontent-length: 0\r\n\r\n"


def spans(size: float) -> Iterator[Row]:
    """In how many requests FastAPI's own spans tell the same as the traces."""
    number = max(20, int(1000 * size))
    asked, order, moments = agreeing(number)
    yield Row(f"order as in FastAPI's spans, of {asked}", order, asked, at_most=False)
    yield Row(f"moments as in spans, of {number} undisturbed", moments, number, at_most=False)


def agreeing(number: int, *error: str) -> tuple[int, int, int]:
    """Ask in a process of its own: a provider of spans, once set, stays."""
    command = [sys.executable, "-m", "tests.bench.spans", str(number), *error]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    asked, order, moments = json.loads(done.stdout)
    return asked, order, moments


class Told(NamedTuple):
    """One request: whether in order, its moments as both tell them, the steps of its spans."""

    ordered: bool
    ours: list[float]
    theirs: list[float]
    steps: list[float]

    def agrees(self, floor: float) -> bool:
        pairs = zip(self.ours, self.theirs, strict=True)
        return all(abs(a - b) <= floor for a, b in pairs)


def main(number: int, stamp: str = "", dawdles: str = "") -> tuple[int, int, int]:
    with serve(two) as web:
        assert web.floor is not None
        floor = web.floor.p99
        with planted(stamp, dawdles == "before", 10 * floor) if stamp else nullcontext():
            told = list(tell(web, 2 * number))
    usual = [statistics.median(step) for step in zip(*(each.steps for each in told), strict=True)]
    undisturbed = [
        each
        for each in told
        if all(a - b <= floor / 2 for a, b in zip(each.steps, usual, strict=True))
    ]
    moments = sum(each.agrees(floor) for each in undisturbed[:number])
    return len(told), sum(each.ordered for each in told), moments


def tell(web: Web, number: int) -> Iterator[Told]:
    # Here, since the other rows need no OpenTelemetry.
    from opentelemetry import trace as opentelemetry
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentelemetry.set_tracer_provider(provider)
    # Spans are on the clock of the day: moved to that of the traces once, for the whole run.
    ahead = time.time_ns() / 1e9 - time.perf_counter()
    with socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2]))) as wire:
        for count in range(number):
            trace = ask(web, wire, count)
            found = exporter.get_finished_spans()
            exporter.clear()
            ours = by_trace(trace)
            theirs = by_spans(found, ahead + trace.sent)
            ordered = ours == sorted(ours) and theirs == sorted(theirs)
            yield Told(ordered and ends_first(trace, theirs), ours, theirs, steps(found))


def ask(web: Web, wire: socket.socket, count: int) -> Trace:
    """Read the answer when all is over: who is woken by it takes the interpreter in mid-send."""
    wire.sendall(REQUEST)
    assert until(lambda: len(web.traces) > count and web.traces[-1].settled, 30)
    wire.recv(4096)
    return web.traces[-1]


def steps(found: Any) -> list[float]:
    """How long it took from each moment of all the spans to the next, in seconds."""
    moments = sorted(at for span in found for at in (span.start_time, span.end_time))
    return [(b - a) / 1e9 for a, b in pairwise(moments)]


def by_trace(trace: Trace) -> list[float]:
    """When the response had left, and when each task's turn began and ended on the loop.

    A `def` task's span begins with `queued`, before its thread, and ends as the loop has its result
    back, which is when the next task is queued; `finished` is its thread's, earlier by the way to
    the loop. An async task's span begins right before `queued`, and ends with `finished`.
    """
    first, second = trace.tasks
    moments = [trace.responded, first.queued, second.queued, second.queued, second.finished]
    assert None not in moments
    return [at for at in moments if at is not None]


def ends_first(trace: Trace, theirs: list[float]) -> bool:
    """Whether neither the response nor a task ends, by the trace, after its span has ended."""
    ends = (trace.responded, *(task.finished for task in trace.tasks))
    return all(a is not None and a <= b for a, b in zip(ends, theirs[::2], strict=True))


def by_spans(found: Any, sent: float) -> list[float]:
    """The same by FastAPI's spans, in seconds after `sent`."""
    (request,) = [span for span in found if span.parent is None]
    tasks = sorted(
        (span for span in found if span.name == "fastapi.background_task"),
        key=lambda span: span.start_time,
    )
    names = [span.attributes["code.function.name"].rpartition(".")[2] for span in tasks]
    assert names == ["first", "second"]
    moments = [request.end_time, *(at for span in tasks for at in (span.start_time, span.end_time))]
    return [at / 1e9 - sent for at in moments]


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), *sys.argv[2:])))
