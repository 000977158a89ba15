# %% [markdown] lang="en"
# # 9. Check the guide, statement by statement
#
# **Do** put each statement of the guide to a small test of its own. **Learn** which of them hold, which
# hold with a condition, and which do not. **Need** lessons 1 to 6, and Linux or macOS.

# %% [markdown] lang="zh"
# # 9. 逐条核对指南
#
# **动手**：给指南的每一条说法都做一个小实验。**收获**：知道哪些成立，哪些有条件成立，哪些不成立。**前置**：第 1 到 6 课；
# 要用 Linux 或 macOS。

# %% tags=["app"]
import asyncio
import json
import os
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stderr
from contextvars import ContextVar
from functools import partial
from http.client import HTTPConnection
from io import StringIO
from multiprocessing import get_context
from select import select
from signal import SIGKILL, SIGTERM
from timeit import timeit

import httpx
import psutil
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask

import server
from lab import Inbox, Traces, check, delivery, serve
from lab.lessons.guide import Guide, Statement, Text

# %% [markdown] lang="en"
# Each verdict is computed from this run: *claim* says that the plain case is as stated, *but* that a
# case was found where it is not. Verdicts rest on order and counts, hardly ever on durations: tasks
# block on `go` until the test has seen what it needs.

# %% [markdown] lang="zh"
# 结论由这次运行的所见算出：*claim* 是说，平常情况与说法相符；*but* 是说，找到了不相符的情况。起决定作用的是顺序和个数，
# 很少靠时间：任务都等着 `go`，调用方看到了想看的，才放行。

# %% tags=["app"]
go, meeting = threading.Event(), threading.Barrier(10)
user = ContextVar("user", default="nobody")
seen, handled, threads = [], [], []
cache = {"answer": "old"}


def quick():
    seen.append((user.get(), os.getpid()))


async def quick_async():
    quick()


def held():
    go.wait(30)


async def held_async():
    while not go.is_set():
        await asyncio.sleep(0.01)


async def blocking():
    go.wait(30)


def failing():
    raise ValueError("no such address")


def held_failing():
    held()
    failing()


def meet():
    meeting.wait(10)  # passes when ten are here at once


async def gathered():
    together = asyncio.Barrier(10)
    async with asyncio.timeout(10):
        await asyncio.gather(*(together.wait() for _ in range(10)))


def update():
    held()
    cache["answer"] = "new"


def call():
    seen.append(httpx.get(f"{web.url}/ping", trust_env=False).text)


# %% [markdown] lang="en"
# The app gives any of these functions to a background task or to a thread: `/tasks/failing,quick`,
# `/threads/quick`.

# %% [markdown] lang="zh"
# 应用可以把上面任何一种工作交给后台任务或线程：`/tasks/failing,quick`，`/threads/quick`。

# %% tags=["app"]
WORK = {
    each.__name__: each
    for each in (quick, quick_async, held, held_async, blocking, failing, held_failing, meet,
                 gathered, update, call)
}  # fmt: skip
app = FastAPI(max_body_size=100_000)


@app.exception_handler(ValueError)
async def on_value_error(request, error):
    handled.append(error)
    return JSONResponse({}, 500)


@app.post("/tasks/{names}", status_code=202)
async def tasks(names: str, request: Request, background_tasks: BackgroundTasks):
    user.set("ada")
    for name in names.split(","):
        background_tasks.add_task(WORK[name])
    return request.client.port


@app.post("/threads/{names}", status_code=202)
async def start_threads(names: str):
    user.set("ada")
    for name in names.split(","):
        threads.append(threading.Thread(target=WORK[name]))
        threads[-1].start()


def set_user():
    user.set("ada")


@app.post("/def-dependency", dependencies=[Depends(set_user)])
async def after_def_dependency(background_tasks: BackgroundTasks):
    for task in (quick, quick_async):
        background_tasks.add_task(task)


