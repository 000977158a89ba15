"""Brings home the stamps of other processes: a server's, a pool's, a queue's workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..observer.protocol import NOBODY, Note, Stamp
from ..observer.transport import SILENT, Reporter, Segment
from ..observer.watch import glance
from ..programs.lifeline import alive
from ..traces.notes import enter_noted
from ..traces.waiting import waited_for

PREFIX = "background-tasks-lab-"
IDLE, WAITED_FOR = 0.05, 0.001  # seconds from one look to the next: 0.7 % and 6 % of a core
# In bytes. More than few since the last look make a server under load: to read as many then would
# already take a hundredth of its time.
FEW, MOST = 8_000, 8_000_000
NOTED = 70  # bytes: what a stamp of this process counts for, about as long as a record
HOUSEKEEPING = 1.0
LATE = 10.0  # seconds in which a thread that was held up may still write into an old segment


class Collector:
    """Reads what reporters write into a folder of its own: `close` removes it; where a process ends
    without, the next start does.

    enter: is given each stamp of a request. missed: is told why stamps are missing, when a process
    has no room for them. control: is given what a process tells without naming a request. looked:
    is called after each look. noted: how many stamps of this process wait to be entered.
    """

    def __init__(
        self,
        enter: Note,
        missed: Callable[[str], None],
        control: Callable[..., None] | None = None,
        looked: Callable[[], None] = lambda: None,
        noted: Callable[[], int] = lambda: 0,
    ) -> None:
        sweep()
        self._folder = new_folder()
        self.reporter = Reporter(str(self._folder))
        self._enter = enter
        self._missed = missed
        self._control = control
        self._looked = looked
        self._noted = noted
        self._load = Load()
        self._read: list[tuple[Segment, deque[Stamp], int]] = []
        self._segments: dict[str, Segment] = {}
        self._replaced: dict[str, float] = {}
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read_on, name="lab collector", daemon=True)
        self._reader.start()

    def read(self) -> None:
        """Enter what has come since the last look."""
        with self._turn:
            self._enter_read()  # what an interrupt has left
            self._open_new()
            # Newest first, so that what a process has written in one and then in the next is not
            # seen without what came before.
            newest_first = [(each, *each.records()) for each in reversed(self._segments.values())]
            enter_noted()  # what the records tell of may have begun here
            self._read = [(each, deque(new), end) for each, new, end in reversed(newest_first)]
            self._enter_read()
            self._load = Load()
            self._looked()

    def _enter_read(self) -> None:
        """Enter what was read: each record once, and none is lost if an interrupt ends this."""
        for segment, records, end in self._read:
            segment.at = end
            while records:
                try:
                    self._take(records[0])
                except Exception:
                    records.popleft()
                    raise
                records.popleft()
        self._read = []

    def _take(self, stamp: Stamp) -> None:
        of, what, *told = stamp
        if of is not NOBODY or what == "held":
            self._enter(stamp)
        elif self._control is not None:
            self._control(what, *told)

    def _open_new(self) -> None:
        latest: dict[int, int] = {}
        for name in names(self._folder):
            if name.endswith(SILENT):
                remove(self._folder / name)
                silent = name.removesuffix(SILENT)
                self._missed(f"process {silent} has no room for stamps in {place()}")
            elif name not in self._segments:
                pid, number = numbers(name)
                latest[pid] = max(number, latest.get(pid, 0))
        if not latest:
            return
        # A second look has all that came before the latest of the first; one look may not.
        for name in names(self._folder):
            if name not in self._segments and not name.endswith(SILENT):
                pid, number = numbers(name)
                if number <= latest.get(pid, 0):
                    with contextlib.suppress(FileNotFoundError):  # another thread's was first
                        self._segments[name] = Segment(str(self._folder / name))
        self._segments = dict(sorted(self._segments.items(), key=lambda each: numbers(each[0])))

    def _read_on(self) -> None:
        tidied = time.monotonic()
        while not self._closing.is_set() or self._somebody_writes():
            glance()
            if waited_for.is_set() or not self._under_load():
                self.read()
                if time.monotonic() > tidied + HOUSEKEEPING:
                    self._tidy()
                    tidied = time.monotonic()
            # Where no other process writes, frequent looks would only disturb this server.
            if self._control is None and not self._segments:
                time.sleep(IDLE)
            elif waited_for.wait(IDLE):
                time.sleep(WAITED_FOR)
        self.read()
        with self._turn:
            for segment in self._segments.values():
                segment.close()
            self._segments.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _under_load(self) -> bool:
        """Whether a server has much to do now, which reading beside it would slow."""
        with self._turn:
            self._open_new()
            unread = sum(segment.unread() for segment in self._segments.values())
        return self._load.is_heavy(unread + self._noted() * NOTED)

    def _somebody_writes(self) -> bool:
        """Whether another process that has written still lives, such as a pool's."""
        with self._turn:
            others = {segment.pid for segment in self._segments.values()} - {os.getpid()}
        return any(map(alive, others))

    def _tidy(self) -> None:
        """Remove the segments that nobody writes to any more; they have been read."""
        with self._turn:
            newest = {segment.pid: name for name, segment in self._segments.items()}
        gone = [pid for pid in newest if not alive(pid)]
        self.read()
        with self._turn:
            for name, segment in list(self._segments.items()):
                if name not in newest.values() and name not in self._replaced:
                    self._replaced[name] = time.monotonic()
                    remove(segment.path)
                late = time.monotonic() > self._replaced.get(name, float("inf")) + LATE
                if segment.pid in gone or late:
                    remove(segment.path)
                    segment.close()
                    del self._segments[name]
                    self._replaced.pop(name, None)

    def close(self) -> None:
        """Read on as long as the processes live that have written, then remove the folder."""
        self._closing.set()
        if not self._somebody_writes():
            self._reader.join()

    def join(self, timeout: float) -> None:
        """Wait until all is read, at most `timeout` seconds."""
        self._reader.join(timeout)


class Load:
    """Tells whether a server is under load, by what has come from look to look.

    Then reading waits, until it is quiet, much has come, or somebody asks: few processors, or one
    interpreter, are shared with what is watched.
    """

    def __init__(self) -> None:
        self._before = 0

    def is_heavy(self, unread: int) -> bool:
        """Return whether reading shall wait. unread: bytes that have come and were not read."""
        grown, self._before = unread - self._before, unread
        return grown > FEW and unread < MOST


def names(folder: Path) -> list[str]:
    """The names of the segments in a folder, and of the processes that have fallen silent."""
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if name[0].isdigit()]
    return []


def numbers(name: str) -> tuple[int, int]:
    """A segment's process, and its number among those of that process."""
    pid, _, number = name.partition("-")
    return int(pid), int(number)


def remove(path: str | Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def new_folder() -> Path:
    """A folder that only this user can read; in memory, where the system has such a place."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place()))


def place() -> str:
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) else tempfile.gettempdir()


def sweep() -> None:
    """Remove the folders of processes that have ended without removing them."""
    for folder in Path(place()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
