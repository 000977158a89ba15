# %% [markdown] lang="en"
# # 4. Compare background tasks with threads and processes
#
# **Do** the same work in background tasks, threads, a process pool and on the loop. **Learn** what each
# is good for, and what each costs. **Need** lesson 3.

# %% [markdown] lang="zh"
# # 4. 后台任务与线程、进程的比较
#
# **动手**：同样的工作，分别交给后台任务、线程、进程池和事件循环。**收获**：知道各自适合什么，
# 各自要付什么代价。**前置**：第 3 课。

# %% tags=["app"]
import asyncio
import json
import os
import random
import sys
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from statistics import median
from subprocess import PIPE, Popen

import httpx
import pandas as pd
import psutil
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.background import BackgroundTask

from lab import Inbox, check, heartbeat, serve, timeline
from lab.lessons.crunch import crunch

# %% [markdown] lang="en"
# ## The guide's e-mail, both ways
#
# `Inbox` is a real mail server on this machine. **Guess:** in which of the two does the work begin
# *before* the answer has left?

# %% [markdown] lang="zh"
# ## 指南里的发邮件，两种写法
#
# `Inbox` 是本机上一台真正的邮件服务器。**先猜**：哪种写法，在响应发出之前就开始发邮件了？

# %%
inbox = Inbox()
mail = serve("server:app", on="process")
task = mail.post("/send-email", params={"email": "ada@example.com"})
thread = mail.post("/send-email/thread", params={"email": "grace@example.com"})
timeline([task.wait(), thread.wait()])

# %%
inbox

# %%
order = {"task": task, "thread": thread}
{
    way: [round(at, 4) for at in (each.responded, each.tasks[0].started)]
    for way, each in order.items()
}

# %% [markdown] lang="en"
# **A thread begins when it is started, in the handler, while the response is still to come.** A task
# begins afterwards. Both letters arrived: read "Email sent" as "will be sent, I hope".

# %% [markdown] lang="zh"
# **线程一启动就开始，那时还在处理函数里，响应还没有发出**。后台任务则在响应之后开始。两封信都到了；所谓 “Email sent”，
# 该读作“但愿会发出去”。

# %% [markdown] lang="en"
# ## Ten pieces of work, five ways
#
# Each takes 0.1 s. **Guess** for each way: when is the caller answered, when are all ten done?
#
# Wherever this lesson compares ways, it runs them in an order drawn anew in each run, so that a warm-up,
# or a machine that gets busier, is not taken for a difference between them. Set `seed` to the number
# shown to repeat it.

# %% [markdown] lang="zh"
# ## 十项工作，五种办法
#
# 每项 0.1 秒。**先猜**：每种办法，调用方何时收到响应，十项何时全部做完？
#
# 这一课凡是比较几种办法，先后顺序每次运行都随机打乱，免得把预热、或机器忙闲的变化误当成办法之间的差别；想重现某次的顺序，
# 把 `seed` 设成那次显示的数。


# %% tags=["app"]
@asynccontextmanager
async def lifespan(app):
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ping")
async def ping():
    return "pong"


@app.post("/sequential")
async def sequential(background_tasks: BackgroundTasks):
    for _ in range(10):
        background_tasks.add_task(time.sleep, 0.1)


@app.post("/threads")
async def threads():
    for _ in range(10):
        threading.Thread(target=time.sleep, args=(0.1,)).start()


@app.post("/processes")
async def processes():
    for _ in range(10):
        app.state.pool.submit(time.sleep, 0.1)


async def all_together():
    await asyncio.gather(*(asyncio.sleep(0.1) for _ in range(10)))


@app.post("/gather")
async def gather(background_tasks: BackgroundTasks):
    background_tasks.add_task(all_together)


kept = set()


@app.post("/create_task")
async def create_task():
    for _ in range(10):
        running = asyncio.create_task(asyncio.sleep(0.1))
        kept.add(running)  # the loop itself keeps only a weak reference
        running.add_done_callback(kept.discard)


web = serve(app, on="process")

# %%
ways = ("sequential", "threads", "processes", "gather", "create_task")
seed = random.randrange(1000)
drawn = random.Random(seed).sample(ways, len(ways))
print(f"{seed=}")

