"""Requests leave as asked, and each has its trace."""

import asyncio
import functools
import gc
import gzip
import hashlib
import random
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, ItemsView, Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lab.clients import sender
from lab.clients.connection import Connection, Encoded
from lab.clients.sender import Sender, poisson
from lab.clients.wire import AsyncBackend
from lab.servers.web import Web
from lab.traces import Ledger, Trace

Serving = Callable[..., Web]


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def digest(request: Request) -> Response:
    body = await request.body()
    return JSONResponse([len(body), hashlib.sha256(body).hexdigest()])


async def cut(request: Request) -> Response:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError("in mid-answer")

    return StreamingResponse(broken())


async def mixed(request: Request) -> Response:
    body = await request.body()
    if body.startswith(b"cut"):
        return await cut(request)
    if body.startswith(b"packed"):
        return Response(gzip.compress(body), headers={"content-encoding": "gzip"})
    return Response(body)


PLAIN = Starlette(
    routes=[
        Route(f"/{each.__name__}", each, methods=["POST"]) for each in (echo, digest, cut, mixed)
    ]
)


async def port_of_client(request: Request) -> int:
    assert request.client is not None
    return request.client.port


def test_moments_follow_the_order_of_events(serving: Serving) -> None:
    trace = serving(PLAIN).post("/echo", content=b"x").wait(5)
    assert trace.received is not None
    assert trace.responded is not None
    assert trace.answered is not None
    assert 0 <= trace.received <= trace.responded
    assert trace.received <= trace.answered
    assert trace.floor is not None


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 5 * 1024 * 1024])
def test_bodies_of_any_size_arrive_byte_for_byte(serving: Serving, size: int) -> None:
    web = serving(PLAIN)
    body = random.Random(size).randbytes(size)
    told = f'[{size},"{hashlib.sha256(body).hexdigest()}"]'.encode()
    pieces = (body[at : at + 1000] for at in range(0, size, 1000))
    assert web.post("/digest", content=body).body == told
    assert web.post("/digest", content=pieces).body == told
    assert [trace.body for trace in web.burst("/digest", [{"content": body}] * 2)] == [told] * 2


def test_bodies_of_any_kind_arrive_byte_for_byte(serving: Serving) -> None:
    web = serving(PLAIN)
    assert web.post("/echo", content=b"\x00\xff").body == b"\x00\xff"
    assert web.post("/echo", json={"a": "é"}).body == '{"a":"é"}'.encode()
    assert web.post("/echo", content=(part for part in (b"a", b"b"))).body == b"ab"
    assert b'name="f"' in web.post("/echo", files={"f": b"content"}).body


