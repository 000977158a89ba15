"""The connection of a burst: what it sends, reads, stamps, and how it breaks."""

import contextlib
import gzip
import select
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from lab import serve
from lab.clients.connection import Connection, Encoded
from lab.traces import Trace

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Answers = Callable[..., tuple[Connection, list[bytes]]]


@pytest.fixture
def answering() -> Iterator[Answers]:
    """A server that gives one canned answer after the other, a connection for each list of them."""
    listening: list[socket.socket] = []
    opened: list[Connection] = []

    def start(*scripts: list[bytes]) -> tuple[Connection, list[bytes]]:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        got: list[bytes] = []

        def serve_them() -> None:
            for script in scripts:
                wire, _ = server.accept()
                with wire:
                    for answer in script:
                        got.append(wire.recv(65536))
                        wire.sendall(answer)

        threading.Thread(target=serve_them, daemon=True).start()
        opened.append(Connection(f"http://127.0.0.1:{server.getsockname()[1]}"))
        return opened[-1], got

    yield start
    for connection in opened:
        connection.close()
    for server in listening:
        server.close()


@contextlib.contextmanager
def connected(answer: Callable[[socket.socket], None]) -> Iterator[Connection]:
    """A connection to a server whose one answer is the caller's."""

    def serve_one() -> None:
        wire, _ = server.accept()
        with wire:
            wire.recv(65536)
            answer(wire)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve_one, daemon=True).start()
        connection = Connection(f"http://127.0.0.1:{server.getsockname()[1]}")
        with contextlib.closing(connection):
            yield connection


def request(method: str = "POST", **options: object) -> Encoded:
    timeout = {"connect": 10, "read": 10, "write": 10}
    asked = httpx.Request(method, "http://lab/x?y=1", extensions={"timeout": timeout}, **options)  # type: ignore[arg-type]
    return Encoded(asked)


def test_one_connection_carries_many_requests_and_stamps_each(answering: Answers) -> None:
    connection, got = answering([OK, OK])
    for body in (b"a", b"b"):
        trace = Trace("1", 0.0)
        answer = connection.exchange(trace, request(content=body))()
        assert (answer.status_code, answer.content) == (200, b"ok")
        assert trace.sent > 0
        assert trace.answered is not None
        assert trace.answered > 0
    assert [each.partition(b"\r\n")[0] for each in got] == [b"POST /x?y=1 HTTP/1.1"] * 2
    assert [each[-1:] for each in got] == [b"a", b"b"]  # head and body leave together


def test_a_server_that_has_hung_up_in_between_is_called_again(answering: Answers) -> None:
    connection, got = answering([OK], [OK])
    first = connection.exchange(Trace("1", 0.0), request())
    assert first().status_code == 200
    assert len(got) == 1
    assert connection._socket is not None
    assert select.select([connection._socket], [], [], 10)[0]  # the server has closed its side
    assert connection.exchange(Trace("2", 0.0), request())().status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nconte",
        b"not HTTP\r\n\r\n",
    ],
)
def test_half_an_answer_is_an_error_and_the_next_request_goes_on(
    answering: Answers, answer: bytes
) -> None:
    connection, _ = answering([answer], [OK])
    with pytest.raises(httpx.TransportError):
        connection.exchange(Trace("1", 0.0), request())
    assert connection.exchange(Trace("2", 0.0), request())().status_code == 200


def test_answers_in_pieces_without_length_or_compressed_are_read_whole(answering: Answers) -> None:

    packed = gzip.compress(b"packed")
    connection, _ = answering(
        [
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s"
            % (len(packed), packed),
            b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        ]
    )
    bodies = [connection.exchange(Trace("1", 0.0), request())().content for _ in range(4)]
    assert bodies == [b"ok", b"ok", b"packed", b"until the end"]


@pytest.mark.parametrize(
    ("method", "status"),
    [("GET", b"204 No Content"), ("GET", b"304 Not Modified"), ("HEAD", b"200 OK")],
)
def test_a_length_without_a_body_is_not_waited_for(
    answering: Answers, method: str, status: bytes
) -> None:
    connection, _ = answering([b"HTTP/1.1 %s\r\ncontent-length: 5\r\n\r\n" % status, OK])
    for asked, told in ((method, int(status[:3])), ("GET", 200)):
        answer = connection.exchange(Trace("1", 0.0), request(asked))()
        assert answer.status_code == told


@pytest.mark.parametrize("closes", ["the server", "the client"])
def test_a_connection_that_one_side_wants_closed_is_not_used_again(
    answering: Answers, closes: str
) -> None:
    close = b"connection: close\r\n" if closes == "the server" else b""
    headers = {"connection": "close"} if closes == "the client" else {}
    connection, _ = answering([OK.replace(b"content", close + b"content")])
    assert connection.exchange(Trace("1", 0.0), request(headers=headers))().content == b"ok"
    assert connection._socket is None


@pytest.mark.parametrize(
    "head", [b"no field\r\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n"]
)
def test_an_answer_that_is_not_http_is_a_transport_error_once_it_is_parsed(
    answering: Answers, head: bytes
) -> None:
    connection, _ = answering([OK.replace(b"content", head + b"content")])
    with pytest.raises(httpx.TransportError):
        connection.exchange(Trace("1", 0.0), request())()


def test_a_request_is_answered_with_the_last_of_its_answer() -> None:
    stamped = threading.Semaphore(0)

    class Noted(Trace):
        def since(self, moment: float) -> float:
            stamps.append(moment)
            stamped.release()
            return moment

    def answer(wire: socket.socket) -> None:
        for piece in (OK[:-2], OK[-2:-1], OK[-1:]):
            wire.sendall(piece)
            stamped.acquire(timeout=10)

    stamps: list[float] = []
    trace = Noted("1", 0.0)
    with connected(answer) as connection:
        assert connection.exchange(trace, request())().content == b"ok"
    assert len(stamps) == 3
    assert trace.answered == stamps[-1]


def test_the_last_answer_is_entered_while_the_server_works_at_the_next_request() -> None:
    asked, entered = threading.Event(), threading.Event()

    def answer(wire: socket.socket) -> None:
        asked.set()
        assert entered.wait(10)
        wire.sendall(OK)

    def enter() -> None:
        assert asked.wait(10)
        entered.set()

    with connected(answer) as connection:
        assert connection.exchange(Trace("1", 0.0), request(), meanwhile=enter)().content == b"ok"


def test_a_body_may_come_from_an_iterator_and_a_head_may_be_alone() -> None:
    async def echo(scope, receive, send):  # type: ignore[no-untyped-def]
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    with serve(echo) as web:
        connection = Connection(web.url)
        made = connection.exchange(Trace("1", 0.0), request(content=iter([b"a", b"b", b"c"])))
        assert made().content == b"abc"
        assert connection.exchange(Trace("2", 0.0), request("HEAD"))().content == b""
        assert connection.exchange(Trace("3", 0.0), request("GET"))().content == b""
        connection.close()


def test_a_server_that_is_not_there_is_a_transport_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(httpx.TransportError):
        Connection(f"http://127.0.0.1:{port}").exchange(Trace("1", 0.0), request())


def test_what_is_in_memory_is_encoded_beforehand_and_what_is_made_is_not() -> None:
    asked: list[int] = []

    def made() -> Iterator[bytes]:
        asked.append(1)
        yield b"x"

    lazy = request(content=made())
    assert not asked
    assert [*lazy.pieces][-1] == b"0\r\n\r\n"
    assert asked
    with pytest.raises(httpx.LocalProtocolError, match="Too much data"):
        request(content=b"xy", headers={"content-length": "1"})