# %%
ten = {way: web.post(f"/{way}").wait() for way in drawn}
pd.DataFrame(
    {way: (ten[way].answered, ten[way].finished) for way in ways},
    index=["answered", "finished"],
).T.round(3)

# %% [markdown] lang="en"
# **Threads, `gather` and `create_task` finish together, tasks one after another, a pool as many at a time
# as it has processes.** The answer is early in all of them.

# %% [markdown] lang="zh"
# **线程、`gather`、`create_task` 都是一起做完，后台任务一个接一个，进程池有几个进程就同时做几项**。响应在每一种里都很早。

# %%
timeline(ten["sequential"])

# %%
timeline(ten["processes"])

# %% [markdown] lang="en"
# ## Work for the processor
#
# Sleeping is easy to do together. `crunch` computes, in pure Python. The guide recommends threads for
# such work. **Guess:** four of them, in tasks, in threads, in processes: which is fastest, and how long
# does another caller wait meanwhile?

# %% [markdown] lang="zh"
# ## 计算任务
#
# 一起 sleep 很容易，`crunch` 却是真的在算。指南推荐用线程做这种工作。**先猜**：四份计算，放在后台任务里、线程里、进程里，
# 哪个最快？这期间别的调用方感觉如何？


# %% tags=["app"]
@app.post("/crunch/tasks/{number}")
async def crunch_in_tasks(number: int, background_tasks: BackgroundTasks):
    for _ in range(number):
        background_tasks.add_task(crunch)


@app.post("/crunch/threads/{number}")
async def crunch_in_threads(number: int):
    for _ in range(number):
        threading.Thread(target=crunch).start()


@app.post("/crunch/processes/{number}")
async def crunch_in_processes(number: int):
    for _ in range(number):
        app.state.pool.submit(crunch)


web = serve(app, on="process")
places = ("tasks", "threads", "processes")
cases = [(way, number) for way in places for number in (1, 2, 4)]
seed = random.randrange(1000)
drawn = random.Random(seed).sample(cases, len(cases))
print(f"{seed=}")

# %%
computed, beats = {}, {}
for way, number in drawn:
    with web.heartbeat() as beats[way, number]:
        computed[way, number] = web.post(f"/crunch/{way}/{number}").wait(60)

# %%
pd.DataFrame(
    {case: (computed[case].answered, computed[case].finished) for case in cases},
    index=["answered", "finished"],
).T.unstack(sort=False).round(3)

# %%
heartbeat(**{way: beats[way, 4] for way in places})

# %% [markdown] lang="en"
# **In pure Python, on a build with a GIL, four threads take as long as four tasks: one computes at a time.
# They even delay the answer, and everyone else's. Processes use the other processors**, as long as one is
# free.
#
# Much heavy work is not pure Python: a C library can release the GIL. **Guess:** two pieces of work,
# one thread or two. Whom does the second thread help: `crunch`, or `zlib.compress`?

# %% [markdown] lang="zh"
# **纯 Python 的计算，在带 GIL 的 Python 上，四个线程和四个任务花的时间一样：同一时刻只有一个在算；还会拖慢响应，
# 自己的和别人的都拖。进程才用得上其他 CPU 核**，前提是有核空着：机器一忙，也省不了多少时间。
#
# 但很多繁重的工作不是纯 Python：C 语言写的库可以释放 GIL。**先猜**：两份同样的工作，用一个线程还是两个线程？
# 多一个线程，对 `crunch` 有用吗？对 `zlib.compress` 呢？

# %%
data, packed = os.urandom(4 << 20), []


def compress():
    packed.append(zlib.compress(data))


def seconds(work, threads):
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        pool.submit(work)
        pool.submit(work)
    return time.perf_counter() - begin


# %%
pairs = [(work, threads) for work in (crunch, compress) for threads in (1, 2)]
seed = random.randrange(1000)
took = {pair: [] for pair in pairs}
for work, threads in random.Random(seed).sample(pairs * 3, len(pairs) * 3):
    took[work, threads].append(seconds(work, threads))
