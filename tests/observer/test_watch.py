"""Whatever holds the event loop is named with its line; what does not hold it is left in peace."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lab.observer
from lab import serve
from lab.observer import watch
from lab.servers.web import Web

from ..pythons import pythons
from ..waiting import until
from . import holding

Serving = Callable[..., Web]
PLACES = ["thread", "process"]
APP = "tests.observer.holding:app"
HERE = "tests/observer/holding.py:"
linux = pytest.mark.skipif(sys.platform != "linux", reason="how long each thread has run")
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Web]]:
    with serve(APP, watch_loop=True) as near, serve(APP, on="process", watch_loop=True) as far:
        yield {"thread": near, "process": far}


@pytest.mark.parametrize("on", PLACES)
@pytest.mark.parametrize("way", ["sleep", "compute", "match", "dump"])
def test_what_holds_the_loop_is_named_and_all_of_its_time(
    servers: dict[str, Web], way: str, on: str
) -> None:
    places: list[str] = []
    while holding.line(way) not in places:
        assert len(places) < 10
        trace = servers[on].get(f"/{way}").wait()
        begin, end = json.loads(trace.body)
        (held,) = trace.held
        assert held.ended is not None
        assert held.began <= begin < end <= held.ended
        places.append(held.place)
        # A look may come late, on a busy machine; and one call may be over before there is any.
        assert held.place == watch.UNSEEN or held.place.startswith(HERE)
        assert held.thread == ""


@pytest.mark.parametrize("on", PLACES)
def test_a_task_behind_the_answer_that_holds_the_loop_is_named(
    servers: dict[str, Web], on: str
) -> None:
    trace = servers[on].get("/behind").wait()
    (told,) = trace.problems
    assert told.startswith("the event loop was held for 0.")
    assert told.endswith(f"s at {holding.line('late')}")


@pytest.mark.parametrize("on", PLACES)
def test_many_short_turns_have_no_line(servers: dict[str, Web], on: str) -> None:
    (held,) = servers[on].get("/turns").wait().held
    assert (held.place, held.thread) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("on", PLACES)
def test_a_thread_that_has_the_interpreter_is_named(servers: dict[str, Web], on: str) -> None:
    found = set()
    for _ in range(10):
        trace = servers[on].get("/beside").wait()
        until(lambda trace=trace: trace.settled)  # type: ignore[misc]
        found |= {(held.thread, held.place) for held in trace.held}
        # The loop's thread may wait for the interpreter at a line of its own.
        waits = {thread for thread, place in found if not place.startswith(HERE)}
        assert waits <= {"another thread"}, found
    assert ("cruncher", holding.line("match")) in found
    assert {thread for thread, _ in found} <= {"cruncher", "another thread", ""}


@pytest.fixture(params=["free", "crowded"])
def processors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those that there are, or one that is shared with three others who are always at it."""
    if request.param == "free":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    yield
    for other in others:
        other.kill()
        other.wait()
    os.sched_setaffinity(0, before)


