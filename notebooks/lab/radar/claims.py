"""The radar's claims: what one hopes for, and a probe that finds out what really happens.

A probe returns an outcome: a few of the words below. It rests on order and counts, as they are
stamped in the server's processes or noted by the app itself, and on no duration.
"""

from __future__ import annotations

import http.client
import json
import signal
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import httpx

from ..languages import Text
from ..servers.web import Web
from ..traces import Trace, Traces

LONG, SHORT = 1.2, 0.3  # seconds of work
PATIENCE = 30.0
MOST_SENT = 400

Start = Callable[..., Web]

WORDS = {
    "finished": Text("finished", "完成"),
    "failed": Text("failed", "失败"),
    "cancelled": Text("cancelled", "被取消"),
    "lost": Text("lost", "丢失"),
    "never ran": Text("never ran", "从未运行"),
    "never": Text("never", "从不"),
    "before": Text("before", "先"),
    "after": Text("after", "后"),
    "yes": Text("yes", "是"),
    "no": Text("no", "否"),
    "40 each": Text("40 each", "各 40 个"),
}


class OfVersion(NamedTuple):
    """A claim whose outcome is the framework's. text: the claim. wanted: what one hopes for."""

    text: Text
    wanted: str
    probe: Callable[[Web], str]


class OfServer(NamedTuple):
    """A claim whose outcome is the server's; its probe starts one, or several."""

    text: Text
    wanted: str
    probe: Callable[[Start], str]


# What the framework does


def answers_first(web: Web) -> str:
    trace = web.post("/two", params={"seconds": 0.0}).wait(PATIENCE)
    left, begun = trace.responded, trace.started
    return "yes" if left is not None and begun is not None and left < begun else "no"


def exits(web: Web) -> str:
    """When a `yield` dependency's exit runs, seen from the background task."""
    web.post("/session").wait(PATIENCE)
    said = noted(web)
    if "exit" not in said:
        return "never"
    return "before" if said.index("exit") == 0 else "after"


def reads_upload(web: Web) -> str:
    web.post("/upload", files={"file": ("a", b"12345")}).wait(PATIENCE)
    return "yes" if noted(web) == ["5"] else "no"


def frees_connection(web: Web) -> str:
    """Whether the next request on a connection is served while the task of the last one works."""
    working = web.post("/wrapped/wait", params={"seconds": SHORT})
    following = web.get("/ping").wait(PATIENCE)
    (task,) = working.wait(PATIENCE).tasks
    served, over = following.received, task.finished
    assert served is not None
    assert over is not None
    return "yes" if following.sent + served < working.sent + over else "no"


def survives_leaving(web: Web) -> str:
    """What becomes of a task behind a middleware when the client leaves after the answer."""
    trace = left(web, f"/wrapped/wait?seconds={SHORT}")
    return fates(trace.wait(PATIENCE))


def runs_late(web: Web) -> str:
    return fates(web.post("/late").wait(PATIENCE))


def runs_when_refused(web: Web) -> str:
    return fates(web.post("/refused").wait(PATIENCE))


def runs_beside_own(web: Web) -> str:
    """What becomes of an injected task when the response brings a task of its own."""
    return web.post("/own").wait(PATIENCE).tasks[0].state


def goes_on_after_failure(web: Web) -> str:
    return left(web, "/fail").wait(PATIENCE).tasks[1].state


OF_VERSIONS = {
    "answer": OfVersion(
        Text("the answer leaves before the work starts", "响应先离开，任务后开始"),
        "yes", answers_first,
    ),
    "exit": OfVersion(
        Text("a yield dependency exits before or after the task",
             "yield 依赖在任务之前还是之后退出"),
        "after", exits,
    ),
    "upload": OfVersion(
        Text("a task can read the upload", "任务读得到上传的文件"), "yes", reads_upload
    ),
    "connection": OfVersion(
        Text("behind a middleware, the next request does not wait for the task",
             "有中间件时，同一连接的下一个请求不必等任务"),
        "yes", frees_connection,
    ),
    "leaving": OfVersion(
        Text("behind a middleware, the client leaves: the task", "有中间件时客户端离开：任务"),
        "finished", survives_leaving,
    ),
    "late": OfVersion(
        Text("a task added after the yield", "yield 之后才添加的任务"), "finished", runs_late
    ),
    "refused": OfVersion(
        Text("HTTPException raised: the task added before", "抛出 HTTPException：之前添加的任务"),
        "finished", runs_when_refused,
    ),
    "own": OfVersion(
        Text("the response has its own background=: the injected task",
             "响应自带 background=：注入的任务"),
        "finished", runs_beside_own,
    ),
    "failure": OfVersion(
        Text("a task fails: the next one", "一个任务失败：下一个任务"),
        "finished", goes_on_after_failure,
    ),
}  # fmt: skip


# What the server does


def at_sigterm(start: Start, *, leave: bool = False) -> str:
    """The fates of an async task at work, and of one queued behind it."""
    web = start()
    path = f"/two?seconds={LONG}"
    trace = left(web, path) if leave else web.post(path)
    return fates(ended(web, trace))


def of_a_gone_client(start: Start) -> str:
    return at_sigterm(start, leave=True)