@app.post("/def-handler")
def def_handler(background_tasks: BackgroundTasks):
    user.set("ada")
    for task in (quick, quick_async):
        background_tasks.add_task(task)


@app.get("/ping")
async def ping(request: Request):
    return request.client.port


@app.get("/def")
def in_pool():
    return "done"


web, service = serve(app), serve(server.app)

# %% lang="en"
guide = Guide()

# %% lang="zh"
guide = Guide(language="zh")

# %% [markdown] lang="en"
# Some tests need a caller that sends and does not wait, and a way to see whether an answer has come.

# %% [markdown] lang="zh"
# 有些实验要一个只发不等的调用方，还要能看一眼响应来了没有。


# %% tags=["app"]
def caller(to):
    return HTTPConnection(to.url.removeprefix("http://"), timeout=30)


def knock(path):
    each = caller(web)
    each.request("GET", path)
    return each


def answered(callers, within=0.1):
    return sum(bool(select([each.sock], [], [], within)[0]) for each in callers)


def release(traces):
    go.set()
    traces.wait()
    go.clear()


# %% [markdown] lang="en"
# ## Section 1
#
# **Guess** for each statement: does it hold, does it hold with a condition, or not? Do the same in
# every section.

# %% [markdown] lang="zh"
# ## 第 1 节
#
# **先猜**：每一条是成立、有条件成立，还是不成立？以下各节都一样。

# %%
guide.section("1")

# %%
server.app.state.work_seconds = 0.05
inline = [service.post("/webhook-test/inline", **delivery("push")).wait() for _ in range(5)]
late = sum(trace.responded > 0.05 for trace in inline)
guide.check("inline", late == 5, late=late, asked=5, seconds=0.05)

# %%
waiting = web.burst("/tasks/held", [{}] * 20)
early = sum(task.finished is None for task in waiting.tasks)
release(waiting)
upload = caller(service)
upload.putrequest("POST", "/webhook-test")
upload.putheader("Content-Length", "2")
upload.endheaders(b"{")
service.get("/ping")  # somebody else is served meanwhile
half = answered([upload])
upload.send(b"}")
upload.getresponse()
guide.check("at-once", early == 20, but=half == 0, answered=early, asked=20, half=half)


# %%
@app.get("/large")
async def large():
    return Response(bytes(32 << 20), background=BackgroundTask(quick))


behind = web.burst("/tasks/quick", [{}] * 20).wait()
after = sum(trace.responded < trace.started for trace in behind)
answer = knock("/large").getresponse()  # the head only
web.traces[-1].wait()
unread = len(answer.read()) >> 20
guide.check("after", after == 20, but=unread > 0, after=after, tasks=20, unread=unread)

# %% [markdown] lang="en"
# **The answer does come first, but "after the response" means after uvicorn was given it to send.**
#
# ## Section 2.1

# %% [markdown] lang="zh"
# **响应确实在先，不过“响应之后”，指的是交给 uvicorn 去发送之后**。
#
# ## 第 2.1 节

# %%
guide.section("2.1")


# %%
@app.post("/count")
async def count(background_tasks: BackgroundTasks):
    before = len(seen)
    for _ in range(3):
        background_tasks.add_task(quick)
    await asyncio.sleep(0.05)  # time to begin, were they to
    return len(seen) - before


# %%
begin = len(seen)
early = int(web.post("/count").wait().body)
ran = len(seen) - begin
guide.check("register", (early, ran) == (0, 3), early=early, ran=ran, tasks=3)


# %%
@app.post("/careless", status_code=202)
async def careless(request: Request, background_tasks: BackgroundTasks):
    try:
        payload = await request.json()
    except Exception:  # as in the guide; `server.py` names what it means
        payload = {"error": "Invalid JSON"}
    background_tasks.add_task(seen.append, payload)


