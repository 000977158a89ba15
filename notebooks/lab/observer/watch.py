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
from time import perf_counter, process_time
from types import CodeType, FrameType
from typing import Any, NamedTuple, Optional, TypeVar

from .handing import by_file
from .loops import ClassHook

LATE = 0.1  # seconds: a turn that takes longer is told
LOOK_EVERY = 0.02
USUAL_EVERY = 0.5
SAMPLES, TURNS = 500, 20
ANOTHER = "another thread"
UNSEEN = "a line that was not seen"  # one call, over before anybody else could have a look

T = TypeVar("T")
# When the loop began to be held and when it was free again; the place that held it, and the thread.
Tell = Callable[[float, Optional[float], str, str], None]

_LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TASKS = "/proc/self/task"
_watches: weakref.WeakKeyDictionary[Any, Watch] = weakref.WeakKeyDictionary()
_turns: dict[int, deque[float]] = {}
"""When the latest turns of each watched loop began, by the loop's `id`."""


def watch_loop(tell: Tell) -> None:
    """Watch the asyncio loop that runs here until it is closed; to ask again changes nothing.

    A loop that is not written in Python, such as uvloop's, is left alone.
    tell: learns of a hold as soon as it is seen, without an end, and again when the loop is free.
    A hold that ends where it began was none after all.
    """
    loop: Any = asyncio._get_running_loop()
    if not hasattr(loop, "_process_events"):
        return
    watch = _watches.get(loop)
    if watch is None:
        _hook.put_on(type(loop))
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
    for watch in list(_watches.values()):
        watch.let_go()
    _watches.clear()
    _hook.take_off()


def _process_events(original: Callable[..., None]) -> Callable[..., None]:
    def process_events(self: Any, events: Any) -> None:  # with which each turn begins
        turns = _turns.get(id(self))
        if turns is not None:
            turns.append(perf_counter())
        original(self, events)

    return process_events


_hook = ClassHook("_process_events", _process_events)


class Line(NamedTuple):
    """A line that runs. rank: 0 if it is the reader's, 1 a package's, 2 the standard library's."""

    code: CodeType
    number: int
    rank: int


class Sample(NamedTuple):
    """What the loop was at. seconds: the time it stands for, since the look before it."""

    lines: list[Line]
    seconds: float


class Other(NamedTuple):
    """What another thread was at. number: the system's own."""

    number: int
    name: str
    lines: list[Line]


