"""What a person is told of a trace that did not go well: the sentences, and when they are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Held, Task, Trace

SHORTEST_HOLD = 0.1  # seconds: what is shorter, callers hardly notice


def problems(trace: Trace) -> list[str]:
    """Return what went wrong behind a request, a sentence each; nothing when all went well."""
    told = [f"the connection broke: {trace.error}"] if trace.broken is not None else []
    told += [sentence for task in trace.tasks for sentence in _of_task(trace, task)]
    told += [_of_held(held) for held in trace.held if suffered(trace, held) >= SHORTEST_HOLD]
    return told + ([f"stamps may be missing: {trace.unseen}"] if trace.unseen else [])


def suffered(trace: Trace, held: Held) -> float:
    """Return for how long of its life the loop was held; 0.0 while that is not known."""
    return 0.0 if held.ended is None else held.ended - max(held.began, trace.sent)


def _of_task(trace: Trace, task: Task) -> list[str]:
    name, why = f"{task.name}{task.of_parent}", f": {task.error}" if task.error else ""
    told = []
    if _began_too_soon(trace, task):
        told.append(f"{name} began before the answer, and was not over by then")
    if task.state == "failed":
        told.append(f"{name} failed{why}")
    elif task.error is not None and task.error.startswith("destroyed"):
        told.append(f"{name} was {task.error}: nobody kept it")
    elif task.state == "never ran":
        told.append(f"{name} never ran{why}")
    elif task.state == "lost":
        told.append(f"{name} was lost: its process ended first")
    elif task.state == "cancelled" and any(at <= (task.finished or 0) for _, at in trace.ending):
        told.append(f"{name} was cancelled: the server ended first")
    return told


def _began_too_soon(trace: Trace, task: Task) -> bool:
    """Whether work had begun before the answer, and the answer did not wait for its end."""
    if trace.responded is None or task.started is None or task.started >= trace.responded:
        return False
    return task.finished is None or task.finished > trace.responded


def _of_held(held: Held) -> str:
    took = f"{(held.ended or held.began) - held.began:.1f} s"
    if held.thread:
        who = f"{held.thread} at {held.place}" if held.place else held.thread
        return f"the event loop waited {took} for the interpreter, which {who} had"
    if held.place:
        return f"the event loop was held for {took} at {held.place}"
    return f"the event loop was held for {took} by many short turns"