# %%
begin = len(seen)
bodies = b"not JSON", b'{"error": "Invalid JSON"}', iter([bytes(200_000)])
bad, _, over = [web.post("/careless", content=body).wait() for body in bodies]
payload, *alike = seen[begin:]
guide.check(
    "bad-json", "error" in payload, but=alike == [payload] * 2,
    status=bad.status, payload=payload, limit_status=over.status,
)  # fmt: skip


# %%
@app.post("/raised")
async def raised(background_tasks: BackgroundTasks):
    background_tasks.add_task(quick)
    raise HTTPException(400)


ran = sum(task.state == "finished" for task in behind.tasks)
lost = web.burst("/raised", [{}] * 3).wait().tasks
dropped = sum(task.state == "never ran" for task in lost)
guide.check("automatic", ran == 20, but=dropped > 0, ran=ran, tasks=20, dropped=dropped, raised=3)

# %% [markdown] lang="en"
# **The guide's endpoint is as described; what it does not mention is how a task gets lost.**
#
# ## Section 2.2, the diagram

# %% [markdown] lang="zh"
# **指南的端点和它说的一样；它没说的是，任务会怎样丢掉**。
#
# ## 第 2.2 节，流程图

# %%
guide.section("2.2")

# %%
ordered = sum(trace.tasks[0].added < trace.responded < trace.started for trace in behind)
guide.check("diagram-order", ordered == 20, ordered=ordered, tasks=20)

# %%
begin = len(seen)
calls = web.burst("/tasks/quick", [{}] * 20).wait()
inside = sum(trace.responded < trace.finished <= trace.returned for trace in calls)
here = sum(pid == web.pid for _, pid in seen[begin:])
guide.check("queue", inside < 20, inside=inside, here=here, tasks=20)

# %%
first = web.post("/tasks/held")
further = [web.get("/ping") for _ in range(5)]
reused = sum(trace.body == first.body for trace in further if first.tasks[0].open)
release(first)
guide.check("connection", reused == 0, reused=reused, asked=5)

# %% [markdown] lang="en"
# **No queue, and no closed connection.** The call that answered goes on to work, and the same connection
# carries the next request.
#
# ## Section 2.3

# %% [markdown] lang="zh"
# **没有队列，连接也没有断开**。返回响应的那次调用接着执行任务，同一条连接继续传下一个请求。
#
# ## 第 2.3 节

# %%
guide.section("2.3")

# %%
several = web.burst("/tasks/" + ",".join(["quick"] * 8), [{}] * 5).wait()
pairs = [pair for trace in several for pair in zip(trace.tasks, trace.tasks[1:])]
ordered = sum(one.finished <= other.started for one, other in pairs)
guide.check("series", ordered == len(pairs) == 35, ordered=ordered, pairs=len(pairs))

# %%
good = web.burst("/tasks/quick,quick", [{}] * 3).wait()
poor = web.burst("/tasks/failing,quick", [{}] * 3).wait()
ran, skipped = (
    sum(trace.tasks[1].state == state for trace in traces)
    for traces, state in ((good, "finished"), (poor, "never ran"))
)
guide.check("next", ran == 3, but=skipped > 0, ran=ran, tasks=3, skipped=skipped, failures=3)

# %% [markdown] lang="en"
# **In series, as long as no task fails.**
#
# ## Section 3.1, the comparison

# %% [markdown] lang="zh"
# **确是串行，只要没有谁出错**。
#
# ## 第 3.1 节，对比表

# %%
guide.section("3.1")


# %% tags=["app"]
def dependency(background_tasks: BackgroundTasks):
    background_tasks.add_task(quick)


@app.post("/injected")
async def injected(background_tasks: BackgroundTasks, _=Depends(dependency)):
    background_tasks.add_task(quick)


@app.post("/own")
async def own(background_tasks: BackgroundTasks):
    background_tasks.add_task(quick)
    return Response(background=BackgroundTask(quick_async))


# %%
ran = sum(task.state == "finished" for task in web.post("/injected").wait().tasks)
dropped = sum(task.state == "never ran" for task in web.post("/own").wait().tasks)
guide.check("injected", ran == 2, but=dropped > 0, ran=ran, tasks=2, dropped=dropped)

