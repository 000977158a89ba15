"""What an operator sees: health, readiness, and figures that agree with the traces."""

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import server
from lab import Queue, delivery
from lab.servers.web import Web
from webhooks.settings import settings

from ..databases import postgresql
from ..waiting import until
from .test_mail import Dripping

pytestmark = pytest.mark.slow

Figures = dict[tuple[str, ...], float]


def figures(web: Web) -> Figures:
    return figures_of(web.url)


def figures_of(url: str) -> Figures:
    """Each figure by its name and the values of its labels."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=20).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ready(web: Web) -> tuple[int, dict[str, object]]:
    answer = httpx.get(f"{web.url}/ready", trust_env=False, timeout=20)
    return answer.status_code, answer.json()


def test_without_a_queue_the_process_is_alive_and_ready(
    serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    web = serving("server:app", on="process")
    assert httpx.get(f"{web.url}/health", trust_env=False).json() == {"status": "alive"}
    assert ready(web) == (200, {"database": "not used", "broker": "not used", "workers": 0})
    seen = figures(web)
    assert seen["webhook_deliveries", "waiting"] != seen["webhook_deliveries", "waiting"]  # NaN


def test_while_the_service_is_up_collections_leave_alone_what_it_started_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    looked_through = len(gc.get_objects())

    async def alive() -> None:
        async with server.app.router.lifespan_context(server.app):
            assert gc.get_freeze_count() > looked_through // 2 > len(gc.get_objects())

    asyncio.run(alive())
    assert gc.get_freeze_count() == 0
    assert len(gc.get_objects()) > looked_through // 2


def test_the_figures_agree_with_the_traces(
    serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK_SECONDS", "0.2")
    monkeypatch.setenv("WEBHOOK_SECRET", "lab-test-secret")
    monkeypatch.setenv("SMTP_PORT", "1")
    web = serving("server:app", on="process")
    hooks = web.burst("/webhook-test", [delivery("push") for _ in range(60)], at_once=10)
    threads = web.burst("/webhook-test/thread", [delivery("push") for _ in range(3)])
    inline = web.burst("/webhook-test/inline", [delivery("push") for _ in range(2)])
    mail = web.post("/send-email", params={"email": "ada@example.com"})
    unsigned = web.burst("/webhook-test", [{"content": b"{}"}] * 4)
    large = web.post("/webhook-test", content=bytes(settings().MAX_BODY_BYTES + 1))
    nobody = web.post("/send-email", params={"email": "nobody"})
    none = web.post("/webhook-test/queue", **delivery("push"))
    until(lambda: figures(web)["webhook_work_unfinished", "delivery"] == 0)
    seen = figures(web)

    assert seen["webhook_accepted_total", "background"] == len(hooks) + 1
    assert seen["webhook_accepted_total", "thread"] == len(threads)
    assert seen["webhook_accepted_total", "inline"] == len(inline)
    told = {key[1]: value for key, value in seen.items() if key[0] == "webhook_refused_total"}
    assert told == {"signature": 4, "size": 1, "address": 1, "queue": 1}
    everything = [*hooks, *threads, *inline, mail, *unsigned, large, nobody, none]
    statuses = Counter(trace.status or 413 for trace in everything)  # it may hang up before
    assert statuses == {202: 65, 200: 1, 401: 4, 413: 1, 422: 1, 503: 1}
    assert {task.state for task in hooks.wait().tasks} == {"finished"}
    assert seen["webhook_work_waiting", "delivery"] == seen["webhook_work_unfinished", "mail"] == 0
    assert seen["webhook_work_unfinished_bytes", "delivery"] == 0


def test_waiting_work_is_counted_as_it_waits(
    serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK_SECONDS", "30")
    web = serving("server:app", on="process")
    hooks = web.burst("/webhook-test", [delivery("push") for _ in range(45)], at_once=5)
    until(lambda: sum(task.started is not None for task in hooks.tasks) == 40)
    seen = figures(web)
    assert seen["webhook_work_unfinished", "delivery"] == len(hooks) == 45
    assert seen["webhook_work_waiting", "delivery"] == 5
    assert seen["webhook_work_oldest_seconds", "delivery"] > 0
    size = len(delivery("push")["content"])
    assert seen["webhook_work_unfinished_bytes", "delivery"] == 45 * size
    web.signal(signal.SIGKILL)  # asked to end, it would wait for the work
    web.join()


@pytest.mark.slow
def test_an_absent_broker_or_worker_makes_late_and_a_frozen_database_refuses(
    serving: Callable[..., Web],
) -> None:
    with (
        postgresql() as database,
        Queue(1, broker="embedded", database=database.url, WORK_SECONDS=0) as queue,
    ):
        web = serving("server:app", on="process")
        until(lambda: ready(web)[1]["workers"] == 1)
        assert ready(web) == (200, {"database": "reached", "broker": "reached", "workers": 1})
        for _ in range(5):
            web.post("/webhook-test/queue", **delivery("push"))
        queue.wait()
        seen = figures(web)
        assert seen["webhook_deliveries", "done"] == 5
        assert seen["webhook_accepted_total", "queue"] == 5

        queue.workers[0].kill()
        until(lambda: ready(web)[1]["workers"] == 0)
        assert queue.broker is not None
        queue.broker.kill()
        assert ready(web) == (200, {"database": "reached", "broker": "not reached", "workers": 0})
        assert web.post("/webhook-test/queue", **delivery("push")).status == 202
        seen = figures(web)
        assert seen["webhook_deliveries", "waiting"] == len(queue.deliveries.known("waiting")) == 1
        assert seen["webhook_deliveries_oldest_seconds",] > 0
        assert seen["webhook_deliveries_failed_attempts",] == 0

        database.freeze()
        threads = httpx.get(f"{web.url}/metrics", trust_env=False, timeout=20)
        assert threads.status_code == 200
        for _ in range(3):
            assert ready(web)[0] == 503
        assert httpx.get(f"{web.url}/health", trust_env=False).status_code == 200
        database.thaw()
        until(lambda: ready(web)[0] == 200)


@pytest.mark.slow
def test_a_broker_that_drips_holds_no_more_threads_however_often_it_is_asked(
    serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORK_SECONDS", "0")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/deliveries.sqlite3")
    broker = Dripping(pause=0.2)
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{broker.port}/0")
    try:
        web = serving("server:app", on="process")
        process = psutil.Process(web.pid)
        asked = [ask_all(web, 10), process.num_threads(), ask_all(web, 40), process.num_threads()]
    finally:
        broker.close()
    first, before, later, after = asked
    assert {*first, *later} == {(200, 202)}
    assert after <= before


def ask_all(web: Web, times: int) -> list[tuple[int, int | None]]:
    with ThreadPoolExecutor(10) as pool:
        ready = pool.map(
            lambda _: httpx.get(f"{web.url}/ready", trust_env=False, timeout=30).status_code,
            range(times),
        )
        posts = web.burst("/webhook-test/queue", [delivery("push") for _ in range(times)])
        return list(zip(ready, (post.status for post in posts), strict=True))


@pytest.mark.parametrize(("secret", "warned"), [(None, 1), ("word", 0)])
def test_a_service_that_anybody_may_call_says_so_at_its_start(
    secret: str | None,
    warned: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    monkeypatch.setitem(server.app.state._state, "webhook_secret", secret)

    async def start() -> None:
        async with server.app.router.lifespan_context(server.app):
            pass

    asyncio.run(start())
    assert sum("WEBHOOK_SECRET is not set" in line for line in caplog.messages) == warned
