"""Watches an event loop from a thread beside it: how long a turn holds it, and at which line.

It shares no lock with the watched code. A process that is stopped holds nothing, nor does a thread
that waits for a processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from time import perf_counter, process_time
from types import CodeType, FrameType
from typing import Any, NamedTuple, Optional, TypeVar

from .handing import by_file

LATE = 0.1  # seconds: a turn that takes longer is told
LOOK_EVERY = 0.02
USUAL_EVERY = 0.5
SAMPLES, TURNS = 500, 20
ANOTHER = "another thread"

T = TypeVar("T")
# When the loop began to be held and when it was free again; the place that held it, and the thread.
Tell = Callable[[float, Optional[float], str, str], None]

_LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TASKS = "/proc/self/task"
_watches: weakref.WeakKeyDictionary[Any, Watch] = weakref.WeakKeyDictionary()


def watch_loop(tell: Tell) -> None:
    """Watch the asyncio loop that runs here until it is closed; to ask again changes nothing.

    A loop that is not written in Python, such as uvloop's, is left alone.
    tell: learns of a hold as soon as it is seen, without an end, and again when the loop is free:
    `Reporter.held`, or what enters that. A hold that ends where it began was none after all.
    """
    loop: Any = asyncio._get_running_loop()
    if not hasattr(loop, "_process_events") or not hasattr(loop, "__dict__"):
        return
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = Watch(loop)
        threading.Thread(target=watch.run, name="lab watch", daemon=True).start()
    watch.tells.add(tell)


def glance() -> None:
    """See what the watched loops are at, for their watches: called by what else wakes now and then.

    After a call that has kept the interpreter, one thread alone finds the loop still at it.
    """
    for watch in list(_watches.values()):
        watch.glance()


def unwatch_loops() -> None:
    """Leave all loops as they were."""
    for loop, watch in list(_watches.items()):
        watch.let_go(loop)
    _watches.clear()


class Line(NamedTuple):
    """A line that runs. rank: 0 if it is the reader's, 1 a package's, 2 the standard library's."""

    code: CodeType
    number: int
    rank: int


class Sample(NamedTuple):
    """What the loop was at. seconds: the time it stands for, since the look before it."""

    lines: list[Line]
    seconds: float


class Sleep(NamedTuple):
    """How a sleep of the watch was overrun.

    planned: when it was to end. taken: whether others of this process ran in its place. stopped:
    seconds in which nobody did.
    """

    planned: float
    taken: bool = False
    stopped: float = 0.0


class Turn:
    """A turn of the loop that takes long.

    told: whether somebody was told that it holds the loop; the loop then says when it has ended.
    kept_waiting: for how long the loop's thread had waited for a processor before it.
    """

    def __init__(self, began: float, sample: Sample, kept_waiting: float) -> None:
        self.began = began
        self.ended: float | None = None
        self.told = False
        self.samples = [sample]
        self.kept_waiting = kept_waiting
        self.stopped = 0.0


