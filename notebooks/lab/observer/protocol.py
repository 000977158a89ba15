"""The names that the watched process and the notebook have agreed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TRACE_HEADER = "x-lab-trace"
"""The header by which the lab's client names a request's trace; the watched app never sees it."""

PROBE = "/.lab/probe"
"""The path that the lab's server answers with an empty 202, without a call of the app."""

NOBODY = None
"""In the place of a request's id: the stamp concerns the process that it comes from."""

TICKET = "lab"
"""The header of a message in a queue that names the trace and the task of who has sent it."""

Stamp = tuple[Any, ...]
"""A request's id, what was seen of it, by the name of a stamp of `Request`, and its arguments."""

Note = Callable[[Stamp], object]
"""Keeps a stamp."""
