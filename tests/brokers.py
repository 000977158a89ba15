"""Real brokers for the tests: each on a free port of 127.0.0.1, with a folder of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lab.queue.valkey import server_command, valkey_server
from lab.servers.addresses import free_port

from .waiting import until_it_says

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Broker:
    """A broker that can be killed, frozen, and started again with the same files."""

    def __init__(self, folder: Path, url: str, command: list[str], ready: str) -> None:
        self.folder = folder
        self.url = url
        self.command = command
        self.ready = ready
        self.environment = dict(os.environ)

    def start(self) -> None:
        log = self.folder / "broker.log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until_it_says(self.process, log, self.ready)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Have it forget everything: kill it and remove its files."""
        self.kill()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def redis(folder: Path, server: str | None = None) -> Iterator[Broker]:
    """A Redis server, or another that speaks its protocol, with what it accepts in a file."""
    port = free_port()
    command = server_command(server or "redis-server", port, folder)
    broker = Broker(folder, f"redis://127.0.0.1:{port}/0", command, "eady to accept connections")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[Broker]:
    with redis(folder, valkey_server()) as broker:
        yield broker


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[Broker]:
    """A RabbitMQ server that shares nothing with one that the machine may run."""
    port, names = free_port(), free_port()
    broker = Broker(
        folder, f"amqp://guest:guest@127.0.0.1:{port}//", [str(RABBITMQ)], "completed with"
    )
    broker.environment |= {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"lab{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
        # Erlang's name server has left the broker's group to live on.
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if process.info["name"] == "epmd" and str(names) in process.environ().get(
                    "ERL_EPMD_PORT", ""
                ):
                    process.kill()


KINDS: dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[Broker]], bool]] = {
    "valkey": (valkey, True),
    "redis": (redis, shutil.which("redis-server") is not None),
    "rabbitmq": (rabbitmq, RABBITMQ.exists()),
}


@contextlib.contextmanager
def broker_of(kind: str, folder: Path) -> Iterator[Broker]:
    """A broker of a kind; the test is skipped where it is not installed."""
    make, installed = KINDS[kind]
    if not installed:
        pytest.skip(f"needs Debian's package `{kind}-server`")
    folder.mkdir(parents=True, exist_ok=True)
    with make(folder) as broker:
        yield broker
