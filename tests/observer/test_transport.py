"""Stamps reach the notebook whatever becomes of the process that has made them."""

import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import psutil
import pytest

from lab.observer import transport
from lab.observer.protocol import Stamp
from lab.observer.requests import Request
from lab.observer.transport import FIRST, FURTHER, GLANCE, Reporter, Segment
from lab.programs.lifeline import alive
from lab.servers.collector import FEW, IDLE, MOST, PREFIX, Collector, Load, place, sweep
from lab.traces import Ledger, Trace

from ..pythons import pythons
from ..waiting import until

Seen = list[Stamp]


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def collector(seen: Seen) -> Iterator[Collector]:
    collector = Collector(seen.append, missed=pytest.fail)
    yield collector
    collector.close()


def numbers(seen: Seen, kind: str) -> list[int]:
    return [told[0] for _, what, *told in seen if what == kind]


def test_records_come_whole_and_in_order_over_many_segments(
    collector: Collector, seen: Seen
) -> None:
    many = 3 * FURTHER // 40
    for number in range(many):
        collector.reporter.note(("1", "stamp", number, 0.5, None, "名\ud800"))
    collector.read()
    assert numbers(seen, "stamp") == list(range(many))
    assert seen[0] == ("1", "stamp", 0, 0.5, None, "名\ud800")


def test_a_long_record_is_followed_by_others(collector: Collector, seen: Seen) -> None:
    for text in ("x" * 10_000, "y" * FIRST, "z"):
        collector.reporter.note(("1", "stamp", text))
    collector.read()
    assert [text for _, _, text in seen] == ["x" * 10_000, "y" * FIRST, "z"]


def test_a_record_that_is_half_written_comes_when_it_is_whole(
    collector: Collector, seen: Seen
) -> None:
    collector.reporter.note(("1", "first", "x"))
    collector.read()
    (path,) = Path(collector.reporter.folder).iterdir()
    whole = path.read_bytes()
    record = whole.rstrip(b"\0")
    with path.open("r+b") as file:
        file.seek(len(record))
        file.write(record[:-3])
        file.flush()
        collector.read()
        assert len(seen) == 1
        file.write(record[-3:])
        file.flush()
    collector.read()
    assert seen == [("1", "first", "x")] * 2


def test_a_stamp_within_a_stamp_loses_neither(collector: Collector, seen: Seen) -> None:
    class Told:
        def __init__(self, number: int) -> None:
            self.number, self.cycle = number, self

        def __del__(self) -> None:
            collector.reporter.note(("1", "inner", self.number))

    def interrupted(number: int, frame: object) -> None:
        collector.reporter.note(("1", "signalled", next(signals)))

    signals = iter(range(10**9))
    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(20_000):
            Told(number)
            collector.reporter.note(("1", "outer", number))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    collector.read()
    assert numbers(seen, "outer") == list(range(20_000))
    inner = numbers(seen, "inner")
    assert len(inner) > 1000
    assert len(set(inner)) == len(inner)
    assert sorted(numbers(seen, "signalled")) == list(range(next(signals)))