print(f"{seed=}")
fastest = {(work.__name__, threads): min(took[work, threads]) for work, threads in pairs}
pd.Series(fastest).rename_axis(["work", "threads"]).unstack(sort=False).round(3)

# %% [markdown] lang="en"
# **With a GIL, a second thread brings nothing to pure Python, but it helps work that releases the GIL**
# (if a processor is free). Compression, hashing and much image processing do; a video converter is a
# process of its own, and a thread only waits for it. For such work the guide is right about threads.

# %% [markdown] lang="zh"
# **有 GIL 时，多一个线程对纯 Python 毫无用处；对会释放 GIL 的工作却有用**（前提是有 CPU 核空着）。压缩、求哈希、许多图像处理都属于后者；
# 视频转码多半是另起一个进程，线程只是等着它。这些场合，指南推荐的线程没有错。

# %% [markdown] lang="en"
# A pool has another side, too. Here a small program starts one worker, as a server with a pool does, and
# is killed. **Guess:** what becomes of the worker?

# %% [markdown] lang="zh"
# 进程池还有另一面。下面这个小程序像带进程池的服务器那样，启动了一个 worker，然后被杀掉。**先猜**：那个 worker 会怎样？

# %%
program = """
import os
from concurrent.futures import ProcessPoolExecutor
pool = ProcessPoolExecutor(1)
print(pool.submit(os.getpid).result(), flush=True)
input()
"""

# %%
with Popen([sys.executable, "-c", program], stdin=PIPE, stdout=PIPE) as owner:
    worker = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
gone, orphans = psutil.wait_procs([worker], timeout=0.5)
print(f"{len(gone)} gone, {len(orphans)} still there")
worker.kill()

# %% [markdown] lang="en"
# **It is still there, and waits for ever for work.** SIGKILL left its owner no time to end it. The lab ends
# such workers together with their server; in production that is up to you, or to the container.

# %% [markdown] lang="zh"
# **它还在：成了孤儿进程，一直等着不会再来的任务**。SIGKILL 没给主进程留下收拾的机会。在这个实验室里，服务器一停，这样的 worker
# 也会一并结束；到了生产环境，就得靠你自己或者容器了。

# %% [markdown] lang="en"
# ## What a thousand waiting pieces of work cost
#
# The guide calls threads expensive and tasks cheap. **Guess:** a thousand pieces of work wait for a
# signal, half of them as async tasks, half as threads: how much memory does each hold?

# %% [markdown] lang="zh"
# ## 一千个等待中的任务占多少内存
#
# 指南说线程贵、任务便宜。**先猜**：一千项工作都在等一个信号，一半是异步任务，一半是线程，每项各占多少内存？


# %% tags=["app"]
@asynccontextmanager
async def signals(app):
    app.state.tasks_go, app.state.threads_go = asyncio.Event(), threading.Event()
    yield


waiting = FastAPI(lifespan=signals)


@waiting.post("/task")
async def hold_task(background_tasks: BackgroundTasks):
    background_tasks.add_task(waiting.state.tasks_go.wait)


@waiting.post("/thread")
async def hold_thread():
    threading.Thread(target=waiting.state.threads_go.wait).start()


@waiting.get("/memory")
async def memory():
    taken = psutil.Process().memory_info()
    return {"RSS": taken.rss / 1024, "address space": taken.vms / 1024}


@waiting.post("/go")
async def go():
    waiting.state.tasks_go.set()
    waiting.state.threads_go.set()


# %%
def held(way):
    server = serve(waiting, on="process")
    before = pd.Series(json.loads(server.get("/memory").body))
    pieces = server.burst(f"/{way}", [{}] * 500).wait_started()
    after = pd.Series(json.loads(server.get("/memory").body))
    server.post("/go")
    pieces.wait(60)
    return (after - before) / len(pieces)


with ThreadPoolExecutor() as pool:  # both servers at once
    by_way = dict(zip(("task", "thread"), pool.map(held, ("task", "thread"))))
pd.DataFrame(by_way).round(1)  # KiB for each piece

