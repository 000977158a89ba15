"""Sends requests, one or many, at once or on a schedule, and returns a trace of each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import Any

import httpx

from ..observer.protocol import PROBE, TRACE_HEADER
from ..progress import Progress
from ..traces import Floor, Ledger, Trace, Traces
from ..traces.waiting import Until, until
from .connection import Connection, Encoded
from .wire import AsyncBackend, current_trace, hang_up, stamping_async_client, stamping_client

LONGEST_BODY = 64 * 1024
PROBES = 100
RECEIVED_WITHIN = 1.0  # seconds in which that stamp of a request arrives that was cut

_numbers = itertools.count(1)


class Sender:
    """A client of one server that returns a `Trace` of each request."""

    def __init__(self, url: str, ledger: Ledger, until: Until = until, apart: bool = False) -> None:
        """Send to `url`. apart: whether its server has another process than the sender."""
        self.url = url
        self.floor: Floor | None = None
        self._ledger = ledger
        self._client = stamping_client(url)
        self._until = until
        self._apart = apart

    def request(self, method: str, path: str, **options: Any) -> Trace:
        """Send one request; return when it is answered. Its work may still go on.

        options: those of httpx (content, json, headers, params, ...).
        Never raises for a broken connection: `Trace.error` says how it broke.
        """
        trace = self._new(method, path)
        self._exchange(self._client, trace, options)
        return trace

    def get(self, path: str, **options: Any) -> Trace:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Trace:
        return self.request("POST", path, **options)

    def hang_up(self) -> None:
        """Leave the server: close the connections, which are otherwise kept for later requests."""
        hang_up(self._client)

    @contextlib.contextmanager
    def heartbeat(self, path: str = "/ping", every: float = 0.02) -> Iterator[Traces]:
        """Request `path` again and again, on a connection of its own, while the block runs.

        every: seconds from one request to the next; a late answer delays the next requests.
        """
        beats, stop = Traces(), threading.Event()

        def beat() -> None:
            with stamping_client(self.url) as client:
                while not stop.wait(every):
                    beats.append(self._new("GET", path))
                    self._exchange(client, beats[-1], {})

        thread = threading.Thread(target=beat, name="lab heartbeat", daemon=True)
        try:
            thread.start()
            yield beats
        finally:
            stop.set()
            if thread.is_alive():
                thread.join()

    def burst(
        self,
        path: str,
        requests: Iterable[Mapping[str, Any]],
        *,
        method: str = "POST",
        at_once: int = 20,
        rate: float | None = None,
        at: Sequence[float] | None = None,
    ) -> Traces:
        """Send many requests and return when all are answered.

        requests: the options of httpx for each: `(delivery("push") for _ in range(20))`.
        at_once: how many may be unanswered at a time.
        rate: requests per second instead, sent on schedule whether or not answers are back.
        at: the schedule itself, in seconds after now.
        Raises ValueError when the schedule does not fit the requests.
        """
        wanted = [dict(options) for options in requests]
        if rate is not None and at is not None:
            raise ValueError("give either rate= or at=, not both")
        if rate is not None:
            if rate <= 0:
                raise ValueError(f"rate={rate:g}: requests per second must be above 0")
            at = [number / rate for number in range(len(wanted))]
        if at is not None and len(at) != len(wanted):
            raise ValueError(f"at= has {len(at)} moments for {len(wanted)} requests")
        if at_once < 1:
            raise ValueError(f"at_once={at_once}: at least 1 request must be under way")
        traces = Traces(self._new(method, path) for _ in wanted)
        pairs = list(zip(traces, wanted, strict=True))
        if at is None and self._apart:
            _run_in_thread(lambda stop: self._send_from_threads(pairs, at_once, stop), traces)
        else:
            _run_in_thread(
                lambda stop: asyncio.run(self._send_all(pairs, at, at_once, stop)), traces
            )
        return traces

    def _send_from_threads(
        self, pairs: list[tuple[Trace, dict[str, Any]]], at_once: int, stop: threading.Event
    ) -> None:
        """Send from a thread for each connection, which share their interpreter with no server.

        One loop for all would be slower than the server that it measures.
        """
        requests = list(self._encoded(itertools.takewhile(lambda _: not stop.is_set(), pairs)))
        gc.collect()  # not in mid-burst, where all requests would wait for it
        connections = [Connection(self.url) for _ in range(min(at_once, len(requests)))]
        # At first one request for each: what a failing task cuts then had no other to lose.
        firsts, queue = requests[: len(connections)], iter(requests[len(connections) :])

        def probe(connection: Connection) -> list[float]:
            number = max(2, PROBES // len(connections))
            asked = [self._client.build_request("POST", PROBE) for _ in range(number)]
            probes = [(Trace("", 0.0), Encoded(each)) for each in asked]
            with contextlib.suppress(httpx.TransportError):  # the requests will tell
                for trace, request in probes:
                    connection.exchange(trace, request)
            return [trace.answered for trace, _ in probes if trace.answered is not None]

        def send(connection: Connection, first: tuple[Trace, Encoded]) -> None:
            # An answer is entered while the server works at the next request.
            received: list[tuple[Trace, Callable[[], httpx.Response]]] = []

            def enter() -> None:
                while received:
                    trace, parse = received.pop()
                    try:
                        answer(trace, parse())
                    except httpx.TransportError as error:
                        cut(trace, error)

            try:
                for trace, request in itertools.chain([first], queue):
                    if stop.is_set():
                        break
                    self._ledger.open(trace)
                    try:
                        parse = connection.exchange(trace, request, meanwhile=enter)
                        received.append((trace, parse))
                    except httpx.TransportError as error:
                        cut(trace, error)
            finally:
                enter()
                connection.close()

        if not connections:
            return
        with ThreadPoolExecutor(len(connections), thread_name_prefix="lab burst") as pool:
            floor = Floor.of([at for probed in pool.map(probe, connections) for at in probed])
            for trace, _ in pairs:
                trace.floor = floor
            for _ in pool.map(send, connections, firsts):
                pass

    def _encoded(
        self, pairs: Iterable[tuple[Trace, dict[str, Any]]]
    ) -> Iterator[tuple[Trace, Encoded]]:
        for trace, options in pairs:
            tied = self._tied(trace, options)
            try:
                yield trace, Encoded(self._client.build_request(trace.method, trace.path, **tied))
            except httpx.LocalProtocolError as error:
                self._ledger.open(trace)
                cut(trace, error)

    async def _send_all(
        self,
        pairs: list[tuple[Trace, dict[str, Any]]],
        at: Sequence[float] | None,
        at_once: int,
        stop: threading.Event,
    ) -> None:
        async def send(client: httpx.AsyncClient, trace: Trace, options: dict[str, Any]) -> None:
            self._ledger.open(trace)
            current_trace.set(trace)
            try:
                options = self._tied(trace, options)
                answer(trace, await client.request(trace.method, trace.path, **options))
            except httpx.TransportError as error:
                cut(trace, error)

        # A client for each connection: httpx looks through all of a client's for every request.
        async def send_one_after_another(queue: Iterable[tuple[Trace, dict[str, Any]]]) -> None:
            async with stamping_async_client(self.url) as client:
                for trace, options in queue:
                    if stop.is_set():
                        return
                    await send(client, trace, options)

        async def send_on_schedule(at: Sequence[float]) -> None:
            if self._apart:  # else it would be the app's garbage, too
                gc.collect()
            idle: list[httpx.AsyncClient] = []

            async def send_by_idle(trace: Trace, options: dict[str, Any]) -> None:
                if idle:
                    client = idle.pop()
                else:
                    client = await stack.enter_async_context(stamping_async_client(self.url))
                await send(client, trace, options)
                idle.append(client)

            await AsyncBackend().sleep(0)  # imports what the first request would be late by
            async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                async for index in due(at, stop):
                    group.create_task(send_by_idle(*pairs[index]))

        if at is not None:
            await send_on_schedule(at)
            return
        async with asyncio.TaskGroup() as group:
            queue = iter(pairs)
            for _ in range(min(at_once, len(pairs))):
                group.create_task(send_one_after_another(queue))

    def _exchange(self, client: httpx.Client, trace: Trace, options: dict[str, Any]) -> None:
        self._ledger.open(trace)
        token = current_trace.set(trace)
        try:
            tied = self._tied(trace, options)
            answer(trace, client.request(trace.method, trace.path, **tied))
        except httpx.TransportError as error:
            cut(trace, error)
        finally:
            current_trace.reset(token)

    def _new(self, method: str, path: str) -> Trace:
        number = str(next(_numbers))
        return Trace(number, perf_counter(), method, path, floor=self.floor, _until=self._until)

    def _tied(self, trace: Trace, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with the header that ties the request to its trace."""
        headers = httpx.Headers(options.get("headers"))
        headers[TRACE_HEADER] = trace.id
        return {**options, "headers": headers}


