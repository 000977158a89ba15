"""How much accepted work a web process holds until it is done: above that, callers are refused."""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from . import metrics


class TooMuchHeld(Exception):
    """As much work as may be held is held already, or the system gives no thread for more."""


class Backlog:
    """Accepted work of one kind, from its acceptance to its end.

    work: its kind. most: how many pieces are held. most_bytes: how large their bodies are in all; a
    single one may be larger.
    """

    def __init__(self, work: str, most: int, most_bytes: int) -> None:
        self.most = most
        self.most_bytes = most_bytes
        # No lock: a place may be given back by the garbage collector, in the middle of anything.
        self._sizes: dict[int, int] = {}
        self._waiting: dict[int, float] = {}
        self._numbers = itertools.count()
        metrics.waiting.labels(work).set_function(lambda: len(self._waiting))
        metrics.unfinished.labels(work).set_function(lambda: len(self._sizes))
        metrics.unfinished_bytes.labels(work).set_function(self._bytes)
        metrics.oldest.labels(work).set_function(self._oldest)

    def hold(self, function: Callable[..., Any], size: int = 0) -> Callable[..., Any]:
        """Return a function for one call, which counts as held until the call is over.

        It is given up, too, when nobody can call it any more. size: of what it works on, in bytes.
        Raises TooMuchHeld.
        """
        held = len(self._sizes)
        if held >= self.most or (held and self._bytes() + size > self.most_bytes):
            raise TooMuchHeld("Too much accepted work is not done yet.")
        place = _Place(self._sizes, self._waiting, next(self._numbers), size)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call(*given: Any) -> Any:
                with place:
                    return await function(*given)
        else:

            @functools.wraps(function)
            def call(*given: Any) -> Any:
                with place:
                    return function(*given)

        return call

    def _bytes(self) -> int:
        return sum(list(self._sizes.values()))

    def _oldest(self) -> float:
        return time.monotonic() - min(list(self._waiting.values()), default=time.monotonic())


class _Place:
    def __init__(
        self, sizes: dict[int, int], waiting: dict[int, float], number: int, size: int
    ) -> None:
        self._sizes, self._waiting, self._number = sizes, waiting, number
        sizes[number] = size
        waiting[number] = time.monotonic()

    def __enter__(self) -> None:
        self._waiting.pop(self._number, None)

    def __exit__(self, *error: object) -> None:
        self._give_back()

    def __del__(self) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._waiting.pop(self._number, None)
        self._sizes.pop(self._number, None)


def start_thread(function: Callable[..., Any], *given: Any) -> None:
    """Call a function in a thread of its own. Raises TooMuchHeld when the system gives none."""
    try:
        threading.Thread(target=function, args=given).start()
    except RuntimeError:
        raise TooMuchHeld("The system gives no thread for more work.") from None