# %% [markdown] lang="en"
# And the start itself: from the call until a `def` that does nothing has run, in microseconds. A single
# time is mostly chance; the median of many is not.

# %% [markdown] lang="zh"
# 再看启动本身：一个什么也不做的 `def`，从调用到跑完要多少微秒。单独一次多半是碰巧，许多次的中位数才说明问题。


# %%
async def run_task():
    await BackgroundTask(int)()


async def run_thread():
    started = threading.Thread(target=int)
    started.start()
    started.join()


# %%
async def microseconds(start):
    begin = time.perf_counter()
    await start()
    return (time.perf_counter() - begin) * 1e6


starts = [(await microseconds(run_task), await microseconds(run_thread)) for _ in range(500)]
dict(zip(("task", "thread"), (round(median(each)) for each in zip(*starts))))

# %% [markdown] lang="en"
# **In memory they cost about the same; a thread reserves far more address space, and no limit caps the
# number of threads.** A waiting task is not free: it keeps its whole request alive. Nor is a sync task
# quicker to start: it is handed to a thread too, and its end is handed back.

# %% [markdown] lang="zh"
# **实际占用的内存两者差不多；线程多占的是虚拟地址空间，而且线程数没有上限**。等待中的任务也有代价：它让整个请求都留在内存里。
# 同步任务启动也不更快：它同样要交给一个线程，做完还要再交回来。

# %% [markdown] lang="en"
# ## Does the context follow?
#
# A context variable is set by a handler or by a dependency, each once as `async def` and once as `def`.
# **Guess:** in which of the four cases is its value seen by a `def` task, by an `async def` task, by a
# thread?

# %% [markdown] lang="zh"
# ## 上下文会跟过去吗
#
# 设一个上下文变量：由处理函数来设，或由它的依赖来设，两者各写成 `async def` 和 `def`。**先猜**：
# 这四种情况下，`def` 任务、`async def` 任务、线程，谁看得见它的值？

# %% tags=["app"]
travel = FastAPI()
user = ContextVar("user", default="nobody")
seen = {}


def look(case, who):
    seen[case, who] = user.get()


async def look_on_loop(case):
    look(case, "async def task")


def leave_work(case, background_tasks):
    threading.Thread(target=look, args=(case, "thread")).start()
    background_tasks.add_task(look, case, "def task")
    background_tasks.add_task(look_on_loop, case)


def set_user():
    user.set("ada")


async def set_user_on_loop():
    user.set("ada")


@travel.post("/async-handler")
async def async_handler(background_tasks: BackgroundTasks):
    user.set("ada")
    leave_work("async def handler", background_tasks)


@travel.post("/async-dependency", dependencies=[Depends(set_user_on_loop)])
async def after_async_dependency(background_tasks: BackgroundTasks):
    leave_work("async def dependency", background_tasks)


@travel.post("/def-handler")
def def_handler(background_tasks: BackgroundTasks):
    user.set("ada")
    leave_work("def handler", background_tasks)


@travel.post("/def-dependency", dependencies=[Depends(set_user)])
async def after_def_dependency(background_tasks: BackgroundTasks):
    leave_work("def dependency", background_tasks)


traveller = serve(travel)
for case in ("async-handler", "async-dependency", "def-handler", "def-dependency"):
    traveller.post(f"/{case}").wait()
by_case = pd.Series(seen).unstack(sort=False)
by_case

# %% [markdown] lang="en"
# **A task sees what an `async def` has set, not what a `def` has: that ran in a thread, with a copy of
# the context. A plain thread sees neither.** (Newer Pythons may hand the context on to threads.)
#
# And a task that calls another API? That is ordinary code:

# %% [markdown] lang="zh"
# **任务看得见 `async def` 设的值，看不见 `def` 设的：`def` 在线程里运行，拿到的只是上下文的一份副本。普通线程两种
# 都看不见**。（较新的 Python 可能会把上下文传给线程。）
#
# 那么，在任务里调用别的 API 呢？就是普通的代码：


# %%
replies = []


def call_api(url):
    replies.append(httpx.get(url, trust_env=False).json())


