"""The fixture `watched` of pytest: serves an app for one test, and watches what it does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .servers.web import Web

_served = pytest.StashKey[list["Web"]]()


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Callable[..., Web]]:
    """Return `lab.serve`, whose servers end with the test, and which tells what holds their loops.

    trace = watched(app).post("/orders").wait()
    assert trace.answered_first and not trace.problems
    """
    # Not before a test asks for it: pytest loads this module wherever the lab is installed.
    from .servers.web import serve

    served = request.node.stash[_served] = []
    with contextlib.ExitStack() as servers:

        def start(app: Any, **options: Any) -> Web:
            served.append(servers.enter_context(serve(app, **{"watch_loop": True, **options})))
            return served[-1]

        yield start


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Print the problems below a test that has failed, each in a line of its own."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        problems = [told for web in item.stash.get(_served, []) for told in web.traces.problems]
        if problems:
            report.sections.append(("Problems of what was watched", "\n".join(problems)))
