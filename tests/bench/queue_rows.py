"""The rows of the task queue: each against plain Celery with the same settings, in one run."""

import json
import statistics
import time
from collections.abc import Iterator
from time import perf_counter

from celery import Celery

from lab import Queue, delivery
from lab.observer.requests import Request, current
from lab.publishing.notebooks import ROOT
from lab.servers.web import serve
from lab.traces import Ledger
from webhooks.outbox import outbox_of
from webhooks.queue import PROCESS, celery_app, publish

from .plain import plain_app
from .row import Row

PATH = "/webhook-test/queue"
PLAIN = "tests.bench.plain_worker"


def asked() -> tuple[str, dict[str, str], str]:
    sent = delivery("push")
    headers = {name.lower(): value for name, value in sent["headers"].items()}
    return headers["x-github-delivery"], headers, json.dumps(json.loads(sent["content"]))


def hand_over(app: Celery, sent: tuple[str, dict[str, str], str]) -> None:
    app.send_task(PROCESS, sent, argsrepr=sent[0])


def enqueuing(size: float) -> Iterator[Row]:
    """How long the enqueuing call takes: watched over not, and over plain Celery's."""
    ledger = Ledger()
    took: dict[str, list[float]] = {"celery": [], "ours": [], "watched": []}
    with Queue(workers=0, broker="embedded") as queue:
        app = plain_app(queue.url, queue.name)
        for count in range(max(20, int(1000 * size))):
            sent = asked()
            page = ledger.open_page(str(count), perf_counter(), "POST", PATH)
            begin = perf_counter()
            hand_over(app, sent)
            took["celery"].append(perf_counter() - begin)
            for name in ("ours", "watched"):
                request = Request(str(count), page, None) if name == "watched" else None
                token = current.set(request)
                begin = perf_counter()
                publish(queue.url, queue.name, *sent)
                took[name].append(perf_counter() - begin)
                current.reset(token)
    for quantile, name in ((0.5, "p50"), (0.99, "p99")):
        at = {each: sorted(times)[int(len(times) * quantile)] for each, times in took.items()}
        yield Row(f"enqueuing, watched, {name}", at["watched"] / at["ours"], 1.1)
        yield Row(f"enqueuing, over plain Celery, {name}", at["watched"] / at["celery"], 1.1)


def starting(size: float) -> Iterator[Row]:
    """How long after it was queued the work of an idle queue's delivery starts (ms)."""
    with (
        Queue(1, broker="embedded", WORK_SECONDS=0) as queue,
        serve("server:app", on="process") as web,
    ):
        assert queue.workers
        waits = []
        for _ in range(max(10, int(200 * size))):
            trace = web.post(PATH, **delivery("push")).wait()
            (task,) = (task for task in trace.tasks if task.runner == "queue")
            assert task.started is not None
            assert task.queued is not None
            waits.append(task.started - task.queued)
    yield Row("queued to started, p50", statistics.median(waits) * 1000, 10, unit="ms")


def working(size: float) -> Iterator[Row]:
    """Deliveries a second that workers get through, over those of plain Celery's workers."""
    number = max(40, int(1500 * size))
    for workers in (1, 2):
        ratios = []
        for turn in range(max(1, int(6 * size))):
            # In turn first: what a machine has just done tells on what it does next.
            order = ("webhooks.worker", PLAIN)[:: 1 if turn % 2 else -1]
            rates = {module: rate(module, workers, number) for module in order}
            ratios.append(rates["webhooks.worker"] / rates[PLAIN])
        name = f"tasks a second, {workers} worker{'s' * (workers > 1)}"
        yield Row(name, statistics.median(ratios), 0.95, at_most=False)


def rate(module: str, workers: int, number: int) -> float:
    app_of = plain_app if module == PLAIN else celery_app
    with Queue(workers, broker="embedded", worker=module, WORK_SECONDS=0, PYTHONPATH=ROOT) as queue:
        outbox = outbox_of(queue.url, queue.name)
        assert outbox is not None
        app = app_of(queue.url, queue.name)
        for worker in queue.workers:
            worker.freeze()
        for _ in range(number):
            hand_over(app, asked())
        begin = perf_counter()
        for worker in queue.workers:
            worker.thaw()
        while outbox.waiting():
            time.sleep(0.002)
        return number / (perf_counter() - begin)


def refusing(size: float) -> Iterator[Row]:
    """By when a request is refused whose broker is frozen (seconds)."""
    with Queue(0, broker="embedded") as queue, serve("server:app", on="process") as web:
        web.post(PATH, **delivery("push"))
        assert queue.broker is not None
        queue.broker.freeze()
        number = max(4, int(30 * size))
        refused = web.burst(PATH, [delivery("push") for _ in range(number)], at_once=number)
        queue.broker.thaw()
        assert {trace.status for trace in refused} == {503}
    yield Row(
        "503 for a frozen broker, the last", max(t.answered or 0 for t in refused), 6, unit="s"
    )
