"""The bounds under load: nothing but 2xx, 4xx and 503, bounded memory, and all that was accepted
is done."""

import http.client
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ..waiting import until
from .test_lookout import figures_of

MIB = 2**20
# What a body takes in memory once it is parsed, at the worst, as the README states it.
TIMES_AS_MUCH = 40
WORST = b"[" + b"{}," * (MIB // 3 - 2) + b"{}]"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figures of a process"),
]


class Service:
    """The service under a bare uvicorn, as in production."""

    def __init__(self, address_space: int | None = None, **settings: object) -> None:
        limits = (address_space or resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "server:app", "--port", "0", "--no-access-log"],
            env=os.environ | {name: str(value) for name, value in settings.items()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limits),
        )
        assert self.process.stderr is not None
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://[\d.:]+", line):
                self.url = found[0]
                break
        else:
            pytest.fail("".join(self.lines))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self.lines.extend(self.process.stderr)

    def peak(self) -> int:
        """The most memory that it has taken until now, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def figures(self) -> dict[tuple[str, ...], float]:
        return figures_of(self.url)

    def until_done(self) -> None:
        until(lambda: self.figures()["webhook_work_unfinished", "delivery"] == 0)

    def done(self) -> int:
        return sum("processing finished" in line for line in self.lines)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        self._reader.join()


@pytest.fixture
def started() -> Iterator[list[Service]]:
    services: list[Service] = []
    yield services
    for service in services:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)


def post(service: Service, path: str, bodies: list[bytes], at_once: int = 20) -> Counter[int]:
    limits = httpx.Limits(max_connections=at_once)
    with (
        httpx.Client(trust_env=False, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(at_once) as pool,
    ):
        answers = pool.map(lambda body: client.post(service.url + path, content=body), bodies)
        return Counter(answer.status_code for answer in answers)


def test_large_bodies_that_wait_take_no_more_memory_than_is_said(started: list[Service]) -> None:
    limit = 4 * MIB
    service = Service(MOST_HELD_BYTES=limit, WORK_SECONDS=3)
    started.append(service)
    before = service.peak()
    statuses = post(service, "/webhook-test", [WORST] * 100, at_once=20)
    assert set(statuses) == {202, 503}
    assert 4 <= statuses[202] < 100
    arriving = 2 * 20 * MIB  # as it comes, and put together
    assert service.peak() - before < TIMES_AS_MUCH * limit + arriving
    assert httpx.get(f"{service.url}/ping", trust_env=False).status_code == 200
    service.until_done()
    service.end()
    assert service.done() == statuses[202]


def test_a_small_address_space_has_threads_refused_and_nothing_fail(
    started: list[Service],
) -> None:
    service = Service(address_space=1500 * MIB, WORK_SECONDS=8)
    started.append(service)
    statuses = post(service, "/webhook-test/thread", [b"{}"] * 400)
    assert set(statuses) == {202, 503}
    service.until_done()
    assert post(service, "/webhook-test/thread", [b"{}"]) == {202: 1}
    service.until_done()
    service.end()
    assert service.done() == statuses[202] + 1
    assert not [line for line in service.lines if "Traceback" in line]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs Debian's package `wrk`")
@pytest.mark.parametrize("path", ["/webhook-test", "/webhook-test/thread", "/webhook-test/inline"])
def test_under_wrk_the_service_refuses_and_is_as_before_when_the_load_is_gone(
    path: str, started: list[Service], tmp_path: Path
) -> None:
    service = Service(MOST_HELD=50, WORK_SECONDS=0.2)
    started.append(service)
    counted = tmp_path / "post.lua"
    counted.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = {json.dumps(json.dumps({'a': 1}))}\n"
        "statuses = {}\n"
        "function setup(thread) only = thread end\n"
        "function response(status) statuses[status] = (statuses[status] or 0) + 1 end\n"
        "function done()\n"
        '  for status, count in pairs(only:get("statuses")) do\n'
        '    print("status", status, count)\n'
        "  end\n"
        "end\n"
    )
    done = subprocess.run(
        ["wrk", "-t1", "-c100", "-d3s", "-s", str(counted), service.url + path],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    pairs = re.findall(r"^status\s+(\d+)\s+(\d+)", done.stdout, re.MULTILINE)
    statuses = {int(status): int(count) for status, count in pairs}
    assert set(statuses) == {202, 503}
    seen = service.figures()
    assert seen["webhook_work_unfinished", "delivery"] <= 50
    service.until_done()
    hand_over = {"/webhook-test": "background"}.get(path, path.rpartition("/")[2])
    seen = service.figures()
    # wrk leaves without reading what is still on its way.
    assert statuses[202] <= seen["webhook_accepted_total", hand_over] <= statuses[202] + 100
    before = seen["webhook_accepted_total", hand_over]
    answer = httpx.post(service.url + path, json={}, trust_env=False)
    assert answer.status_code == 202
    service.until_done()
    service.end()
    assert service.done() == before + 1
    assert not [line for line in service.lines if "Traceback" in line]


def test_what_hangs_half_sent_is_no_accepted_work(started: list[Service]) -> None:
    service = Service(MOST_HELD=5, WORK_SECONDS=0)
    started.append(service)
    address = service.url.removeprefix("http://")
    halves = [http.client.HTTPConnection(address, timeout=10) for _ in range(20)]
    for half in halves:
        half.putrequest("POST", "/webhook-test")
        half.putheader("Content-Length", "1000")
        half.endheaders(b"{")
    assert post(service, "/webhook-test", [b"{}"], at_once=1) == {202: 1}
    for half in halves:
        half.close()
    until(lambda: service.figures().get(("webhook_refused_total", "disconnected")) == 20)
