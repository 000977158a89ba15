"""The reader's own command serves the reader's app, watched, and nothing of it is left."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.servers.web import Web, serve

from ..waiting import alive, family, listens, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

APPS = Path(__file__).parent / "apps"
UVICORN = f"{sys.executable} -m uvicorn {{app}} --port {{port}}"
Serving = Callable[..., Web]


@pytest.fixture
def commanded() -> Iterator[Serving]:
    """Serves by a command, and ends it after the test, with all its processes."""
    before, started = family(), list[Web]()

    def start(app: str, command: str = UVICORN, **options: object) -> Web:
        started.append(serve(app, command=command, **({"cwd": APPS} | options)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for web in started:
        web.kill()
    until(lambda: family() <= before)


def test_a_command_serves_the_app_and_its_tasks_are_seen(commanded: Serving) -> None:
    web = commanded("plain:app")
    trace = web.post("/orders").wait(10)
    assert [(task.name, task.runner, task.state) for task in trace.tasks] == [
        ("bill", "background", "finished"),
        ("ship", "background", "finished"),
    ]
    assert trace.responded < trace.tasks[0].started < trace.tasks[0].finished  # type: ignore[operator]
    assert {trace.process, *(task.process for task in trace.tasks)} == {web.pid}
    assert str(trace.tasks[1]) == f"ship (finished on loop of process {web.pid})"
    web.stop()
    assert not listens(int(web.url.rpartition(":")[2]))
    with pytest.raises(RuntimeError, match="has ended"):
        web.post("/orders")


def test_an_app_that_a_call_makes_is_served(commanded: Serving) -> None:
    assert commanded("plain:create_app()").post("/orders").wait(10).status == 202


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("nonesuch:app", r"ModuleNotFoundError: No module named 'nonesuch'[^$]*looked for it in: "),
        ("plain:nonesuch", "AttributeError: module 'plain' has no attribute 'nonesuch'"),
        ("broken:app", "ValueError: no database"),
    ],
)
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_ends_a_start_is_told_with_its_place(
    commanded: Serving, app: str, told: str, workers: str
) -> None:
    before = family()
    with pytest.raises(RuntimeError, match=f"the app did not start: {told}") as raised:
        commanded(app, f"{UVICORN} --workers {workers}")
    assert f"in: {APPS}" in str(raised.value)
    assert f"with: CPython {sys.version.split()[0]}, {sys.executable}" in str(raised.value)
    assert family() <= before


def test_a_python_that_ignores_its_variables_is_told_of(commanded: Serving) -> None:
    with pytest.raises(RuntimeError, match="leave out -I and -E, or have the wrapper"):
        commanded("plain:app", f"{sys.executable} -I -m uvicorn {{app}} --port {{port}}")


@pytest.mark.parametrize(
    ("app", "command", "told"),
    [
        ("plain:app", "uvicorn plain:app", r"lacks \{app\} and \{port\}"),
        ("plain:app", "fastapi run {app} --port {port}", r"`uvicorn \{app\} --port \{port\}`"),
        ("plain:app", f"{UVICORN} --factory", r"'package.module:create_app\(\)'"),
        ("plain", UVICORN, "'package.module:app'"),
    ],
)
def test_a_command_that_cannot_be_watched_names_the_mend(
    commanded: Serving, app: str, command: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        commanded(app, command)


def test_a_program_or_folder_that_is_not_there_is_named(commanded: Serving) -> None:
    with pytest.raises(RuntimeError, match=r"nonesuch cannot be started in .*No such file"):
        commanded("plain:app", "nonesuch {app} {port}")
    with pytest.raises(RuntimeError, match=r"cwd='/nonesuch': there is no such folder"):
        commanded("plain:app", cwd="/nonesuch")
    with pytest.raises(ValueError, match="stands in the command"):
        commanded("plain:app", on="process")
    with pytest.raises(ValueError, match="belong to command="):
        serve("plain:app", cwd=APPS)


@pytest.mark.slow
def test_several_processes_report_and_each_task_says_which(commanded: Serving) -> None:
    web = commanded("plain:app", f"{UVICORN} --workers 2")
    traces = web.burst("/orders", ({} for _ in range(20)), at_once=10).wait()
    for _ in range(20):  # the connections of one burst may all be one worker's
        if len({trace.process for trace in traces}) == 2:
            break
        traces += web.burst("/orders", ({} for _ in range(20)), at_once=10).wait()
    assert len({trace.process for trace in traces}) == 2
    for trace in traces:
        answered_by = int(trace.body.decode().partition(":")[2].strip("}"))
        assert {trace.process, *(task.process for task in trace.tasks)} == {answered_by}


@pytest.mark.slow
@pytest.mark.parametrize("watch_loop", [True, False])
def test_what_holds_the_loop_of_a_command_is_named_if_asked_for(
    commanded: Serving, watch_loop: bool
) -> None:
    web = commanded("plain:app", watch_loop=watch_loop)
    problems = web.post("/block").wait(10).problems
    line = (APPS / "plain.py").read_text().split("time.sleep(0.4)")[0].count("\n") + 1
    named = [re.sub(r"0\.\d s", "0.4 s", each) for each in problems]
    assert named == [f"the event loop was held for 0.4 s at plain.py:{line}"] * watch_loop


@pytest.mark.slow
def test_work_of_a_killed_worker_is_lost_and_the_others_serve_on(commanded: Serving) -> None:
    web = commanded("plain:app", f"{UVICORN} --workers 2")
    packing = web.post("/pack")
    web.traces.wait_started()
    assert packing.process is not None
    os.kill(web.pid, signal.SIGSTOP)  # which does not learn of its worker's end until it goes on
    web.signal(signal.SIGKILL, to=packing.process)
    assert [task.state for task in packing.wait(10).tasks] == ["lost"]
    assert [name for name, _ in packing.ending] == ["SIGKILL", "exit"]
    assert web.post("/orders").wait(10).status == 202
    with pytest.raises(RuntimeError, match="has ended; nothing to signal"):
        web.signal(signal.SIGKILL, to=packing.process)


@pytest.mark.slow
def test_workers_that_outlive_their_killed_main_process_still_serve(commanded: Serving) -> None:
    web = commanded("plain:app", f"{UVICORN} --workers 2")
    web.signal(signal.SIGKILL)
    until(lambda: web.exit_code is not None)
    traces = web.burst("/orders", ({} for _ in range(20)), at_once=5).wait()
    assert {trace.status for trace in traces} == {202}
    with pytest.raises(TimeoutError, match="has not ended"):
        web.join(0.2)
    web.kill()
    assert not listens(int(web.url.rpartition(":")[2]))


@pytest.mark.slow
def test_a_pools_process_stamps_and_does_not_import_the_app(
    commanded: Serving, tmp_path: Path
) -> None:
    noted = tmp_path / "imported"
    web = commanded("pooled:app", env={"IMPORTED_BY": str(noted)})
    trace = web.post("/").wait(30)
    (task,) = trace.tasks
    assert (task.name, task.state) == ("crunch", "finished")
    assert task.process == int(trace.body)
    assert noted.read_text() == f"{web.pid}\n"


@pytest.mark.slow
def test_when_the_notebooks_process_is_killed_no_worker_is_left(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    code = f"""
        import os, signal
        from lab import serve

        web = serve("plain:app", cwd={str(APPS)!r}, command={UVICORN + " --workers 2"!r})
        traces = web.burst("/orders", ({{}} for _ in range(20)), at_once=5)
        pids = {{trace.process for trace in traces.wait()}}
        print(web.url.rpartition(":")[2], web.pid, *pids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    program.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    port, *pids = map(int, done.stdout.split())
    assert len(pids) >= 2, done.stderr
    until(lambda: not any(map(alive, pids)))
    assert not listens(port)


@pytest.mark.slow
@pytest.mark.parametrize("app", ["litestar_shop:app", "quart_shop:app"])
def test_apps_of_other_frameworks_are_watched(commanded: Serving, app: str) -> None:
    pytest.importorskip(app.partition("_")[0])
    web = commanded(app)
    trace = web.post("/orders").wait(10)
    assert [(task.name, task.state) for task in trace.tasks] == [("ship", "finished")]
    web.signal(signal.SIGTERM)
    web.join(20)