@travel.post("/call")
async def call(url: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(call_api, url)


journey = traveller.post("/call", params={"url": f"{web.url}/ping"}).wait()
replies, journey.tasks[0].where

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
assert task.responded < task.tasks[0].started
assert ten["threads"].started < ten["threads"].responded
assert sorted(letter["To"] for letter in inbox.messages) == ["ada@example.com", "grace@example.com"]
states = {task.state for each in ten.values() for task in each.tasks}
assert states == {"finished"}
assert len({task.where for task in ten["threads"].tasks}) > 1
assert len({task.where for task in ten["processes"].tasks}) <= 2
assert orphans == [worker] and not gone
one_by_one = computed["tasks", 4].tasks
assert all(a.finished <= b.started for a, b in zip(one_by_one, one_by_one[1:]))
assert len(packed) == 12 and all(zlib.decompress(piece) == data for piece in packed)

# %%
tasks_saw = by_case[["def task", "async def task"]].T
assert (tasks_saw[["async def handler", "async def dependency"]] == "ada").all(axis=None)
assert (tasks_saw[["def handler", "def dependency"]] == "nobody").all(axis=None)
assert replies == ["pong"]

# %% [markdown] lang="en"
# **What we saw**
#
# - A thread starts before the answer leaves, a task after it.
# - Threads do not speed up computing in pure Python (with a GIL), processes do; for work that releases
#   the GIL, threads help too.
# - A task sees the context that an `async def` has set, not that of a `def`.
# - Tasks are not cheaper in memory than threads; they are ordered and limited, and uvicorn waits for them.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 线程在响应发出之前就开始，后台任务在那之后。
# - 纯 Python 的计算，线程毫无用处（有 GIL 时），进程才管用；会释放 GIL 的工作，线程也管用。
# - 任务看得见 `async def` 设的上下文，看不见 `def` 设的。
# - 后台任务并不比线程省内存；它的好处是有顺序、有上限、停机时 uvicorn 会等它。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Run ten sleeps in *one* sync task, side by side, at most five at a time: which pool of the
# standard library can do that? Call your request `pooled`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 在一个同步任务里让十次 sleep 并行，同时最多五个：标准库里哪个池能做到？你的请求就叫 `pooled`。


# %% tags=["solution"]
def five_at_a_time():
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(time.sleep, [0.1] * 10))


@travel.post("/five")
async def five(background_tasks: BackgroundTasks):
    background_tasks.add_task(five_at_a_time)


pooled = traveller.post("/five")
timeline(pooled)


# %%
def of(runner):
    return [task for task in pooled.wait().tasks if task.runner == runner]


check(
    one_task=lambda: len(of("background")) == 1,
    ten_pieces=lambda: len(of("executor")) == 10,
    five_at_a_time=lambda: len({piece.where for piece in of("executor")}) <= 5,
)

# %% [markdown] lang="en"
# **2.** Pass the context on to a thread with `contextvars.copy_context().run`. Start `look` that way,
# with the arguments `"carried"` and `"thread"`, so that it sees "ada".

# %% [markdown] lang="zh"
# **2.** 把上下文交给线程：用 `contextvars.copy_context().run` 来启动 `look`，参数是 `"carried"` 和 `"thread"`，
# 让它看到 “ada”。

# %% tags=["solution"]
from contextvars import copy_context


@travel.post("/carried")
async def carried():
    user.set("ada")
    context = copy_context()
    threading.Thread(target=context.run, args=(look, "carried", "thread")).start()


traveller.post("/carried").wait()
seen["carried", "thread"]

# %%
check(thread_sees_it=lambda: seen["carried", "thread"] == "ada")

# %% [markdown] lang="en"
# **In practice.** Background tasks for short work that may wait its turn; `gather` or a thread pool inside
# one task for things to do together; processes for computing in pure Python; a queue for what must not be
# lost.
#
# Next: [5. When a task fails](05_when_a_task_fails.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：短小、可以排队的工作用后台任务；要一起做的，在一个任务里用 `gather` 或线程池；纯 Python 的计算用进程；
# 不能丢的交给任务队列。
#
# 下一课：[5. 任务出错时](05_when_a_task_fails.ipynb)
