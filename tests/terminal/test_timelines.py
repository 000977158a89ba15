"""Timelines in text are read back from their lines: names, bars, moments, fates."""

import itertools
import re

import pytest

from lab.terminal.inked import columns, fitted, padded
from lab.terminal.rows import ticks
from lab.terminal.timelines import lines_of, text_timeline
from lab.traces import Task, Trace

NAMES = ("task", "send_the_order_confirmation_to_every_customer", "发邮件给所有下过订单的客户")


def request(*tasks: Task, **known: object) -> Trace:
    plain = {
        "path": "/order", "status": 202, "received": 0.001, "responded": 0.003, "answered": 0.004,
    }  # fmt: skip
    return Trace("1", 7.0, "POST", tasks=[*tasks], **plain | known)  # type: ignore[arg-type]


def every_state(name: str = "email") -> list[Task]:
    return [
        Task(name, added=0.002, queued=0.004, started=0.005, finished=0.305),
        Task("invoice", queued=0.305, started=0.306, finished=0.4, error="ValueError: 7"),
        Task("audit", added=0.002, gone=0.401),
        Task("resize", "thread", queued=0.002, started=0.0021, finished=0.5),
        Task("crunch", "process", queued=0.003, started=0.2, gone=0.6),
        Task("notify", "create_task", started=0.003, finished=0.1, error="CancelledError"),
        Task("later", "queue", queued=0.003),
        Task("now", "queue", queued=0.003, started=0.55),
    ]


def row(text: str, name: str) -> str:
    (found,) = (line for line in text.splitlines() if line.startswith(f"  {name} "))
    return found


def test_a_timeline_as_it_is_printed() -> None:
    trace = request(
        Task("save", queued=0.003, started=0.003, finished=0.253),
        Task("notify", queued=0.253, started=0.254, finished=0.504, error="ValueError: no address"),
        Task("report", queued=0.003, gone=0.505),
    )
    assert text_timeline(trace, 80).splitlines() == [
        "POST /order  202",
        "  answered              ╸                                        0.004 s",
        "  save      background  ██████████████▌                 0.003 to 0.253 s",
        "  notify    background  ┊             ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒✗  0.254 to 0.504 s  failed",
        "  report    background  ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌   never ran",
        "                        ╵0   ╵0.1  ╵0.2  ╵0.3 ╵0.4      s after sending",
        "  ! notify failed: ValueError: no address",
        "  ! report never ran",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("email", ["background", "0.005 to 0.305 s"]),
        ("invoice", ["▒✗", "0.306 to 0.400 s  failed"]),
        ("audit", ["╌", "never ran"]),
        ("resize", ["thread", "0.002 to 0.500 s"]),
        ("crunch", ["process", "──", "█", "✗", "0.200 to 0.600 s  lost"]),
        ("notify", ["create_task", "✗", "0.003 to 0.100 s  cancelled"]),
        ("later", ["queue", "╌►", "waiting"]),
        ("now", ["queue", "►", "0.550 s  running"]),
    ],
)
def test_each_task_has_its_name_runner_moments_and_fate(name: str, told: list[str]) -> None:
    line = row(text_timeline(request(*every_state()), 120), name)
    assert re.search(".*".join(map(re.escape, told)), line)


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 120, 200])
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_the_window(width: int, name: str) -> None:
    ending = (("SIGTERM", 0.5), ("exit", 0.7))
    for trace in (
        request(*every_state(name), ending=ending),
        request(*every_state(), path="/long" * 50, unseen="no room " * 30),
        request(answered=None, received=0.0, path="/long" * 50),
        Trace("1", 0.0),
    ):
        lines = text_timeline(trace, width).splitlines()
        assert max(map(columns, lines)) <= width


def test_bars_stand_in_the_order_of_their_moments() -> None:
    """Where one task begins after another's end, its bar does, too, and none is without one."""
    moments = [(at / 40, at / 40 + length) for at in range(40) for length in (0.0, 0.01, 0.2)]
    for width, (one, two) in itertools.product((60, 80, 120), itertools.pairwise(moments)):
        text = text_timeline(
            request(
                Task("one", started=one[0], finished=one[1]),
                Task("two", started=two[0], finished=two[1]),
            ),
            width,
        )
        bars = [re.search("[▌▐█]+", row(text, name)) for name in ("one", "two")]
        assert None not in bars
        places = [bar.span() for bar in bars if bar]
        if one[1] <= two[0]:
            assert places[0][1] - 1 <= places[1][0]
        assert row(text, "one").index("background") < places[0][0]


