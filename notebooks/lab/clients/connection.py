"""One HTTP/1.1 connection on a plain socket, for bursts: it costs less than what it measures."""

from __future__ import annotations

import functools
import re
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from time import perf_counter

import h11
import httpx

from ..traces import Trace

MOST_READ = 64 * 1024

# The head of an answer that tells its end, and needs no decoding: it can be parsed later.
PLAIN = re.compile(
    rb"HTTP/1\.1 (?!204)[245]\d\d[^\r\n]*\r\n"
    rb"(?:(?!%(other)b|content-length)[^\r\n]+\r\n)*"
    rb"content-length:[ \t]*(\d+)[ \t]*\r\n"
    rb"(?:(?!%(other)b|content-length)[^\r\n]+\r\n)*\r\n"
    % {b"other": rb"connection|content-encoding|transfer-encoding"},
    re.IGNORECASE,
)


class Encoded:
    """A request as bytes of HTTP/1.1, made before it is measured: a server that is asked after a
    pause answers later.

    Raises httpx.LocalProtocolError when HTTP/1.1 cannot say it.
    """

    def __init__(self, request: httpx.Request) -> None:
        if not isinstance(request.stream, httpx.SyncByteStream):
            raise TypeError("content= of a burst is bytes, text or a plain iterator")
        self.method = request.method
        self.timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        self.parser = h11.Connection(h11.CLIENT)
        try:
            head = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
            self.pieces = self._in_pieces(self.parser.send(head) or b"", request.stream)
            if isinstance(request.stream, httpx.ByteStream):  # others are made as they are sent
                self.pieces = iter(list(self.pieces))
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error

    def _in_pieces(self, data: bytes, body: httpx.SyncByteStream) -> Iterator[bytes]:
        # The head goes with the first piece of the body: apart, it would wake the server alone.
        for piece in chain(body, [None]):
            event = h11.EndOfMessage() if piece is None else h11.Data(data=piece)
            data += self.parser.send(event) or b""
            if data:
                yield data
                data = b""


class Connection:
    """A connection to one server, opened when it is first needed, and again when it has broken.

    url: the server's.
    """

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self._address = (parsed.host, parsed.port or 80)
        self._socket: socket.socket | None = None

    def exchange(
        self, trace: Trace, request: Encoded, meanwhile: Callable[[], None] = lambda: None
    ) -> Callable[[], httpx.Response]:
        """Send a request and receive its answer; stamp `sent` and `answered` on the wire.

        Returns what parses the answer, or raises httpx.RemoteProtocolError: an answer that tells
        its end is not parsed here, where its server would wait for the next request.
        meanwhile: called when the request is sent, while the server works at it.
        Raises httpx.TransportError when the connection breaks, or its time is over.
        """
        try:
            wire = self._opened(request)
            self._send(wire, trace, request)
            meanwhile()
            wire.settimeout(request.timeout.get("read"))
            return self._receive(wire, trace, request)
        except httpx.RemoteProtocolError:
            self.close()
            raise
        except h11.LocalProtocolError as error:  # of a body that is made as it is sent
            self.close()
            raise httpx.LocalProtocolError(str(error)) from error
        except TimeoutError as error:
            self.close()
            raise httpx.ReadTimeout(str(error)) from error
        except OSError as error:
            self.close()
            raise httpx.ReadError(str(error)) from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self, request: Encoded) -> socket.socket:
        # Readable between two requests means that the server has hung up.
        if self._socket is not None and select.select([self._socket], [], [], 0)[0]:
            self.close()
        if self._socket is None:
            try:
                self._socket = socket.create_connection(
                    self._address, request.timeout.get("connect")
                )
            except TimeoutError as error:
                raise httpx.ConnectTimeout(str(error)) from error
            except OSError as error:
                raise httpx.ConnectError(str(error)) from error
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(request.timeout.get("write"))
        return self._socket

    def _send(self, wire: socket.socket, trace: Trace, request: Encoded) -> None:
        stamped = False
        for piece in request.pieces:
            if not stamped:
                trace.sent, stamped = perf_counter(), True
            wire.sendall(piece)

    def _receive(
        self, wire: socket.socket, trace: Trace, request: Encoded
    ) -> Callable[[], httpx.Response]:
        pieces = _received(wire, trace)
        got = [next(pieces)]
        plain = None if request.method == "HEAD" else PLAIN.match(got[0])
        if plain and request.parser.our_state is h11.DONE:
            missing = plain.end() + int(plain[1]) - len(got[0])
            while missing > 0 and got[-1]:
                got.append(next(pieces))
                missing -= len(got[-1])
            if missing == 0:
                return functools.partial(_parsed, request.parser, got)
        response = _parsed(request.parser, chain(got, pieces))
        if request.parser.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self.close()
        return lambda: response


def _received(wire: socket.socket, trace: Trace) -> Iterator[bytes]:
    while True:
        data = wire.recv(MOST_READ)
        if data:
            trace.answered = trace.since(perf_counter())
        yield data


def _parsed(parser: h11.Connection, pieces: Iterable[bytes]) -> httpx.Response:
    more = iter(pieces)
    body: list[bytes] = []
    try:
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(next(more))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return httpx.Response(
                    head.status_code, headers=head.headers.raw_items(), content=b"".join(body)
                )
            elif isinstance(event, h11.ConnectionClosed):
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
    except h11.ProtocolError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