class Clocks(NamedTuple):
    """What has passed between two looks is told by these, and nothing between two is left out.

    used: processor time of the process. waited: for a processor, by the watch. others: what other
    threads were at when reading the clocks took long.
    """

    now: float
    used: float
    loop_ran: float
    loop_waited: float
    waited: float
    others: list[Other]


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

    others: what other threads were at when nothing of the reader's ran in it.
    told: whether somebody was told that it holds the loop; the loop then says when it has ended.
    kept_waiting: for how long the loop's thread had waited for a processor before it.
    """

    def __init__(
        self, began: float, sample: Sample, kept_waiting: float, others: list[Other]
    ) -> None:
        self.began = began
        self.ended: float | None = None
        self.told = False
        self.samples = [sample]
        self.others = others
        self.kept_waiting = kept_waiting
        self.stopped = 0.0


class Watch:
    """Watches one loop. tells: who learns of its holds."""

    def __init__(self, loop: Any) -> None:
        self.tells: set[Tell] = set()
        self._loop, self._id = weakref.ref(loop), id(loop)
        self._thread, self._number = threading.get_ident(), threading.get_native_id()
        self._over = False
        self._turn: Turn | None = None
        self._seen: deque[Turn] = deque()
        self._looked = 0.0
        self._told = 0.0  # when the turn began that was told last
        self._times = Times(self._number)
        self._kept_waiting = self._times.read()[1]
        self._usual: tuple[float, dict[int, float]] = 0.0, {}
        self._turns = _turns[id(loop)] = deque([perf_counter()], TURNS)
        self._learn_what_is_usual()

    def let_go(self) -> None:
        """End the watch."""
        self._over = True

    def run(self) -> None:
        """Look at the loop until it is closed; in a thread of its own."""
        own = Times(threading.get_native_id())
        with contextlib.closing(self._times), contextlib.closing(own) as self._own_times:
            self._clocks = self._read_clocks()
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
        if _turns.get(self._id) is self._turns:  # not yet those of a loop that came after
            del _turns[self._id]

    def glance(self, least: float = LATE) -> None:
        """See what the loop is at, if its turn has taken `least` seconds already."""
        began, loop = self._turns[-1], self._loop()
        if loop is None or perf_counter() - began < least or not loop.is_running():
            return
        frame = sys._current_frames().get(self._thread)
        if frame is None or frame.f_code.co_name in ("select", "_poll"):  # it waits for its next
            return
        since, self._looked = max(began, self._looked), perf_counter()
        ran = lines(frame)
        others = [] if any(line.rank == 0 for line in ran) else self._others()
        turn = Turn(began, Sample(ran, self._looked - since), self._kept_waiting, others)
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
        before = self._clocks
        planned = before.now + LOOK_EVERY
        if self._turn is None:
            self._kept_waiting = before.loop_waited
        time.sleep(LOOK_EVERY)
        # At once: whatever lets go of the interpreter lets the loop go on.
        self.glance(LOOK_EVERY)
        late = perf_counter() - planned
        if late < LATE / 2:
            self._clocks = self._read_clocks()
            return Sleep(planned)
        turns, seen = list(self._turns), self._seen or self._turn
        others = before.others + self._others()
        after = self._clocks = self._read_clocks()
        loop_waited = after.loop_waited - before.loop_waited
        loop_ran = after.loop_ran - before.loop_ran
        if taken := not seen and loop_ran > (late - loop_waited) / 2:
            self._tell_of_unseen([*turns, planned + late], planned, loop_waited)
        used = after.used - before.used
        free = min((began for began in turns if began > planned), default=planned + late)
        # Those that have kept the watch from running had kept the loop, too.
        if not (seen or taken) and turns[0] < planned and free - planned > LATE:
            taken = True
            self._tell(planned, None, "", ANOTHER)
            by_others = used > late / 4
            who = self._busiest(others, (free - planned) / 2)
            self._tell(planned, free if by_others else planned, *who)
        waited = after.waited - before.waited + loop_waited
        return Sleep(planned, taken, max(0.0, late - used - waited))

    def _read_clocks(self) -> Clocks:
        now, used = perf_counter(), process_time()
        times = *self._times.read(), self._own_times.read()[1]
        # To read a file lets go of the interpreter.
        others = self._others() if perf_counter() - now > LATE / 2 else []
        return Clocks(now, used, *times, others)

    def _tell_of_unseen(self, turns: list[float], planned: float, waited: float) -> None:
        """Tell of the turn that had the loop from `planned` on, and was over before any look."""
        began, ended = max(zip(turns, turns[1:]), key=lambda turn: turn[1] - max(turn[0], planned))
        if ended - began - waited > LATE:
            self._tell(began, ended, UNSEEN, "")

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
            kept.others += joined.others
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
        kept_waiting = self._times.read()[1] - turn.kept_waiting
        if ended - turn.began - turn.stopped - max(0.0, kept_waiting) < LATE:
            ended = turn.began
        if turn.told:
            self._tell(turn.began, ended, *self._who(turn))

    def _who(self, turn: Turn) -> tuple[str, str]:
        """The place that holds the loop, and the thread if it is not the loop's own."""
        own = any(line.rank == 0 for sample in turn.samples for line in sample.lines)
        ran, waited = self._times.read()
        ran -= self._usual[1].get(self._number, 0.0)
        took = perf_counter() - turn.began - max(0.0, waited - turn.kept_waiting)
        if not own and self._usual[1] and ran < took / 4:
            return self._busiest(turn.others, took / 2)
        if not own and max(sample.seconds for sample in turn.samples) > LATE:
            return UNSEEN, ""  # by now, what follows the reader's call is at it
        return place_of(turn.samples), ""

    def _others(self) -> list[Other]:
        """What other threads are at that are not the lab's: each by its number and its name."""
        frames = sys._current_frames()
        threads = list(threading._active.values())  # type: ignore[attr-defined]
        found = [Other(each.native_id, each.name, lines(frames.get(each.ident)))
                 for each in threads if each.ident != self._thread]  # fmt: skip
        return [each for each in found if any(line.rank < 2 for line in each.lines)]

    def _busiest(self, others: list[Other], least: float) -> tuple[str, str]:
        """The place and the name of the thread that has lately run the most, if for `least`."""
        now = times_of_all()
        found = [(least, -2, "", ANOTHER)]
        for number, name, seen in others:
            rank = min(line.rank for line in seen)
            # One that has ended meanwhile had the interpreter, or it could not have.
            ran = now[number] - self._usual[1].get(number, 0.0) if number in now else least
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


class Times:
    """For how long a thread has run, and waited for a processor: seconds; 0 but on Linux.

    Its file stays open: to open it takes longer than to read it.
    """

    def __init__(self, number: int) -> None:
        try:
            # The function `open` takes four times as long.
            self._file = os.open(f"{_TASKS}/{number}/schedstat", os.O_RDONLY)
        except OSError:  # another system, or the thread has ended
            self._file = -1

    def read(self) -> tuple[float, float]:
        if self._file < 0:
            return 0.0, 0.0
        try:
            ran, waited = os.pread(self._file, 100, 0).split()[:2]
        except (OSError, ValueError):  # the thread has ended
            return 0.0, 0.0
        return int(ran) / 1e9, int(waited) / 1e9

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def times_of_all() -> dict[int, float]:
    """For how long each thread of this process has run; empty but on Linux."""
    return dict(_each_time())


def _each_time() -> Iterator[tuple[int, float]]:
    with contextlib.suppress(OSError):
        for number in map(int, os.listdir(_TASKS)):
            with contextlib.closing(Times(number)) as times:
                yield number, times.read()[0]