class Watch:
    """Watches one loop. tells: who learns of its holds."""

    def __init__(self, loop: Any) -> None:
        self.tells: set[Tell] = set()
        self._loop = weakref.ref(loop)
        self._thread, self._number = threading.get_ident(), threading.get_native_id()
        self._over = False
        self._turn: Turn | None = None
        self._seen: deque[Turn] = deque()
        self._looked = 0.0
        self._told = 0.0  # when the turn began that was told last
        self._kept_waiting = times_of(self._number)[1]
        self._usual: tuple[float, dict[int, float]] = 0.0, {}
        self._turns = deque([perf_counter()], TURNS)  # when the latest began, by the loop itself
        self._learn_what_is_usual()
        original = loop._process_events

        @functools.wraps(original)
        def process_events(events: Any) -> None:  # with which each turn begins
            self._turns.append(perf_counter())
            original(events)

        self._hook = loop.__dict__["_process_events"] = process_events

    def let_go(self, loop: Any) -> None:
        """End, and leave the loop as it was."""
        self._over = True
        if loop.__dict__.get("_process_events") is self._hook:
            del loop.__dict__["_process_events"]

    def run(self) -> None:
        """Look at the loop until it is closed; in a thread of its own."""
        while self._runs():
            sleep = self._sleep()
            while self._seen:
                self._turn = self._later(self._turn, self._seen.popleft())
            if self._turn is not None:
                self._follow(self._turn, sleep)
            elif not sleep.taken:
                self._learn_what_is_usual()
        if self._turn is not None:
            self._see_off(self._turn, perf_counter())

    def glance(self, least: float = LATE) -> None:
        """See what the loop is at, if its turn has taken `least` seconds already."""
        began, loop = self._turns[-1], self._loop()
        if loop is None or perf_counter() - began < least or not loop.is_running():
            return
        frame = sys._current_frames().get(self._thread)
        if frame is None or frame.f_code.co_name in ("select", "_poll"):  # it waits for its next
            return
        since, self._looked = max(began, self._looked), perf_counter()
        turn = Turn(began, Sample(lines(frame), self._looked - since), self._kept_waiting)
        if self._told != began and perf_counter() - began > LATE:
            self._told, turn.told = began, True
            self._tell(began, None, place_of(turn.samples), "")
        self._seen.append(turn)
        if turn.told:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                # So the next turn comes at once.
                loop.call_soon_threadsafe(self._ends, turn)

    def _ends(self, turn: Turn) -> None:
        turn.ended = self._turns[-1]

    def _runs(self) -> bool:
        loop = self._loop()
        return not self._over and loop is not None and not loop.is_closed()

    def _sleep(self) -> Sleep:
        own = threading.get_native_id()
        used, waited, loop_waited = process_time(), times_of(own)[1], times_of(self._number)[1]
        if self._turn is None:
            self._kept_waiting = loop_waited
        planned = perf_counter() + LOOK_EVERY
        time.sleep(LOOK_EVERY)
        # At once: whatever lets go of the interpreter lets the loop go on.
        self.glance(LOOK_EVERY)
        late = perf_counter() - planned
        if late < LATE / 2:
            return Sleep(planned)
        turns = list(self._turns)
        free = min((began for began in turns if began > planned), default=planned + late)
        # Those that have kept the watch from running had kept the loop, too.
        taken = turns[0] < planned and free - planned > LATE and not (self._seen or self._turn)
        if taken:
            self._tell(planned, None, "", ANOTHER)
        others = self._others()
        used = process_time() - used
        waited = times_of(own)[1] - waited + times_of(self._number)[1] - loop_waited
        if taken:
            by_others = used > late / 4
            self._tell(planned, free if by_others else planned, *self._busiest(others))
        return Sleep(planned, taken, max(0.0, late - used - waited))

    def _later(self, turn: Turn | None, other: Turn) -> Turn:
        """The later of two turns; of one that was seen twice, all that was seen."""
        if turn is None:
            return other
        if turn.began != other.began:
            self._see_off(turn, turn.ended or other.began)
            return other
        kept, joined = (other, turn) if other.told else (turn, other)
        if len(kept.samples) < SAMPLES:
            kept.samples += joined.samples
        kept.stopped += joined.stopped
        return kept

    def _follow(self, turn: Turn, sleep: Sleep) -> None:
        """See whether a turn goes on that takes long."""
        if turn.began < sleep.planned:
            turn.stopped += sleep.stopped
        over = turn.began != self._turns[-1]
        if turn.ended is not None or (over and not turn.told):
            self._see_off(turn, turn.ended or self._turns[-1])

    def _see_off(self, turn: Turn, ended: float) -> None:
        self._turn = None
        kept_waiting = times_of(self._number)[1] - turn.kept_waiting
        if ended - turn.began - turn.stopped - max(0.0, kept_waiting) < LATE:
            ended = turn.began
        if turn.told:
            self._tell(turn.began, ended, *self._who(turn))

    def _who(self, turn: Turn) -> tuple[str, str]:
        """The place that holds the loop, and the thread if it is not the loop's own."""
        own = any(line.rank == 0 for sample in turn.samples for line in sample.lines)
        ran = times_of(self._number)[0] - self._usual[1].get(self._number, 0.0)
        if not own and self._usual[1] and ran < (perf_counter() - turn.began) / 4:
            return self._busiest(self._others())
        return place_of(turn.samples), ""

    def _others(self) -> list[tuple[int, str, list[Line]]]:
        """What other threads are at that are not the lab's: each by its number and its name."""
        frames = sys._current_frames()
        threads = list(threading._active.values())  # type: ignore[attr-defined]
        found = [(each.native_id, each.name, lines(frames.get(each.ident))) for each in threads
                 if each.ident != self._thread]  # fmt: skip
        return [each for each in found if any(line.rank < 2 for line in each[2])]

    def _busiest(self, others: list[tuple[int, str, list[Line]]]) -> tuple[str, str]:
        """The place and the name of the thread that has lately run the most, if one has at all."""
        now = times_of_all()
        found = [(LATE / 2, 0, "", ANOTHER)]
        for number, name, seen in others:
            rank = min(line.rank for line in seen)
            # One that has just ended had the interpreter, or it could not have.
            ran = now.get(number, inf) - self._usual[1].get(number, 0.0)
            found.append((ran, -rank, place_of([Sample(seen, 1.0)]), name))
        return max(found)[2:]

    def _learn_what_is_usual(self) -> None:
        if perf_counter() - self._usual[0] > USUAL_EVERY:
            self._usual = perf_counter(), times_of_all()

    def _tell(self, began: float, ended: float | None, place: str, thread: str) -> None:
        for tell in list(self.tells):
            tell(began, ended, place, thread)


