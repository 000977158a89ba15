"""A server that the reader's own command starts, in the app's own environment.

The command names, in place of the app, a module that the lab writes: that imports the app and has
it watched, in whichever processes the server makes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import httpx

from ..observer.protocol import PROBE
from ..programs.lifeline import alive
from ..programs.program import Programs
from ..traces import Ledger, until
from .addresses import free_port, loopback, url_of
from .collector import Collector

T = TypeVar("T")

READY_WITHIN = 60.0
LAST_STAMPS_WITHIN = 2.0
LOOK_EVERY = 0.02
LINES_TOLD = 12

DOOR, OBSERVER = "_background_tasks_lab", "_background_tasks_lab_observer"
# A package of its own: a pool's process finds the observer by it, and does not load the app.
FILES = {
    OBSERVER: "__path__ = [{observer!r}]\n",
    DOOR: (
        f"from {OBSERVER}.door import watched\n\n"
        "app = watched({app!r}, {folder!r}, {watch_loop!r})\n"
    ),
}


class ByCommand:
    """A server in processes of its own, started by a command: this is its notebook's end."""

    place = "command"

    def __init__(
        self,
        app: str,
        ledger: Ledger,
        command: str,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        watch_loop: bool,
    ) -> None:
        self.until = until
        self._ledger = ledger
        self._command = checked(command)
        self._cwd = str(Path(cwd or ".").expanduser().resolve())
        if not os.path.isdir(self._cwd):
            raise RuntimeError(f"cwd={os.fspath(cwd or '.')!r}: there is no such folder")
        self._app = app
        self._loaded: dict[int, tuple[str, str, list[str]]] = {}
        self._ready: set[int] = set()
        self._gone: set[int] = set()
        self._failure = ""
        self._ended = threading.Event()
        port = free_port()
        self.url = url_of(loopback(), port)
        self.collector = Collector(ledger.enter, ledger.miss_stamps, self._learn)
        folder = self.collector.reporter.folder
        write_door(folder, app, watch_loop)
        self._programs = Programs(tempfile.mkdtemp(prefix="background-tasks-server-"))
        filled = [
            word.replace("{app}", f"{DOOR}:app").replace("{port}", str(port))
            for word in shlex.split(self._command)
        ]
        try:
            self._server = self._programs.start(
                "server", filled, with_path(folder, env or {}), self._cwd
            )
        except BaseException as error:
            self._end_all()
            if not isinstance(error, RuntimeError):  # an interrupt
                raise
            why = self._programs["server"].log[-1]
            raise RuntimeError(f"{filled[0]} cannot be started in {self._cwd}: {why}") from None
        self.pid = self._server.pid
        threading.Thread(target=self._attend, name="lab server", daemon=True).start()
        self._await_ready(os.path.basename(folder))

    def _learn(self, what: str, pid: int, *told: object) -> None:
        """Take what a process of the server tells of itself."""
        if what == "loading":
            python, folder, path = told
            self._loaded[pid] = str(python), str(folder), list(path)  # type: ignore[call-overload]
            self._gone.discard(pid)
        elif what == "ready":
            self._ready.add(pid)
        else:
            self._failure = self._failure or str(told[0])

    def _await_ready(self, name: str) -> None:
        """Wait until a probe is answered; on the first failure end all, and raise why."""
        end = time.monotonic() + READY_WITHIN
        with (
            contextlib.ExitStack() as ending,
            httpx.Client(base_url=self.url, trust_env=False, timeout=1) as client,
        ):
            ending.callback(self.kill)
            while not self._failure and not self._ended.is_set():
                if answers(client, name):
                    ending.pop_all()
                    return
                if time.monotonic() > end:
                    self._failure = f"not ready after {READY_WITHIN:g} s"
                time.sleep(LOOK_EVERY)
            self.collector.read()
        raise RuntimeError(self._why())

    def _why(self) -> str:
        """Why the server did not start: in words, with what helps to find the cause."""
        lines = list(self._server.log)[-LINES_TOLD:]
        told = [f"the app did not start: {self._failure or self._end_in_words()}"]
        told += [f"command: {self._command}", f"in: {self._cwd}"]
        if self._loaded:
            python, folder, path = next(iter(self._loaded.values()))
            told += [f"with: {python}"]
            if "ModuleNotFoundError" in self._failure:
                told += [f"looked for it in: {', '.join(each or folder for each in path)}"]
        elif not self._failure.startswith("not ready"):
            told += [
                f"{{app}} was never imported. If there is said to be no {DOOR}, the server's "
                "Python does not look into PYTHONPATH: leave out -I and -E, or have the wrapper "
                "that starts it pass PYTHONPATH on"
            ]
        return "\n  ".join([*told, *(["its last lines:"] if lines else []), *lines])

    def _end_in_words(self) -> str:
        return f"the command ended with {self._server.exit_code} before a request was answered"

    def _attend(self) -> None:
        """Follow the processes of the server until the last has ended."""
        while not self._server.ended or any(map(alive, self._serving)):
            time.sleep(LOOK_EVERY)
            self._close_gone()
        self._close_gone()
        moment = max(self._server.ended_at, perf_counter() - LOOK_EVERY)
        self._end_all()
        self._ledger.close(moment)
        self._ended.set()

    @property
    def _serving(self) -> list[int]:
        """The processes that have imported the app, and whose end was not seen yet."""
        return [pid for pid in list(self._loaded) if pid not in self._gone]

    def _close_gone(self) -> None:
        """Enter the end of each process that has gone: its open work is lost."""
        for pid in [pid for pid in self._serving if not alive(pid)]:
            moment = perf_counter()
            self.collector.read()
            self._gone.add(pid)
            self._ledger.close(moment, pid)

    def _end_all(self) -> None:
        self._programs.end()
        self.collector.close()
        self.collector.join(LAST_STAMPS_WITHIN)

    def kill(self) -> None:
        """End the server with all its processes at once."""
        self._programs.end()
        for pid in self._serving:  # one that has left its group, as a daemon does
            kill(pid)
        self._ended.wait(LAST_STAMPS_WITHIN)

    @property
    def exit_code(self) -> int | None:
        return self._server.exit_code

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def drain(self) -> None:
        """Ask the server to end as its kind does (SIGTERM)."""
        if not self._server.ended:
            kill(self.pid, signal.SIGTERM)

    def join(self, timeout: float) -> bool:
        return self._ended.wait(timeout)

    def signal(self, number: int, to: int | None = None) -> None:
        """Send a signal to the main process, or to the one with the number `to`."""
        meant = to or self.pid
        if not alive(meant):  # though its parent may not know yet
            raise RuntimeError(f"process {meant} has ended; nothing to signal")
        self._ledger.ending(signal.Signals(number).name, perf_counter(), to)
        kill(meant, number)

    def call(self, blocking: Callable[[], T]) -> T:
        """Make a call that blocks this thread while the server works."""
        return blocking()


