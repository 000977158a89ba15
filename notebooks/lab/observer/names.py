"""What people know functions and errors by."""

from __future__ import annotations

import functools
from contextvars import Context
from typing import Any

LONGEST = 4000


def unwrapped(func: Any) -> Any:
    """The function that somebody wrote, out of the partials around it."""
    while isinstance(func, functools.partial):
        # asyncio.to_thread makes a function `context.run(function)`.
        in_context = isinstance(getattr(func.func, "__self__", None), Context)
        func = func.args[0] if in_context else func.func
    return func


def name_of(func: Any) -> str:
    """The name a reader knows a function by; a string is a name already."""
    try:
        if not isinstance(func, str):
            func = unwrapped(func)
            func = getattr(func, "__name__", None) or type(func).__name__
        return plain(func)
    except Exception:  # of the app: its attributes may do anything
        return "?"


def describe(error: BaseException) -> str:
    """An error's class, and its message where it has one that can be told."""
    name = type(error).__name__
    try:
        text = plain(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # of the app: `__str__` may do anything
        return name
    return f"{name}: {text}" if text else name


def plain(text: Any) -> str:
    """The text itself, without what a subclass of str may add, and not without end."""
    return str.__str__(text)[:LONGEST]
