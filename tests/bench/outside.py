"""What a load tool that is not ours measures: apps bare and watched, each in its own process."""

import contextlib
import functools
import re
import shlex
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import httpx
import psutil

from lab import serve
from lab.radar.environments import NotInstalled, programs
from lab.radar.sets import SERVERS
from lab.servers.addresses import free_port
from lab.servers.web import Web

from ..places import served
from ..waiting import family, until
from .row import Row

APP = "tests.bench.apps:two"
ELSEWHERE = Path(__file__).parent / "elsewhere"
WRK = shutil.which("wrk")

# Starts a server; gives its URL.
Start = Callable[[], AbstractContextManager[str]]


class Load(NamedTuple):
    """What wrk has measured: seconds, and answers a second."""

    p50: float
    p99: float
    rate: float


def wrk(url: str, connections: int, seconds: float, *options: str) -> Load:
    """Load a URL for some seconds. options: more of wrk's own."""
    assert WRK is not None
    command = [
        WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
        "--timeout", "10s", *options, url,
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    times = {found[0]: found[1:] for found in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", said)}
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    p50, p99 = (float(times[each][0]) * unit[times[each][1]] for each in ("50", "99"))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return Load(p50, p99, float(rate[1]))


def outside(size: float) -> Iterator[Row]:
    """Throughput watched over bare, one empty `def` task, in alternating pairs."""
    if WRK is None:
        return
    for place in ("thread", "process"):
        plain, watched = (functools.partial(served, APP, each) for each in ("bare", place))
        yield from compared(place, plain, watched, 0.85, size)


def command(size: float) -> Iterator[Row]:
    """The same where the reader's own gunicorn serves, in an environment of its own."""
    server = SERVERS["gunicorn + uvicorn-worker"]
    try:
        found = programs(server.packages)
    except NotInstalled:
        return
    if WRK is None:
        return
    given = server.started(found)
    plain = functools.partial(bare, given)
    watched = functools.partial(watching, "one:app", command=given, cwd=ELSEWHERE)
    yield from compared("gunicorn", plain, watched, 0.80, size)


def loop_watch(size: float) -> Iterator[Row]:
    """What the watch on the loop takes: of a core while nothing happens, and of the throughput."""
    if WRK is None:
        return
    with serve(APP, on="process") as plain, serve(APP, on="process", watch_loop=True) as watched:
        idle = [of_a_core(web, max(0.5, 10 * size)) for web in (plain, watched)]
    yield Row("watch on the loop, idle, of a core", max(0.01, idle[1] - idle[0]), 1, unit="%")
    without, beside = (
        functools.partial(watching, APP, on="process", watch_loop=each) for each in (False, True)
    )
    yield from compared("watch on the loop", without, beside, 0.95, size)


def of_a_core(web: Web, seconds: float) -> float:
    """How much of a core, in percent, a server's process takes while nothing happens."""
    web.get("/one").wait()
    process = psutil.Process(web.pid)
    before, begin = process.cpu_times(), perf_counter()
    time.sleep(seconds)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return spent / (perf_counter() - begin) * 100


@contextlib.contextmanager
def watching(app: str, **options: Any) -> Iterator[str]:
    """The URL of an app that is watched from here."""
    with serve(app, **options) as web:
        yield web.url


@contextlib.contextmanager
def bare(command: str) -> Iterator[str]:
    """The URL of the app elsewhere, served by a command that nobody watches."""
    port = free_port()
    words = shlex.split(command.replace("{app}", "one:app").replace("{port}", str(port)))
    server = subprocess.Popen(words, cwd=ELSEWHERE, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/one", trust_env=False).status_code == 202
        return False

    try:
        until(up)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def compared(name: str, plain: Start, watched: Start, bar: float, size: float) -> Iterator[Row]:
    for connections in (1, 4):
        ratios: list[float] = []
        while len(ratios) < max(1, int(30 * size)):
            # Anew after a few pairs: how a process happens to lie in memory makes several percent.
            with plain() as plain_url, watched() as watched_url:
                for _ in range(max(1, int(6 * size))):
                    rate = wrk(f"{plain_url}/one", connections, size).rate
                    ratios.append(wrk(f"{watched_url}/one", connections, size).rate / rate)
                    until(quiet)  # what was stamped is read after the load: not in the next turn
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        title = f"wrk, {name}, {connections} connections ({spread})"
        yield Row(title, statistics.median(ratios), bar, at_most=False)


def quiet() -> bool:
    """Whether this process and those that it has started have little to do now."""
    before = spent()
    time.sleep(0.1)
    return sum(seconds - before.get(each, 0.0) for each, seconds in spent().items()) < 0.02


def spent() -> dict[psutil.Process, float]:
    """The seconds of a core that this process, and each that it has started, have used by now."""
    used = {}
    for process in family() | {psutil.Process()}:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            used[process] = sum(process.cpu_times()[:2])
    return used


def head_like_ours() -> httpx.Headers:
    """The fields of a request of the lab; one stands for that which ties it to its trace."""
    return httpx.Client(headers={"x-like-the-id": "12345"}).headers


def bursts(size: float) -> Iterator[Row]:
    """What a burst reads of an endpoint without a task, p50, over what wrk reads, in turn.

    Of requests with the same head: to parse one more field of it takes a server microseconds.
    """
    if WRK is None:
        return
    number = max(50, int(1000 * size))
    fields = head_like_ours().items()
    head = [word for name, value in fields for word in ("-H", f"{name}: {value}")]
    for connections in (1, 4, 20):
        ratios: list[float] = []
        while len(ratios) < max(1, int(15 * size)):
            # Anew after a few turns, as above.
            with serve(APP, on="process") as web:
                for _ in range(max(1, int(3 * size))):
                    traces = web.burst("/none", [{}] * number, method="GET", at_once=connections)
                    read = statistics.median(trace.answered or 0.0 for trace in traces)
                    ratios.append(read / wrk(f"{web.url}/none", connections, size, *head).p50)
        title = f"burst over wrk, p50, {connections} connections"
        yield Row(title, statistics.median(ratios), 1.3)
