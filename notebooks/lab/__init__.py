"""Watch what a web application does after it has answered."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients.sender import poisson as poisson
    from .figures import backlog as backlog
    from .figures import growth as growth
    from .figures import heartbeat as heartbeat
    from .figures import knee as knee
    from .figures import lanes as lanes
    from .figures import scatter as scatter
    from .figures import sequence as sequence
    from .figures import steps as steps
    from .figures import timeline as timeline
    from .lessons.checks import check as check
    from .lessons.inbox import Inbox as Inbox
    from .lessons.samples import delivery as delivery
    from .playground.controls import play as play
    from .queue.notebook_queue import Queue as Queue
    from .servers.web import serve as serve
    from .traces import Trace as Trace
    from .traces import Traces as Traces

_ROOMS = {
    "Inbox": "lessons.inbox",
    "Queue": "queue.notebook_queue",
    "Trace": "traces",
    "Traces": "traces",
    "backlog": "figures",
    "check": "lessons.checks",
    "delivery": "lessons.samples",
    "growth": "figures",
    "heartbeat": "figures",
    "knee": "figures",
    "lanes": "figures",
    "play": "playground.controls",
    "poisson": "clients.sender",
    "scatter": "figures",
    "sequence": "figures",
    "serve": "servers.web",
    "steps": "figures",
    "timeline": "figures",
}

__all__ = [*_ROOMS]


def __getattr__(name: str) -> Any:
    # A server's or a worker's process needs no figures: load a room when it is asked for.
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
