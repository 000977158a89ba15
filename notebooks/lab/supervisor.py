"""Runs a broker and its workers for a notebook, and ends them all when the notebook's process does.

Standard input brings orders, a JSON object a line, and is the lifeline: when it breaks, because
the notebook's process is gone, whatever runs is killed and the folder is removed. Standard output
tells what happens: each program's process, its lines, its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from time import perf_counter
from typing import Any

_telling = threading.Lock()


def tell(**news: Any) -> None:
    with _telling, contextlib.suppress(OSError):  # the notebook's process has gone: nobody to tell
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()


def end_group(pid: int) -> None:
    """End what a process has left behind in its group, such as a pool's workers."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


class Supervisor:
    """The programs that run, by name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.programs: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        try:
            program = subprocess.Popen(
                command,
                cwd=self.folder,
                # Killed, a program leaves its temporary files behind: here they go with the folder.
                env={**os.environ, "TMPDIR": self.folder, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # A group of its own, so that it can be ended with what it starts.
                start_new_session=True,
            )
        except OSError as error:
            tell(name=name, exit=127, at=perf_counter(), why=str(error))
            return
        self.programs[name] = program
        tell(name=name, pid=program.pid)
        for task in (self._read, self._attend):
            threading.Thread(target=task, args=(name, program), daemon=True).start()

    def _read(self, name: str, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        for line in program.stdout:
            tell(name=name, line=line.rstrip("\n"))

    def _attend(self, name: str, program: subprocess.Popen[str]) -> None:
        code = program.wait()
        at = perf_counter()
        end_group(program.pid)
        tell(name=name, exit=code, at=at)

    def end(self) -> None:
        for program in self.programs.values():
            end_group(program.pid)
            program.kill()
            program.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> None:
    # Asked to end in any other way, it still ends what it runs.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    supervisor = Supervisor(sys.argv[1])
    try:
        for line in sys.stdin:
            order = json.loads(line)
            supervisor.start(order["name"], order["command"], order["environment"])
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
