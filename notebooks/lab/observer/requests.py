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
    """The request on whose behalf code is running: where its stamps go.

    work: the key of the work of the request that is running; None in the app's own call.
    """

    __slots__ = ("_token", "id", "page", "reporter", "work")

    def __init__(
        self, id: str, page: Page, reporter: Reporter | None, work: str | None = None
    ) -> None:
        self.id = id
        self.page = page
        self.reporter = reporter
        self.work = work

    def within(self, key: str) -> Request:
        """The request as its work with this key sees it; a context, for the work to run in."""
        return Request(self.id, self.page, self.reporter, key)

    def __enter__(self) -> None:
        self._token = current.set(self)

    def __exit__(self, *error: object) -> None:
        try:  # noqa: SIM105 - a call of `suppress` would take as long as all the rest
            current.reset(self._token)
        except ValueError:  # a coroutine may be closed in another context
            pass

    def add(self, func: Any, runner: str) -> str:
        """Announce a piece of work; the key names it in later stamps."""
        key = new_key()
        self.page.added(key, name_of(func), runner, perf_counter(), self.work)
        return key

    def drop(self, key: str, error: BaseException) -> None:
        """A piece of work that was announced can no longer begin or end."""
        self.page.gone(key, perf_counter(), describe(error))
