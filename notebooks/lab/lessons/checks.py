"""Checks an exercise: shows which of its conditions hold, and what the others lack."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable
from types import FunctionType

from ..observer.names import describe


def check(**conditions: Callable[[], object]) -> None:
    """Print a line for each condition of an exercise: whether it holds, and if not, why not.

    conditions: by name, each a function, so that it is evaluated only now:
    `one_task=lambda: len(together.tasks) == 1`.
    Never raises, whatever a condition does, except for the interrupt of a cell.
    """
    for name, condition in conditions.items():
        hint = shortfall(name, condition)
        print(f"✓ {name}" if hint is None else f"✗ {name}: {hint}")


def shortfall(name: str, condition: Callable[[], object]) -> str | None:
    """Return the code of a condition and its outcome; None when it holds."""
    try:
        if condition():
            return None
        outcome = "False"
    except KeyboardInterrupt:
        raise
    except NameError as error:
        # The cell above, where the answer belongs, is empty or has not been run.
        return f"{on_one_line(error)} ↑"
    except BaseException as error:  # even SystemExit, which would end the kernel
        outcome = on_one_line(error)
    return f"{source_of(name, condition)} → {outcome}"


def on_one_line(error: BaseException) -> str:
    return " ".join(describe(error).split())


def source_of(name: str, condition: Callable[[], object]) -> str:
    """Return the code of a condition as its cell has it; its name if the code is not found."""
    if not isinstance(condition, FunctionType):
        return name
    code = condition.__code__
    try:
        cell = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError, RecursionError):
        return name
    for node in ast.walk(cell):
        match node:
            case ast.keyword(arg=known, value=ast.Lambda(lineno=line, body=expression)):
                if (known, line) == (name, code.co_firstlineno):
                    return ast.unparse(expression)
    return name
