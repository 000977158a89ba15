"""Errors planted into the instrument, which the benchmark must find."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import parent_process

from lab.observer.requests import Request

from .noting import at_first

OFF = 0.005  # seconds

_planted = ExitStack()


@contextmanager
def planted(stamp: str, before: bool, off: float = OFF) -> Iterator[None]:
    """Have a hook dawdle before it takes a moment, or when it has: "in_thread started", say.

    off: for how long, in seconds.
    """
    put(stamp, before, off)
    at_first.append(partial(put, stamp, before, off))
    try:
        yield
    finally:
        at_first.clear()
        _planted.close()


def put(stamp: str, before: bool, off: float) -> None:
    task, _, name = stamp.rpartition(" ")
    keys = set()

    def added(key: str, called: str, *_: object) -> bool:
        if called == task:
            keys.add(key)
        return name == "added" and called == task

    _around(Request, "added", before, off, added)
    if name != "added":
        # What a pool runs is stamped in a process where nothing else is, and nothing was added.
        here = task == "in_pool" and parent_process() is not None
        _around(Request, name, before, off, lambda key, *_: not task or here or key in keys)


def _around(owner: type, name: str, before: bool, off: float, chosen: Callable[..., bool]) -> None:
    """Dawdle around a stamp; a moment that is taken late is later by as much."""
    original = getattr(owner, name)

    def stamp(self: object, *seen: object) -> object:
        late = chosen(*seen)
        if late and before:
            time.sleep(off)
            seen = tuple(at + off if isinstance(at, float) else at for at in seen)
        kept = original(self, *seen)
        if late and not before:
            time.sleep(off)
        return kept

    setattr(owner, name, stamp)
    _planted.callback(setattr, owner, name, original)
