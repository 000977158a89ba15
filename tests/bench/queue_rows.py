"""The rows of the task queue, each against the same commit without it, in one run."""

import contextlib
import functools
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, TypeVar

from lab import Queue, delivery, serve
from lab.publishing.notebooks import ROOT
from webhooks.deliveries import Delivery
from webhooks.queue import PROCESS, celery_app

from ..databases import POSTGRESQL, freeze_at_rest, postgresql
from ..places import served
from ..waiting import until
from .outside import WRK, Load, quiet, wrk
from .plain import connect
from .row import Row

PATH = "/webhook-test/queue"
PLAIN = "tests.bench.plain"
PLAIN_WORKER = "tests.bench.plain_worker"

Side = TypeVar("Side")
Measured = TypeVar("Measured")


def load(url: str, callers: int, seconds: float) -> Load:
    """Post deliveries, each with an id of its own, from a program that is not ours."""
    sent = delivery("push")
    headers = {name: value for name, value in sent["headers"].items() if "Delivery" not in name}
    pairs = ", ".join(
        f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method = 'POST'\nwrk.headers = {{{pairs}}}\n"
            f"wrk.body = [==[{sent['content'].decode()}]==]\nlocal number = 0\n"
            "request = function()\n  number = number + 1\n"
            f"  wrk.headers['X-GitHub-Delivery'] = '{uuid.uuid4()}-' .. number\n"
            "  return wrk.format()\nend\n"
        )
        script.flush()
        return wrk(f"{url}{PATH}", callers, seconds, "-s", script.name)


@contextlib.contextmanager
def databases() -> Iterator[dict[str, str | None]]:
    """The databases that are here, by name: their URLs; None is the file that a queue makes."""
    with contextlib.ExitStack() as stack:
        found: dict[str, str | None] = {"SQLite": None}
        if POSTGRESQL.exists():
            found["PostgreSQL"] = stack.enter_context(postgresql()).url
        yield found


def accepting(size: float) -> Iterator[Row]:
    """What wrk sees of an answer, over an endpoint that makes the same commit itself."""
    if WRK is None:
        return
    with databases() as found:
        for name, url in found.items():
            with Queue(0, broker="embedded", database=url) as queue:
                queue.deliveries.database.prepare()
                with served(PLAIN + ":app", "bare") as plain, served("server:app", "bare") as ours:
                    for callers in (1, 8):
                        measure = functools.partial(load, callers=callers, seconds=1.5 * size)
                        loads = list(in_turn(ours, plain, measure, max(1, int(10 * size))))
                        p50, p99, rate = (
                            statistics.median(a[field] / b[field] for a, b in loads)
                            for field in range(3)
                        )
                        title = f"accepting, {name}, {callers} callers"
                        if callers == 1:
                            yield Row(f"{title}, p50", p50, 1.5)
                        else:
                            yield Row(f"{title}, p99", p99, 1.0)
                            yield Row(f"{title}, answers a second", rate, 0.95, at_most=False)
                    assert queue.broker is not None
                    ratios = []
                    for _ in range(max(1, int(5 * size))):
                        usual = load(ours, 8, 3 * size)
                        queue.broker.freeze()
                        ratios.append(load(ours, 8, 3 * size).p99 / usual.p99)
                        queue.broker.thaw()
                    title = f"accepting, {name}, broker frozen, p99"
                    yield Row(title, statistics.median(ratios), 1.5)


def in_turn(
    ours: Side, plain: Side, measure: Callable[[Side], Measured], turns: int
) -> Iterator[tuple[Measured, Measured]]:
    """Measure both turn by turn; in every other, ours first.

    What a machine has just done tells on what it does next.
    """
    for turn in range(turns):
        order = (ours, plain)[:: 1 if turn % 2 else -1]
        found = {side: measure(side) for side in order}
        yield found[ours], found[plain]


