"""Web, broker and two workers on four hosts, one of whose links is cut in the middle of the work.

The hosts are network namespaces of the test's own, joined by a bridge that leads nowhere else.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.queue.valkey import server_command, valkey_server
from webhooks.effects import Effects

from ..waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux"
        or os.geteuid() != 0
        or shutil.which("ip") is None
        or subprocess.run(["ip", "netns", "add", "lab-probe"], capture_output=True).returncode != 0
        or subprocess.run(["ip", "netns", "del", "lab-probe"], capture_output=True).returncode != 0,
        reason="needs root, iproute2 and a kernel that allows network namespaces",
    ),
]

HOSTS = {"web": "10.199.77.1", "broker": "10.199.77.2", "one": "10.199.77.3", "two": "10.199.77.4"}
PORT = 6390
SEND = """
import asyncio, json, sys, httpx
from lab import delivery
async def main(number):
    deliveries = [delivery("push") for _ in range(number)]
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answers = [await client.post(sys.argv[2], **sent) for sent in deliveries]
    pairs = zip(deliveries, answers)
    print(json.dumps([(d["headers"]["X-GitHub-Delivery"], a.status_code) for d, a in pairs]))
asyncio.run(main(int(sys.argv[1])))
"""


class Net:
    """Four hosts on a switch, each with a name and an address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {
            "CELERY_BROKER_URL": f"redis://{HOSTS['broker']}:{PORT}/0",
            "EFFECTS_DATABASE": str(folder / "effects.sqlite3"),
            "WORK_SECONDS": "0.2",
        }

    def build(self) -> None:
        ip("netns", "add", self.space("switch"))
        ip("-n", self.space("switch"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self.space("switch"), "link", "set", "bridge", "up")
        for host, address in HOSTS.items():
            ip("netns", "add", self.space(host))
            ip(
                "-n", self.space(host), "link", "add", "eth", "type", "veth",
                "peer", "name", host, "netns", self.space("switch"),
            )  # fmt: skip
            ip("-n", self.space("switch"), "link", "set", host, "master", "bridge", "up")
            ip("-n", self.space(host), "address", "add", f"{address}/24", "dev", "eth")
            ip("-n", self.space(host), "link", "set", "eth", "up")
            ip("-n", self.space(host), "link", "set", "lo", "up")

    def raze(self) -> None:
        for host in [*self.running]:
            self.kill(host)
        for host in ["switch", *HOSTS]:
            subprocess.run(["ip", "netns", "del", self.space(host)], capture_output=True)

    def space(self, host: str) -> str:
        return f"lab-{os.getpid()}-{host}"

    def on(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.space(host), *command]

    def start(self, host: str, ready: str, *command: str) -> None:
        log = self.folder / f"{host}.log"
        with log.open("wb") as out:
            self.running[host] = subprocess.Popen(
                self.on(host, *command), cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: ready in log.read_text(errors="replace"), timeout=30)

    def start_broker(self) -> None:
        command = server_command(valkey_server(), PORT, self.folder, HOSTS["broker"])
        self.start("broker", "eady to accept connections", *command, "--protected-mode", "no")

    def start_worker(self, host: str) -> None:
        self.start(
            host, " ready.", sys.executable, "-m", "celery", "-A", "webhooks.worker", "worker",
            "--loglevel=info", "--concurrency=1", f"--hostname={host}@%h",
        )  # fmt: skip

    def start_web(self) -> None:
        self.start(
            "web", "Uvicorn running", sys.executable, "-m", "uvicorn", "server:app",
            "--host", HOSTS["web"], "--port", "8000",
        )  # fmt: skip

    def kill(self, host: str) -> None:
        process = self.running.pop(host)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def link(self, host: str, state: str) -> None:
        ip("-n", self.space("switch"), "link", "set", host, state)

    def send(self, number: int) -> set[str]:
        """Post deliveries from the web's host; return the ids of those that were accepted."""
        url = f"http://{HOSTS['web']}:8000/webhook-test/queue"
        done = subprocess.run(
            self.on("web", sys.executable, "-c", SEND, str(number), url),
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        return {name for name, status in json.loads(done.stdout) if status == 202}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    net = Net(tmp_path)
    try:
        net.build()
        yield net
    finally:
        net.raze()


def test_across_hosts_every_accepted_delivery_has_one_effect(net: Net) -> None:
    effects = Effects(net.environment["EFFECTS_DATABASE"])

    def starts_on(host: str) -> int:
        return sum(worker.startswith(f"{host}@") for worker in effects.workers.values())

    net.start_broker()
    net.start_worker("one")
    net.start_worker("two")
    net.start_web()
    accepted = net.send(20)
    assert len(accepted) == 20

    begun = starts_on("one")
    until(lambda: starts_on("one") > begun)
    net.link("one", "down")
    # It ends its work and cannot say so: the delivery is given to the other, and has no new effect.
    until(lambda: any(number > 1 for number in effects.starts.values()))
    until(lambda: accepted <= effects.done)

    net.link("one", "up")
    begun = starts_on("one")
    accepted |= net.send(20)
    until(lambda: starts_on("one") > begun)

    net.kill("broker")
    assert net.send(1) == set()
    net.start_broker()
    accepted |= net.send(5)
    until(lambda: accepted <= effects.done)
    assert len(accepted) == 45
    assert sum(effects.tally.values()) == len(effects.done)
    assert starts_on("two") > 0
