"""The moments of a request: what `responded` means, whoever holds the last message back."""

import asyncio
import marshal
import sys
from http import HTTPStatus
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from lab.observer.asgi import Watched
from lab.observer.protocol import Stamp
from lab.traces import Ledger, Trace

Message = dict[str, Any]


def start(status: int = 200, length: int | None = None) -> Message:
    headers = [] if length is None else [(b"Content-Length", str(length).encode())]
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(size: int = 0, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": bytes(size), "more_body": more}


# Sent messages, and by which of them all that the response declares has been handed over.
CASES: dict[str, tuple[str, list[Message], int | None]] = {
    "whole": ("GET", [start(length=3), body(3)], 1),
    "in pieces": ("GET", [start(length=3), body(2, True), body(1, True), body()], 2),
    "last message held back": ("GET", [start(length=3), body(3, True), body()], 1),
    "last message never sent": ("GET", [start(length=3), body(3, True)], 1),
    "too much": ("GET", [start(length=3), body(4, True), body()], 1),
    "no length": ("GET", [start(), body(3, True), body(1)], 2),
    "no length, no end": ("GET", [start(), body(3, True)], None),
    "nothing but a head": ("GET", [start(length=3)], None),
    "empty": ("POST", [start(202, 0), body()], 0),
    "HEAD": ("HEAD", [start(length=3), body()], 0),
    "204": ("POST", [start(204), body()], 0),
    "304": ("GET", [start(304), body()], 0),
}


@pytest.mark.parametrize("case", CASES)
def test_responded_is_when_all_that_is_declared_has_been_handed_over(case: str) -> None:
    method, messages, expected = CASES[case]
    ledger = Ledger()
    seen: list[float | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
            seen.append(ledger.traces[0].responded)

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": method, "path": "/", "headers": []}
    asyncio.run(Watched(app, ledger.enter)(scope, None, send))  # type: ignore[arg-type]
    first = next((n for n, at in enumerate(seen) if at is not None), None)
    assert first == expected
    assert len({at for at in seen if at is not None}) <= 1  # stamped once
    assert ledger.traces[0].status == messages[0]["status"]


def test_what_is_noted_of_a_response_can_travel_whatever_its_status_is_written_as() -> None:
    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(HTTPStatus.ACCEPTED, 0))

    async def send(message: Message) -> None:
        pass

    def note(stamp: Stamp) -> None:
        ledger.enter(marshal.loads(marshal.dumps(stamp)))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Watched(app, note)(scope, None, send))  # type: ignore[arg-type]
    (trace,) = ledger.traces
    assert trace.responded is not None
    assert (trace.status, type(trace.status)) == (202, int)


def test_without_asyncio_the_apps_own_exception_comes_out() -> None:
    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("its own")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    call = Watched(app, ledger.enter)(scope, None, None)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="its own"):
        call.send(None)
    assert ledger.traces[0].settled


def test_a_path_that_is_no_plain_text_is_stamped_as_one() -> None:
    class Path(str):
        pass

    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert type(scope["path"]) is Path

    scope = {"type": "http", "method": "GET", "path": Path("/x"), "headers": []}
    asyncio.run(Watched(app, ledger.enter)(scope, None, None))  # type: ignore[arg-type]
    trace: Trace = ledger.traces[0]
    assert type(trace.path) is str
    assert trace.path == "/x"


def call(app: Any) -> Trace:
    ledger = Ledger()

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Watched(app, ledger.enter)(scope, None, send))  # type: ignore[arg-type]
    return ledger.traces[0]


def test_the_apps_own_opentelemetry_trace_is_noted() -> None:
    tracer = TracerProvider().get_tracer("app")
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("request") as span:
            seen.append(span.get_span_context().trace_id)
            await send(start(204))

    trace = call(app)
    assert trace.otel == f"{seen[0]:032x}"
    assert trace.responded is not None


def test_without_a_span_or_with_an_odd_opentelemetry_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(204))

    assert call(app).otel is None
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())  # type: ignore[arg-type]
    trace = call(app)
    assert trace.otel is None
    assert trace.responded is not None
