"""Tells who hands work over: the reader's code, or a framework or server for itself.

Where the function was written says nothing: the reader may hand over `time.sleep`, and a framework
the reader's endpoint. The frame from which it was handed over decides.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Optional

PASSES_ON = {"anyio", "celery"}
"""Packages whose functions start work on behalf of whoever calls them, as asyncio's do."""

_PATHS = sysconfig.get_paths()
_LIBRARY = tuple({_PATHS["stdlib"] + os.sep, _PATHS["platstdlib"] + os.sep, "<frozen "})
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_own: set[str] = set()


class _ByFile(dict[str, Optional[bool]]):
    def __missing__(self, file: str) -> bool | None:
        answer = self[file] = _readers(file)
        return answer


by_file = _ByFile()
"""Whether a file is the reader's; None for one that only passes work on."""


def count_as_readers(module: str) -> None:
    """Count the package of a module, the app's, as the reader's wherever it is installed."""
    _own.add(module.partition(".")[0])
    by_file.clear()


def handed_over_by_reader() -> bool:
    """Whether the call that a hook has taken comes from the reader's own code."""
    frame = sys._getframe(2)
    while frame is not None:
        answer = by_file[frame.f_code.co_filename]
        if answer is not None:
            return answer
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _readers(file: str) -> bool | None:
    if file.startswith(_HERE):
        return None
    for folder in _INSTALLED:
        _, found, inside = file.rpartition(folder)
        if found:
            package, _, module = inside.partition(os.sep)
            if package.removesuffix(".py") in _own:
                return True
            passes_on = package in PASSES_ON or (package, module) == ("starlette", "concurrency.py")
            return None if passes_on else False
    return None if file.startswith(_LIBRARY) else True
