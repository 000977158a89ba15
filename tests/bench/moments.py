"""Each stamp beside the moments right before and after it, as app and client note them."""

import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from time import perf_counter

from lab import serve
from lab.traces import Trace, until

from .noting import AT_ONCE, noted, noting, pool
from .row import Row

REQUEST = b"POST / HTTP/1.1\r\nhost: lab\r\ncontent-length: 2\r\n\r\n{}"

# Each stamp, and what is noted right before and right after it.
BESIDE: dict[str, list[str]] = {
    "received": ["asked", "entered"],
    "responded": ["sending", "sent", "read"],
    "returned": ["leaving", "left"],
    "to_queue added": ["to_queue called", "to_queue left"],
    "to_queue queued": ["to_queue called", "to_queue left"],
}
for name in AT_ONCE:
    BESIDE |= {
        f"{name} added": [f"{name} called", f"{name} first"],
        f"{name} started": [f"{name} called", f"{name} first"],
        f"{name} finished": [f"{name} last", f"{name} over"],
    }
for name, turn, over in (
    ("def_task", "sent", "async_task first"),
    ("async_task", "def_task last", "leaving"),
):
    BESIDE |= {
        f"{name} added": [f"{name} called", f"{name} left"],
        f"{name} queued": [turn, f"{name} first"],
        f"{name} started": [turn, f"{name} first"],
        f"{name} finished": [f"{name} last", over],
    }


def moments(size: float) -> Iterator[Row]:
    """By how much the worst of all stamps is off (ms, median)."""
    off: dict[str, list[float]] = defaultdict(list)
    with (
        serve(noting, lifespan="off") as web,
        pool(),
        socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2]))) as wire,
    ):
        for _ in range(max(15, int(60 * size))):
            asked = perf_counter()
            wire.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"{}"):  # head and body may come apart
                answer += wire.recv(4096)
            read = perf_counter()
            (trace,) = web.traces[-1:]
            assert until(lambda trace=trace: over(trace), 30)  # type: ignore[misc]
            while "left" not in noted[-1]:
                time.sleep(0.001)
            note = noted[-1] | {"asked": asked, "read": read}
            for stamp, at in stamps(trace).items():
                for other in BESIDE[stamp]:
                    off[f"{stamp}, {other}"].append(abs(at - note[other]))
    worst = max(off, key=lambda each: statistics.median(off[each]))
    yield Row(f"off: {worst}", statistics.median(off[worst]) * 1000, 2.5, unit="ms")


def over(trace: Trace) -> bool:
    """Whether all has been stamped; nobody works on what is sent to the queue."""
    still_open = [task.name for task in trace.tasks if task.open]
    return trace.returned is not None and still_open == ["to_queue"]


def stamps(trace: Trace) -> dict[str, float]:
    """All moments of a trace by name, on `perf_counter`."""
    found = {name: getattr(trace, name) for name in ("received", "responded", "returned")}
    for task in trace.tasks:
        for name in ("added", "queued", "started", "finished"):
            if getattr(task, name) is not None:
                found[f"{task.name} {name}"] = getattr(task, name)
    assert found.keys() == BESIDE.keys()
    return {name: trace.sent + at for name, at in found.items()}
