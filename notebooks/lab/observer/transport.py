"""How stamps travel from a watched process to the notebook's: through files in memory.

Each process appends records to segments of its own, and the notebook reads them. So a stamp waits
for nobody and takes no lock, wherever it comes: in a signal handler, or in a finalizer within
another stamp. What a process has written outlives it, however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import marshal
import mmap
import os
import struct
import weakref
from collections.abc import Callable
from typing import Any
from zlib import crc32

from .protocol import NOBODY, Stamp

FIRST, FURTHER = 64 * 1024, 1024 * 1024  # bytes: many a pool's process has little to tell
GLANCE, PEEP = 4096, 64  # bytes; no record has as many zeros
SILENT = "-silent"
KEPT = 8  # segments that a thread which was held up may still come back from

_HEAD = struct.Struct("<II")
_VERSION = 2  # of marshal: every CPython reads it
_numbers = itertools.count(1)

Write = Callable[[bytes], object]


class Reporter:
    """Writes stamps for whoever reads `folder`; may travel to any process of this host.

    Without room for another segment it falls silent, says so, and leaves the app alone.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.begin_anew()
        _reporters.add(self)

    def begin_anew(self) -> None:
        """Begin with segments of its own: a forked process shares the memory of the old ones."""
        self._segments: dict[int, Write] = {}
        self._current: tuple[int, Write] = (0, _full)

    def note(self, stamp: Stamp) -> None:
        """Write a stamp."""
        try:
            body = marshal.dumps(stamp, _VERSION)
        except ValueError:  # no plain data: it must not come between the app and its work
            return
        record = _HEAD.pack(len(body), crc32(body)) + body
        number, write = self._current
        while len(record) <= FURTHER:
            try:
                # One call that never lets go of the interpreter: records of threads do not mix.
                write(record)
                return
            except ValueError:  # the segment is full
                number, write = self._segment_after(number)

    def _segment_after(self, number: int) -> tuple[int, Write]:
        try:
            path, write = new_segment(self.folder, FURTHER if number else FIRST)
        except OSError:  # no room, or the notebook has gone with its folder
            path, write = "", _silence
            with contextlib.suppress(OSError):
                name = f"{os.getpid()}{SILENT}"
                os.close(os.open(os.path.join(self.folder, name), os.O_CREAT, 0o600))
        # Others may come here at once: all go on in the segment of the first, so that what one
        # thread writes stays in order.
        first = self._segments.setdefault(number + 1, write)
        if first is not write:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if self._current[0] <= number:
            self._current = (number + 1, first)
        self._segments.pop(number - KEPT, None)
        return number + 1, first

    def control(self, what: str, *told: Any) -> None:
        """Tell of this process itself: that it is ready, say."""
        self.note((NOBODY, what, *told))

    def __reduce__(self) -> tuple[Callable[[str], Reporter], tuple[str]]:
        return arrived, (self.folder,)


@functools.cache
def arrived(folder: str) -> Reporter:
    """The reporter of a process to which it has travelled: one, however often it does."""
    return Reporter(folder)


def _full(record: bytes) -> None:
    raise ValueError


def _silence(record: bytes) -> None:
    pass


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


def _forked() -> None:
    for reporter in list(_reporters):
        reporter.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def new_segment(folder: str, size: int) -> tuple[str, Write]:
    """A new segment of this process, and what appends to it. Raises OSError without room for it."""
    name = f"{os.getpid()}-{next(_numbers)}"
    made, path = os.path.join(folder, f".{name}"), os.path.join(folder, name)
    file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        # Room for all of it now: to write into a sparse file on a full disk ends the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.write(file, bytes(size))
        write = mmap.mmap(file, size).write
        os.rename(made, path)
    except BaseException:
        os.unlink(made)
        raise
    finally:
        os.close(file)
    return path, write


class Segment:
    """The reading end of a segment; what stands before `at` has been taken out."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = int(os.path.basename(path).partition("-")[0])
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._size = os.fstat(self._file).st_size
        self.at = 0
        self._written = 0

    def records(self) -> tuple[list[tuple[Any, ...]], int]:
        """The records after `at`, and where they end; one that is not whole comes another time."""
        found: list[tuple[Any, ...]] = []
        length, end = GLANCE, self.at
        while end < self._size:
            data, at = self._read(length, end), 0
            while at + _HEAD.size <= len(data):
                size, checksum = _HEAD.unpack_from(data, at)
                begin = at + _HEAD.size
                body = data[begin : begin + size]
                if not size or len(body) < size or crc32(body) != checksum:
                    break
                at = begin + size
                found.append(marshal.loads(body))
            end += at
            if not at:
                if length == self._size or data[: _HEAD.size] == bytes(_HEAD.size):
                    break
                length = self._size  # one long record
        return found, end

    def unread(self) -> int:
        """How many bytes have come since the last look, to a few thousand."""
        self._written = max(self._written, self.at)
        while any(self._read(PEEP, self._written + GLANCE)):
            self._written += GLANCE
        return self._written - self.at

    def _read(self, length: int, at: int) -> bytes:
        os.lseek(self._file, at, os.SEEK_SET)
        return os.read(self._file, length)

    def close(self) -> None:
        os.close(self._file)
