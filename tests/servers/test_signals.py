"""Signals to a server in a process of its own."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.servers.web import Web

from ..waiting import until


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_two_signals_sent_at_once_both_count(serving: Callable[..., Web]) -> None:
    async def nap(request: Request) -> Response:
        return Response(background=BackgroundTask(asyncio.sleep, 20))

    app = Starlette(routes=[Route("/nap", nap)])
    web = serving(app, on="process", log_level="critical")
    trace = web.get("/nap")
    web.traces.wait_started(timeout=10)
    web.signal(signal.SIGINT)
    web.signal(signal.SIGINT)
    web.join(timeout=15)  # one alone would wait for the nap
    assert [task.state for task in trace.tasks] == ["cancelled"]
    assert [what for what, _ in trace.ending] == ["SIGINT", "SIGINT", "exit"]
    assert web.exit_code == 0  # as the uvicorn command


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_is_over_when_a_signal_comes_is_not_ended_by_it(
    serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serving("tests.bench.apps:empty", on="process")
    collector = web._server.collector
    with monkeypatch.context() as unread:
        unread.setattr(collector, "_under_load", lambda: True)
        unread.setattr(collector, "read", lambda: None)
        trace = web.get("/")
        folder = Path(collector.reporter.folder)
        until(lambda: any(b"returned" in each.read_bytes() for each in folder.iterdir()))
    assert trace.returned is None
    web.signal(signal.SIGTERM)
    web.join()
    assert trace.returned is not None
    assert trace.ending == ()
