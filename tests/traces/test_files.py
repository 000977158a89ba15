"""Files of traces: equal when loaded, whole whenever a process is killed, without secrets."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.publishing.notebooks import ROOT
from lab.traces import Floor, Task, Trace, Traces
from lab.traces.files import (
    HARMLESS_HEADERS,
    MARK,
    TraceFile,
    _plain,
    _revived,
    date_of,
    line_of,
)


def over(*tasks: Task, **known: object) -> Trace:
    return Trace("1", 5.0, "POST", "/x", responded=0.1, returned=0.2, tasks=[*tasks], **known)  # type: ignore[arg-type]


def plenty() -> Traces:
    store = Task("store", added=0.05, started=0.1, finished=0.2, where="loop")
    return Traces(
        [
            over(store, Task("resize", "thread", parent=store), status=202, answered=0.1),
            over(error="ReadError", floor=Floor(0.1, 0.2), log=["名\ud800"]),
            over(Task(started=1, gone=2), gone=2.0, broken=0.3, ending=(("SIGTERM", 1.0),)),
            over(unseen="process 7 has no room", headers={"date": "é"}),
        ]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def test_saved_traces_load_equal(file: Path) -> None:
    plenty().save(file)
    loaded = Traces.load(file)
    assert loaded == plenty()
    assert loaded[0].tasks[1].parent is loaded[0].tasks[0]
    assert file.read_bytes().startswith(MARK)
    assert len(file.read_bytes().splitlines()) == 1 + len(loaded)


def test_every_public_field_is_written(file: Path) -> None:
    told = json.loads(line_of(over(Task())))
    for kind, plain in ((Trace, told), (Task, told["tasks"][0])):
        names = [each.name for each in dataclasses.fields(kind)]
        assert [*plain] == [name for name in names if not name.startswith("_")]


@dataclasses.dataclass
class Held:
    began: float
    place: str = ""


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (tuple[Held, ...], (Held(0.1, "orders.py:31"), Held(2))),
        (tuple[Held, ...], ()),
        (tuple[str, float], ("exit", 0.5)),
        (Floor | None, Floor(0.1, 0.2)),
        (Floor | None, None),
        (dict[str, list[int]], {"a": [1, 2]}),
        (bytes, b"\xff"),
        (bool, True),
    ],
)
def test_a_field_of_any_kind_that_a_trace_may_come_to_have_is_kept(kind: Any, value: Any) -> None:
    assert _revived(kind, json.loads(json.dumps(_plain(value)))) == value


def test_a_file_says_when_by_the_clock_of_the_day(file: Path) -> None:
    now = Traces([Trace("1", time.perf_counter())])
    now.save(file)
    loaded = Traces.load(file)
    assert loaded[0].date == pytest.approx(time.time(), abs=60)
    assert date_of(loaded[0]) == loaded[0].date
    loaded[0].sent = 0.0  # as after the machine's next start
    loaded.save(file)
    assert Traces.load(file)[0].date == loaded[0].date


def test_a_trace_of_an_older_lab_has_the_date_of_its_answer(file: Path) -> None:
    plain = {"id": "1", "sent": 5.0, "headers": {"date": "Wed, 25 Nov 2026 00:33:45 GMT"}}
    odd = {"id": "2", "sent": 6.0, "headers": {"date": "today"}}
    file.write_text(json.dumps([plain, odd]))
    first, second = Traces.load(file)
    assert first.date == datetime(2026, 11, 25, 0, 33, 45, tzinfo=UTC).timestamp()
    assert second.date is None


def test_bodies_and_headers_that_may_hold_secrets_are_not_written(file: Path) -> None:
    headers = {name: f"{name}: told" for name in HARMLESS_HEADERS}
    secret = dict.fromkeys(("set-cookie", "X-Token", "www-authenticate", "etag"), "s3cret")
    places = {"location": "https://me:s3cret@host/login?code=s3cret#s3cret"}
    Traces([over(headers=headers | secret | places, body=b"s3cret\xff"), over()]).save(file)
    assert b"s3cret" not in file.read_bytes()
    first, second = Traces.load(file)
    assert first.headers == (
        headers | dict.fromkeys(secret, "[redacted]")
        | {"location": "https://[redacted]@host/login?[redacted]"}
    )  # fmt: skip
    assert (first.body, second.body) == (b"[redacted]", b"")


@pytest.mark.parametrize("place", ["/orders/7", "https://host/orders/7"])
def test_a_location_without_a_query_is_written_whole(file: Path, place: str) -> None:
    Traces([over(headers={"location": place})]).save(file)
    assert Traces.load(file)[0].headers["location"] == place


def test_a_file_is_replaced_whole_and_nothing_stays_beside_it(file: Path) -> None:
    plenty().save(file)
    Traces().save(file)
    assert Traces.load(file) == []
    assert [*file.parent.iterdir()] == [file]


def test_a_file_grows_line_by_line_and_goes_on_when_it_is_opened_again(file: Path) -> None:
    for trace in plenty():
        with TraceFile(file) as growing:
            growing.add(trace)
            assert Traces.load(file)[-1] == trace
    assert Traces.load(file) == plenty()


def test_wherever_the_last_line_is_cut_the_rest_loads_and_the_file_goes_on(file: Path) -> None:
    traces = plenty()
    traces.save(file)
    whole = file.read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    for end in random.Random(1).sample(range(begin, len(whole) - 1), 40):
        file.write_bytes(whole[:end])
        assert Traces.load(file) == traces[:-1]
        with TraceFile(file) as growing:
            growing.add(traces[0])
        assert Traces.load(file) == Traces([*traces[:-1], traces[0]])


def test_a_last_line_without_a_newline_counts(file: Path) -> None:
    plenty().save(file)
    file.write_bytes(file.read_bytes().rstrip())
    assert Traces.load(file) == plenty()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_file_is_whole_whenever_its_writer_is_killed(file: Path) -> None:
    code = (
        "import itertools, sys\n"
        "from lab.traces import Trace\n"
        "from lab.traces.files import TraceFile\n"
        "with TraceFile(sys.argv[1]) as file:\n"
        "    for number in itertools.count():\n"
        "        file.add(Trace(str(number), 0.0, log=['x' * 50_000]))\n"
        "        print(number, flush=True)\n"
    )
    for _ in range(5):
        file.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(5):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
            told = 5 + len(writer.stdout.read().splitlines())
        ids = [trace.id for trace in Traces.load(file)]
        assert ids == [str(number) for number in range(len(ids))]
        assert len(ids) >= told


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_without_room_the_line_is_taken_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceFile(file) as growing:
        growing.add(over())
        write = os.write
        halves = iter([lambda to, line: write(to, line[:9]), lambda to, line: full()])

        def full() -> int:
            with open("/dev/full", "wb", buffering=0) as device:
                return device.write(b"x") or 0

        monkeypatch.setattr(os, "write", lambda to, line: next(halves)(to, line))
        with pytest.raises(OSError, match="No space"):
            growing.add(over())
        monkeypatch.undo()
        growing.add(over())
    assert Traces.load(file) == [over(), over()]


@pytest.mark.parametrize("recording", sorted((ROOT / "data").glob("r*/**/*.json")))
def test_recordings_of_older_labs_load(recording: Path, file: Path) -> None:
    traces = Traces.load(recording)
    traces.save(file)
    for one, again in zip(traces, Traces.load(file), strict=True):
        assert one.tasks == again.tasks
        assert one.answered == again.answered


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin with"),
        (b"{", "does not begin with"),
        (b"\xff\xfe\xfd", "does not begin with"),
        (b'{"a": 1}', "does not begin with"),
        (MARK.replace(b"1", b"7"), "of version 7, and it reads 1"),
        (b"[1]", "1 is no dict"),
        (b"[{}]", r"not whole .*'id'"),
        (MARK + b"{\n" + b"{}\n", "line 2 is no JSON"),
        (MARK + b'{"id":"1"}\n', r"line 2: a trace is not whole .*'sent'"),
        (MARK + b'{"id":"1","sent":0,"hue":1}\n', "line 2: a trace has no 'hue' here"),
        (MARK + b'{"id":"1","sent":"now"}\n', "sent of a trace: 'now' is no number"),
        (MARK + b'{"id":"1","sent":0,"tasks":7}\n', "tasks of a trace: 7 is no list"),
        (MARK + b'{"id":"1","sent":0,"floor":[1]}\n', "floor of a trace: .* has not 2 parts"),
        (MARK + b'{"id":"1","sent":0,"tasks":[{"hue":1}]}\n', "a task has no 'hue' here"),
        (MARK + b'{"id":"1","sent":0,"tasks":[{"parent":3}]}\n', "parent is 3 of 1"),
    ],
)
def test_a_file_that_was_not_written_so_is_refused_with_the_reason(
    file: Path, content: bytes, why: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"run\.json holds no traces .*{why}"):
        Traces.load(file)


def test_nothing_is_added_to_another_file(file: Path) -> None:
    for content in (b"[\n]\n", b"dear diary"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.json holds something else .* another file"):
            TraceFile(file)
        assert file.read_bytes() == content
