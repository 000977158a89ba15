"""A connection stamps the first byte that leaves and the last byte that comes."""

from collections.abc import Callable, Iterator

import anyio
import httpcore
import pytest

from lab.clients import wire
from lab.clients.wire import AsyncStream, Stream, Wire, current_trace
from lab.traces import Trace

CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
FOUR = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
BARE = b"GET / HTTP/1.1\r\nhost: lab\r\n\r\n"


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
    assert connection.outgoing(CHUNKED) == b""
    assert trace.sent == -1.0
    at(2.0)
    assert connection.outgoing(b"first ") == CHUNKED + b"first "
    assert trace.sent == 2.0
    at(3.0)
    assert connection.outgoing(b"second") == b"second"
    assert trace.sent == 2.0
    assert connection.before_reading() == b""


@pytest.mark.parametrize(("head", "body"), [(BARE, b""), (FOUR, b"body"), (FOUR.lower(), b"body")])
def test_a_whole_request_leaves_before_the_answer_is_read(
    head: bytes, body: bytes, trace: Trace, at: Callable[[float], None]
) -> None:
    connection = Wire()
    assert [connection.outgoing(piece) for piece in (head, body, b"")] == [b"", b"", b""]
    at(5.0)
    assert connection.before_reading() == head + body
    assert trace.sent == 5.0
    assert connection.before_reading() == b""


def test_each_piece_of_the_answer_moves_answered_and_the_end_of_file_does_not(
    trace: Trace, at: Callable[[float], None]
) -> None:
    connection = Wire()
    connection.outgoing(BARE)
    at(1.0)
    connection.before_reading()
    for moment, piece, answered in ((1.5, b"half", 0.5), (3.0, b"rest", 2.0), (9.0, b"", 2.0)):
        at(moment)
        assert connection.incoming(piece) == piece
        assert trace.answered == answered


def test_after_an_answer_the_next_head_waits_again(trace: Trace) -> None:
    connection = Wire()
    connection.outgoing(BARE)
    connection.before_reading()
    connection.incoming(b"answer")
    assert connection.outgoing(CHUNKED) == b""
    assert connection.outgoing(b"body") == CHUNKED + b"body"


def test_a_request_without_a_trace_passes_unstamped() -> None:
    connection = Wire()
    assert connection.outgoing(CHUNKED) + connection.outgoing(b"body") == CHUNKED + b"body"
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


# Pieces of a request, what leaves as they come, and what leaves when the answer is read.
PIECES = [
    ([BARE, b""], [], [BARE]),
    ([FOUR, b"body", b""], [], [FOUR + b"body"]),
    ([FOUR, b"bo", b"dy", b""], [FOUR + b"bo", b"dy"], []),
    ([CHUNKED, b"a", b"b"], [CHUNKED + b"a", b"b"], []),
]


@pytest.mark.parametrize(("pieces", "before", "last"), PIECES)
def test_what_is_whole_leaves_in_one_write(
    pieces: list[bytes], before: list[bytes], last: list[bytes]
) -> None:
    plain = Sync()
    stream = Stream(plain)
    for piece in pieces:
        stream.write(piece)
    assert plain.written == before
    assert stream.read(100) == b"answer"
    assert plain.written == before + last


@pytest.mark.parametrize(("pieces", "before", "last"), PIECES)
def test_the_async_stream_does_the_same(
    pieces: list[bytes], before: list[bytes], last: list[bytes]
) -> None:
    plain = Async()

    async def exchange() -> bytes:
        stream = AsyncStream(plain)
        for piece in pieces:
            await stream.write(piece)
        assert plain.written == before
        return await stream.read(100)

    assert anyio.run(exchange) == b"answer"
    assert plain.written == before + last


class HungUp(Sync):
    """A connection that was answered and closed before all of the request was sent."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        raise httpcore.WriteError


def test_an_answer_that_came_before_the_end_of_the_request_is_read() -> None:
    stream = Stream(HungUp())
    stream.write(BARE)
    assert stream.read(100) == b"answer"
