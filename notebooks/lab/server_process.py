"""Runs uvicorn for a watched app in a process of its own, which ends when the notebook's does."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import Any, BinaryIO

import cloudpickle
from starlette.datastructures import State
from uvicorn.importer import import_from_string
from uvicorn.server import HANDLED_SIGNALS

from .collecting import Collector
from .hooks import watching
from .ledger import Ledger
from .servers import START_TIMEOUT, Server, T, why_not
from .supervisor import end_group
from .traces import until
from .watching import App

STOP = b"stop\n"
SIGNAL_TIMEOUT = 5.0


class InOwnProcess:
    """A server in a process of its own: this is its notebook's end.

    The child's standard input is its lifeline: a line asks it to drain and end, and when the
    line breaks, because this process is gone, it ends at once with all that it started.
    """

    place = "process"

    def __init__(self, app: App | str, ledger: Ledger, settings: dict[str, Any]) -> None:
        self.port = 0
        self.until = until
        self._ledger = ledger
        self._ready = threading.Event()
        self._taken = threading.Semaphore(0)
        self._failure = ""
        order = pack(app) | {"settings": settings, "path": sys.path}
        self._collector = Collector(self._enter)
        order["reporter"] = self._collector.reporter
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.server_process"],
            stdin=subprocess.PIPE,
            # A cell's interrupt goes to the kernel's group: the server is not to be in it.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._ended = threading.Event()
        threading.Thread(target=self._attend, name="lab server", daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(pickle.dumps(order))
            self._process.stdin.flush()
        if not self._ready.wait(START_TIMEOUT):
            self._failure = f"not ready after {START_TIMEOUT:g} s"
            self._process.kill()
        if self._failure:
            raise RuntimeError(self._failure)

    def _enter(self, trace_id: str, stamp: str, *seen: Any) -> None:
        if trace_id:
            self._ledger.enter(trace_id, stamp, *seen)
        elif stamp == "taken":
            self._taken.release()
        else:
            if stamp == "up":
                (self.port,) = seen
            else:
                (self._failure,) = seen
            self._ready.set()

    def _attend(self) -> None:
        self._process.wait()
        moment = perf_counter()
        end_group(self.pid)
        self._collector.drain(timeout=2)
        self._collector.close()
        self._ledger.close(moment)
        if not self._ready.is_set():
            self._failure = f"the server's process ended with {self.exit_code} before it was ready"
            self._ready.set()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._ended.set()
        self._taken.release()

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def drain(self) -> None:
        """Take no more requests; end when the work is done."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended already
            self._process.stdin.write(STOP)
            self._process.stdin.flush()

    def join(self, timeout: float) -> bool:
        return self._ended.wait(timeout)

    def signal(self, number: int) -> None:
        self._ledger.ending(signal.Signals(number).name, perf_counter())
        self._process.send_signal(number)
        # Two signals sent at once may reach the process as one: wait until this one has.
        if number in HANDLED_SIGNALS:
            self._taken.acquire(timeout=SIGNAL_TIMEOUT)

    def call(self, blocking: Callable[[], T]) -> T:
        """Make a call that blocks this thread while the server works."""
        return blocking()


class AppPickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Pickles an app written in a cell; Starlette's `State` recurses when it is unpickled."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is State:
            return State, (dict(obj._state),)
        return super().reducer_override(obj)


def pack(app: App | str) -> dict[str, Any]:
    """What a child needs to have the same app: its import string, or the app itself, pickled.

    Raises TypeError when it holds something that cannot travel.
    """
    if isinstance(app, str):
        return {"import": app}
    buffer = io.BytesIO()
    home = import_string(app)
    try:
        # An importable app keeps its place, so that its module's functions see the same one.
        AppPickler(buffer).dump(getattr(app, "state", None) if home else app)
    except Exception as error:
        raise TypeError(
            f"this app cannot travel to another process ({error}): write it to a file with "
            "%%writefile name.py and serve it by name, serve('name:app', on='process')"
        ) from error
    return {"import": home, "state" if home else "app": buffer.getvalue()}


def import_string(app: App) -> str | None:
    """Where an app can be imported from; None for one written in a notebook."""
    for name, module in list(sys.modules.items()):
        if name not in {"__main__", "__mp_main__"}:
            for attribute, value in list(vars(module).items()):
                if value is app:
                    return f"{name}:{attribute}"
    return None


def unpack(order: dict[str, Any]) -> App:
    if order["import"] is None:
        app: App = pickle.loads(order["app"])
        return app
    app = import_from_string(order["import"])
    if state := pickle.loads(order.get("state", pickle.dumps(None))):
        app.state._state.update(state._state)  # type: ignore[attr-defined]
    return app


class SignalledServer(Server):
    """A server that reports each signal it has taken."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # A report takes a lock, which the code that the signal interrupted may hold: do it later.
        later = asyncio.get_running_loop().call_soon_threadsafe
        later(self.reporter, "", "taken")


def hold(lifeline: BinaryIO, server: Server) -> None:
    while line := lifeline.readline():
        if line == STOP:
            server.should_exit = True
    end_group(os.getpid())
    os._exit(1)


def main() -> None:
    # A pool's fork closes `sys.stdin`, and would hang on it while a thread reads it.
    lifeline = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    order = pickle.load(lifeline)
    sys.path[:] = order["path"]
    report = order["reporter"]
    try:
        app = unpack(order)
        server = SignalledServer(
            app, report.open_page, report, order["settings"], lambda port: report("", "up", port)
        )
    except Exception as error:
        report("", "failed", why_not(error))
        sys.exit(1)
    threading.Thread(target=hold, args=(lifeline, server), name="lab lifeline", daemon=True).start()
    try:
        with watching():
            server.run()
    except KeyboardInterrupt:
        pass  # as the uvicorn command does: SIGINT is no error
    except SystemExit as error:
        report("", "failed", server.why_not(error))
        raise


if __name__ == "__main__":
    main()
