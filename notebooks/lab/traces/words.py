"""What people are told of a trace: its moments and the fates of its tasks, in words."""

from __future__ import annotations

from .model import Task, Trace, Traces


def in_seconds(span: float) -> str:
    """Return a time span as people are shown it.

    span: seconds.
    """
    return "<0.001 s" if 0 < span < 0.0005 else f"{span:.3f} s"


def error_name(error: str | None, otherwise: str) -> str:
    """Return the class of an error that is stored as "Class: message"."""
    return error.partition(":")[0] if error else otherwise


def answer_of(trace: Trace) -> tuple[str, float | None]:
    """Return what is known of the answer's moment; of another client's, only the server's stamp."""
    if trace.of_another_client and trace.answered is None:
        return "responded", trace.responded
    return "answered", trace.answered


def ended(task: Task) -> float | None:
    """Return when a task ended, by itself or with its server."""
    return task.finished if task.finished is not None else task.gone


def task_in_words(task: Task) -> str:
    """Return when a task ran, and how it ended if it did not finish, in words."""
    if task.started is None:
        return f"{task.name}{task.of_parent} {task.state}"
    end = ended(task)
    until = "" if end is None else f" to {in_seconds(end)}"
    how = "" if task.state == "finished" else f", {task.state}"
    how += f" with {error_name(task.error, '')}" if task.state == "failed" else ""
    return f"{task.name}{task.of_parent} from {in_seconds(task.started)}{until}{how}"


def last_moment(requests: Traces) -> float:
    """Return the last known moment of any request, in seconds after the first sending."""
    first = min(trace.sent for trace in requests)

    def last(trace: Trace) -> float:
        moments = [trace.responded, trace.returned, trace.answered, trace.gone, trace.broken]
        for task in trace.tasks:
            moments += task.added, task.queued, task.started, task.finished, task.gone
        return trace.sent - first + max(filter(None, moments), default=0.0)

    return max(map(last, requests))
