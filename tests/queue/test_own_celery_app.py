"""A reader's own Celery app is watched as it is: each sending, and each start in a worker."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab import Queue, serve

pytestmark = pytest.mark.slow

TASKS = """\
import os, signal
from celery import Celery
from celery.exceptions import Ignore, Reject

app = Celery("shop", set_as_current=False)
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True

@app.task
def pack(order):
    return order

@app.task(bind=True, max_retries=2, default_retry_delay=0)
def ship(self, order):
    if self.request.retries < 2:
        raise self.retry(exc=ValueError(f"no van {self.request.retries}"))

@app.task
def bill(order):
    raise KeyError(order)

@app.task(autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0, max_retries=1)
def weigh(order):
    raise OSError("no scales")

@app.task(bind=True)
def label(self, order):
    if not self.request.delivery_info["redelivered"]:
        raise Reject("no ink", requeue=True)

@app.task
def forget(order):
    raise Ignore()
"""
WEB = """\
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
import shop_tasks

def order(request):
    getattr(shop_tasks, request.path_params["task"]).delay(7)
    return Response(status_code=202)

web = Starlette(routes=[Route("/{task}", order, methods=["POST"])])
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_tasks.py").write_text(TASKS)
    (folder / "shop_web.py").write_text(WEB)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        with (
            Queue(worker="shop_tasks", broker="embedded") as queue,
            serve("shop_web:web", on="process") as web,
        ):
            yield queue, web


FATES = {
    "pack": ["finished"],
    "ship": ["failed", "failed", "finished"],
    "bill": ["failed"],
    "weigh": ["failed", "failed"],
    "label": ["failed", "finished"],
    "forget": ["finished"],
}


@pytest.mark.parametrize("task", FATES)
def test_each_start_of_a_task_is_in_the_trace_that_sent_it(shop: Any, task: str) -> None:
    _, web = shop
    trace = web.post(f"/{task}").wait(20)
    assert [(each.name, each.runner, each.state) for each in trace.tasks] == [
        (task, "queue", state) for state in FATES[task]
    ]
    for each in trace.tasks:
        assert each.where.startswith("process ")
        assert each.added <= each.started <= each.finished
    for before, after in zip(trace.tasks, trace.tasks[1:], strict=False):
        assert before.finished <= after.started


def test_an_error_in_a_worker_is_that_of_its_task(shop: Any) -> None:
    _, web = shop
    errors = [each.error for each in web.post("/ship").wait(20).tasks]
    assert errors == ["ValueError: no van 0", "ValueError: no van 1", None]
    assert [each.error for each in web.post("/bill").wait(20).tasks] == ["KeyError: 7"]


def test_a_task_from_an_unwatched_request_sends_no_stamp(shop: Any) -> None:
    queue, web = shop
    import shop_tasks

    before = [len(trace.tasks) for trace in web.traces]
    shop_tasks.app.conf.update(broker_read_url=queue.url, broker_write_url=queue.url)
    shop_tasks.pack.delay(8)
    web.post("/pack").wait(20)  # the worker takes them in turn
    assert [len(trace.tasks) for trace in web.traces][:-1] == before


def test_an_unreachable_broker_leaves_a_task_that_never_ran(shop: Any) -> None:
    queue, web = shop
    queue.broker.kill()
    try:
        trace = web.post("/pack")
        assert trace.status == 500
        assert [task.state for task in trace.wait(20).tasks] == ["never ran"]
    finally:
        queue.broker.restart()
