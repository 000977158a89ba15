"""Apps of other frameworks do the same watched as bare; what they hand over is seen, no more."""

from collections.abc import Callable

import httpx
import pytest

from lab.servers.web import Web
from lab.traces import Trace

from ..places import served
from ..waiting import until

Serving = Callable[..., Web]
Task = tuple[str, str, str]

BACKGROUND = [("store", "background", "thread"), ("store_async", "background", "loop")]
AT_ONCE = [("store", "create_task", "thread"), ("store_async", "create_task", "loop")]

# The packages that an app takes, how it is served, and the tasks that it hands over.
APPS: dict[str, tuple[str, dict[str, str], list[Task]]] = {
    "starlette": ("starlette", {}, BACKGROUND),
    "mounted": ("fastapi", {}, BACKGROUND),
    "sse": ("sse_starlette", {}, BACKGROUND),
    "fasthtml": ("fasthtml", {}, BACKGROUND),
    "litestar": ("litestar", {}, BACKGROUND),
    "quart": ("quart", {}, AT_ONCE),
    "django": (
        "django", {}, [("store", "thread", "thread"), ("store_async", "create_task", "loop")]),
    "uvloop": ("uvloop httptools", {"loop": "uvloop", "http": "httptools"}, BACKGROUND),
}  # fmt: skip


def needed(name: str) -> tuple[str, dict[str, str], list[Task]]:
    packages, options, tasks = APPS[name]
    for package in packages.split():
        pytest.importorskip(package)
    app = "starlette" if name == "uvloop" else name
    return f"tests.observer.foreign:{app}_app", options, tasks


def shown(trace: Trace) -> list[Task]:
    return [(task.name, task.runner, (task.where or "").split()[0]) for task in trace.tasks]


@pytest.mark.parametrize("on", ["thread", "process"])
@pytest.mark.parametrize("name", APPS)
def test_what_an_app_hands_over_is_seen_and_nothing_else(
    name: str, on: str, serving: Serving
) -> None:
    app, options, tasks = needed(name)
    web = serving(app, on=on, **options)
    trace = web.get("/").wait(20)
    assert trace.status == 200
    assert shown(trace) == tasks
    assert {task.state for task in trace.tasks} == {"finished"}
    assert trace.finished is not None
    assert all(
        task.finished is not None and task.finished <= trace.finished for task in trace.tasks
    )
    assert web.get("/told").wait(20).tasks == []
    if name == "django":
        assert web.get("/sync").wait(20).tasks == []


def test_a_task_whose_error_quart_keeps_to_itself_is_seen_to_fail(serving: Serving) -> None:
    app, *_ = needed("quart")
    (task,) = serving(app).get("/failing").wait(20).tasks
    assert (task.state, task.error) == ("failed", "ValueError: boom")


def behaviour(
    app: str, place: str, options: dict[str, str]
) -> tuple[int, list[object], bytes, str]:
    """What an app answers, and what its work has then done."""
    with served(app, place, **options) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/")
        until(lambda: len(client.get("/told").json()) == 2)
        head = [item for item in answer.headers.multi_items() if item[0] != "date"]
        body = answer.content.replace(url.rpartition("/")[2].encode(), b"")
        return answer.status_code, head, body, client.get("/told").text


@pytest.mark.slow
@pytest.mark.parametrize("place", ["thread", "process"])
@pytest.mark.parametrize("name", APPS)
def test_answers_and_effects_are_those_of_the_app_alone(name: str, place: str) -> None:
    app, options, _ = needed(name)
    plain = behaviour(app, "bare", options)
    assert behaviour(app, place, options) == plain