def test_a_streamed_answer_is_answered_with_its_last_byte(
    serving: Serving, gate: threading.Event
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.to_thread(gate.wait, 5)
        yield b"b"

    async def endpoint(request: Request) -> Response:
        threading.Timer(0.1, gate.set).start()
        return StreamingResponse(stream())

    trace = serving(Starlette(routes=[Route("/", endpoint)])).get("/").wait(5)
    opened = next(task for task in trace.tasks if task.name == "set")
    assert trace.body == b"ab"
    assert opened.started is not None
    assert trace.answered is not None
    assert opened.started < trace.answered


def test_a_broken_connection_is_recorded_and_not_raised(serving: Serving) -> None:
    web = serving(PLAIN)
    for trace in [web.post("/cut"), *web.burst("/cut", [{}] * 3)]:
        assert trace.error is not None
        assert trace.error.startswith("RemoteProtocolError")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections, and stamps nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def sender_to(listener: socket.socket) -> Sender:
    return Sender(f"http://127.0.0.1:{listener.getsockname()[1]}", Ledger())


def test_a_request_that_is_cut_before_it_is_received_is_not_waited_for(
    listener: socket.socket,
) -> None:
    def cut_off() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.close()

    threading.Thread(target=cut_off).start()
    trace = sender_to(listener).post("/").wait()
    assert trace.problems[0].startswith("the connection broke: ")
    assert trace.unseen == "its connection broke before the server had received it"


def test_a_request_that_its_client_gives_up_may_still_be_received(listener: socket.socket) -> None:
    trace = sender_to(listener).post("/", timeout=0.01)
    assert trace.error is not None
    assert trace.error.startswith("ReadTimeout")
    assert not [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert not trace.settled


@pytest.mark.parametrize("on", ["thread", "process"])
def test_each_request_of_a_burst_at_once_has_a_connection_of_its_own(
    serving: Serving, on: str
) -> None:
    app = FastAPI()
    app.post("/")(port_of_client)
    traces = serving(app, on=on).burst("/", [{}] * 20)
    assert len({trace.body for trace in traces}) == 20


def test_a_heartbeat_lasts_as_long_as_its_block(
    serving: Callable[..., Web],
) -> None:
    five = threading.Event()
    asked = []

    async def ping(request: Request) -> Response:
        asked.append(1)
        if len(asked) >= 5:
            five.set()
        return Response()

    web = serving(Starlette(routes=[Route("/ping", ping)]))
    with web.heartbeat(every=0.001) as beats:
        assert five.wait(10)
    assert len(beats) == len(asked) >= 5
    assert {each.status for each in beats} == {200}
    assert "lab heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_poisson_arrivals_depend_on_the_seed_and_match_the_rate() -> None:
    moments = poisson(100, 50, seed=1)
    assert moments == poisson(100, 50, seed=1) != poisson(100, 50, seed=2)
    assert moments == sorted(moments)
    assert 0 < moments[0] < moments[-1] < 50
    assert 4700 < len(moments) < 5300
    with pytest.raises(ValueError, match="above 0"):
        poisson(0, 1, seed=1)


class TestBurst:
    def test_at_most_at_once_requests_are_unanswered(self, serving: Serving) -> None:
        under_way, most = 0, Counter[str]()

        async def endpoint(request: Request) -> Response:
            nonlocal under_way
            under_way += 1
            most["at once"] = max(most["at once"], under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return Response()

        web = serving(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))
        traces = web.burst("/", [{}] * 30, at_once=3)
        assert len(traces) == 30
        assert most["at once"] == 3

    def test_a_rate_is_kept_without_waiting_for_answers(
        self, serving: Serving, gate: threading.Event
    ) -> None:
        entered = []

        async def endpoint(request: Request) -> Response:
            entered.append(1)
            if len(entered) == 5:
                gate.set()
            await asyncio.to_thread(gate.wait, 5)
            return Response()

        web = serving(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))
        traces = web.burst("/", [{}] * 5, rate=100)
        gaps = [after.sent - before.sent for before, after in pairwise(traces)]
        assert [trace.status for trace in traces] == [200] * 5
        assert all(gap > 0 for gap in gaps)

    def test_a_schedule_has_a_client_for_each_connection(
        self, serving: Serving, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entered, connected = [], []
        connect = AsyncBackend.connect_tcp

        async def noted(self: AsyncBackend, *args: Any, **options: Any) -> Any:
            connected.append(self)
            return await connect(self, *args, **options)

        async def endpoint(request: Request) -> Response:
            entered.append(1)
            if len(entered) == 10:
                gate.set()
            await asyncio.to_thread(gate.wait, 10)
            return Response()

        monkeypatch.setattr(AsyncBackend, "connect_tcp", noted)
        web = serving(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))
        assert [trace.status for trace in web.burst("/", [{}] * 10, at=[0.0] * 10)] == [200] * 10
        assert len(set(map(id, connected))) == len(connected) == 10

    @pytest.mark.parametrize("how", [{}, {"rate": 1000}], ids=str)
    @pytest.mark.parametrize(("on", "times"), [("thread", 0), ("process", 1)])
    def test_garbage_is_collected_before_a_burst_unless_it_is_the_apps_too(
        self,
        serving: Serving,
        monkeypatch: pytest.MonkeyPatch,
        on: str,
        times: int,
        how: dict[str, Any],
    ) -> None:
        web = serving("tests.bench.apps:two" if on == "process" else PLAIN, on=on)
        collected: list[int] = []
        monkeypatch.setattr(gc, "collect", lambda: collected.append(len(web.traces)))
        web.burst("/two", [{}] * 3, **how)
        assert collected == [0] * times

    def test_all_requests_are_encoded_before_the_first_is_sent(
        self, serving: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        web = serving("tests.bench.apps:two", on="process")
        steps: list[str] = []

        class Noted(Encoded):
            def __init__(self, request: httpx.Request) -> None:
                if request.url.path == "/none":
                    steps.append("encoded")
                super().__init__(request)

        exchange = Connection.exchange

        def noted(self: Connection, trace: Trace, *asked: Any, **options: Any) -> Any:
            if trace.path == "/none":
                steps.append("sent")
            return exchange(self, trace, *asked, **options)

        monkeypatch.setattr(sender, "Encoded", Noted)
        monkeypatch.setattr(Connection, "exchange", noted)
        web.burst("/none", [{}] * 5, method="GET", at_once=2)
        assert steps == ["encoded"] * 5 + ["sent"] * 5

    @pytest.mark.parametrize("on", ["thread", "process"])
    def test_what_http_cannot_say_is_told_in_its_trace_and_the_others_are_sent(
        self, serving: Serving, on: str
    ) -> None:
        torn, whole = {"headers": {"x": "a\nb"}}, {"headers": {"x": "ab"}}
        web = serving("tests.bench.apps:two", on=on)
        traces = web.burst("/none", [whole, torn, whole], method="GET")
        assert [bool(trace.status) for trace in traces] == [True, False, True]
        assert str(traces[1].error).startswith("LocalProtocolError")

    def test_a_body_that_is_not_as_long_as_it_says_is_told_in_its_trace(
        self, serving: Serving
    ) -> None:
        short = {"content": iter([b"a"]), "headers": {"content-length": "2"}}
        traces = serving(PLAIN, on="process").burst("/echo", [{}, short, {}], at_once=1)
        errors = [str(trace.error).partition(":")[0] for trace in traces]
        assert errors == ["None", "LocalProtocolError", "None"]

    def test_a_body_that_raises_ends_a_burst_and_no_answer_is_lost(self, serving: Serving) -> None:
        def raising() -> Iterator[bytes]:
            raise LookupError("no body")
            yield b""

        web = serving(PLAIN, on="process")
        with pytest.raises(LookupError, match="no body"):
            web.burst("/echo", [{"content": b"a"}, {"content": raising()}], at_once=1)
        assert next(iter(web.traces)).body == b"a"

    def test_an_answer_that_cannot_be_parsed_is_told_in_its_trace(
        self, listener: socket.socket
    ) -> None:
        def answer_all() -> None:
            wire, _ = listener.accept()
            with wire:
                while wire.recv(65536):
                    wire.sendall(b"HTTP/1.1 200 OK\r\nno field\r\ncontent-length: 2\r\n\r\nok")

        threading.Thread(target=answer_all, daemon=True).start()
        told = Sender(sender_to(listener).url, Ledger(), apart=True).burst("/", [{}] * 3, at_once=1)
        errors = [str(trace.error).partition(":")[0] for trace in told]
        assert errors == ["RemoteProtocolError"] * 3

    @pytest.mark.parametrize("on", ["thread", "process"])
    def test_time_outs_and_refusals_are_told_wherever_the_server_is(
        self, serving: Serving, on: str, listener: socket.socket
    ) -> None:
        app = FastAPI()
        app.post("/")(functools.partial(asyncio.sleep, 0.5))
        traces = serving(app, on=on).burst("/", [{"timeout": 0.05}, {"timeout": 30}])
        assert [str(trace.error).partition(":")[0] for trace in traces] == ["ReadTimeout", "None"]
        nobody = Sender(sender_to(listener).url, Ledger(), apart=on == "process")
        listener.close()
        (refused,) = nobody.burst("/", [{}])
        assert str(refused.error).startswith("ConnectError")

    def test_a_schedule_waits_for_no_answer_before_its_first_request(
        self, listener: socket.socket
    ) -> None:
        traces = sender_to(listener).burst("/", [{"timeout": 0.5}] * 3, at=[0.0] * 3)
        assert [str(trace.error)[:11] for trace in traces] == ["ReadTimeout"] * 3
        listener.settimeout(10)
        for _ in traces:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(4096).startswith(b"POST / ")

    @pytest.mark.parametrize("how", [{}, {"rate": 1000}], ids=str)
    def test_a_burst_logs_nothing_of_its_own(
        self, serving: Serving, caplog: pytest.LogCaptureFixture, how: dict[str, Any]
    ) -> None:
        web = serving(PLAIN)
        with caplog.at_level("INFO", logger="httpx"):
            web.burst("/echo", [{}] * 3, **how)
        assert "httpx" not in {record.name for record in caplog.records}

    def test_a_schedule_is_sent_in_its_order(self, serving: Serving) -> None:
        traces = serving(PLAIN).burst("/echo", [{}] * 3, at=[0.6, 0.0, 0.3])
        assert sorted(range(3), key=lambda index: traces[index].sent) == [1, 2, 0]

    @pytest.mark.parametrize("on", ["thread", "process"])
    def test_each_answer_stands_in_its_own_trace_whatever_the_next_is(
        self, serving: Serving, on: str
    ) -> None:
        bodies = [f"{kind} {at}" for at in range(10) for kind in ("plain", "packed", "cut")]
        random.Random(1).shuffle(bodies)
        bodies.append("plain last")
        web = serving(PLAIN, on=on)
        traces = web.burst("/mixed", [{"content": each} for each in bodies], at_once=2)
        for body, trace in zip(bodies, traces, strict=True):
            broken = body.startswith("cut")
            assert (trace.error is not None) == broken, body
            assert trace.body == (b"" if broken else body.encode())

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"rate": 0}, "rate=0"),
            ({"rate": 1, "at": [0]}, "either rate= or at="),
            ({"at": [0]}, "1 moments for 2 requests"),
            ({"at_once": 0}, "at_once=0"),
        ],
    )
    def test_a_schedule_that_does_not_fit_raises(
        self, serving: Serving, options: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ValueError, match=told):
            serving(PLAIN).burst("/echo", [{}] * 2, **options)

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    @pytest.mark.parametrize("how", [{"at_once": 5}, {"rate": 200}], ids=str)
    def test_an_interrupt_ends_a_burst_and_unsent_requests_are_not_awaited(
        self, serving: Serving, gate: threading.Event, how: dict[str, Any]
    ) -> None:
        received = []

        async def endpoint(request: Request) -> Response:
            received.append(1)
            if len(received) == 5:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.to_thread(gate.wait, 10)
            return Response()

        web = serving(Starlette(routes=[Route("/", endpoint, methods=["POST"])]))
        with pytest.raises(KeyboardInterrupt):
            web.burst("/", [{}] * 500, **how)
        gate.set()
        for thread in threading.enumerate():
            if thread.name == "lab burst":
                thread.join(10)
        traces = web.traces.wait(10)
        assert {trace.status for trace in traces} == {200}
        assert 5 <= len(traces) == len(received) < 500

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_an_interrupt_while_a_burst_is_encoded_ends_it(
        self, serving: Serving, gate: threading.Event
    ) -> None:
        encoded = []

        class Interrupting(dict[str, str]):
            def items(self) -> ItemsView[str, str]:
                encoded.append(1)
                if len(encoded) == 5:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    gate.wait(10)
                return super().items()

        web = serving(PLAIN, on="process")
        with pytest.raises(KeyboardInterrupt):
            web.burst("/echo", [{"headers": Interrupting()}] * 500)
        gate.set()
        for thread in threading.enumerate():
            if thread.name == "lab burst":
                thread.join(10)
        assert len(encoded) == 5
        assert not web.traces

    def test_an_interrupt_while_its_thread_starts_ends_it(
        self, serving: Serving, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = []

        def start(thread: threading.Thread) -> None:
            usual(thread)
            if thread.name in ("lab burst", "lab heartbeat"):
                started.append(thread)
                raise KeyboardInterrupt

        web = serving(PLAIN)
        web.post("/echo")
        usual = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            web.burst("/echo", [{}] * 2, at=[0, 3600])
        with pytest.raises(KeyboardInterrupt), web.heartbeat("/echo"):
            pass
        for thread in started:
            thread.join(10)
        assert [thread.is_alive() for thread in started] == [False, False]

    @pytest.mark.slow
    @pytest.mark.parametrize("on", ["thread", "process"])
    def test_a_thousand_requests_all_have_complete_traces(self, serving: Serving, on: str) -> None:
        app = FastAPI()

        @app.post("/", status_code=202)
        async def endpoint(tasks: BackgroundTasks) -> None:
            tasks.add_task(int)
            tasks.add_task(asyncio.sleep, 0)

        web = serving(app, on=on)
        traces = web.burst("/", [{}] * 1000).wait(60)
        assert {trace.status for trace in traces} == {202}
        assert {task.state for task in traces.tasks} == {"finished"}
        assert len(traces.tasks) == 2000
        assert sorted(int(trace.id) for trace in web.traces) == [int(trace.id) for trace in traces]
        for trace in traces:
            first, second = trace.tasks
            assert trace.responded < first.started < second.started  # type: ignore[operator]
