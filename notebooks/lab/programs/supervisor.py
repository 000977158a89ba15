"""Runs programs for a notebook: `python -m lab.programs.supervisor FOLDER`.

Orders come along its lifeline, a JSON object per line. When the lifeline breaks, the supervisor
kills all programs and removes the folder. Its standard output reports each program's process,
lines and end.
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

from .lifeline import end_group, lifeline

_saying = threading.Lock()


def say(**news: Any) -> None:
    with _saying, contextlib.suppress(OSError):  # the notebook's process is gone
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()


class Supervisor:
    """The running programs, by name.

    folder: where they work that are given no other place; it goes with them.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.programs: dict[str, subprocess.Popen[str]] = {}

    def start(
        self, name: str, command: list[str], environment: dict[str, str], cwd: str | None
    ) -> None:
        # What somebody else has written keeps its children when its main process is killed.
        ours = cwd is None
        # Killed, a program leaves its temporary files behind: here they go with the folder.
        own = {"TMPDIR": self.folder} if ours else {}
        try:
            program = subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, **own, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # A group of its own, so that it can be ended with what it starts.
                start_new_session=True,
            )
        except OSError as error:
            say(name=name, exit=127, at=perf_counter(), why=str(error))
            return
        self.programs[name] = program
        say(name=name, pid=program.pid)
        threading.Thread(target=self._read, args=(name, program), daemon=True).start()
        threading.Thread(target=self._attend, args=(name, program, ours), daemon=True).start()

    def _read(self, name: str, program: subprocess.Popen[str]) -> None:
        assert program.stdout is not None
        for line in program.stdout:
            say(name=name, line=line.rstrip("\n"))

    def _attend(self, name: str, program: subprocess.Popen[str], ours: bool) -> None:
        code = program.wait()
        at = perf_counter()
        if ours:
            end_group(program.pid)
        say(name=name, exit=code, at=at)

    def end(self) -> None:
        for program in self.programs.values():
            end_group(program.pid)
            program.kill()
            program.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def main() -> None:
    # Ended in another way than by its lifeline, it still ends its programs.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    supervisor = Supervisor(sys.argv[1])
    try:
        for line in lifeline():
            supervisor.start(**json.loads(line))
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