KILLED = """
import gc, os, signal, sys, threading
sys.path.insert(0, sys.argv[2])
from lab.observer.transport import Reporter
report = Reporter(sys.argv[1])

class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        report.note(("gc", "stamp", 0))

signal.signal(signal.SIGALRM, lambda *_: report.note(("signal", "stamp", 0)))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

def stamp(name):
    number = 0
    while True:
        report.note((name, "stamp", number))
        os.write(1, b"%s %d\\n" % (name.encode(), number))
        number += 1
        Cycle()

for thread in range(4):
    threading.Thread(target=stamp, args=["t%d" % thread], daemon=True).start()
if os.fork() == 0:
    stamp("forked")
stamp("main")
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", found := pythons((3, 9)))
def test_nothing_that_a_killed_process_had_stamped_is_missing(
    version: str, collector: Collector, seen: Seen, tmp_path: Path
) -> None:
    """Each stamp is acknowledged on a pipe after it was made: those must all be there."""
    root = Path(transport.__file__).parents[2]
    process = subprocess.Popen(
        [found[version], "-W", "ignore", "-c", KILLED, collector.reporter.folder, str(root)],
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[bytes] = []
    names = {"main", "forked", "t0", "t1", "t2", "t3"}
    silent = {name.encode() for name in names}
    killed = False
    for line in process.stdout:
        lines.append(line)
        silent.discard(line.split()[0])
        # The forked process may begin late.
        if not killed and len(lines) >= 20_000 and (not silent or len(lines) == 2_000_000):
            os.killpg(process.pid, signal.SIGKILL)
            killed = True
    process.stdout.close()
    process.wait()
    collector.read()
    by_name: dict[str, list[int]] = {}
    for name, _, number in seen:
        by_name.setdefault(name, []).append(number)
    acknowledged: dict[str, int] = {}
    for line in lines:
        if line.endswith(b"\n"):
            name, number = line.decode().split()
            acknowledged[name] = max(acknowledged.get(name, 0), int(number))
    assert set(acknowledged) == names
    assert by_name["gc"]
    assert by_name["signal"]
    for name, last in acknowledged.items():
        assert by_name[name] == list(range(len(by_name[name]))), name
        assert len(by_name[name]) > last


def test_without_room_the_process_falls_silent_and_the_trace_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = Ledger()
    collector = Collector(ledger.enter, ledger.miss_stamps)
    try:
        trace = ledger.open(Trace("1", 0.0))
        collector.reporter.note(("1", "received", 0.0, "GET", "/"))

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        for number in range(FIRST // 20):
            collector.reporter.note(("1", "logged", "INFO", "app", str(number)))
        assert trace.wait(10) is trace
        assert f"process {os.getpid()} has no room for stamps in {place()}" in str(trace)
        assert ledger.open(Trace("2", 0.0)).wait(0).unseen == trace.unseen
    finally:
        collector.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_ends_no_watched_process(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small]).returncode:
        pytest.skip("may not mount")
    try:
        code = (
            "import sys; from lab.observer.transport import Reporter\n"
            "report = Reporter(sys.argv[1])\n"
            "for number in range(100_000): report.note(('1', 'stamp', number))\n"
            "print('served on')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, small], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "served on\n")
        assert [path.name for path in small.glob("*-silent")]
    finally:
        subprocess.run(["umount", small], check=True)


def test_nobody_else_may_look(collector: Collector) -> None:
    collector.reporter.note(("1", "stamp", 1))
    folder = Path(collector.reporter.folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_old_segments_go_and_those_of_ended_processes(
    collector: Collector, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(collector.reporter.folder)
    for number in range(3 * FURTHER // 20):
        collector.reporter.note(("1", "stamp", number))
    code = (
        "import sys; from lab.observer import transport\n"
        "transport.Reporter(sys.argv[1]).note(('1', 'x'))"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    assert len([*folder.iterdir()]) > 3
    until(lambda: len([*folder.iterdir()]) == 1)
    collector.reporter.note(("1", "stamp", -1))
    until(lambda: numbers(seen, "stamp")[-1:] == [-1])
    assert ("1", "x") in seen


def test_a_look_may_come_while_the_segments_are_tidied(
    collector: Collector, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(pid: int) -> bool:
        collector.reporter.begin_anew()
        collector.reporter.note(("1", "stamp", 2))
        collector.read()
        return True

    collector.reporter.note(("1", "stamp", 1))
    collector.read()
    monkeypatch.setattr("lab.servers.collector.alive", look)
    collector._tidy()
    monkeypatch.undo()
    assert set(numbers(seen, "stamp")) == {1, 2}


def test_a_process_has_one_reporter_however_often_it_arrives(collector: Collector) -> None:
    one, two = (pickle.loads(pickle.dumps(collector.reporter)) for _ in range(2))
    assert one is two


def test_folders_of_ended_processes_are_swept_and_those_of_living_ones_stay() -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    left = Path(place()) / f"{PREFIX}{ended}-x"
    living = Path(place()) / f"{PREFIX}{os.getpid()}-x"
    left.mkdir()
    living.mkdir()
    try:
        sweep()
        assert not left.exists()
        assert living.exists()
    finally:
        living.rmdir()


LED_BY_A_ZOMBIE = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of a process by its first thread")
def test_a_process_is_alive_until_the_last_of_its_threads_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", LED_BY_A_ZOMBIE], stdin=subprocess.PIPE) as led:
        until(lambda: psutil.Process(led.pid).status() == psutil.STATUS_ZOMBIE)
        assert alive(led.pid)
        assert led.stdin is not None
        led.stdin.close()
        until(lambda: not alive(led.pid))


def test_threads_of_one_process_do_not_mix_their_records(collector: Collector, seen: Seen) -> None:
    def stamp(name: str) -> None:
        for number in range(20_000):
            collector.reporter.note((name, "stamp", number))

    threads = [threading.Thread(target=stamp, args=[str(n)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collector.read()
    for name in "0123":
        assert [number for of, _, number in seen if of == name] == list(range(20_000))


def test_a_reporter_in_a_notebook_that_has_gone_is_silent(tmp_path: Path) -> None:
    report = Reporter(str(tmp_path / "gone"))
    for _ in range(3):
        report.note(("1", "stamp", time.monotonic()))


def test_what_waits_to_be_read_is_known_without_reading(collector: Collector, seen: Seen) -> None:
    collector.reporter.note(("1", "stamp", 0))
    (path,) = Path(collector.reporter.folder).iterdir()
    segment = Segment(str(path))
    for number in range(1, 500):
        collector.reporter.note(("1", "stamp", number))
    written = 500 * (segment_length := len(path.read_bytes().rstrip(b"\0")) // 500)
    assert segment_length > 20
    assert written - 2 * GLANCE < segment.unread() <= written
    records, segment.at = segment.records()
    assert len(records) == 500
    assert segment.unread() == 0
    segment.close()


def test_reading_waits_while_much_comes_and_no_longer() -> None:
    load = Load()
    assert not load.is_heavy(FEW)
    assert load.is_heavy(3 * FEW)
    assert load.is_heavy(5 * FEW)
    assert not load.is_heavy(5 * FEW + 1)  # it has become quiet
    assert load.is_heavy(MOST - 1)
    assert not load.is_heavy(MOST + FEW)  # too much to be kept


def test_a_server_that_answers_hundreds_a_second_is_under_load(tmp_path: Path) -> None:
    reporter = Reporter(str(tmp_path))
    request = Request("1234-5678", reporter.note)
    request.received(0.5, "GET", "/one")
    key = request.add(len, "background")
    request.responded(0.5, 202)
    request.queued(key, 0.5)
    request.started(key, 0.5, "thread 1234")
    request.finished(key, 0.5, None)
    request.returned(0.5)
    (segment,) = tmp_path.iterdir()
    of_one = len(segment.read_bytes().rstrip(b"\0"))
    assert Load().is_heavy(round(500 * of_one * IDLE))


@pytest.mark.parametrize("meanwhile", ["read", "entered"])
def test_an_interrupt_while_records_are_read_or_entered_loses_none(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    calls: list[str] = []

    def interrupt(moment: str, call: int) -> None:
        calls.append(moment)
        if moment == meanwhile and calls.count(moment) == call:
            raise KeyboardInterrupt

    def enter(stamp: Stamp) -> None:
        interrupt("entered", 2)
        seen.append(stamp)

    def checked(body: bytes) -> int:
        interrupt("read", 3)  # by when the newer segment is read
        return crc32(body)

    monkeypatch.setattr(Collector, "_under_load", lambda self: True)  # only who asks reads
    collector = Collector(enter, missed=pytest.fail)
    for number, text in enumerate(("", "x" * FIRST, "")):
        collector.reporter.note(("1", "stamp", number, text))
    monkeypatch.setattr(transport, "crc32", checked)
    with pytest.raises(KeyboardInterrupt):
        collector.read()
    collector.read()
    collector.close()
    assert numbers(seen, "stamp") == [0, 1, 2]
