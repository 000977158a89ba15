"""Stamps requests on the wire: as the first byte leaves, and as each piece of the answer arrives.

Timing around a client's call would count the client's own work, which takes longer than a
small answer.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import httpcore
import httpx

from ..traces import Trace

current_trace: ContextVar[Trace | None] = ContextVar("lab_current_trace", default=None)

# The lab's own requests are told in traces: the reader's log has lines of the reader's alone.
logging.getLogger("httpx").addFilter(lambda record: current_trace.get() is None)


class Wire:
    """The stamps of one connection.

    A request that is whole waits until its answer is read, as with a plain socket: sent earlier, it
    would have the server compete with what the client still does, and the head alone would wake
    the server twice. Where more of a body is to come, the head leaves with its first piece.
    """

    def __init__(self) -> None:
        self._held = b""
        self._between_requests = True

    def outgoing(self, data: bytes) -> bytes:
        """Return the bytes to send now, given the next piece to send."""
        if self._between_requests:
            self._between_requests = False
            self._held = data
            return b""
        if self._held and whole(request := self._held + data):
            self._held = request
            return b""
        return self._stamped(data)

    def before_reading(self) -> bytes:
        """Return the bytes that must be sent before an answer can be read."""
        return self._stamped(b"")

    def _stamped(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
            trace = current_trace.get()
            if trace is not None:
                trace.sent = perf_counter()
        return data

    def incoming(self, data: bytes) -> bytes:
        self._between_requests = True
        trace = current_trace.get()
        if trace is not None and data:
            trace.answered = trace.since(perf_counter())
        return data


def whole(request: bytes) -> bool:
    """Whether nothing of a request's body is to come any more."""
    end = request.index(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in request[:end].split(b"\r\n")[1:])
    if b"transfer-encoding" in fields:
        return False
    return len(request) - end - 4 >= int(fields.get(b"content-length", 0))


class Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._wire = Wire()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if data := self._wire.outgoing(buffer):
            self._stream.write(data, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if data := self._wire.before_reading():
            with contextlib.suppress(httpcore.WriteError):  # it may have been answered all the same
                self._stream.write(data, timeout)
        return self._wire.incoming(self._stream.read(max_bytes, timeout))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._wire = Wire()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if data := self._wire.outgoing(buffer):
            await self._stream.write(data, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if data := self._wire.before_reading():
            with contextlib.suppress(httpcore.WriteError):
                await self._stream.write(data, timeout)
        return self._wire.incoming(await self._stream.read(max_bytes, timeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Backend(httpcore.SyncBackend):
    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return Stream(super().connect_tcp(*args, **options))


class AsyncBackend(httpcore.AnyIOBackend):
    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return AsyncStream(await super().connect_tcp(*args, **options))


def stamping_client(url: str) -> httpx.Client:
    """Return a client of one server that stamps its requests on the wire."""
    # Loading certificates takes longer than many a request, and plain HTTP needs none.
    transport = httpx.HTTPTransport(trust_env=False, verify=False)
    # httpx has no argument for a connection pool: this is where it keeps its own.
    transport._pool = httpcore.ConnectionPool(network_backend=Backend())
    return httpx.Client(base_url=url, transport=transport, trust_env=False, timeout=60)


def hang_up(client: httpx.Client) -> None:
    """Close the connections of a stamping client; its next request opens one anew."""
    transport: Any = client._transport
    transport._pool.close()


def stamping_async_client(url: str) -> httpx.AsyncClient:
    """Return the same as `stamping_client`, for many requests at once."""
    transport = httpx.AsyncHTTPTransport(trust_env=False, verify=False)
    transport._pool = httpcore.AsyncConnectionPool(
        max_connections=None, network_backend=AsyncBackend()
    )
    return httpx.AsyncClient(base_url=url, transport=transport, trust_env=False, timeout=60)
