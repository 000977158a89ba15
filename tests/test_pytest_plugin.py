"""The fixture `watched`: what it serves, what it tells, and what it finds beside other tests."""

import gc
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from lab.publishing.notebooks import ROOT
from lab.servers.web import Web
from lab.traces import Trace

from .mistakes import MISTAKES, Mistake, done, mended, planted

with warnings.catch_warnings(action="ignore"):  # it wants another client
    from fastapi.testclient import TestClient

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow
Watched = Callable[..., Web]
RUNS = int(os.environ.get("WATCHED_RUNS", "48"))
NOT_BY_PROBLEMS: dict[str, Callable[[Trace], bool]] = {
    "context lost": lambda trace: any("billed acme" in line for line in trace.log),
}


@pytest.fixture(autouse=True)
def little_garbage() -> Iterator[None]:
    """To collect garbage takes no time that would be seen, however many tests have run before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def by_status(app: FastAPI, mistake: Mistake) -> bool:
    """Whether a test with a `TestClient` passes that looks at the answer."""
    done.clear()
    try:
        with TestClient(app) as client:
            return client.post(mistake.path, files=mistake.files).status_code == mistake.status
    except Exception:
        return False


def by_effects(app: FastAPI, mistake: Mistake) -> bool:
    """Whether one passes that looks, when the app has shut down, at what it has brought about."""
    return by_status(app, mistake) and done == mistake.effects


def by_trace(watched: Watched, app: FastAPI, name: str) -> tuple[bool, list[str]]:
    """Whether a test passes that watches, and the problems that it was told."""
    mistake = MISTAKES[name]
    web = watched(app)
    trace = web.post(mistake.path, files=mistake.files)
    if mistake.stops:
        web.stop()
    trace.wait()
    looks_right = NOT_BY_PROBLEMS.get(name, lambda trace: True)
    return looks_right(trace) and not trace.problems, trace.problems


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found_and_the_mended_way_passes(watched: Watched, name: str) -> None:
    passes, problems = by_trace(watched, planted, name)
    assert not passes
    assert bool(problems) == (name not in NOT_BY_PROBLEMS)
    assert by_trace(watched, mended, name) == (True, [])


@pytest.mark.slow
@pytest.mark.parametrize("run", range(RUNS))
def test_run_after_run_it_says_the_same(watched: Watched, run: int) -> None:
    of_planted, number = divmod(run, len(MISTAKES))
    name = [*MISTAKES][number]
    app = planted if of_planted % 2 else mended
    assert by_trace(watched, app, name)[0] == (app is mended)


def caught(test: Callable[[FastAPI, Mistake], bool]) -> list[str]:
    """The mistakes for which a kind of test fails, and passes when they are mended."""
    return [
        name
        for name, mistake in MISTAKES.items()
        if test(mended, mistake) and not test(planted, mistake)
    ]


@pytest.mark.filterwarnings("ignore")  # what an app leaves behind when its loop is closed
@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("README.md", r"look at the answer\s+find (\d+), tests .* effects find (\d+)"),
        ("notebooks/zh/README.md", r"只看响应的测试找到 (\d+) 个，.*副作用的找到 (\d+) 个"),
    ],
)
def test_what_tests_without_it_find_is_as_the_readme_says(page: str, told: str) -> None:
    found = re.search(told, (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found.groups() == (str(len(caught(by_status))), str(len(caught(by_effects))))


TEST = """
    from fastapi import BackgroundTasks, FastAPI
    app = FastAPI()

    def mail():
        raise ConnectionError("no mail server")

    def index():
        pass

    @app.post("/orders", status_code=202)
    async def order(tasks: BackgroundTasks):
        tasks.add_task(mail)
        tasks.add_task(index)

    @app.get("/")
    async def home(tasks: BackgroundTasks):
        tasks.add_task(index)
"""


def test_a_failing_test_shows_each_problem_in_a_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        TEST
        + """
    def test_order(watched):
        trace = watched(app).post("/orders").wait()
        assert trace.answered_first and not trace.problems
    """
    )
    result = pytester.runpytest_subprocess("-p", "no:logging")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Problems of what was watched*",
            "POST /orders: mail failed: ConnectionError: no mail server",
            "POST /orders: index never ran",
        ]
    )


def test_several_apps_in_one_test_and_all_end_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        TEST
        + """
    import threading

    def test_both(watched):
        one, two = watched(app), watched(f"{__name__}:app", on="process")
        for web in (one, two):
            trace = web.get("/").wait()
            assert trace.answered_first and not trace.problems
            assert web.traces.problems == []

    def test_nothing_is_left():
        for thread in threading.enumerate():
            if thread.name.startswith("lab "):
                thread.join(10)
                assert not thread.is_alive()
    """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_tests_without_it_load_nothing_of_the_lab_but_the_plugin(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
    import sys

    def test_plain():
        loaded = {name for name in sys.modules if name.startswith(("lab", "httpx", "uvicorn"))}
        assert loaded == {"lab", "lab.pytest_plugin"}
    """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.skipif(sys.platform == "win32", reason="ends by a signal")
def test_an_app_is_served_by_its_own_command(pytester: pytest.Pytester) -> None:
    apps = Path(__file__).parent / "servers" / "apps"
    command = f"{sys.executable} -m uvicorn {{app}} --port {{port}}"
    pytester.makepyfile(
        f"""
    def test_order(watched):
        web = watched("plain:app", command={command!r}, cwd={str(apps)!r})
        trace = web.post("/orders").wait()
        assert trace.answered_first and not trace.problems
    """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
