"""The operator's commands: what waits, what lies aside and why; replayed, or discarded."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from webhooks.__main__ import main
from webhooks.database import Database
from webhooks.deliveries import Deliveries, Delivery, key_of

ODD = "b\x85\x1b[31m"


@pytest.fixture
def deliveries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deliveries]:
    """`a` and one with an odd id lie aside, `c` is at work, `d` waits, `e` is done."""
    url = f"sqlite:///{tmp_path}/deliveries.sqlite3"
    monkeypatch.setenv("DATABASE_URL", url)
    database = Database(url, 10)
    database.prepare()
    deliveries = Deliveries(database)
    for id in ("a", ODD, "c", "d", "e"):
        headers = {"x-github-delivery": id, "x-github-event": "push"}
        deliveries.accept([Delivery.of(headers, b'{"n": 1}')])
        time.sleep(0.002)  # the database's clock counts milliseconds: which came first must show
    for id in ("a", ODD, "c", "e"):
        lease = deliveries.take("worker", 3600, key_of(id))
        assert lease is not None
        if id in ("a", ODD):
            deliveries.set_aside(lease, f"ValueError('{id!r}')")
        elif id == "e":
            deliveries.finish(lease.delivery)
    yield deliveries
    database.close()


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main([*arguments])
    told = capsys.readouterr()
    assert told.out.replace("\n", "").isprintable()
    assert told.err.replace("\n", "").isprintable()
    return code, told.out + told.err


def state(deliveries: Deliveries, id: str) -> str:
    (known,) = deliveries.known(id=id)
    return known.state


def test_what_waits_and_what_is_at_work_is_listed(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = asked(capsys, "waiting")
    head, *rows = (line.split() for line in told.splitlines())
    assert code == 0
    assert head[:3] == ["id", "event", "state"]
    assert [row[:3] for row in rows] == [["d", "push", "waiting"], ["c", "push", "working"]]


def test_what_lies_aside_is_listed_with_its_reason(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = asked(capsys, "aside")
    assert code == 0
    assert "ValueError" in told
    assert len(told.splitlines()) == 3


def test_programs_get_an_object_per_line(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = asked(capsys, "aside", "--json")
    assert [json.loads(line)["id"] for line in told.splitlines()] == ["a", ODD]
    _, told = asked(capsys, "show", "a", "--json")
    assert json.loads(told)["body"] == '{"n": 1}'
    _, told = asked(capsys, "replay", "a", "--json")
    assert json.loads(told) == {"id": "a", "state": "replayed"}


def test_one_delivery_is_shown_whole(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = asked(capsys, "show", "a")
    assert code == 0
    assert '{"n": 1}' in told
    assert "x-github-event" in told
    code, told = asked(capsys, "show", "e")
    assert code == 0
    assert told.splitlines()[-1].split() == ["body", "-"]


def test_replay_and_discard_take_what_lies_aside_and_nothing_else(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(capsys, "replay", "--all")[0] == 0
    assert [state(deliveries, id) for id in ("a", ODD)] == ["waiting", "waiting"]
    for command in ("replay", "discard"):
        for id in ("a", "c", "d", "e", "nobody", ODD):
            code, told = asked(capsys, command, id)
            assert code == 1
            assert "does not lie aside" in told
    assert len(deliveries.known()) == 5


def test_a_discarded_delivery_is_gone(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(capsys, "discard", "a") == (0, "discarded a\n")
    code, told = asked(capsys, "show", "a")
    assert (code, told) == (1, "there is no delivery 'a'\n")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/none", "postgresql+psycopg://me:***@127.0.0.1:1"),
        ("mysql://me:hunter2@127.0.0.1/none", "DATABASE_URL takes the database"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webhooks", "waiting"],
        env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert told in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