def of_threads(start: Start) -> str:
    """The fates of a `def` task and of a plain thread."""
    web = start()
    task = web.post(f"/sleep?seconds={LONG}")
    thread = web.post(f"/thread?seconds={2 * LONG}")
    web.traces.wait_started(PATIENCE)
    ended(web, thread)
    return f"{fates(task.wait(PATIENCE))}, {fates(thread)}"


def beyond_grace(start: Start) -> str:
    web = start("grace")
    return fates(ended(web, web.post("/wait?seconds=3")))


def keeps_connection(start: Start) -> str:
    """Whether another request is served on the connection whose last request's task failed."""
    web = start()
    kept = http.client.HTTPConnection("127.0.0.1", httpx.URL(web.url).port, timeout=PATIENCE)
    try:
        ask(kept, "/fail")
        seen = web.traces[-1]
        seen.wait(PATIENCE)
        # Without a connection made anew behind our back.
        kept.auto_open = 0
        ask(kept, "/fail")
    except (http.client.HTTPException, OSError):
        return "no"
    finally:
        kept.close()
    return "yes"


def under_a_watchdog(start: Start) -> str:
    """The fates of a task that blocks the loop, and of another request's `def` task."""
    web = start("watchdog")
    neighbour = web.post("/sleep?seconds=3")
    web.traces.wait_started(PATIENCE)
    web.hang_up()
    blocking = web.post("/block?seconds=3")
    return f"{fates(blocking.wait(PATIENCE))}, {fates(neighbour.wait(PATIENCE))}"


def has_one_memory(start: Start) -> str:
    """Whether all requests see the same variable of the app."""
    web = start()
    replies = Traces()
    for _ in range(5):  # the connections of one burst may all be one worker's
        replies += web.burst("/calls", ({} for _ in range(20)), method="GET", at_once=20)
    seen = sorted(json.loads(trace.body)[1] for trace in replies)
    return "yes" if seen == [*range(1, 101)] else "no"


def threads_at_once(start: Start) -> str:
    """How many threads work on `def` tasks in each process, when others have to wait in each."""
    web = start()
    working: dict[int | None, int] = {}
    for _ in range(MOST_SENT):
        web.post(f"/sleep?seconds={PATIENCE}")
        web.hang_up()  # the next may be another worker's
        tasks = Counter((task.state, trace.process) for trace in web.traces for task in trace.tasks)
        working = {process: n for (state, process), n in tasks.items() if state == "running"}
        # Not one alone: its thread may just be about to begin.
        if working and all(tasks["waiting", process] >= 10 for process in working):
            break
    numbers = set(working.values())
    return "40 each" if numbers == {40} else ", ".join(map(str, sorted(numbers)))


OF_SERVERS = {
    "sigterm": OfServer(
        Text("SIGTERM, the client is there: a task at work, and one queued",
             "SIGTERM，客户端还在：正在运行的任务，排在后面的任务"),
        "finished, finished", at_sigterm,
    ),
    "gone": OfServer(
        Text("SIGTERM, the client has left: a task at work, and one queued",
             "SIGTERM，客户端已离开：正在运行的任务，排在后面的任务"),
        "finished, finished", of_a_gone_client,
    ),
    "threads": OfServer(
        Text("SIGTERM: a def task, and a plain thread", "SIGTERM：def 任务，普通线程"),
        "finished, finished", of_threads,
    ),
    "grace": OfServer(
        Text("SIGTERM, the work takes longer than the grace of 1 s",
             "SIGTERM，任务超过 1 秒的宽限期"),
        "finished", beyond_grace,
    ),
    "connection": OfServer(
        Text("a task fails: its connection takes another request",
             "任务失败：同一连接还能再发请求"),
        "yes", keeps_connection,
    ),
    "watchdog": OfServer(
        Text("a task blocks the loop for 3 s: it, and another request's def task",
             "一个任务阻塞事件循环 3 秒：它自己，另一个请求的 def 任务"),
        "finished, finished", under_a_watchdog,
    ),
    "memory": OfServer(
        Text("all requests see one variable of the app", "所有请求看到应用的同一个变量"),
        "yes", has_one_memory,
    ),
    "pool": OfServer(
        Text("threads for def tasks at once, in each process",
             "每个进程里同时运行 def 任务的线程数"),
        "40 each", threads_at_once,
    ),
}  # fmt: skip


def in_words(outcome: str, language: str) -> str:
    """Return an outcome in a language."""
    comma = "，" if language == "zh" else ", "
    return comma.join(WORDS.get(word, Text(word)).of(language) for word in outcome.split(", "))


def fates(trace: Trace) -> str:
    return ", ".join(task.state for task in trace.tasks)


def noted(web: Web) -> list[str]:
    """Return what the app itself has noted since the last time, in order."""
    return [str(each) for each in json.loads(web.get("/seen").wait(PATIENCE).body)]


def ended(web: Web, trace: Trace) -> Trace:
    """Send SIGTERM once the work has begun; return the trace when the server has ended."""
    Traces([trace]).wait_started(PATIENCE)
    web.signal(signal.SIGTERM)
    web.join(PATIENCE)
    return trace.wait(PATIENCE)


def left(web: Web, path: str) -> Trace:
    """Send a request, read the answer and leave the server; return the request's trace."""
    trace = web.post(path)
    web.hang_up()
    return trace


def ask(client: http.client.HTTPConnection, path: str) -> None:
    client.request("POST", path)
    client.getresponse().read()
