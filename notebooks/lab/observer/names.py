"""What people know functions and errors by."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import Context
from types import FunctionType
from typing import Any

LONGEST = 4000

# Coroutines that run somebody's function, and where among their variables they have it.
_RUN_FOR_OTHERS: dict[str, Callable[[Any], Any]] = {
    "to_thread": lambda seen: seen["func"],  # asyncio
    "_run_coro": lambda seen: seen["self"]._coro,  # anyio
    "_run_wrapped_task": lambda seen: seen["coro"],  # anyio before 4.14
}


def unwrapped(func: Any) -> Any:
    """The function that somebody wrote, out of the partials and coroutines around it."""
    while True:
        if isinstance(func, functools.partial):
            # asyncio.to_thread makes a function `context.run(function)`.
            in_context = isinstance(getattr(func.func, "__self__", None), Context)
            func = func.args[0] if in_context else func.func
        elif inspect.iscoroutine(func) and func.cr_code.co_name in _RUN_FOR_OTHERS:
            frame: Any = func.cr_frame
            try:
                func = _RUN_FOR_OTHERS[func.cr_code.co_name](frame.f_locals)
            except (AttributeError, KeyError):  # another of that name, or another version
                return func
        else:
            return func


def name_of(func: Any) -> str:
    """The name a reader knows a function by; a string is a name already."""
    if type(func) is FunctionType:
        return func.__name__
    return told(lambda: func if isinstance(func, str) else _name(unwrapped(func))) or "?"


def _name(func: Any) -> str:
    return getattr(func, "__name__", None) or type(func).__name__


def module_of(func: Any) -> str:
    """The module in which a function was written; "" when it does not say."""
    return told(lambda: getattr(func, "__module__", None) or "") or ""


def describe(error: BaseException) -> str:
    """An error's class, and its message where it has one that can be told."""
    name, text = type(error).__name__, told(lambda: str(error))
    return f"{name}: {text}" if text else name


def told(tell: Callable[[], Any]) -> str | None:
    """What code of the app says, as plain text; None when it cannot: it may do anything."""
    try:
        return plain(tell())
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def plain(text: Any) -> str:
    """The text itself, without what a subclass of str may add, and not without end."""
    return (text if type(text) is str else str.__str__(text))[:LONGEST]
