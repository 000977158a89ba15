"""The rows of the benchmark. Each measures one thing; `size` scales how long it takes."""

import asyncio
import logging
import socket
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from time import perf_counter
from typing import Any

import server
from lab import delivery
from lab.figures import draw_scatter, draw_timeline
from lab.observer.asgi import Watched
from lab.observer.hooks import hooked
from lab.servers.web import serve
from lab.traces import Ledger, Trace, Traces
from lab.traces.notes import enter_noted
from webhooks.work import logger

from .apps import empty, two
from .moments import moments
from .outside import bursts, command, head_like_ours, loop_watch, outside
from .queue_rows import accepting, starting, working
from .row import Row
from .spans import spans


def truth(size: float) -> Iterator[Row]:
    """`answered` of an empty 202 over what a raw socket reads, taken in turn on one server.

    Of requests with the same head: to parse one more field of it takes a server microseconds.
    """
    fields = [f"{name}: {value}" for name, value in head_like_ours().items()]
    head = "\r\n".join(["POST / HTTP/1.1", "host: lab", "content-length: 2", *fields])
    request = f"{head}\r\n\r\n{{}}".encode()
    for on, bar in (("thread", 1.3), ("process", 1.1)):
        web = serve("tests.bench.apps:empty" if on == "process" else empty, on=on)  # type: ignore[arg-type]
        raw, read = [], []
        with socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2]))) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(max(10, int(1500 * size))):
                begin = perf_counter()
                wire.sendall(request)
                wire.recv(4096)
                raw.append(perf_counter() - begin)
                read.append(web.post("/", content=b"{}").answered or 0.0)
        web.stop()
        yield Row(f"truth, {on}", statistics.median(read) / statistics.median(raw), bar)


def order(size: float) -> Iterator[Row]:
    """How many of the watched requests kept the order, and how many of the control did."""
    number = max(10, int(1000 * size))
    with serve(two) as web:
        kept = sum(map(in_order, web.burst("/two", [{}] * number).wait(60)))
        control = sum(map(in_order, web.burst("/thread", [{}] * number).wait(60)))
    yield Row(f"order kept, of {number}", kept, number, at_most=False)
    yield Row(f"order kept by the control, of {number}", control, 0)


def in_order(trace: Trace) -> bool:
    moments = [trace.responded, *(task.started for task in trace.tasks)]
    return all(a is not None and b is not None and a < b for a, b in pairwise(moments))


def observer(size: float) -> Iterator[Row]:
    """CPU for a request of `/webhook-test`, watched over unwatched, in-process."""
    asked = delivery("push")
    headers = [(name.lower().encode(), value.encode()) for name, value in asked["headers"].items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/webhook-test", "raw_path": b"/webhook-test",
        "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": asked["content"], "more_body": False}

    async def send(message: Any) -> None:
        pass

    async def cpu(app: Any, number: int) -> float:
        begin = time.process_time()
        for _ in range(number):
            await app({**scope, "state": {}}, receive, send)
        enter_noted()
        return time.process_time() - begin

    async def ratios() -> list[float]:
        watched = Watched(server.app, Ledger().note)
        await cpu(server.app, 50)
        found = []
        for _ in range(max(2, int(60 * size))):
            plain = await cpu(server.app, 50)
            with hooked():
                found.append(await cpu(watched, 50) / plain)
        return found

    with no_work():
        yield Row("observer, CPU per request", statistics.median(asyncio.run(ratios())), 1.10)


class no_work:
    """Deliveries take no time, and their log lines go nowhere."""

    silence = logging.NullHandler()

    def __enter__(self) -> None:
        self.before = server.app.state.work_seconds
        server.app.state.work_seconds = 0.0
        logger.propagate = False
        logger.addHandler(self.silence)

    def __exit__(self, *error: object) -> None:
        server.app.state.work_seconds = self.before
        logger.propagate = True
        logger.removeHandler(self.silence)


def filled(number: int) -> Ledger:
    """A ledger with requests of two tasks each, entered stamp by stamp as the observer does."""
    ledger = Ledger()
    for count in range(number):
        trace = ledger.open(Trace(str(count), count * 0.001, "POST", "/two"))
        at = trace.sent
        trace.status, trace.answered = 202, 0.002 + count % 7 * 0.0001
        trace.headers = {"content-length": str(count % 90), "content-type": "application/json"}
        entry = ledger.receive(trace.id, at + 0.0005, "POST", "/two")
        for key in ("a", "b"):
            entry.added(key, "task", "background", at + 0.001)
        entry.responded(at + 0.0015)
        for key, begin in (("a", 0.002), ("b", 0.102)):
            entry.queued(key, at + begin)
            entry.started(key, at + begin + 0.0001, f"thread {count % 40}")
            entry.finished(key, at + begin + 0.1, None)
        entry.returned(at + 0.21)
    return ledger


def memory(size: float) -> Iterator[Row]:
    """KiB that a kept trace with two tasks takes."""
    number = max(100, int(100_000 * size))
    tracemalloc.start()
    ledger = filled(number)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    yield Row(
        f"memory per trace, {len(ledger.traces):,} kept", taken / number / 1024, 1.5, unit="KiB"
    )


def drawing(size: float) -> Iterator[Row]:
    """Seconds to draw many traces."""
    number = max(100, int(100_000 * size))
    traces: Traces = filled(number).traces
    draws: dict[str, Callable[[Any], Any]] = {"timeline": draw_timeline, "scatter": draw_scatter}
    for name, draw in draws.items():
        begin = perf_counter()
        assert draw(traces).svg
        yield Row(f"{name} of {number:,} traces", perf_counter() - begin, 2, unit="s")


def schedule(size: float) -> Iterator[Row]:
    """By how much sends at 200 a second are late (ms)."""
    number = max(20, int(600 * size))
    late = []
    with serve("tests.bench.apps:empty", on="process") as web:
        for _ in range(max(1, int(5 * size))):
            traces = web.burst("/", [{}] * number, rate=200)
            offsets = sorted((trace.sent - at / 200) * 1000 for at, trace in enumerate(traces))
            late.append(offsets[int(number * 0.99)] - offsets[0])
    # The machine standing still once for 50 ms would be a whole burst's p99.
    yield Row("lateness of sends at 200/s, p99", statistics.median(late), 5, unit="ms")


ROWS: dict[str, Callable[[float], Iterator[Row]]] = {
    each.__name__: each
    for each in (
        truth,
        order,
        moments,
        observer,
        outside,
        command,
        loop_watch,
        bursts,
        spans,
        memory,
        drawing,
        schedule,
        accepting,
        starting,
        working,
    )
}