def test_the_answer_of_another_client_is_told_by_the_servers_stamps() -> None:
    text = text_timeline(request(Task("a"), answered=None, received=0.0))
    assert row(text, "responded").endswith("0.0030 s")
    assert "s after receiving" in text


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"error": "ReadError: cut", "broken": 0.2}, "✗ .*0.200 s  broken"),
        ({"gone": 0.2}, "✗ .*0.200 s  lost"),
        ({}, "► .*waiting"),
    ],
)
def test_a_missing_answer_is_named(known: dict[str, object], told: str) -> None:
    text = text_timeline(request(answered=None, status=None, **known))
    assert re.search(told, row(text, "answered"))
    assert text.startswith("POST /order  no answer")


def test_what_is_wrong_is_told_below() -> None:
    trace = request(
        *every_state(), answered=None, broken=0.2, error="ReadError: cut", unseen="no room"
    )
    told = [line for line in text_timeline(trace, 120).splitlines() if "!" in line]
    assert told == [f"  ! {problem}" for problem in trace.problems]
    assert told[0] == "  ! the connection broke: ReadError: cut"
    assert "  ! invoice failed: ValueError: 7" in told


def test_what_was_logged_of_a_server_error_is_told_below() -> None:
    log = ["INFO uvicorn.access: GET /", "ERROR uvicorn.error: Exception (KeyError: 7)"]
    assert text_timeline(request(status=500, log=log)).splitlines() == [
        "POST /order  500  answered after 0.004 s",
        "  ! ERROR uvicorn.error: Exception (KeyError: 7)",
    ]
    assert "ERROR" not in text_timeline(request(status=202, log=log))


def test_the_end_of_the_server_has_a_row() -> None:
    text = text_timeline(
        request(Task("a", started=0, finished=0.3), ending=(("SIGTERM", 0.1), ("exit", 0.4)))
    )
    assert re.search("╎ +╎ .*SIGTERM, exit", row(text, "server"))


def test_a_request_without_tasks_takes_one_line() -> None:
    assert text_timeline(request()) == "POST /order  202  answered after 0.004 s"


def test_a_parent_is_named() -> None:
    store = Task("store", started=0.1, finished=0.2)
    child = Task("resize", "thread", started=0.1, finished=0.2, parent=store)
    assert "thread of store" in row(text_timeline(request(store, child)), "resize")


def test_beyond_forty_tasks_the_rest_is_counted() -> None:
    text = text_timeline(request(*every_state() * 10), 120)
    assert "and 40 more tasks: 10 finished, 5 failed, 5 never ran, 5 lost, 5 cancelled" in text
    assert "! invoice failed: ValueError: 7 (10 times)" in text


def test_many_different_problems_are_counted() -> None:
    failing = [Task(f"t{n}", started=0.1, finished=0.2, error=f"KeyError: {n}") for n in range(20)]
    *_, last, more = text_timeline(request(*failing)).splitlines()
    assert last == "  ! t7 failed: KeyError: 7"
    assert more == "  ! and 12 more"


def test_colours_are_told_by_sequences_and_plain_text_has_none() -> None:
    trace = request(*every_state())
    coloured = text_timeline(trace, 80, colours=True)
    assert "\x1b[38;5;166m╸\x1b[m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text_timeline(trace, 80)
    assert "\x1b" not in text_timeline(trace, 80)


def test_what_a_terminal_might_obey_is_not_passed_on() -> None:
    evil = "\x1b[2J\x07\r\n\x9b"
    trace = request(Task(evil, error=evil, started=0.1, finished=0.2), path=f"/{evil}", unseen=evil)
    for line in text_timeline(trace, 100).splitlines():
        assert line.isprintable()
    assert len(text_timeline(trace, 100).splitlines()) == len(lines_of(trace, 100))


@pytest.mark.parametrize("last", [1e-4, 0.0021, 0.05, 0.3, 0.999, 1.0, 2.5, 31.0, 12_345.0])
@pytest.mark.parametrize("room", [12, 20, 40, 90])
def test_ticks_are_few_round_numbers_from_zero(last: float, room: int) -> None:
    found = ticks(last, room)
    assert found[0] == 0
    assert len(found) <= 6
    assert found[-1] <= last * 1.001
    assert room < 20 or len(found) > 1


def test_text_is_fitted_and_padded_by_columns() -> None:
    assert columns("发邮件") == 6
    assert columns("e\u0301") == 1
    assert fitted("short", 9) == "short"
    for text, room in itertools.product(NAMES, range(4, 30)):
        assert columns(fitted(text, room)) <= room
        assert columns(padded(text, room)) == room
