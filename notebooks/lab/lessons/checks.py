"""Tells a learner which of an exercise's conditions hold, and hints at what is missing."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable
from types import FunctionType

from ..observer.names import describe


def check(**conditions: Callable[[], object]) -> None:
    """Print a line for each condition of an exercise: whether it holds, and if not, why not.

    conditions: what is asked for, by name, each to be looked at only now:
    `one_task=lambda: len(together.tasks) == 1`.
    Never raises, whatever a condition does; only the interrupt of a cell passes through.
    """
    for name, condition in conditions.items():
        hint = shortfall(name, condition)
        print(f"✓ {name}" if hint is None else f"✗ {name}: {hint}")


def shortfall(name: str, condition: Callable[[], object]) -> str | None:
    """What a condition lacks, as code and its outcome; None when it holds."""
    try:
        if condition():
            return None
        outcome = "False"
    except KeyboardInterrupt:
        raise
    except NameError as error:
        # The cell above, where the answer belongs, is still empty or has not been run.
        return f"{on_one_line(error)} ↑"
    except BaseException as error:  # even SystemExit, which would end the kernel
        outcome = on_one_line(error)
    return f"{source_of(name, condition)} → {outcome}"


def on_one_line(error: BaseException) -> str:
    return " ".join(describe(error).split())


def source_of(name: str, condition: Callable[[], object]) -> str:
    """The code of a condition as it stands in its cell; its name where it cannot be found."""
    if not isinstance(condition, FunctionType):
        return name
    code = condition.__code__
    try:
        cell = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return name
    for node in ast.walk(cell):
        match node:
            case ast.keyword(arg=known, value=ast.Lambda(lineno=line, body=asked)):
                if (known, line) == (name, code.co_firstlineno):
                    return ast.unparse(asked)
    return name