# %% [markdown] lang="en"
# Signals, and memory further down, need servers with processes of their own.

# %% [markdown] lang="zh"
# 信号，以及后面的内存，要用有自己进程的服务器。

# %% tags=["app"]
alone = FastAPI()


async def keep(body):
    await asyncio.sleep(60)


@alone.post("/both", status_code=202)
async def both(background_tasks: BackgroundTasks):
    background_tasks.add_task(time.sleep, 0.5)
    threading.Thread(target=time.sleep, args=(10,)).start()


@alone.post("/task", status_code=202)
async def hold_task(request: Request, background_tasks: BackgroundTasks):
    background_tasks.add_task(keep, await request.body())


@alone.post("/thread", status_code=202)
async def hold_thread():
    threading.Thread(target=time.sleep, args=(60,)).start()


@alone.get("/memory")
async def memory():
    taken = psutil.Process().memory_info()
    return {"memory": taken.rss / 1024, "space": taken.vms / 1024}


# %%
ended = serve(alone, on="process")
for _ in range(3):
    ended.post("/both")
ended.traces.wait_started()
ended.signal(SIGTERM)
ended.join()

# %%
work = ended.traces.wait().tasks
done = [task.runner for task in work if task.state == "finished"]
by_tasks, by_threads = done.count("background"), done.count("thread")
guide.check("by-hand", (by_tasks, by_threads) == (3, 0), tasks=by_tasks, threads=by_threads)

# %%
begin = len(seen)
kinds = web.burst("/tasks/quick,quick_async", [{}] * 5).wait()
where = [[task.where for task in trace.tasks] for trace in kinds]
pool = sum(place.startswith("thread") for place, _ in where)
loop = sum(place == "loop" for _, place in where)
guide.check("loop-or-pool", pool == loop == 5, pool=pool, loop=loop, tasks=5)

# %%
saw = sum(name == "ada" for name, _ in seen[begin:])
begin = len(seen)
for path in ("/def-handler", "/def-dependency"):
    web.post(path).wait()
unseen = sum(name == "nobody" for name, _ in seen[begin:])
guide.check("bound", saw == 10, but=unseen > 0, saw=saw, tasks=10, unseen=unseen, others=4)

# %%
begin = len(seen)
started = web.post("/threads/" + ",".join(["quick"] * 10)).wait()
distinct = len({task.where for task in started.tasks})
saw = sum(name == "ada" for name, _ in seen[begin:])
guide.check("own-thread", (distinct, saw) == (10, 0), distinct=distinct, saw=saw, threads=10)

# %%
row = web.post("/tasks/" + ",".join(["quick"] * 20)).wait()
busy = web.burst("/tasks/held", [{}] * 20).wait_started()
release(busy)
used, holding = (len({task.where for task in each.tasks}) for each in (row, busy))
guide.check("reuse", used < 20, but=holding == 20, tasks=20, used=used, waiting=20, held=holding)

# %%
idle = serve(alone, on="process")


def each_holds(path, pieces, **options):
    """What each of so many waiting pieces of work adds to the server, in KiB."""
    before = json.loads(idle.get("/memory").body)
    idle.burst(path, [options] * pieces).wait_started()
    after = json.loads(idle.get("/memory").body)
    return {name: max(0, after[name] - before[name]) / pieces for name in before}


# %%
each_holds("/task", 50)  # the first ones pay for what the server sets up once
task, thread = each_holds("/task", 250), each_holds("/thread", 250)
guide.check(
    "thread-cost", thread["space"] > task["space"] + 64, but=thread["memory"] < 2 * task["memory"],
    task_space=task["space"], thread_space=thread["space"],
    task_memory=task["memory"], thread_memory=thread["memory"],
)  # fmt: skip