def answer(trace: Trace, response: httpx.Response) -> None:
    """Copy an answer into its trace: status, headers, and at most 64 KiB of the body."""
    trace.status = response.status_code
    trace.headers = dict(response.headers)
    trace.body = response.content[:LONGEST_BODY]


def cut(trace: Trace, error: httpx.TransportError) -> None:
    """Enter into a trace when and how its connection broke."""
    trace.broken = trace.since(perf_counter())
    trace.error = f"{type(error).__name__}: {error}"
    # After a time-out the server may still come to read the request.
    if trace.received is None and not isinstance(error, httpx.TimeoutException):
        expiry = threading.Timer(RECEIVED_WITHIN, give_up, [trace])
        expiry.daemon = True
        expiry.start()


def give_up(trace: Trace) -> None:
    """End the wait for a request whose connection broke, when its server has not received it."""
    if trace.received is None:
        trace.unseen = "its connection broke before the server had received it"


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Return a schedule for `burst(at=...)`: independent callers, arriving at random.

    rate: callers per second, on average. seconds: length of the schedule. seed: the same seed
    gives the same schedule. Raises ValueError when the rate is not above 0.
    """
    if rate <= 0:
        raise ValueError(f"rate={rate:g}: callers per second must be above 0")
    chance = random.Random(seed)
    moments = []
    at = chance.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += chance.expovariate(rate)
    return moments


async def due(at: Sequence[float], stop: threading.Event) -> AsyncIterator[int]:
    """Yield the indices of a schedule (seconds from now), each at its moment."""
    begin = perf_counter()
    for index in sorted(range(len(at)), key=at.__getitem__):
        # A timer may wake a millisecond late: sleep to just before, then yield to the loop.
        while (ahead := begin + at[index] - perf_counter()) > 0:
            await asyncio.sleep(max(0.0, min(ahead - 0.001, 0.1)))
            if stop.is_set():
                return
        yield index


def _run_in_thread(main: Callable[[threading.Event], Any], traces: Traces) -> None:
    """Run a burst in a thread beside the notebook's loop, with progress; an interrupt ends it."""
    stop = threading.Event()
    sent: Future[Any] = Future()

    def run() -> None:
        try:
            sent.set_result(main(stop))
        except BaseException as error:
            sent.set_exception(error)

    try:
        threading.Thread(target=run, name="lab burst", daemon=True).start()
        if wait([sent], 1).not_done:
            show_progress(sent, traces)
    except KeyboardInterrupt:
        stop.set()
        raise
    error = sent.exception()
    if error is not None:
        raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error


def show_progress(sent: Future[Any], traces: Traces) -> None:
    """Show how many answers have come, until the burst has been sent."""
    progress = Progress(len(traces))
    while not sent.done():
        wait([sent], 0.2)
        progress.show(sum(trace.status is not None or trace.error is not None for trace in traces))
