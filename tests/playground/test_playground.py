"""The playground: each experiment does what it says, the code by hand does the same."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output

from lab import Queue, play
from lab.playground.choice import HAND_OVERS, WORKS, Choice
from lab.playground.code import code
from lab.playground.controls import KEPT, KILL, Playground, Run, Sheet, start_server
from lab.publishing.notebooks import make, sources
from lab.publishing.pages import render
from lab.publishing.run import execute
from lab.servers.web import Web
from lab.traces import Traces

from ..waiting import until

QUICK = 0.05


def allowed(hand_over: str, work: str) -> bool:
    return HAND_OVERS[hand_over].runs_async or not work.endswith(("async", "async_sleep"))


TOGETHER = [(way, work) for way in HAND_OVERS for work in WORKS if allowed(way, work)]
APART = [(way, work) for way in HAND_OVERS for work in WORKS if not allowed(way, work)]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Queue(broker="embedded", worker="lab.playground.worker"), start_server() as web:
        yield web


def ran(traces: Traces) -> list[Any]:
    """Return what two runs must share: no moments, no order among parallel tasks."""
    return [
        (trace.status, [(task.name, task.runner, task.state) for task in trace.tasks])
        for trace in traces
    ]


def in_series(traces: Traces) -> bool:
    return all(
        one.finished <= following.started  # type: ignore[operator]
        for trace in traces
        for one, following in zip(trace.tasks, trace.tasks[1:], strict=False)
        if following.started is not None
    )


def test_hand_over_and_work_either_fit_together_or_raise() -> None:
    assert len(TOGETHER) == 14
    assert len(APART) == 6


@pytest.mark.slow
@pytest.mark.parametrize(("hand_over", "work"), TOGETHER)
def test_each_hand_over_runs_each_work_where_it_should(web: Web, hand_over: str, work: str) -> None:
    run = Run(web, Choice(hand_over=hand_over, work=work, seconds=QUICK, at_once=2))
    traces = run.wait()
    assert run.over
    assert len(traces) == 2
    if hand_over == "inline":
        assert ran(traces) == [(200, [])] * 2
        return
    assert ran(traces) == [(202, [(work, hand_over, "finished")] * 3)] * 2
    places = {task.where.split()[0] for task in traces.tasks if task.where}
    own = {"background": "loop" if "async" in work else "thread", "queue": "process"}
    assert places == {own.get(hand_over, hand_over)}
    if hand_over == "background":
        assert in_series(traces)
        for trace in traces:
            assert trace.responded is not None
            assert trace.responded < trace.tasks[0].started  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hand_over", "status", "states"),
    [
        ("inline", 500, []),
        ("background", 202, ["finished", "failed", "never ran"]),
        ("thread", 202, ["finished", "failed", "finished"]),
        ("process", 202, ["finished", "failed", "finished"]),
        ("queue", 202, ["finished", "failed", "finished"]),
    ],
)
def test_a_failing_task_skips_later_ones_in_the_background_only(
    web: Web, hand_over: str, status: int, states: list[str]
) -> None:
    traces = Run(web, Choice(hand_over=hand_over, seconds=QUICK, failing=2, at_once=3)).wait()
    assert [trace.status for trace in traces] == [status] * 3
    assert [[task.state for task in trace.tasks] for trace in traces] == [states] * 3


@pytest.mark.slow
def test_a_run_has_its_own_requests_only(web: Web) -> None:
    runs = []
    for tasks in (1, 2):
        runs.append(Run(web, Choice(seconds=QUICK, tasks=tasks)))
        runs[-1].wait()
    assert [[len(trace.tasks) for trace in run.traces] for run in runs] == [[1], [2]]


def test_traces_grow_while_the_work_runs() -> None:
    web = start_server()
    run = Run(web, Choice(seconds=2, tasks=3))
    until(lambda: run.traces)
    run.traces.wait_started()
    assert not run.over
    assert [task.state for task in run.traces.tasks] == ["running", "waiting", "waiting"]
    run.stop()
    assert [task.state for task in run.wait().tasks] == ["lost", "never ran", "never ran"]
    web.join()
    assert run.over
    assert "1 lost; 2 never ran" in str(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "words"),
    [
        *(({"hand_over": way, "work": work}, "no event loop") for way, work in APART),
        ({"tasks": 7}, "less than or equal to 6"),
        ({"seconds": 0}, "greater than or equal to 0.05"),
        ({"at_once": 6}, "less than or equal to 5"),
        ({"failing": 4}, "there are 3"),
        ({"work": "dance"}, "work is one of sleep, "),
        ({"hand_over": "pigeon"}, "hand_over is one of inline, "),
    ],
)
def test_impossible_choices_are_refused_by_the_class_and_the_app(
    web: Web, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Choice(**given)
    trace = web.post("/thread", params=given)
    assert trace.status == 422
    assert trace.tasks == []


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "at_once"), [(0, 1), (2, 3)])
@pytest.mark.parametrize(("hand_over", "work"), TOGETHER)
def test_the_shown_code_does_the_same(
    web: Web, hand_over: str, work: str, failing: int, at_once: int
) -> None:
    choice = Choice(hand_over=hand_over, work=work, seconds=QUICK, failing=failing, at_once=at_once)
    names: dict[str, Any] = {"__name__": "by_hand"}
    try:
        exec(code(choice), names)
    finally:
        for name in names.keys() & {"web", "queue"}:
            names[name].stop()
    by_hand = names["traces"] if at_once > 1 else Traces([names["trace"]])
    assert ran(by_hand) == ran(Run(web, choice).wait())
    assert hand_over != "background" or in_series(by_hand)


@pytest.fixture
def notebook() -> Iterator[CapturedIO]:
    """What a cell shows is kept here."""
    InteractiveShell.instance()
    with capture_output() as captured:
        yield captured
    InteractiveShell.clear_instance()


@pytest.fixture
def playground(notebook: CapturedIO) -> Iterator[Playground]:
    playground = play()
    yield playground
    playground.close()
    playground._web.join()


async def press(playground: Playground) -> None:
    """Press the button, and wait until the run is over."""
    playground.button.click()
    assert playground.under_way is not None
    await playground.under_way


def html(notebook: CapturedIO) -> list[str]:
    return [one.data["text/html"] for one in notebook.outputs if "text/html" in one.data]


@pytest.mark.slow
def test_the_playground_opens_with_a_run_and_its_figure(
    playground: Playground, notebook: CapturedIO
) -> None:
    assert playground.status.value.startswith("Finished")
    (figure,) = html(notebook)
    assert 'alt="Timeline: answered at' in figure
    assert "background: 3 × sleep 0.3 s; 1 request" in figure


def test_the_button_runs_what_the_controls_say(
    playground: Playground, notebook: CapturedIO
) -> None:
    playground.code()
    playground.hand_over.value = "thread"
    playground.seconds.value = QUICK
    playground.tasks.value = 2
    playground.failing.value = 1
    assert playground.status.value == "Guess what comes, then press Run."
    asyncio.run(press(playground))
    assert playground.status.value.startswith("Finished")
    assert playground.status.value.endswith("1 failed; 1 finished.")
    assert playground.button.description == "Run"
    assert "thread: 2 × sleep 0.05 s, task 1 fails; 1 request" in html(notebook)[-1]
    assert "failed with RuntimeError" in html(notebook)[-1]
    shown = [one.data["text/plain"] for one in notebook.outputs if "text/markdown" in one.data]
    assert ["threading" in source for source in shown] == [False, True]


@pytest.mark.slow
def test_a_run_is_drawn_while_it_runs_and_stops_with_one_click(
    playground: Playground, notebook: CapturedIO
) -> None:
    playground.seconds.value = 2

    async def press_twice() -> None:
        playground.button.click()
        answered = "Running; answered 202 after"
        await asyncio.to_thread(until, lambda: playground.status.value.startswith(answered))
        await asyncio.to_thread(until, lambda: "running" in html(notebook)[-1])
        assert playground.button.description == "Stop"
        await press(playground)

    asyncio.run(press_twice())
    assert playground.status.value.startswith("Stopped")
    assert re.search(r"1 lost; \d never ran\.$", playground.status.value)
    assert "lost" in html(notebook)[-1]
    assert playground.button.description == "Run"

    playground.seconds.value = QUICK
    asyncio.run(press(playground))
    assert playground.status.value.endswith("3 finished.")


@pytest.mark.slow
def test_a_server_that_is_gone_is_reported_and_replaced(playground: Playground) -> None:
    playground.seconds.value = 2

    async def press_and_end() -> None:
        playground.button.click()
        await asyncio.to_thread(until, lambda: len(playground.runs) == 2)
        await asyncio.to_thread(until, lambda: playground.runs[0].traces)
        await asyncio.to_thread(playground.runs[0].traces.wait_started)
        playground._web.signal(KILL)
        assert playground.under_way is not None
        await playground.under_way

    asyncio.run(press_and_end())
    assert playground.status.value.startswith("The server has ended; ")
    playground.seconds.value = QUICK
    asyncio.run(press(playground))
    assert playground.status.value.endswith("3 finished.")


@pytest.mark.slow
def test_a_queue_starts_when_chosen_and_ends_with_the_playground(
    playground: Playground,
) -> None:
    playground.hand_over.value = "queue"
    asyncio.run(press(playground))
    assert playground.status.value.startswith("Finished")
    assert {task.runner for task in playground.runs[0].traces.tasks} == {"queue"}
    queue = playground._queue
    assert queue is not None
    playground.close()
    assert queue.workers[0].ended
    assert queue.broker is None or queue.broker.ended


def test_an_impossible_choice_shows_why_and_runs_nothing(playground: Playground) -> None:
    playground.hand_over.value = "process"
    playground.work.value = "async_sleep"
    assert "no event loop" in playground.status.value
    playground.status.value = ""
    playground.button.click()
    assert "no event loop" in playground.status.value
    assert playground.under_way is None
    assert len(playground.runs) == 1


@pytest.mark.slow
def test_numbers_out_of_range_are_clamped(playground: Playground) -> None:
    for control, value, kept in [
        (playground.tasks, 99, 6), (playground.tasks, 0, 1), (playground.seconds, -1, 0.05),
        (playground.seconds, 1e9, 2), (playground.at_once, 99, 5), (playground.at_once, -1, 1),
    ]:  # fmt: skip
        control.value = value
        assert control.value == kept
        assert playground.choice


def test_only_an_existing_task_can_be_chosen_to_fail(playground: Playground) -> None:
    playground.failing.value = 3
    playground.tasks.value = 4
    assert playground.failing.value == 3
    playground.tasks.value = 2
    assert playground.failing.value == 0
    assert [number for _, number in playground.failing.options] == [0, 1, 2]


@pytest.mark.slow
def test_the_last_runs_share_one_axis(playground: Playground, notebook: CapturedIO) -> None:
    for at_once in (1, 2, 3):
        playground.seconds.value = QUICK
        playground.at_once.value = at_once
        asyncio.run(press(playground))
    assert html(notebook)[-1].count("<img ") == 1
    playground.compare.value = True
    assert html(notebook)[-1].count("<img ") == KEPT == 3
    sheet = Sheet(list(playground.runs))
    axes = [drawing.figure.axes[0] for drawing in sheet.drawings]
    assert len({one.get_xlim() for one in axes}) == 1
    assert len({(one.get_position().x0, one.get_position().x1) for one in axes}) == 1
    order = [re.search(r"(\d) request", caption) for caption in str(sheet).splitlines()]
    assert [found[1] for found in order if found] == ["3", "2", "1"]


def test_every_control_has_a_label(playground: Playground) -> None:
    grid, acts, _ = playground.controls.children
    assert all(control.description for control in [*grid.children, *acts.children])
    assert playground.button.tooltip


@pytest.mark.slow
def test_a_new_playground_ends_the_old_one(playground: Playground, notebook: CapturedIO) -> None:
    new = play()
    playground._web.join()
    assert playground._web.exit_code is not None
    assert playground.controls.comm is None
    assert new._web.exit_code is None
    new.close()
    new._web.join()


@pytest.mark.slow
def test_the_first_figure_and_the_code_remain_in_the_report(
    tmp_path: Path,
) -> None:
    (source,) = (source for source in sources() if source.stem == "playground")
    notebook = make(source, "en")
    assert execute(notebook, tmp_path) is None
    (tmp_path / "executed" / "en").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "executed" / "en" / "playground.ipynb")
    facts = '{"problems": {}, "date": "", "versions": "", "machine": ""}'
    (tmp_path / "executed" / "run.json").write_text(facts)
    render(tmp_path)
    page = (tmp_path / "en" / "playground.html").read_text(encoding="utf-8")
    assert page.count('<img alt="Timeline: answered') == 2
    assert "lab-playground" not in page
    assert "VBox" not in page
    text = re.sub(r"<[^>]+>", "", page)
    assert "background_tasks.add_task(sleep, 0.3)" in text