# %%
ten = web.post("/tasks/" + ",".join(["held"] * 10))
Traces([ten]).wait_started()
most = sum(task.started is not None for task in ten.tasks)
release(ten)
met = sum(task.state == "finished" for task in web.burst("/tasks/meet", [{}] * 10).wait().tasks)
guide.check("one-by-one", most == 1, but=met > 1, most=most, met=met)


# %%
def processors(pool, work="lab.lessons.crunch.crunch()", pieces=4):
    """How many processors so many computing pieces of work used, on average."""
    begin = time.perf_counter()
    compute = partial(timeit, work, "import zlib, lab.lessons.crunch", time.thread_time)
    return sum(pool.map(compute, [1] * pieces)) / (time.perf_counter() - begin)


with ThreadPoolExecutor(4) as pool:
    in_threads = processors(pool)
in_ten = web.post("/threads/" + ",".join(["meet"] * 10)).wait()
met_threads = sum(task.state == "finished" for task in in_ten.tasks)
guide.check("together", met_threads == 10 and in_threads < 1.5, met=met_threads, cores=in_threads)


# %%
def others(work, within):
    """How many of three other callers are answered while some work is going on."""
    trace = web.post(f"/tasks/{work}")
    Traces([trace]).wait_started()
    callers = [knock("/ping") for _ in range(3)]
    count = answered(callers, within)
    release(trace)
    return count


# %%
free = {work: others(work, within=10) for work in ("held", "held_async")}
free["blocking"] = others("blocking", within=0.1)
guide.check(
    "light", free["held_async"] == 3, but=free["blocking"] < 3,
    free=free["held_async"], blocked=free["blocking"], asked=3,
)  # fmt: skip

# %%
with ProcessPoolExecutor(2, get_context("spawn")) as pool:
    processors(pool)  # the first round starts its processes
    pids = [pool.submit(os.getpid).result() for _ in range(10)]
    in_processes = processors(pool)
with ThreadPoolExecutor(2) as pool:
    released = max(processors(pool, "zlib.compress(bytes(2**25))", 2) for _ in range(3))
    compressing, turns = pool.submit(zlib.compress, bytes(2**25)), 0
    while not compressing.done():
        turns += 1  # a few, did that call keep the GIL
        time.sleep(0.001)

# %%
guide.check(
    "cpu-threads", turns > 20, but=in_threads < 1.5, turns=turns,
    released=released, threads=in_threads, processes=in_processes,
)  # fmt: skip

# %%
failed = web.post("/tasks/failing,quick").wait()
by_uvicorn = sum("uvicorn" in line for line in failed.log)
framework = len(failed.log) - by_uvicorn
later = sum(task.state == "finished" for task in failed.tasks[1:])
guide.check(
    "caught", framework > 0 or bool(handled), framework=framework, uvicorn=by_uvicorn,
    handled=len(handled), later=later, tasks=1,
)  # fmt: skip


# %%
@app.get("/neighbour")
async def neighbour():
    go.set()  # now the task fails
    await asyncio.sleep(1)


failing_soon = web.post("/tasks/held_failing")
cut = int(web.get("/neighbour").error is not None)
release(failing_soon)
served = sum(web.get("/ping").status == 200 for _ in range(5))
guide.check("survives", served == 5, but=cut > 0, served=served, cut=cut, asked=5)

# %%
with redirect_stderr(StringIO()) as stderr:
    silent = web.post("/threads/failing").wait()
    threads[-1].join()
shown = len(stderr.getvalue().splitlines())
guide.check(
    "thread-silent", (silent.status, silent.log) == (202, []), but=shown > 0,
    status=silent.status, lines=len(silent.log), shown=shown,
)  # fmt: skip

# %% [markdown] lang="en"
# **Remember who catches what:** nobody catches a task's exception; uvicorn only notices it and closes
# the connection, which cuts off other requests on it.
#
# ## Section 3.2, the recommendations

# %% [markdown] lang="zh"
# **最该记住的是谁来捕获异常**：任务的异常没有人捕获，uvicorn 只是发现了它，随即关闭连接，旁人也受牵连。
#
# ## 第 3.2 节，什么时候用哪个