def starting(size: float) -> Iterator[Row]:
    """How long after its answer the work of an idle queue's delivery starts (ms)."""
    with databases() as found:
        for name, url in found.items():
            with (
                Queue(1, broker="embedded", database=url, WORK_SECONDS=0),
                serve("server:app", on="process") as web,
            ):
                waits = []
                for _ in range(max(10, int(400 * size))):
                    trace = web.post(PATH, **delivery("push")).wait()
                    (task,) = trace.tasks
                    assert task.started is not None
                    assert trace.responded is not None
                    waits.append((task.started - trace.responded) * 1000)
            waits.sort()
            for quantile, bar in ((0.5, 10), (0.99, 25)):
                wait = waits[int(len(waits) * quantile)]
                title = f"answered to started, {name}, p{quantile * 100:.0f}"
                yield Row(title, wait, bar, unit="ms")


def working(size: float) -> Iterator[Row]:
    """Deliveries a second that workers get through, over plain Celery's with one such commit."""
    with databases() as found:
        for name, url in found.items():
            for workers in (1, 2):
                ratios: list[float] = []
                while len(ratios) < max(1, int(16 * size)):
                    # Anew after a few pairs: how a process lies in memory makes several percent.
                    ratios += over_plain(url, workers, size)
                many = f"{workers} worker{'s' * (workers > 1)}"
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                title = f"tasks a second, {name}, {many} ({spread})"
                bar = 1.0 if name == "SQLite" else 0.9
                yield Row(title, statistics.median(ratios), bar, at_most=False)


def over_plain(url: str | None, workers: int, size: float) -> Iterator[float]:
    number = max(40, int(600 * size))
    with (
        team("webhooks.worker", url, workers) as ours,
        team(PLAIN_WORKER, url, workers) as plain,
    ):
        turns = max(1, int(4 * size))
        for rate, rate_of_plain in in_turn(ours, plain, lambda rate: rate(number), turns):
            yield rate / rate_of_plain


@contextlib.contextmanager
def team(module: str, database: str | None, workers: int) -> Iterator[Callable[[int], float]]:
    """Workers that stand still but in their turns, each of which tells their rate a second."""
    with Queue(
        workers,
        broker="embedded",
        database=database,
        worker=module,
        WORK_SECONDS=0,
        PYTHONPATH=ROOT,
    ) as queue:
        url = os.environ["DATABASE_URL"]
        queue.deliveries.database.prepare()
        hand_in = functools.partial(send_bodies if module == PLAIN_WORKER else accept_all, queue)

        def rate(number: int) -> float:
            """How many deliveries a second they get through that were all there before."""
            hand_in([delivery("push") for _ in range(number)])
            # All teams are watched in one way, which costs them the same.
            done = "SELECT count(*) FROM effects"
            with contextlib.closing(connect(url)) as watching:
                before = watching.execute(done).fetchone()[0]
                begin = perf_counter()
                for worker in queue.workers:
                    worker.thaw()
                while watching.execute(done).fetchone()[0] < before + number:
                    time.sleep(0.01)
                seconds = perf_counter() - begin
            until(quiet)  # messages are left over whose deliveries are done
            stand_still(queue)
            return number / seconds

        stand_still(queue)
        yield rate


def stand_still(queue: Queue) -> None:
    for worker in queue.workers:
        freeze_at_rest(queue, worker)


def accept_all(queue: Queue, sent: list[dict[str, Any]]) -> None:
    """Hand deliveries to the service, whose messages only say that they are there."""
    given = [Delivery.of(lower(each["headers"]), each["content"]) for each in sent]
    queue.deliveries.accept(given)
    app = celery_app(queue.url, queue.name)
    for each in given:
        app.send_task(PROCESS, [each.key])


def send_bodies(queue: Queue, sent: list[dict[str, Any]]) -> None:
    """Hand deliveries to plain Celery, in its messages."""
    app = celery_app(queue.url, queue.name)
    for each in sent:
        app.send_task(PROCESS, [lower(each["headers"]), each["content"].decode()])


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
