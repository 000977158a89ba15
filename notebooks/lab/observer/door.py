"""Lets the lab into somebody else's server: that imports the app from here, and has it watched.

The lab writes a module that calls `watched`, under a name of its own, and the server's command
names it in place of the app's.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import traceback
from functools import partial
from typing import Any

from .asgi import App, Watched
from .handing import count_as_readers
from .hooks import hooked
from .names import describe
from .probe import Probed
from .transport import Reporter

_for_good = contextlib.ExitStack()


def watched(name: str, folder: str, watch_loop: bool) -> Watched:
    """The app of an import string, watched from now on until the process ends.

    name: the app's, such as "shop.main:app" or "shop.main:create_app()". folder: where the stamps
    go. watch_loop: whether to tell what holds the event loop. Raises what the import raises.
    """
    report = Reporter(folder)
    python = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    report.control("loading", os.getpid(), python, os.getcwd(), list(map(str, sys.path)))
    try:
        app = imported(name)
    except BaseException as error:
        report.control("failed", os.getpid(), f"{describe(error)}{_place(error)}")
        raise
    _for_good.enter_context(hooked())
    aside = Probed(app, os.path.basename(folder), partial(_tell, report))
    return Watched(app, report.note, report, watch_loop, aside)


def imported(name: str) -> App:
    """The app of an import string; a name that ends in () makes it."""
    module, _, attribute = name.partition(":")
    count_as_readers(module)
    found: Any = importlib.import_module(module)
    for part in attribute.removesuffix("()").split("."):
        found = getattr(found, part)
    app: App = found() if attribute.endswith("()") else found
    return app


def _tell(report: Reporter, why: str | None) -> None:
    if why is None:
        report.control("ready", os.getpid())
    else:
        # A framework gives its whole traceback; the last line says what was raised.
        report.control("failed", os.getpid(), why.strip().rpartition("\n")[2])


def _place(error: BaseException) -> str:
    """Where an error was raised, if that was in a file of the reader's or of a package."""
    ours = ("<", os.path.dirname(os.path.abspath(__file__)), os.path.dirname(importlib.__file__))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(ours)
    ]
    # The first is the module from which this one was called.
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames[1:] else ""
