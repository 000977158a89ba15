"""The watched request on whose behalf code runs, and where its stamps go."""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from .names import describe, name_of
from .pages import Page
from .transport import Reporter

current: ContextVar[Request | None] = ContextVar("lab_request", default=None)
_serial = itertools.count(1)


def new_key() -> str:
    """A name that no other request or task of this host has."""
    return f"{os.getpid()}-{next(_serial)}"


class Request:
    """The request on whose behalf code is running: where its stamps go."""

    __slots__ = ("id", "page", "reporter")

    def __init__(self, id: str, page: Page, reporter: Reporter | None) -> None:
        self.id = id
        self.page = page
        self.reporter = reporter

    def add(self, func: Any, runner: str) -> str:
        """Announce a piece of work; the key names it in later stamps."""
        key = new_key()
        self.page.added(key, name_of(func), runner, perf_counter())
        return key

    def drop(self, key: str, error: BaseException) -> None:
        """A piece of work that was announced can no longer begin or end."""
        self.page.gone(key, perf_counter(), describe(error))