def checked(command: str) -> str:
    """Return the command if it says where the app and the port go.

    Raises ValueError, which names the mend, otherwise.
    """
    words = shlex.split(command)
    names = [os.path.basename(word) for word in words]
    if "fastapi" in names and {"run", "dev"} & set(names):
        raise ValueError(
            f"command={command!r}: `fastapi run` takes a file, and finds the app in it by itself; "
            "write it as `uvicorn {app} --port {port}`"
        )
    if "--factory" in words:
        raise ValueError(
            f"command={command!r}: leave out --factory, and name the app "
            "'package.module:create_app()'"
        )
    missing = [part for part in ("{app}", "{port}") if part not in command]
    if missing:
        raise ValueError(
            f"command={command!r} lacks {' and '.join(missing)}: write {{app}} where the app's "
            "import string stands and {port} where the port does, such as "
            "`uvicorn {app} --port {port}`"
        )
    return command


def write_door(folder: str, app: str, watch_loop: bool) -> None:
    """Write the modules by which a server finds the watched app."""
    observer = str(Path(__file__).parents[1] / "observer")
    told = {"app": app, "folder": folder, "observer": observer, "watch_loop": watch_loop}
    for name, text in FILES.items():
        path = Path(folder, f"{name}.py")
        path.write_text(text.format(**told), encoding="utf-8")


def with_path(folder: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a command, with the folder as the last of its PYTHONPATH."""
    before = env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [before, folder]))}


def answers(client: httpx.Client, name: str) -> bool:
    """Return whether a watched app of this name answers: a port may be open before it is there."""
    try:
        response = client.get(PROBE)
    except httpx.TransportError:
        return False
    return response.status_code == 202 and response.headers.get("x-lab-probe") == name


def kill(pid: int, number: int = getattr(signal, "SIGKILL", signal.SIGTERM)) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