@linux
@pytest.mark.usefixtures("processors")
def test_a_call_that_nobody_could_look_at_is_told_without_its_line(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def glance(self: watch.Watch, least: float = watch.LATE) -> None:
        def idle() -> bool:
            loop, frame = self._loop(), sys._current_frames().get(self._thread)
            if loop is None or not loop.is_running() or frame is None:
                return True  # another thread may have its number by now
            return frame.f_code.co_name == "select"

        until(idle)
        glance_at_once(self, least)

    glance_at_once = watch.Watch.glance
    monkeypatch.setattr(watch.Watch, "glance", glance)
    trace = serving(APP, watch_loop=True).get("/match").wait()
    begin, end = json.loads(trace.body)
    until(lambda: trace.held)
    (held,) = trace.held
    assert held.ended is not None
    assert held.began <= begin < end <= held.ended
    (told,) = trace.problems
    assert told.endswith("s at a line that was not seen")


@pytest.mark.parametrize("on", PLACES)
def test_who_waits_meanwhile_is_told_and_who_comes_later_is_not(
    servers: dict[str, Web], on: str
) -> None:
    web = servers[on]
    with web.heartbeat("/quick", every=0.01) as beats:
        web.get("/sleep").wait()
    late = [beat for beat in beats.wait() if beat.problems]
    assert late
    assert {held.place for beat in late for held in beat.held} == {holding.line("sleep")}
    assert web.get("/quick").wait().problems == []


@posix
def test_a_process_that_is_stopped_holds_nothing(serving: Serving) -> None:
    web = serving(APP, on="process", watch_loop=True)
    began = len(web.traces)
    sending = threading.Thread(target=web.get, args=("/nap",))
    sending.start()
    until(lambda: len(web.traces) > began and web.traces[-1].received is not None)
    os.kill(web.pid, signal.SIGSTOP)
    threading.Event().wait(1.5)  # longer than the nap: the loop is late when it goes on
    os.kill(web.pid, signal.SIGCONT)
    sending.join()
    (trace,) = web.traces.wait()
    assert trace.problems == []


@posix
def test_a_server_that_is_killed_while_it_is_held_leaves_the_line(serving: Serving) -> None:
    web = serving(APP, on="process", watch_loop=True)
    threading.Thread(target=web.get, args=("/stuck",)).start()
    until(lambda: web.traces and web.traces[0].held)
    web.signal(signal.SIGKILL)
    web.join()
    (held,) = web.traces.wait()[0].held
    assert held.ended is not None
    assert held.place == holding.line("stuck")


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lab watch"]


def test_nothing_is_watched_unless_it_is_asked_for(serving: Serving) -> None:
    before = watching()
    assert serving(APP).get("/sleep").wait().held == ()
    assert watching() == before


def test_the_watch_ends_with_its_server() -> None:
    before = watching()
    with serve(APP, watch_loop=True) as web:
        web.get("/quick").wait()
        assert len(watching()) == len(before) + 1
    until(lambda: watching() == before)


def test_a_loop_that_goes_on_is_left_as_it_was() -> None:
    async def main() -> None:
        kind = type(asyncio.get_running_loop())
        before = watching()
        for _ in range(2):
            watch.watch_loop(lambda *told: None)
        assert len(watching()) == len(before) + 1
        assert "_process_events" in vars(kind)
        watch.unwatch_loops()
        assert "_process_events" not in vars(kind)
        await asyncio.sleep(0)

    asyncio.run(main())


FOLDER = Path(lab.observer.__file__).parent
# Loaded by its path, as in somebody else's server: with what a Reporter has to hand.
ELSEWHERE = """
import asyncio, importlib.util, sys, time
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "_seen", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["_seen"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["_seen"])
from _seen.asgi import Watched
told = []

async def app(scope, receive, send):
    time.sleep(0.3)
    await asyncio.sleep(0)

async def main():
    watched = Watched(app, lambda stamp: told.append(stamp[2:]), None, True)
    await watched({"type": "lifespan"}, None, None)
    end = time.monotonic() + 20
    while not told or told[-1][1] is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)

asyncio.run(main())
first, *_, (began, ended, place, thread, _) = told
assert first[1] is None
assert ended - began >= 0.3
print(place, thread)
"""


@pytest.mark.parametrize("version", found := pythons((3, 9)))
def test_it_watches_in_every_cpython(version: str, tmp_path: Path) -> None:
    program = tmp_path / "orders.py"
    program.write_text(ELSEWHERE)
    done = subprocess.run(
        [found[version], "-S", program, FOLDER], capture_output=True, text=True, timeout=60
    )
    number = ELSEWHERE.splitlines().index("    time.sleep(0.3)") + 1
    assert (done.stdout, done.stderr) == (f"orders.py:{number} \n", "")


def sample(seconds: float, *ran: tuple[Callable[..., Any], int, int]) -> watch.Sample:
    return watch.Sample(
        [watch.Line(func.__code__, number, rank) for func, number, rank in ran], seconds
    )


OUTER = (serve, 10, 0)
PACKAGE = (subprocess.run, 5, 1)


def test_the_line_is_that_which_ran_for_most_of_the_time() -> None:
    inner, other = (sample, 20, 0), (until, 30, 0)
    assert watch.place_of([sample(1, OUTER, inner, PACKAGE)]).endswith("test_watch.py:20")
    assert watch.place_of([sample(0.9, OUTER, inner), sample(0.2, OUTER)]).endswith(":20")
    # It called now this, now that.
    assert watch.place_of([sample(1, OUTER, inner), sample(1, OUTER, other)]).endswith("web.py:10")
    assert watch.place_of([sample(1, inner), sample(1, other)]) == ""
    assert watch.place_of([sample(1, PACKAGE)]).endswith("subprocess.py:5")
    assert watch.place_of([sample(1, PACKAGE), sample(1, OUTER)]) == ""
    assert watch.place_of([]) == ""
