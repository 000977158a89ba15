"""What a terminal is told, what a pipe is, and how requests are summed up."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from lab.terminal.window import Window, show, summary
from lab.traces import Task, Trace, Traces


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def order(*tasks: Task, **known: object) -> Trace:
    plain = {"method": "POST", "path": "/order", "status": 202, "responded": 0.003}
    return Trace("1", 7.0, tasks=[*tasks], **{"answered": 0.004} | plain | known)  # type: ignore[arg-type]


SHIP = Task("ship", started=0.1, finished=0.2)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_is_told_colours_and_a_pipe_is_not() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    Window(terminal).show(order(SHIP))
    Window(pipe).show(order(SHIP))
    assert "\x1b[1mPOST /order\x1b[m  202\n" in terminal.getvalue()
    assert pipe.getvalue().startswith("POST /order  202\n  answered")
    assert "\x1b" not in pipe.getvalue()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_none_is_told_no_colours(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    terminal = Terminal()
    Window(terminal).show(order(SHIP))
    assert "\x1b" not in terminal.getvalue()


def test_each_timeline_is_as_wide_as_the_window_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    window = Window(out)
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        window.show(order(SHIP))
        assert max(map(len, out.getvalue().splitlines())) == width


def test_an_encoding_without_bars_ends_nothing() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Window(out).show(order(SHIP))
    assert raw.getvalue().startswith(b"POST /order  202\n  answered")
    assert b"?" in raw.getvalue()


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    Traces([order(SHIP)] * 2_000).save(tmp_path / "run.json")
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "show", str(tmp_path / "run.json")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as showing:  # fmt: skip
        assert showing.stdout is not None
        assert showing.stderr is not None
        assert showing.stdout.readline() == b"POST /order  202\n"
        showing.stdout.close()
        assert showing.stderr.read() == b""
    assert showing.returncode == 0


def test_requests_are_summed_up() -> None:
    traces = Traces(order(answered=at / 1000) for at in range(1, 101))
    assert summary(traces) == (
        "100 requests; answered after 0.051 s (p50), 0.100 s (p99)\nno tasks"
    )
    other = order(SHIP, Task(gone=0.1), SHIP, answered=None, received=0.0)
    assert summary(Traces([other])) == (
        "1 request; responded after 0.003 s (p50), 0.003 s (p99)\n3 tasks: 2 finished, 1 never ran"
    )
    assert summary(Traces()) == "0 requests\nno tasks"


def test_a_file_is_shown_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Traces([order(SHIP), order()]).save(tmp_path / "run.json")
    assert show(tmp_path / "run.json") == 0
    shown = capsys.readouterr().out
    assert "ship      background" in shown
    assert shown.endswith("POST /order  202  answered after 0.004 s\n"
                          "2 requests; answered after 0.004 s (p50), 0.004 s (p99)\n"
                          "1 task: 1 finished\n")  # fmt: skip


@pytest.mark.parametrize("content", [None, b"dear diary"])
def test_a_file_that_cannot_be_shown_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    assert show(tmp_path / "run.json") == 1
    assert "run.json" in capsys.readouterr().err
