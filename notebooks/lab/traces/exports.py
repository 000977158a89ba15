"""Hands traces on to tools that are not ours: Perfetto's timeline, and spans of OpenTelemetry."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .files import date_of, write_whole
from .model import Task, Trace, Traces
from .words import answer_of, ended, last_moment

Event = dict[str, Any]


def export(traces: Iterable[Trace], path: str | Path) -> None:
    """Write traces in the format that the file's ending names, in place of one that may be there.

    Raises ValueError for another ending.
    """
    path = Path(path)
    for ending, make in (".perfetto.json", trace_events), (".otlp.json", spans):
        if path.name.endswith(ending):
            content = json.dumps(make(Traces(traces)), separators=(",", ":"))
            write_whole(path, content.encode())
            return
    raise ValueError(
        f"{path}: traces are exported to a file that ends in .perfetto.json or .otlp.json"
    )


def trace_events(traces: Traces) -> dict[str, Any]:
    """Return the requests as trace events: a group of tracks for each, a track for each task.

    They are async events: work of one thread may overlap there, and work may change its thread.
    """
    ids = itertools.count(1)
    events = [
        event for number, trace in enumerate(traces, 1) for event in _group(trace, number, ids)
    ]
    # Stable: what comes first of two at one moment, such as the outer of two spans, stays first.
    events.sort(key=lambda event: event["ts"])
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _group(trace: Trace, number: int, ids: Iterator[int]) -> Iterator[Event]:
    name = f"{trace.method} {trace.path}"
    yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "ts": 0,
           "args": {"name": name}}  # fmt: skip
    yield {"ph": "M", "name": "process_sort_index", "pid": number, "tid": 0, "ts": 0,
           "args": {"sort_index": number}}  # fmt: skip
    track = _Track(trace, number, f"{next(ids):#x}", "request")
    known = ("id", "status", "process", "error", "unseen")
    yield track.event("b", name, 0, {each: getattr(trace, each) for each in known})
    moments = [(each, getattr(trace, each)) for each in ("received", "responded", "answered")]
    for what, at in sorted([*_known(moments), *trace.ending], key=lambda each: each[1]):
        yield track.event("n", what, at)
    yield track.event("e", name, _end(trace))
    for task in trace.tasks:
        yield from _of_task(_Track(trace, number, f"{next(ids):#x}", "task"), task)


def _of_task(track: _Track, task: Task) -> Iterator[Event]:
    begin, start, end = _moments(track.trace, task)
    known = ("runner", "where", "process", "error", "state")
    told = {each: getattr(task, each) for each in known}
    yield track.event("b", task.name, begin, told | {"parent": task.parent and task.parent.name})
    if begin < start:
        yield track.event("b", "waiting", begin)
        yield track.event("e", "waiting", start)
    if task.started is not None:
        yield track.event("b", task.state, start)
        yield track.event("e", task.state, end)
    yield track.event("e", task.name, end)


class _Track:
    """A track of its own: events that have its id, in the group of their request."""

    def __init__(self, trace: Trace, group: int, id: str, category: str) -> None:
        self.trace = trace
        self._same = {"cat": category, "id": id, "pid": group, "tid": group}

    def event(self, kind: str, name: str, at: float, told: dict[str, Any] | None = None) -> Event:
        """Return an event. kind: b(egin), e(nd) or n, a moment. at: seconds after sending."""
        args = {each: value for each, value in (told or {}).items() if value is not None}
        # In microseconds on the clock of `perf_counter`, as tools of the same machine have it.
        when = round((self.trace.sent + at) * 1e6, 1)
        return {"ph": kind, "name": name, "ts": when, **self._same, "args": args}


def spans(traces: Traces) -> dict[str, Any]:
    """Return the requests as spans in OTLP's JSON: one for each request, with one for each task.

    A request is in the trace that the app itself has begun for it, if it has.
    """
    scope = {"name": "background-tasks-lab"}
    told = [span for trace in traces for span in _spans_of(trace)]
    resource = {"attributes": _attributes({"service.name": "watched app"})}
    return {"resourceSpans": [
        {"resource": resource, "scopeSpans": [{"scope": scope, "spans": told}]}
    ]}  # fmt: skip


def _spans_of(trace: Trace) -> Iterator[Event]:
    ids = [_id(trace, place, 8) for place in range(len(trace.tasks) + 1)]
    of_task = dict(zip(map(id, trace.tasks), ids[1:], strict=True))
    same = {"traceId": trace.otel or _id(trace, "trace", 16)}
    started = date_of(trace)
    end = answer_of(trace)[1]
    moments = [(name, getattr(trace, name)) for name in ("received", "responded")]
    wrong = trace.error or ("server error" if (trace.status or 0) >= 500 else None)
    yield same | {
        "spanId": ids[0], "name": f"{trace.method} {trace.path}", "kind": 2,
        "startTimeUnixNano": _nanoseconds(started),
        "endTimeUnixNano": _nanoseconds(started + (_end(trace) if end is None else end)),
        "attributes": _attributes({
            "http.request.method": trace.method, "url.path": trace.path,
            "http.response.status_code": trace.status, "process.pid": trace.process,
        }),
        "events": [
            {"name": name, "timeUnixNano": _nanoseconds(started + at)}
            for name, at in [*_known(moments), *trace.ending]
        ],
        "status": _status(wrong),
    }  # fmt: skip
    for task, own in zip(trace.tasks, ids[1:], strict=True):
        begin, start, last = _moments(trace, task)
        waited = [("added", task.added), ("queued", task.queued)]
        events: list[Event] = [
            {"name": name, "timeUnixNano": _nanoseconds(started + at)}
            for name, at in _known(waited)
        ]
        if task.error:
            kind, _, message = task.error.partition(": ")
            about = {"exception.type": kind, "exception.message": message}
            when = _nanoseconds(started + last)
            events.append(
                {"name": "exception", "timeUnixNano": when, "attributes": _attributes(about)}
            )
        failed = None if task.state == "finished" else task.error or task.state
        yield same | {
            "spanId": own, "parentSpanId": of_task.get(id(task.parent), ids[0]),
            "name": task.name, "kind": 1,
            "startTimeUnixNano": _nanoseconds(started + (begin if task.started is None else start)),
            "endTimeUnixNano": _nanoseconds(started + last),
            "attributes": _attributes({
                "lab.runner": task.runner, "lab.where": task.where, "lab.state": task.state,
                "process.pid": task.process,
            }),
            "events": events,
            "status": _status(failed),
        }  # fmt: skip


def _moments(trace: Trace, task: Task) -> tuple[float, float, float]:
    """When a task was handed over, when it began, and when it ended: as far as is known."""
    last = _end(trace)
    begin = next(
        (at for at in (task.added, task.queued, task.started) if at is not None), last
    )  # fmt: skip
    known = ended(task)
    end = max(begin, last if known is None else known)
    start = end if task.started is None else task.started
    return min(begin, start), start, max(start, end)


def _end(trace: Trace) -> float:
    """When the last is known of a request."""
    ending = (at for _, at in trace.ending)
    moments = [last_moment(Traces([trace])), trace.received, *ending]
    return max(at for at in moments if at is not None)


def _known(moments: Iterable[tuple[str, float | None]]) -> list[tuple[str, float]]:
    return [(name, at) for name, at in moments if at is not None]


def _id(trace: Trace, what: object, size: int) -> str:
    """A number that is always the same for the same request. size: in bytes."""
    told = f"{trace.id} {trace.sent} {what}".encode()
    return hashlib.blake2b(told, digest_size=size).hexdigest()


def _nanoseconds(date: float) -> str:
    return str(round(date * 1e6) * 1000)


def _status(wrong: str | None) -> dict[str, Any]:
    return {"code": 2, "message": wrong} if wrong else {}


def _attributes(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int)
         else {"stringValue": value}}
        for key, value in told.items() if value is not None
    ]  # fmt: skip
