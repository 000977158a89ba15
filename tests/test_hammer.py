"""The lab under strain: every request accounted for, and a kernel killed after any cell.

HAMMER=1 runs what the lab is held to, which takes a long time; by default a part of it runs.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fastapi import BackgroundTasks, FastAPI

from lab import serve
from lab.publishing.notebooks import NOTEBOOKS, make, sources

from .servers.test_in_kernel import Kernel, kernel_in
from .waiting import alive, until

pytestmark = pytest.mark.slow

WHOLE = os.environ.get("HAMMER") == "1"

app = FastAPI()


@app.post("/", status_code=202)
async def hand_over(tasks: BackgroundTasks) -> None:
    tasks.add_task(int)


@pytest.mark.parametrize("on", ["thread", "process"])
def test_every_request_of_a_burst_is_accounted_for(on: str) -> None:
    number = 10_000 if WHOLE else 1_000
    with serve(app, on=on) as web:  # type: ignore[arg-type]
        traces = web.burst("/", [{}] * number, at_once=50).wait(120)
        received = web.traces
    assert Counter(trace.status for trace in traces) == {202: number}
    assert Counter(task.state for task in traces.tasks) == {"finished": number}
    assert {trace.id for trace in received} == {trace.id for trace in traces}
    for trace in traces:
        assert trace.responded is not None
        assert trace.started is not None
        assert trace.responded < trace.started


def places() -> Iterator[tuple[Path, int]]:
    """After which code cell of which lesson the kernel is killed."""
    for source in sources():
        cells = [cell for cell in make(source, "en", solved=True).cells if cell.cell_type == "code"]
        for number in range(len(cells)) if WHOLE else [len(cells) // 2]:
            yield source, number


@pytest.mark.parametrize(
    ("source", "last"), list(places()), ids=lambda value: getattr(value, "stem", str(value))
)
def test_a_kernel_killed_after_a_cell_leaves_no_process(source: Path, last: int) -> None:
    cells = [cell for cell in make(source, "en", solved=True).cells if cell.cell_type == "code"]
    with kernel_in(NOTEBOOKS) as kernel:
        for cell in cells[: last + 1]:
            run(kernel, cell.source)
        (pid,) = kernel.run("import os; print(os.getpid())")
        process = psutil.Process(int(pid))
        family = process.children(recursive=True)
        process.kill()
        until(lambda: not any(map(alive, family)))


def run(kernel: Kernel, code: str) -> None:
    started = kernel.client.execute(code)
    while True:
        message = kernel.client.get_iopub_msg(timeout=120)
        if message["parent_header"].get("msg_id") == started:
            assert message["msg_type"] != "error", message["content"]["evalue"]
            if message["content"].get("execution_state") == "idle":
                return