def lines(frame: FrameType | None) -> list[Line]:
    """The lines that run, one within the other, from the loop's call on; less those of the lab."""
    found = []
    while frame is not None:
        code = frame.f_code
        own = by_file[code.co_filename]
        if own is None and code.co_name == "_run" and code.co_filename == asyncio.events.__file__:
            break
        if not code.co_filename.startswith(_LAB):
            found.append(Line(code, frame.f_lineno, 2 if own is None else int(not own)))
        frame = frame.f_back
    return found[::-1]


def place_of(samples: list[Sample]) -> str:
    """The innermost line that ran for most of the time: the reader's, if any is; "" for none."""
    rank = min((line.rank for sample in samples for line in sample.lines), default=0)
    left = [
        Sample([line for line in sample.lines if line.rank == rank], sample.seconds)
        for sample in samples
    ]
    half, place = sum(sample.seconds for sample in samples) / 2, ""
    for depth in range(max((len(sample.lines) for sample in left), default=0)):
        left = [sample for sample in left if len(sample.lines) > depth]
        code, seconds = longest((sample.lines[depth].code, sample.seconds) for sample in left)
        if seconds <= half:
            break
        left = [sample for sample in left if sample.lines[depth].code is code]
        number, _ = longest((sample.lines[depth].number, sample.seconds) for sample in left)
        place = f"{shown(code.co_filename)}:{number}"
    return place


def longest(times: Iterable[tuple[T, float]]) -> tuple[T, float]:
    """What has most of the seconds that are told of it, and how many."""
    total: dict[T, float] = {}
    for what, seconds in times:
        total[what] = total.get(what, 0.0) + seconds
    return max(total.items(), key=lambda each: each[1])


@functools.lru_cache(maxsize=1000)
def shown(file: str) -> str:
    """A file as it is imported: below the folder of the search path that it stands in."""
    folders = [os.path.join(os.path.abspath(folder), "") for folder in sys.path]
    within = [folder for folder in folders if file.startswith(folder)]
    return file[len(max(within, key=len)) :] if within else os.path.basename(file)


def times_of(number: int) -> tuple[float, float]:
    """For how long a thread has run, and waited for a processor: seconds; 0 but on Linux."""
    try:
        # `open` takes four times as long.
        file = os.open(f"{_TASKS}/{number}/schedstat", os.O_RDONLY)
    except OSError:  # another system, or the thread has ended
        return 0.0, 0.0
    try:
        ran, waited = os.read(file, 100).split()[:2]
    except (OSError, ValueError):
        return 0.0, 0.0
    finally:
        os.close(file)
    return int(ran) / 1e9, int(waited) / 1e9


def times_of_all() -> dict[int, float]:
    """For how long each thread of this process has run; empty but on Linux."""
    return dict(_each_time())


def _each_time() -> Iterator[tuple[int, float]]:
    with contextlib.suppress(OSError):
        for number in map(int, os.listdir(_TASKS)):
            yield number, times_of(number)[0]
