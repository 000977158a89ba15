"""Real databases for the tests, each in a folder of its own; they can be killed, frozen, full."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from lab import Queue
from lab.programs.program import Program
from lab.servers.addresses import free_port

from .waiting import until_it_says

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
POSTGRESQL = Path(shutil.which("postgres") or (_FOUND[-1] if _FOUND else "postgres"))


class SQLite:
    """A file. Who freezes it holds its lock, as a process does that is frozen in mid-commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"sqlite:///{folder}/deliveries.sqlite3"

    def freeze(self) -> None:
        self._holder = sqlite3.connect(
            self.folder / "deliveries.sqlite3", timeout=30, isolation_level=None
        )
        self._holder.execute("BEGIN IMMEDIATE")

    def thaw(self) -> None:
        self._holder.close()

    def revive(self) -> None:
        """Nothing has ended."""

    def vacuum(self) -> None:
        """It uses again by itself what was deleted."""


class PostgreSQL:
    """A server that can be killed, frozen, and started again with the same files."""

    def __init__(self, folder: Path, *settings: str, host: str = "127.0.0.1") -> None:
        self.folder = folder
        # In a file of its folder: in the system's shared memory, it would outlive who is killed.
        settings = ("dynamic_shared_memory_type=mmap", *settings)
        self.settings = [part for setting in settings for part in ("-c", setting)]
        self.port = free_port()
        self.host = host
        self.url = f"postgresql+psycopg://postgres@{host}:{self.port}/postgres"
        # It refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(folder, self.user)
        self._run("initdb", "--username=postgres", "--auth=trust", "--no-sync")

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(POSTGRESQL.with_name(program)), "-D", str(self.folder / "data"), *arguments]
        return ["runuser", "-u", self.user, "--", *command] if os.geteuid() == 0 else command

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def command(self) -> list[str]:
        return self._command(
            "postgres", "-h", self.host, "-p", str(self.port), "-k", "", *self.settings
        )

    def start(self) -> None:
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        until_it_says(self.process, self.folder / "log", "ready to accept connections")

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def new_database(self) -> str:
        """Make one more database; return its URL."""
        name = f"lab_{secrets.token_hex(4)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url.removesuffix("postgres") + name

    def signal(self, number: int) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)
        self.signal(signal.SIGSTOP)  # those that were started before their parent stood still

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        family = self._family()
        self.signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(family, timeout=10)
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def revive(self) -> None:
        """Start it again with the same files, whether or not it has ended by itself."""
        self.kill()
        self.start()

    def vacuum(self) -> None:
        """Have the room of what was deleted used again: killed, it forgets that this is due."""
        self._execute("VACUUM")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement.encode())


Database = SQLite | PostgreSQL


def freeze_at_rest(queue: Queue, worker: Program) -> None:
    """Freeze a worker while it holds no lock: SQLite's would keep everybody else from writing."""
    url = make_url(queue.deliveries.database.name)
    with contextlib.ExitStack() as stack:
        if url.get_backend_name() == "sqlite":
            holder = sqlite3.connect(url.database or "", timeout=30, isolation_level=None)
            stack.enter_context(contextlib.closing(holder)).execute("BEGIN IMMEDIATE")
        worker.freeze()


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the server's user reaches: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="background-tasks-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def postgresql(*settings: str, folder: Path | None = None) -> Iterator[PostgreSQL]:
    """A PostgreSQL server; the test is skipped where it is not installed.

    settings: of the server, as `name=value`. folder: for its files; by default one of its own.
    """
    if not POSTGRESQL.exists():
        pytest.skip("needs Debian's package `postgresql`")
    with open_folder() as own:
        server = PostgreSQL(folder or own / "server", *settings)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[SQLite]:
    yield SQLite(folder)


KINDS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Database]]] = {
    "sqlite": sqlite,
    # Its log of changes may grow to 1 GB by default, more than the disk has.
    "postgresql": lambda folder: postgresql("max_wal_size=64MB", folder=folder),
}
ROOM = {"sqlite": "64m", "postgresql": "256m"}


@contextlib.contextmanager
def small_disk(folder: Path, room: str) -> Iterator[bool]:
    """Have a folder on a disk of its own with little room; whether that was possible."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """Have the disk full that a folder is on."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()
