"""What a load tool that is not ours measures: an app bare and watched, each in its own process."""

import re
import shutil
import statistics
import subprocess
from collections.abc import Iterator

from ..places import served
from .row import Row

APP = "tests.bench.apps:two"


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
        with served(APP, "bare") as plain, served(APP, place) as watched:
            for connections in (1, 4):
                ratios = []
                for _ in range(pairs):
                    bare = rate(wrk, plain, connections, 2 * size)
                    ratios.append(rate(wrk, watched, connections, 2 * size) / bare)
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                name = f"wrk, {place}, {connections} connections ({spread})"
                yield Row(name, statistics.median(ratios), 0.85, at_most=False)