# %%
guide.section("3.2")

# %%
inbox = Inbox()
by_mail = service.post("/send-email", params={"email": "ada@example.com"}).wait()
letters = len(inbox.messages)
inbox.stop()
os.environ |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": "1"}  # where no mail server is
nowhere = service.post("/send-email", params={"email": "ada@example.com"}).wait()
del os.environ["SMTP_HOST"], os.environ["SMTP_PORT"]
guide.check(
    "mail", letters == 1, but=nowhere.body == by_mail.body, letters=letters, sent=1,
    status=nowhere.status, state=nowhere.tasks[0].state,
)  # fmt: skip

# %%
hooks = service.burst("/webhook-test", [delivery("push") for _ in range(20)]).wait()
accepted = sum(trace.status == 202 for trace in hooks)
logged = sum(any("Received payload" in line for line in trace.log) for trace in hooks)
guide.check("webhook", accepted == logged == 20, accepted=accepted, logged=logged, sent=20)

# %%
cached = web.post("/tasks/update")
before = cache["answer"]
release(cached)
after = cache["answer"]
guide.check("cache", after == "new", but=before == "old", before=before, after=after)

# %%
begin = len(seen)
web.burst("/tasks/call", [{}] * 3).wait()
replies = sum(reply.isdigit() for reply in seen[begin:])
guide.check("api", replies == 3, answered=replies, calls=3)

# %%
full = web.burst("/tasks/held", [{}] * 40, at_once=40).wait_started()
queued = web.burst("/tasks/held", [{}] * 20)
callers = [knock("/def") for _ in range(3)]
web.get("/ping")  # an `async def` endpoint needs no thread
stuck = answered(callers)
release(Traces(full + queued))
by_thread = web.burst("/threads/held", [{}] * 60).wait_started()
release(by_thread)

# %%
capped = len({task.where for task in full.tasks + queued.tasks})
started = len({task.where for task in by_thread.tasks})
guide.check(
    "not-too-many", capped < started == 60, but=stuck < 3,
    asked=60, used=capped, started=started, answered=stuck, callers=3,
)  # fmt: skip

# %%
one_task, *ten_pieces = web.post("/tasks/gathered").wait().tasks
met_gathered = sum(piece.state == one_task.state == "finished" for piece in ten_pieces)
guide.check(
    "ten", (met_threads, most) == (10, 1), but=met_gathered == 10,
    threads=met_threads, tasks=most, gathered=met_gathered,
)  # fmt: skip

# %%
guide.check("blocks-loop", free["held"] < 3, free=free["held"], blocked=free["blocking"], asked=3)

# %%
leaving = caller(web)
leaving.request("POST", "/tasks/held")
leaving.getresponse().read()
leaving.close()
left_behind = web.traces[-1]
release(left_behind)
finished = sum(task.state == "finished" for task in left_behind.tasks)
lost = [task.runner for task in work if task.state == "lost"]
guide.check(
    "outlives", finished == 0, finished=finished, tasks=1,
    lost_tasks=lost.count("background"), lost_threads=lost.count("thread"),
)  # fmt: skip

# %%
elsewhere = sum(pid != web.pid for pid in pids)
guide.check("processes", elsewhere == 10, elsewhere=elsewhere, asked=10, cores=in_processes)

# %% [markdown] lang="en"
# **Most of the reasons given for threads are reasons for something else**: for `asyncio.gather`, for
# processes, for a queue.
#
# ## Sections 3.3 and 4, the code and the summary

# %% [markdown] lang="zh"
# **指南推荐线程的理由，多半其实指向别的方案**：`asyncio.gather`、进程、任务队列。
#
# ## 第 3.3 节和第 4 节，代码与总结

# %%
guide.section("3.3")

# %%
guide.section("4")

