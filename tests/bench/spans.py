"""A second instrument beside ours: the spans that FastAPI itself emits for each background task.

`python -m tests.bench.spans NUMBER` prints in how many requests both agree on the order, and in how
many on the moments, too, within the noise floor.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from lab import serve
from lab.publishing.notebooks import ROOT
from lab.traces import Trace

from .apps import two
from .row import Row


def spans(size: float) -> Iterator[Row]:
    """In how many requests FastAPI's own spans tell the same as the traces."""
    number = max(20, int(1000 * size))
    order, moments = agreeing(number)
    yield Row(f"order as in FastAPI's spans, of {number}", order, number, at_most=False)
    yield Row(f"moments as in FastAPI's spans, of {number}", moments, number, at_most=False)


def agreeing(number: int) -> tuple[int, int]:
    """Ask in a process of its own: a provider of spans, once set, stays."""
    command = [sys.executable, "-m", "tests.bench.spans", str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    order, moments = json.loads(done.stdout)
    return order, moments


def main(number: int) -> tuple[int, int]:
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
    order = moments = 0
    with serve(two) as web:
        assert web.floor is not None
        for _ in range(number):
            trace = web.post("/two").wait()
            ours = by_trace(trace)
            theirs = by_spans(exporter.get_finished_spans(), ahead + trace.sent)
            exporter.clear()
            order += ours == sorted(ours) and theirs == sorted(theirs) and ends_first(trace, theirs)
            moments += all(abs(a - b) <= web.floor.p99 for a, b in zip(ours, theirs, strict=True))
    return order, moments


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
    print(json.dumps(main(int(sys.argv[1]))))
