"""What people know functions and errors by."""

from __future__ import annotations

import functools
from contextvars import Context
from typing import Any


def unwrapped(func: Any) -> Any:
    """The function that somebody wrote, out of the partials around it."""
    while isinstance(func, functools.partial):
        # asyncio.to_thread makes a function `context.run(function)`.
        in_context = isinstance(getattr(func.func, "__self__", None), Context)
        func = func.args[0] if in_context else func.func
    return func


def name_of(func: Any) -> str:
    """The name a reader knows a function by; a string is a name already."""
    if isinstance(func, str):
        return func
    func = unwrapped(func)
    return str(getattr(func, "__name__", type(func).__name__))


def describe(error: BaseException) -> str:
    """An error's class, and its message where it has one."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