# %%
own_threads = web.burst("/threads/held", [{}] * 10)
web.get("/ping")
over = sum(
    trace.returned is not None and task.open for trace, task in zip(own_threads, own_threads.tasks)
)
release(own_threads)
early = sum(trace.started < trace.responded for trace in own_threads)
guide.check("unmanaged", over == 10, over=over, early=early, threads=10)

# %%
memory_client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab")
begin = len(seen)
await memory_client.post("/tasks/quick,quick,quick")
effects = len(seen) - begin

# %%
try:
    await memory_client.post("/tasks/failing")
    raised = False
except Exception:
    raised = True
guide.check(
    "testable", effects == 3, but=raised, effects=effects, tests=3, status=failed.status
)  # fmt: skip

# %%
with_body = each_holds("/task", 30, content=bytes(1 << 20))["memory"]
guide.check(
    "few-resources", task["memory"] < 100, but=with_body > 512,
    alone=task["memory"], with_body=with_body,
)  # fmt: skip

# %%
idle.signal(SIGKILL)
idle.join()
pending = [trace for trace in idle.traces if trace.path == "/task" and trace.status == 202]
finished = sum(task.state == "finished" for task in Traces(pending).tasks)
accepted = len(pending)
guide.check("only-extreme", finished == accepted, accepted=accepted, finished=finished)

# %% [markdown] lang="en"
# ## The whole guide

# %% [markdown] lang="zh"
# ## 整份指南

# %% tags=["key-figure"]
guide

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
assert "not checked" not in guide.verdicts.values()

# %% [markdown] lang="en"
# **What we saw**
#
# - Most of the guide holds, much of it with a condition that it does not mention.
# - What does not hold: the queue in its diagram, the closed connection, the caught exception, the
#   blocked loop, threads for long work, that a queue is rarely needed.
# - A tested statement must name the versions, and the server, that it was tested with.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 指南大部分成立，但不少都带着一个它没提的条件。
# - 不成立的有：图里的后台任务队列，断开的连接，被捕获的异常，被阻塞的事件循环，用线程做长时间任务，很少用得着任务队列。
# - 一条说法核对过，就要写明是对着哪些版本、哪个服务器核对的。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Turn one verdict by changing one thing: let the callers send `Connection: close`, and check
# `"connection"` again.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 只改一处，让一个结论翻过来：让调用方发 `Connection: close`，再核对一次 `"connection"`。

# %% tags=["solution"]
closing = {"Connection": "close"}
first = web.post("/tasks/quick", headers=closing).wait()
further = [web.get("/ping", headers=closing) for _ in range(5)]
reused = sum(trace.body == first.body for trace in further)
guide.check("connection", reused == 0, reused=reused, asked=5)

# %%
check(turned=lambda: guide.verdicts["connection"] == "holds")

# %% [markdown] lang="en"
# **2.** Take a sentence that can be tested from your own team's documentation. Write it as a
# `Statement`, and its test; call its guide `ours`.

# %% [markdown] lang="zh"
# **2.** 从你们团队自己的文档里找一句可以检验的话，写成一个 `Statement`，再写出它的实验；它所在的指南就叫 `ours`。

# %% tags=["solution"]
says, told = Text("Our service refuses a body of 2 MiB."), Text("Status {status}.")
ours = Guide([Statement("limit", "README", "", says, told)])
refused = service.post("/webhook-test", content=bytes(2 << 20))
ours.check("limit", refused.status == 413, status=refused.status)

# %%
check(tested=lambda: "not checked" not in ours.verdicts.values())

# %% [markdown] lang="en"
# **In practice.** Documentation ages with every release of what it describes. Keep the tests of its
# statements beside it, run them when a version changes, and let the verdicts turn by themselves.
#
# Next: try it all at once in the [playground](playground.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：所描述的软件每出一个新版本，文档就旧一点。把检验它的实验和它放在一起，版本一变就跑一遍，让结论自己翻过来。
#
# 接下来：到[试验场](playground.ipynb)里放在一起玩一玩
