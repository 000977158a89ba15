"""What a load tool that is not ours measures: an app bare and watched, each in its own process."""

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

from lab.publishing.notebooks import ROOT

from .row import Row

APP = "tests.bench.apps:two"
PLACES = {
    "bare": "import threading, time, uvicorn\n"
    f"server = uvicorn.Server(uvicorn.Config({APP!r}, port=0, loop='asyncio', http='h11',"
    " log_config=None, access_log=False))\n"
    "threading.Thread(target=server.run, daemon=True).start()\n"
    "while not server.started: time.sleep(0.01)\n"
    "url = 'http://127.0.0.1:%d' % server.servers[0].sockets[0].getsockname()[1]",
    "thread": f"from lab import serve; web = serve({APP!r}, http='h11'); url = web.url",
    "process": f"from lab import serve; web = serve({APP!r}, on='process', http='h11');"
    " url = web.url",
}


@contextlib.contextmanager
def running(place: str) -> Iterator[str]:
    """The URL of the app as it is served there."""
    code = f"{PLACES[place]}\nimport sys; print(url, flush=True); sys.stdin.read()"
    server = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate()


def rate(wrk: str, url: str, connections: int, seconds: float) -> float:
    """Requests a second that an endpoint with one empty `def` task answers."""
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"{url}/one"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found is not None, said
    assert "Non-2xx" not in said, said
    return float(found[1])


def outside(size: float) -> Iterator[Row]:
    """Throughput watched over bare, by wrk, in alternating pairs; no rows without wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return
    pairs = max(1, int(15 * size))
    for place in ("thread", "process"):
        with running("bare") as plain, running(place) as watched:
            for connections in (1, 4):
                ratios = []
                for _ in range(pairs):
                    bare = rate(wrk, plain, connections, 2 * size)
                    ratios.append(rate(wrk, watched, connections, 2 * size) / bare)
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                name = f"wrk, {place}, {connections} connections ({spread})"
                yield Row(name, statistics.median(ratios), 0.85, at_most=False)
