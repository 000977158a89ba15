"""A server on the event loop that runs the notebook's cells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import nest_asyncio2

from ..traces import until
from .in_thread import START_TIMEOUT, InThread
from .watched_uvicorn import WatchedServer

T = TypeVar("T")


class KernelServer(WatchedServer):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # on the main thread uvicorn would take the kernel's own interrupt


class InKernel(InThread):
    """A server on the event loop that runs the notebook's cells.

    While a cell runs, that loop runs nothing else: whatever waits here must drive it, nested.
    """

    place = "kernel"
    _make = KernelServer

    def _start(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "on='kernel' needs the running loop of a notebook; here use on='thread'"
            ) from None
        nest_asyncio2.apply(self._loop)
        self.until = self._until
        self._serving = self._loop.create_task(self._serve())
        self.call(lambda: self._ready.wait(START_TIMEOUT))

    async def _serve(self) -> None:
        with self._attended():
            await self._server.serve()

    @property
    def ended(self) -> bool:
        return self._serving.done()

    def join(self, timeout: float) -> bool:
        async def wait() -> None:
            await asyncio.wait([self._serving], timeout=timeout)

        self._loop.run_until_complete(wait())
        return self.ended

    def call(self, blocking: Callable[[], T]) -> T:
        result: T = self._loop.run_until_complete(self._loop.run_in_executor(None, blocking))
        return result

    def _until(self, settled: Callable[[], object], timeout: float | None) -> bool:
        return self.call(lambda: until(settled, timeout))
