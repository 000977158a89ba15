"""A connection stamps the first byte that leaves and the last byte that comes."""

from collections.abc import Callable, Iterator

import anyio
import httpcore
import pytest

from lab.clients import wire
from lab.clients.wire import AsyncStream, Stream, Wire, current_trace
from lab.traces import Trace


@pytest.fixture
def trace() -> Iterator[Trace]:
    token = current_trace.set(Trace("1", sent=-1.0))
    yield current_trace.get() or Trace("", 0.0)
    current_trace.reset(token)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock."""
    return lambda moment: monkeypatch.setattr(wire, "perf_counter", lambda: moment)


def test_the_head_waits_for_the_first_piece_of_the_body(
    trace: Trace, at: Callable[[float], None]
) -> None:
    connection = Wire()
    at(1.0)
    assert connection.outgoing(b"head ") == b""
    assert trace.sent == -1.0
    at(2.0)
    assert connection.outgoing(b"first ") == b"head first "
    assert trace.sent == 2.0
    at(3.0)
    assert connection.outgoing(b"second") == b"second"
    assert trace.sent == 2.0
    assert connection.before_reading() == b""


def test_a_head_without_a_body_leaves_before_the_answer_is_read(
    trace: Trace, at: Callable[[float], None]
) -> None:
    connection = Wire()
    assert connection.outgoing(b"head") == b""
    at(5.0)
    assert connection.before_reading() == b"head"
    assert trace.sent == 5.0
    assert connection.before_reading() == b""


def test_each_piece_of_the_answer_moves_answered_and_the_end_of_file_does_not(
    trace: Trace, at: Callable[[float], None]
) -> None:
    connection = Wire()
    connection.outgoing(b"head")
    at(1.0)
    connection.before_reading()
    for moment, piece, answered in ((1.5, b"half", 0.5), (3.0, b"rest", 2.0), (9.0, b"", 2.0)):
        at(moment)
        assert connection.incoming(piece) == piece
        assert trace.answered == answered


def test_after_an_answer_the_next_head_waits_again(trace: Trace) -> None:
    connection = Wire()
    connection.outgoing(b"head")
    connection.before_reading()
    connection.incoming(b"answer")
    assert connection.outgoing(b"next head ") == b""
    assert connection.outgoing(b"body") == b"next head body"


def test_a_request_without_a_trace_passes_unstamped() -> None:
    connection = Wire()
    assert connection.outgoing(b"head ") + connection.outgoing(b"body") == b"head body"
    assert connection.incoming(b"answer") == b"answer"


class Sync(httpcore.NetworkStream):
    """A connection that answers "answer" to whatever it gets."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written.append(buffer)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return b"answer"


class Async(httpcore.AsyncNetworkStream):
    """The same for many requests at once."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.written.append(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return b"answer"


BODIES = [
    ([], [b"head"]),
    ([b"body"], [b"headbody"]),
    ([b"a", b"b"], [b"heada", b"b"]),
]


@pytest.mark.parametrize(("body", "written"), BODIES)
def test_head_and_body_leave_in_one_write(body: list[bytes], written: list[bytes]) -> None:
    plain = Sync()
    stream = Stream(plain)
    for piece in [b"head", *body]:
        stream.write(piece)
    assert stream.read(100) == b"answer"
    assert plain.written == written


@pytest.mark.parametrize(("body", "written"), BODIES)
def test_the_async_stream_does_the_same(body: list[bytes], written: list[bytes]) -> None:
    plain = Async()

    async def exchange() -> bytes:
        stream = AsyncStream(plain)
        for piece in [b"head", *body]:
            await stream.write(piece)
        return await stream.read(100)

    assert anyio.run(exchange) == b"answer"
    assert plain.written == written
