"""Web, two workers, and broker with database on four hosts, whose links are cut in mid-work.

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

import psutil
import pytest

from lab.queue.valkey import server_command, valkey_server
from webhooks.deliveries import Known

from ..databases import POSTGRESQL, PostgreSQL, open_folder
from ..waiting import until

PROBE = f"lab-probe-{os.getpid()}"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux"
        or os.geteuid() != 0
        or shutil.which("ip") is None
        or not POSTGRESQL.exists()
        or subprocess.run(["ip", "netns", "add", PROBE], capture_output=True).returncode != 0
        or subprocess.run(["ip", "netns", "del", PROBE], capture_output=True).returncode != 0,
        reason="needs root, PostgreSQL, iproute2 and a kernel that allows network namespaces",
    ),
]

HOSTS = {"web": "10.199.77.1", "stores": "10.199.77.2", "one": "10.199.77.3", "two": "10.199.77.4"}
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
KNOWN = """
import json
from webhooks.database import Database
from webhooks.deliveries import Deliveries
from webhooks.settings import settings
known = Deliveries(Database(settings().DATABASE_URL, 10)).known()
print(json.dumps([each._asdict() for each in known]))
"""


class Net:
    """Four hosts on a switch, each with a name and an address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.server = PostgreSQL(folder / "database", host=HOSTS["stores"])
        with (folder / "database" / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        self.environment = os.environ | {
            "CELERY_BROKER_URL": f"redis://{HOSTS['stores']}:{PORT}/0",
            "DATABASE_URL": self.server.url,
            "WORK_SECONDS": "2",
            "LEASE_SECONDS": "2",
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
        for name in [*self.running]:
            self.kill(name)
        for host in ["switch", *HOSTS]:
            subprocess.run(["ip", "netns", "del", self.space(host)], capture_output=True)

    def space(self, host: str) -> str:
        return f"lab-{os.getpid()}-{host}"

    def on(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.space(host), *command]

    def start(self, host: str, name: str, ready: str, *command: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            self.running[name] = subprocess.Popen(
                self.on(host, *command), cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        until(lambda: ready in log.read_text(errors="replace"), timeout=30)

    def start_broker(self) -> None:
        command = server_command(valkey_server(), PORT, self.folder, HOSTS["stores"])
        self.start(
            "stores", "broker", "eady to accept connections", *command, "--protected-mode", "no"
        )

    def start_database(self) -> None:
        self.start("stores", "database", "ready to accept connections", *self.server.command)

    def start_worker(self, host: str) -> None:
        self.start(
            host, host, " ready.", sys.executable, "-m", "celery", "-A", "webhooks.worker",
            "worker", "--loglevel=info", "--concurrency=1", f"--hostname={host}@%h",
        )  # fmt: skip

    def start_web(self) -> None:
        self.start(
            "web", "web", "Uvicorn running", sys.executable, "-m", "uvicorn", "server:app",
            "--host", HOSTS["web"], "--port", "8000",
        )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        family = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for each in family:  # a database's processes have groups of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()

    def link(self, host: str, state: str) -> None:
        ip("-n", self.space("switch"), "link", "set", host, state)

    def run(self, host: str, *command: str) -> str:
        return subprocess.run(
            self.on(host, *command), cwd=self.folder, env=self.environment, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    def send(self, number: int, status: int = 202) -> set[str]:
        """Post deliveries from the web's host, each to be answered so; return their ids."""
        url = f"http://{HOSTS['web']}:8000/webhook-test/queue"
        told = self.run("web", sys.executable, "-c", SEND, str(number), url)
        answered = dict(json.loads(told))
        assert list(answered.values()) == [status] * number
        return set(answered)

    def known(self) -> list[Known]:
        """What is known of the deliveries, as it is seen on the database's host."""
        told = self.run("stores", sys.executable, "-c", KNOWN)
        return [Known(**each) for each in json.loads(told)]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def net() -> Iterator[Net]:
    with open_folder() as folder:
        net = Net(folder)
        try:
            net.build()
            yield net
        finally:
            net.raze()


def test_across_hosts_every_accepted_delivery_has_one_effect(net: Net) -> None:
    def at_work(host: str) -> set[str]:
        return {
            each.id
            for each in net.known()
            if each.state == "working" and (each.worker or "").startswith(f"{host}@")
        }

    def done() -> set[str]:
        return {each.id for each in net.known() if each.state == "done"}

    net.start_database()
    net.start_broker()
    net.start_worker("one")
    net.start_worker("two")
    net.start_web()
    accepted = net.send(8)

    until(lambda: at_work("one"))
    net.link("one", "down")
    # It ends its work and cannot say so: the other takes the delivery over.
    until(lambda: accepted <= done())
    taken_over = [each for each in net.known() if each.starts > 1]
    assert [(each.starts, each.attempts, each.effects) for each in taken_over] == [(2, 1, 1)]
    assert (taken_over[0].worker or "").startswith("two@")

    net.link("one", "up")
    known = net.known()
    net.kill("two")
    accepted |= net.send(2)
    until(lambda: accepted <= done())  # by the one that was away
    assert net.known()[:8] == known  # it had no second effect of what it had at hand

    net.link("stores", "down")
    net.send(1, status=503)
    net.link("stores", "up")
    accepted |= net.send(2)
    until(lambda: accepted <= done())
    known = net.known()
    assert {each.effects for each in known} == {1}
    assert {each.id for each in known} >= accepted
