"""Keeps traces in files: a line of JSON for each, without the secrets that answers may hold."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Self, get_args, get_origin, get_type_hints

from .model import Trace

FORMAT = "background-tasks-lab/traces"
VERSION = 1
MARK = json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"

REDACTED = "[redacted]"
HARMLESS_HEADERS = {
    "accept-ranges", "age", "allow", "cache-control", "connection", "content-encoding",
    "content-language", "content-length", "content-type", "date", "keep-alive", "last-modified",
    "retry-after", "server", "transfer-encoding", "vary",
}  # fmt: skip


class TraceFile:
    """A file of traces that grows by a line for each, and is whole whenever a process is killed.

    Each line goes to the system at once: it outlives any process, though not a power cut.
    """

    def __init__(self, path: str | Path) -> None:
        """Make a file, or go on with one: a last line that was cut is taken off it.

        Raises ValueError when it holds anything but traces of this format.
        """
        path = Path(path)
        if not path.exists() or not path.stat().st_size:
            write_whole(path, MARK)
        content = path.read_bytes()
        if not content.startswith(MARK):
            raise ValueError(f"{path} holds something else than traces: name another file")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        os.ftruncate(self._file, content.rindex(b"\n") + 1)

    def add(self, trace: Trace) -> None:
        """Append a trace. Raises OSError when there is no room; the file is whole even then."""
        line, end = line_of(trace), os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError:
            os.ftruncate(self._file, end)
            raise

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def save(traces: Iterable[Trace], path: str | Path) -> None:
    """Write traces to a file, in place of one that may be there."""
    write_whole(Path(path), MARK + b"".join(map(line_of, traces)))


def load(path: str | Path) -> list[Trace]:
    """Read traces from a file, also from one of an older lab: a JSON array.

    A last line that was cut is left out. Raises ValueError for anything else that was not written
    so, and names it.
    """
    content = Path(path).read_bytes()
    try:
        if content.startswith(b"["):
            return [_dated(_trace(plain)) for plain in json.loads(content)]
        return list(_from_lines(content))
    except ValueError as error:
        raise ValueError(f"{path} holds no traces that this lab can read: {error}") from error


def date_of(trace: Trace) -> float:
    """Return when a request was sent by the clock of the day, in seconds since 1970."""
    if trace.date is not None:
        return trace.date
    return time.time() - time.perf_counter() + trace.sent


def line_of(trace: Trace) -> bytes:
    """Return a trace as a line of a file; a task's parent is told by its place among the tasks."""
    tasks, plain = list(trace.tasks), _plain(trace)
    places = {id(task): place for place, task in enumerate(tasks)}
    for task, told in zip(tasks, plain["tasks"], strict=False):  # more may come meanwhile
        told["parent"] = task.parent and places.get(id(task.parent))
    plain["date"] = date_of(trace)
    plain["headers"] = {name: harmless(name, value) for name, value in trace.headers.items()}
    plain["body"] = REDACTED if trace.body else ""
    return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def harmless(name: str, value: str) -> str:
    """Return the value of a response's header, with what may be a secret hidden."""
    if name.lower() == "location":
        place, mark = re.match(r"([^?#]*)([?#]?)", value).groups()  # type: ignore[union-attr]
        return re.sub("//[^/]*@", f"//{REDACTED}@", place) + (mark and mark + REDACTED)
    return value if name.lower() in HARMLESS_HEADERS else REDACTED


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at no moment there is half of one."""
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A value as JSON has it; a task without its parent."""
    if is_dataclass(value):
        return {
            name: _plain(getattr(value, name))
            for name in _public(value.__class__)
            if name != "parent"
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value


def _from_lines(content: bytes) -> Iterator[Trace]:
    mark, *lines = content.split(b"\n")
    _check(mark)
    for number, line in enumerate(lines, 2):
        try:
            plain = json.loads(line)
        except ValueError as error:
            if number == len(lines) + 1:  # what comes after the last newline is cut, or nothing
                return
            raise ValueError(f"line {number} is no JSON ({error})") from error
        try:
            yield _trace(plain)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error


def _check(mark: bytes) -> None:
    try:
        told = json.loads(mark)
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(
            f"it does not begin with {MARK.decode().strip()}, as Traces.save writes it"
        )
    if told.get("version") != VERSION:
        raise ValueError(f"they are of version {told.get('version')}, and it reads {VERSION}")


def _dated(trace: Trace) -> Trace:
    """A trace of an older lab, with the date that its answer states: to the second."""
    with contextlib.suppress(LookupError, ValueError):
        trace.date = parsedate_to_datetime(trace.headers["date"]).timestamp()
    return trace


def _trace(plain: Any) -> Trace:
    trace: Trace = _revived(Trace, plain)
    for task in trace.tasks:
        place: Any = task.parent
        if place is not None:
            if place not in range(len(trace.tasks)):
                raise ValueError(f"a task's parent is {place} of {len(trace.tasks)}")
            task.parent = trace.tasks[place]
    return trace


def _revived(kind: Any, value: Any) -> Any:
    """A value as its field's type says. Raises ValueError when it is none of that type."""
    plain_kind, inner = get_origin(kind) or kind, get_args(kind)
    if NoneType in inner:
        return None if value is None else _revived(inner[0], value)
    if is_dataclass(kind):
        return _made(kind, _of(dict, value))
    if plain_kind is bytes:
        return _of(str, value).encode("utf-8", "surrogateescape")
    if plain_kind is list:
        return [_revived(inner[0], each) for each in _of(list, value)]
    if plain_kind is dict:
        return {name: _revived(inner[1], each) for name, each in _of(dict, value).items()}
    if issubclass(plain_kind, tuple):
        values = _of(list, value)
        kinds = inner or [*get_type_hints(kind).values()]
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(values)
        if len(kinds) != len(values):
            raise ValueError(f"{value!r:.60} has not {len(kinds)} parts")
        parts = map(_revived, kinds, values)
        return tuple(parts) if plain_kind is tuple else plain_kind(*parts)
    return _of((int, float) if plain_kind is float else plain_kind, value)


def _made(kind: Any, plain: dict[str, Any]) -> Any:
    """A trace or a task; what an older lab did not write is as in a new one."""
    known, name = _public(kind), kind.__name__.lower()
    if strange := plain.keys() - known.keys():
        raise ValueError(f"a {name} has no {min(strange)!r} here; a newer lab may have written it")
    values = {}
    for field, value in plain.items():
        try:
            values[field] = _revived(known[field], value)
        except ValueError as error:
            raise ValueError(f"{field} of a {name}: {error}") from error
    try:
        return kind(**values)
    except TypeError as error:  # which names the fields that must not be missing
        raise ValueError(f"a {name} is not whole ({error})") from error


@functools.cache
def _public(kind: Any) -> dict[str, Any]:
    """The fields of a trace or a task that are written, and their types."""
    hints = get_type_hints(kind) | {"parent": int | None}  # its place among the tasks
    names = [field.name for field in fields(kind) if not field.name.startswith("_")]
    return {name: hints[name] for name in names}


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r:.60} is no {getattr(kind, '__name__', 'number')}")
    return value
