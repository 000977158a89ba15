"""`python -m lab watch`, as it is typed: requests of other clients, Control-C, and kills."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

import lab.__main__ as commands
from lab.terminal.watching import Watch
from lab.traces import Trace, Traces

from ..waiting import alive, family, listens, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

APPS = Path(__file__).parents[1] / "servers" / "apps"
UVICORN = [sys.executable, "-m", "uvicorn", "{app}", "--port", "{port}"]


class Watching:
    """A watch in a process of its own, and a client that knows nothing of the lab."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.file = tmp_path / "run.json"
        self._out, self._err = tmp_path / "out", tmp_path / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lab", "watch", *arguments],
                stdout=out, stderr=err, env=os.environ | {"COLUMNS": "80"},
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        until(lambda: "Control-C ends it\n" in self.err or self.process.poll() is not None)
        found = re.search(r"http://\S+(?=;)", self.err)
        assert found, self.err
        return found[0]

    def post(self, path: str) -> None:
        assert httpx.post(self.url + path, trust_env=False).status_code == 202

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)


Begin = Callable[..., Watching]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Begin]:
    before, begun = family(), list[Watching]()

    def begin(*arguments: str) -> Watching:
        begun.append(Watching(tmp_path, *arguments))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.wait()
    until(lambda: family() <= before)


@pytest.mark.parametrize(
    ("own", "number"), [([], signal.SIGINT), (["--", *UVICORN], signal.SIGTERM)]
)
def test_requests_are_printed_as_they_settle_kept_and_summed_up(
    watch: Begin, tmp_path: Path, own: list[str], number: int
) -> None:
    watching = watch("plain:app", "--cwd", str(APPS), "--save", str(tmp_path / "run.json"), *own)
    for count in (1, 2):
        watching.post("/orders")
        until(lambda count=count: watching.out.count("POST /orders  202\n") == count)
        assert len(Traces.load(watching.file)) == count
    assert watching.end(number) == 0
    assert len(re.findall(r"  bill +background .*█.* to .* s\n", watching.out)) == 2
    assert re.search(r"\n2 requests; responded after .*\n4 tasks: 4 finished\n$", watching.out)
    assert "ending when its work is done" in watching.err
    assert all(trace.settled for trace in Traces.load(watching.file))
    assert not listens(int(watching.url.rpartition(":")[2]))


@pytest.mark.slow
def test_a_second_interrupt_waits_for_no_work_and_its_fate_is_told(
    watch: Begin, tmp_path: Path
) -> None:
    watching = watch("plain:app", "--cwd", str(APPS), "--save", str(tmp_path / "run.json"))
    watching.post("/pack")
    watching.process.send_signal(signal.SIGINT)
    until(lambda: "ending when its work is done" in watching.err)
    assert watching.end(signal.SIGINT) == 0
    assert re.search(
        r"  pack +background .*(lost|running|waiting|cancelled|never ran)\n", watching.out
    )
    assert [trace.path for trace in Traces.load(watching.file)] == ["/pack"]


@pytest.mark.slow
def test_the_file_is_whole_and_the_server_ends_when_the_watch_is_killed(
    watch: Begin, tmp_path: Path
) -> None:
    watching = watch("plain:app", "--cwd", str(APPS), "--save", str(tmp_path / "run.json"))
    for _ in range(3):
        watching.post("/orders")
    until(lambda: watching.out.count("POST /orders  202\n") >= 1)
    started = psutil.Process(watching.process.pid).children(recursive=True)
    assert watching.end(signal.SIGKILL) == -signal.SIGKILL
    assert 1 <= len(Traces.load(watching.file)) <= 3
    until(lambda: not any(map(alive, started)))


@pytest.mark.slow
def test_a_server_that_ends_by_itself_ends_the_watch(watch: Begin) -> None:
    watching = watch("plain:app", "--cwd", str(APPS))
    watching.post("/pack")
    process = httpx.post(f"{watching.url}/pack", trust_env=False).json()["process"]
    os.kill(process, signal.SIGKILL)
    assert watching.process.wait(20) == 1
    assert "the server has ended by itself" in watching.err
    # The second may be killed before its task begins.
    assert re.search(r"\n2 tasks: (2 lost|1 lost, 1 never ran)\n$", watching.out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plain:nothing", "--cwd", str(APPS)], "plain"),
        (["plain:app", "--cwd", "/not/there"], "there is no such folder"),
        (["plain:app", "--", "uvicorn", "{app}"], r"lacks \{port\}"),
        (["plain"], "package.module:app"),
        (["plain:app", "--port", "1"], "unrecognized arguments: --port"),
        (["plain:app", "--save", str(APPS / "plain.py")], "something else than traces"),
        (["plain:app", "--save", "/not/there/run.json"], "/not/there"),
    ],
)
def test_what_cannot_be_watched_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture, arguments: list[str], told: str
) -> None:
    assert exit_code(["watch", *arguments]) in (1, 2)
    shown = capsys.readouterr()
    assert re.search(told, shown.err)
    assert shown.out == ""


def exit_code(typed: list[str]) -> object:
    try:
        return commands.main(typed)
    except SystemExit as error:  # by argparse, with the usage
        return error.code


def test_without_room_for_the_file_the_watch_goes_on(capsys: pytest.CaptureFixture) -> None:
    class Full:
        def add(self, trace: Trace) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watching = Watch(None, Full())  # type: ignore[arg-type]
    for number in range(2):
        watching._print(Trace(str(number), 0.0, "GET", "/", 200, responded=0.1, received=0.0))
    told = capsys.readouterr()
    assert told.out.count("GET /  200") == 2
    assert told.err.count("No space left on device: from here on, requests are not kept") == 1
