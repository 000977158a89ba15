"""Starts a web server for an app, watched, and hands out what it takes to send it requests."""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Literal

import httpx

from ..clients.sender import PROBES, Sender
from ..clients.wire import current_trace
from ..observer.asgi import App
from ..observer.protocol import PROBE
from ..traces import Floor, Ledger, Trace, Traces
from .by_command import ByCommand
from .in_kernel import InKernel
from .in_process import InOwnProcess
from .in_thread import InThread

PLACES: dict[str, type[InThread] | type[InOwnProcess]] = {
    "thread": InThread,
    "kernel": InKernel,
    "process": InOwnProcess,
}


Server = InThread | InOwnProcess | ByCommand


class Web(Sender):
    """A running server, watched: send it requests, look at its traces, stop it.

    It lives as long as its name: when the name is bound to a new server or deleted, the old one
    takes no more requests, finishes its work and ends.
    """

    def __init__(self, server: Server, ledger: Ledger) -> None:
        super().__init__(
            server.url, ledger, server.until, apart=server.place in ("process", "command")
        )
        self._server = server
        self._finalizer = weakref.finalize(self, _let_go, server, self._client)
        self._finalizer.atexit = False  # the server's thread or process ends with the kernel
        with contextlib.ExitStack() as ending:
            ending.callback(self._finalizer)
            self.floor = server.call(self._measure_floor)
            ending.pop_all()

    @property
    def traces(self) -> Traces:
        """All requests that the server has received, from any client."""
        self._server.collector.read()
        return self._ledger.traces

    @property
    def pid(self) -> int:
        """The process in which the server runs."""
        return self._server.pid

    @property
    def ended(self) -> bool:
        """Whether the server has ended, with all its processes."""
        return self._server.ended

    @property
    def exit_code(self) -> int | None:
        """With what a server of its own process ended; None while it runs."""
        return self._server.exit_code

    def stop(self, timeout: float = 30) -> None:
        """Take no more requests, let the work finish, end.

        timeout: seconds. Raises TimeoutError, which names the work that is still going on; the
        server then still ends by itself when that work does.
        """
        self._server.collector.read()  # what is over by now is not ended by this
        self._ledger.ending("stop", perf_counter())
        self._finalizer()
        self.join(timeout)

    def join(self, timeout: float = 30) -> None:
        """Wait until the server has ended, by itself or by a signal.

        timeout: seconds. Raises TimeoutError, which names the work that is still going on.
        """
        if not self._server.join(timeout):
            going = [trace for trace in self.traces if not trace.settled]
            named = "; ".join(f"{trace}: {trace.missing()}" for trace in going[:3])
            more = f" (and {len(going) - 3} more)" if len(going) > 3 else ""
            raise TimeoutError(
                f"the server has not ended after {timeout:g} s: {named or 'idle'}{more}"
            )

    def signal(self, number: int, to: int | None = None) -> None:
        """Send the server's process a signal; return when the lab's own uvicorn has taken it.

        to: one process of several that a command has started, by its number; None for the main
        one. Raises RuntimeError unless the server has its own process.
        """
        self._server.collector.read()  # what is over by now is not ended by this
        self._server.signal(number, to)

    def kill(self) -> None:
        """End the server and all its processes at once; its open work is lost.

        Raises RuntimeError unless it has its own process.
        """
        self._server.kill()

    def request(self, method: str, path: str, **options: Any) -> Trace:
        self._refuse_if_ended()
        send = functools.partial(super().request, method, path, **options)
        trace = self._server.call(send)
        self._server.collector.read()
        return trace

    def burst(self, path: str, *args: Any, **options: Any) -> Traces:
        self._refuse_if_ended()
        send = functools.partial(super().burst, path, *args, **options)
        traces = self._server.call(send)
        self._server.collector.read()
        return traces

    def _refuse_if_ended(self) -> None:
        if self._server.ended or not self._finalizer.alive:
            raise RuntimeError("this server has ended; start one with serve(app)")

    def _measure_floor(self) -> Floor | None:
        answered = []
        for method in ["PUT"] + ["POST"] * PROBES:
            probe = Trace("", 0.0)
            token = current_trace.set(probe)
            self._client.request(method, PROBE)
            current_trace.reset(token)
            answered.append(probe.answered or 0.0)
        return Floor.of(answered[1:])

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "ended" if self._server.ended else f"{self.url}, {self.floor}"
        return f"<server on {self._server.place}: {state}>"

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        metadata = {"noise_floor": self.floor._asdict()} if self.floor else {}
        return {"text/plain": repr(self)}, metadata


def _let_go(server: Server, client: httpx.Client) -> None:
    server.drain()
    client.close()


def serve(
    app: App | str,
    *,
    on: Literal["thread", "kernel", "process"] = "thread",
    command: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    watch_loop: bool = False,
    **settings: Any,
) -> Web:
    """Serve an ASGI app on a free port of 127.0.0.1 and watch what it does.

    app: the app, or where to import it from ("server:app").
    command: the app's own server, started as always, in the app's own environment; {app} and {port}
    stand where the command has the import string and the port. cwd: the folder that it is started
    in. env: variables beside those of this process.
    on, without a command: "thread" (of this process, with its own event loop); "process" (its own,
    so that neither the notebook's work nor the client's disturbs it); "kernel" (the notebook's own
    event loop).
    watch_loop: whether to tell what holds the event loop for 0.1 s or longer, and at which line:
    in `Trace.held` and `Trace.problems`. Of asyncio's own loops alone, not of uvloop's.
    settings: uvicorn's own, such as `timeout_graceful_shutdown`, without a command.
    Raises RuntimeError when the app does not start, TypeError when it cannot travel to a process,
    ValueError for a command that cannot be watched.
    """
    if command is not None:
        return by_command(app, command, cwd, env, on, watch_loop, settings)
    if cwd is not None or env is not None:
        raise ValueError("cwd= and env= belong to command=: give the command that starts the app")
    if on not in PLACES:
        raise ValueError(f"on={on!r}: a server runs on {', '.join(map(repr, PLACES))}")
    ledger = Ledger()
    server = PLACES[on](app, ledger, settings, watch_loop)
    return Web(server, ledger)


def by_command(
    app: App | str,
    command: str,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    on: str,
    watch_loop: bool,
    settings: dict[str, Any],
) -> Web:
    if not isinstance(app, str) or ":" not in app:
        raise ValueError(
            "with command= the app is named as its server would import it: 'package.module:app'"
        )
    if settings or on != "thread":
        given = ", ".join([*settings, *(["on"] if on != "thread" else [])])
        raise ValueError(f"{given}: with command=, what the server is to do stands in the command")
    ledger = Ledger()
    return Web(ByCommand(app, ledger, command, cwd, env, watch_loop), ledger)
