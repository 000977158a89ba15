"""Watching never changes the app: whatever it does, it does the same unwatched.

Apps are generated from parts, each of which was once seen to break an observer, and served bare and
watched, by uvicorn on a thread and in a process of its own.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..places import served
from . import generated

APP = "tests.observer.generated:app"
APPS_GENERATED = int(os.environ.get("GENERATED_APPS", "300"))

parts = st.lists(st.sampled_from(sorted(generated.PARTS)), min_size=1, max_size=4, unique=True)
shapes = st.tuples(
    st.sampled_from(["def", "async"]),
    st.sampled_from(["none", "yield", "middleware", "streaming"]),
    parts,
    parts,
)


def answer(port: int, path: str) -> bytes:
    """The bytes of an answer, whole, less its date."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n"
                     "connection: close\r\n\r\n{}".encode())  # fmt: skip
        got = b""
        while piece := wire.recv(65536):
            got += piece
    return b"\r\n".join(line for line in got.split(b"\r\n") if not line.startswith(b"date:"))


def outcome(port: int, shape: Any) -> tuple[bytes, Any]:
    """What an app answers, and all that it and its log have told when its work is over."""
    path = "/" + json.dumps(shape).encode().hex()
    first = answer(port, path)
    told = answer(port, f"/told{path}").partition(b"\r\n\r\n")[2]
    return first, json.loads(told)


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    # Each in a process of its own: two that collect garbage at once disturb each other.
    with contextlib.ExitStack() as servers:
        urls = {
            place: servers.enter_context(served(APP, place))
            for place in ("bare", "thread", "process")
        }
        yield {place: int(url.rpartition(":")[2]) for place, url in urls.items()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(
    max_examples=APPS_GENERATED,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=shapes)
def test_generated_apps_answer_work_and_log_as_unwatched(shape: Any, ports: dict[str, int]) -> None:
    plain = outcome(ports["bare"], shape)
    assert outcome(ports["thread"], shape) == plain
    assert outcome(ports["process"], shape) == plain


@pytest.mark.parametrize("part", sorted(generated.PARTS))
def test_each_part_alone_as_unwatched(part: str, ports: dict[str, int]) -> None:
    shape = ("async", "none", [part], [part])
    plain = outcome(ports["bare"], shape)
    assert outcome(ports["thread"], shape) == plain
    assert outcome(ports["process"], shape) == plain


def test_tasks_are_what_inspect_expects(ports: dict[str, int]) -> None:
    shape = ("async", "none", ["looks_at_its_tasks"], [])
    _, told = outcome(ports["thread"], shape)
    assert "True True 1 CORO_SUSPENDED" in json.dumps(told)


CYCLE = """
import asyncio
from lab import serve

class Job:
    def __init__(self):
        self.task = asyncio.get_running_loop().create_task(self.run())
    async def run(self):
        raise ValueError("nobody looks")

async def app(scope, receive, send):
    Job()
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 202})
    await send({"type": "http.response.body", "body": b""})

if __name__ == "__main__":
    import gc; gc.set_threshold(50)
    web = serve(app, on="process")
    traces = web.burst("/", [{}] * 2000)
    assert {trace.status for trace in traces.wait(30)} == {202}
    print({task.state for task in traces.tasks})
"""


@pytest.mark.slow
def test_a_failed_task_in_a_cycle_stops_no_server(tmp_path: Path) -> None:
    (tmp_path / "cycle.py").write_text(CYCLE)
    done = subprocess.run(
        [sys.executable, "cycle.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "{'failed'}\n"
