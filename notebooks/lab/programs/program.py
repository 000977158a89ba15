"""Programs that end with this process, such as a broker. Each can be killed or frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, BinaryIO

from .lifeline import Child

READY_WITHIN = 30.0
LINES_KEPT = 1000


class Program:
    """A program: a process with its own children."""

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
        """Wait until `settled()` holds.

        timeout: seconds. what: the awaited state, for the error. Raises RuntimeError, with the
        program's last lines, when it ends or the time is over first.
        """
        with self.moved:
            if self.moved.wait_for(lambda: settled() or self.ended, timeout) and settled():
                return
        end = f"ended with {self.exit_code}" if self.ended else f"not {what} after {timeout:g} s"
        raise RuntimeError("\n".join([f"{self.name}: {end}", *list(self.log)[-10:]]))

    def said(self, what: str) -> bool:
        """Return whether one of its lines contains this text."""
        return any(what in line for line in list(self.log))

    def kill(self) -> None:
        """Kill the program, as the system does when memory runs out (SIGKILL)."""
        self._signal("SIGKILL")
        self.until(lambda: self.ended, READY_WITHIN, "killed")

    def freeze(self) -> None:
        """Suspend the program, its connections open, until `thaw` (SIGSTOP)."""
        self._signal("SIGSTOP")

    def thaw(self) -> None:
        """Resume the program after `freeze` (SIGCONT)."""
        self._signal("SIGCONT")

    def stop(self, timeout: float = 30) -> None:
        """Ask the program to finish its current work and end (SIGTERM).

        timeout: seconds. Raises RuntimeError when the program has not ended by then.
        """
        os.kill(self.pid, signal.SIGTERM)
        self.until(lambda: self.ended, timeout, "ended")

    def _signal(self, name: str) -> None:
        if self.ended:
            raise RuntimeError(f"{self.name} has ended; there is nothing to signal")
        if sys.platform == "win32":
            raise RuntimeError(f"{name} needs Linux or macOS: {self.name} still runs")
        os.killpg(self.pid, signal.Signals[name])

    def __repr__(self) -> str:
        state = f"ended with {self.exit_code}" if self.ended else f"process {self.pid}"
        return f"<{self.name}: {state}>"


class Programs(dict[str, Program]):
    """Programs by name, under one supervisor that ends them all with this process.

    folder: of their own; it is removed with them.
    """

    def __init__(self, folder: str) -> None:
        self._supervisor = Child("lab.programs.supervisor", folder, stdout=subprocess.PIPE)
        self.pid = self._supervisor.pid
        self._listener = threading.Thread(
            target=self._listen,
            args=(self._supervisor.process.stdout,),
            name="lab programs",
            daemon=True,
        )
        self._listener.start()

    def _listen(self, lines: BinaryIO) -> None:
        with lines:
            for line in lines:
                news = json.loads(line)
                self[news.pop("name")].learn(news)

    def start(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        cwd: str | None = None,
    ) -> Program:
        """Start a program.

        environment: variables beside those of this process. cwd: where it works; None for the
        programs' own folder, and to have its children end with it. Raises RuntimeError when the
        program does not start.
        """
        program = self[name] = Program(name)
        order = {"name": name, "command": command, "environment": {**environment}, "cwd": cwd}
        self._supervisor.order(json.dumps(order).encode() + b"\n")
        program.until(lambda: program.pid > 0, READY_WITHIN, "started")
        return program

    def end(self) -> None:
        """Kill all programs, and remove their folder."""
        self._supervisor.let_go()
        self._supervisor.process.wait()
        self._listener.join()
        for program in self.values():
            if not program.ended:  # the supervisor has ended before it could say so
                program.learn({"exit": -9, "at": perf_counter()})
