# %% [markdown] lang="en"
# # 7. Put the server under load
#
# **Do** raise the rate of requests from 25 % to 150 % of the server's capacity. **Learn** what grows,
# what does not, and where the knee is. **Need** lesson 3.

# %% [markdown] lang="zh"
# # 7. 给服务器加压
#
# **动手**：把请求的速率从服务器处理能力的 25 % 一路加到 150 %。**收获**：知道什么在增长，什么不变，
# 拐点在哪里。**前置**：第 3 课。

# %% tags=["app"]
import asyncio
import time
from contextlib import asynccontextmanager

import anyio.to_thread
import pandas as pd
from fastapi import BackgroundTasks, FastAPI

from lab import Traces, backlog, check, delivery, knee, poisson, serve
from lab.figures.knees import waits

# %% [markdown] lang="en"
# Four threads, and tasks of 40 ms: that makes at most 100 tasks a second. Every few milliseconds the
# app itself counts the tasks in the limiter.

# %% [markdown] lang="zh"
# 四个线程，每个任务 40 毫秒：一秒最多 100 个。应用每隔几毫秒自己数一次：容量限制器里有多少任务。

# %% tags=["app"]
levels = []


async def sample(limiter):
    while True:
        counted = limiter.statistics()
        levels.append(counted.borrowed_tokens + counted.tasks_waiting)
        await asyncio.sleep(0.004)


@asynccontextmanager
async def lifespan(app):
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 4
    sampling = asyncio.create_task(sample(limiter))
    yield
    sampling.cancel()


app = FastAPI(lifespan=lifespan)
CAPACITY = 4 / 0.04


def work():
    time.sleep(0.04)


@app.post("/work", status_code=202)
async def accept(background_tasks: BackgroundTasks):
    background_tasks.add_task(work)


@app.post("/inline")
def inline():
    work()


@app.get("/level")
async def level():
    mean = sum(levels) / max(1, len(levels))
    levels.clear()
    return mean


web = serve(app, on="process")

# %% [markdown] lang="en"
# Callers know nothing of each other, so they come at random, and on schedule whether or not the answers
# are back: an *open loop*. The same seed gives the same arrivals at every load, only denser. **Guess:**
# at which load does the answer become slow?

# %% [markdown] lang="zh"
# 调用方彼此互不相识，所以随机地来；不管上一个响应回来没有，都按时发出：这叫开环（开放模型）。
# 各种负载用同一个种子：同一群人，只是来得更密。**先猜**：负载到多少，响应开始变慢？


# %%
def load(percent, seconds=0.6):
    arrivals = poisson(CAPACITY * percent / 100, seconds, seed=8)
    return web.burst("/work", [{}] * len(arrivals), at=arrivals).wait()


web.burst("/work", [{}] * 4).wait()  # the first ones pay for imports and new threads
runs = {percent: load(percent) for percent in (25, 50, 75, 90, 110, 150)}

# %%
knee(runs)

# %% [markdown] lang="en"
# **The answer never becomes slow; the wait before the work does, and the knee comes before 100 %.** An
# async endpoint accepts every request. Its flat latency, the figure on most dashboards, says nothing
# about the work that piles up behind it.

# %% [markdown] lang="zh"
# **响应一直不慢；变长的是任务开始之前的等待，而且不到 100 % 就开始拐弯**。异步端点来者不拒。它那条平平的延迟曲线（多数监控面板上
# 就是它），对背后积压的任务只字不提。

# %%
backlog(**{f"{percent} %": runs[percent] for percent in (90, 150)})

# %% [markdown] lang="en"
# **Below capacity the backlog comes and goes; above it, it only grows**, until the callers stop. It is
# in memory only, and a crash loses all of it (lesson 6).

# %% [markdown] lang="zh"
# **低于能力时，积压时有时无；高于能力，就只增不减**，直到没有人再来。它全在内存里，进程一崩就全没了（第 6 课）。

# %% [markdown] lang="en"
# ## The table
#
# How long do tasks wait? Half wait at most the p50, one in a hundred longer than the p99. **Guess**
# before you look: at 90 %, how far are they apart?

# %% [markdown] lang="zh"
# ## 看表
#
# 任务要等多久？p50：一半的任务不会超过它；p99：每一百个里有一个比它更久。**先猜**再看：负载 90 % 时，两者差多远？

# %%
table = {percent: pd.Series(waits(run)).quantile([0.5, 0.99]) for percent, run in runs.items()}
pd.DataFrame(table).T.round(4)

# %% [markdown] lang="en"
# With so few requests a p99 rests on one or two of them: read its order of magnitude, not its digits.

# %% [markdown] lang="zh"
# 请求这么少，p99 只落在一两个请求上：只看数量级，别抠具体数字。

# %% [markdown] lang="en"
# ## Little's law
#
# The mean number of tasks in the system, L, is the arrival rate λ times the mean time W that each
# spends there. L is counted in the server; λ and W come from the traces. **Guess** whether they agree.

# %% [markdown] lang="zh"
# ## 利特尔法则
#
# 系统里任务的平均个数 L，等于到达速率 λ 乘以每个停留的平均时间 W。L 由服务器自己数；λ 和 W 来自 traces。**先猜**：对得上吗？

# %%
web.get("/level")  # start counting anew
begin = time.perf_counter()
steady = load(75, seconds=1.0)
counted = float(web.get("/level").body)
window = time.perf_counter() - begin

# %%
stay = [task.finished - task.queued for task in steady.tasks]
rate = len(stay) / window
{"L counted": round(counted, 2), "λ · W": round(rate * sum(stay) / len(stay), 2)}

# %% [markdown] lang="en"
# **They agree, although they were measured independently.** So the backlog on a dashboard gives the
# wait, too: W = L / λ.

# %% [markdown] lang="zh"
# **分头测量，却对得上**。所以只要在面板上数出积压，就能算出等待：W = L / λ。

# %% [markdown] lang="en"
# ## What an operator sees
#
# In production nobody has traces; `server.py` counts for itself, and shows it at `/metrics`. Send it 120
# deliveries, and read `webhook_work_unfinished` while it works them off. **Guess:** do its numbers (dots)
# lie on the backlog from the traces (line)?

# %% [markdown] lang="zh"
# ## 运维人员看到什么
#
# 生产环境里没有 traces；`server.py` 自己也在数，从 `/metrics` 可以读到。给它发 120 次投递，在它处理的同时反复读
# `webhook_work_unfinished`。**先猜**：它报的数（圆点）会落在由 traces 算出的积压（线）上吗？

# %%
service = serve("server:app", on="process")
hooks = service.burst("/webhook-test", [delivery("push") for _ in range(120)], at_once=20)
first = min(hook.sent for hook in hooks)
GAUGE = b'webhook_work_unfinished{work="delivery"} '
readings = []
while len(readings) < 200 and (not readings or readings[-1][1] > 0):
    reading = service.get("/metrics").wait()
    number = float(reading.body.partition(GAUGE)[2].split()[0])
    readings.append((reading.sent + reading.received - first, number))
    time.sleep(0.03)

# %%
backlog(readings, deliveries=hooks)

# %% [markdown] lang="en"
# **What the service says of itself is what the traces say.** So this is the number to watch, and to be
# woken by. Beyond `MOST_HELD` deliveries, or `MOST_HELD_BYTES`, `server.py` answers 503 with `Retry-After`:
# waiting work takes memory, and a process has only so much.

# %% [markdown] lang="zh"
# **服务自己报的数，和 traces 说的一样**。要盯的、要用来告警的，就是它。投递超过 `MOST_HELD` 次，或请求体一共超过
# `MOST_HELD_BYTES`，`server.py` 就返回 503 并带上 `Retry-After`（背压）：等待中的任务要占内存，而一个进程的内存是有限的。

# %% [markdown] lang="en"
# ## The load test that flatters
#
# Many load tools send the next request only when the last answer is back: a *closed loop*. `/inline`
# works before it answers. **Guess:** does the closed loop find the wait that the open one finds?

# %% [markdown] lang="zh"
# ## 报喜不报忧的压测
#
# 许多压测工具等上一个响应回来才发下一个：这是闭环（封闭模型）。`/inline` 先处理再响应。**先猜**：开环测得出的等待，
# 闭环测得出吗？

# %%
arrivals = poisson(CAPACITY * 1.3, 0.6, seed=8)
open_loop = web.burst("/inline", [{}] * len(arrivals), at=arrivals)
closed_loop = web.burst("/inline", [{}] * len(arrivals), at_once=4)

# %%
pd.DataFrame(
    {
        name: pd.Series([request.answered for request in run]).quantile([0.5, 0.99])
        for name, run in {"open": open_loop, "closed": closed_loop}.items()
    }
).round(3)

# %% [markdown] lang="en"
# **The closed loop slows down with the server and never meets the queue.** Its callers politely wait;
# real ones do not. This is called coordinated omission.

# %% [markdown] lang="zh"
# **闭环跟着服务器一起慢下来，根本碰不到排队**。它的调用方客客气气地等着，真实的可不会。
# 这叫“协同遗漏”（coordinated omission）。

# %% [markdown] lang="en"
# **Change one thing:** give the limiter 8 tokens in the app's cell. Where is the knee now?

# %% [markdown] lang="zh"
# **改一处试试**：在应用那一格里把容量限制器改成 8 个令牌。拐点移到哪里了？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
everything = Traces(request for run in runs.values() for request in run)
assert {request.status for request in everything} == {202}
assert {task.state for task in everything.tasks} == {"finished"}
assert len(everything.tasks) == len(everything)
assert all(request.responded < request.tasks[0].started for request in everything)
assert len({task.where for task in everything.tasks}) <= 4
assert {request.status for request in [*open_loop, *closed_loop]} == {200}
assert {request.status for request in hooks} == {202} and readings[-1][1] == 0
for at, number in readings:  # at most what had not finished by the time of the traces
    assert number <= sum(first + at < hook.sent + hook.tasks[0].finished for hook in hooks)

# %% [markdown] lang="en"
# **What we saw**
#
# - An endpoint that hands work over answers as fast under overload as at rest.
# - What grows is the wait before the work, from well below capacity on.
# - A closed-loop test hides it; the service's own figures show it.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 把任务交出去的端点，过载时响应和空闲时一样快。
# - 增长的是任务开始之前的等待，远没到满负荷就开始了。
# - 闭环压测会把它藏起来；服务自己的指标看得见它。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** How many tasks were waiting or running at once, at most, at 150 %? Use `pending` from `lab.figures.counts`,
# and call the number `most`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 负载 150 % 时，最多同时有多少任务在等待或在运行？用 `lab.figures.counts` 里的 `pending`，这个数就叫 `most`。

# %% tags=["solution"]
from lab.figures.counts import pending

times, counts = pending(runs[150])
most = counts.max()
most

# %%
check(
    more_than_the_threads=lambda: most > 4,
    no_more_than_requests=lambda: most <= len(runs[150]),
)

# %% [markdown] lang="en"
# **2.** Refuse instead of piling up: an endpoint that answers 503 when 10 tasks already wait in the
# limiter. Send it sixty requests, twenty at once, each with work of 0.3 s, and call them `pressed`.

# %% [markdown] lang="zh"
# **2.** 与其堆积不如拒绝（背压）：写一个端点，容量限制器里已有 10 个在等时就返回 503。发六十个请求，同时发二十个，
# 每个的任务要 0.3 秒，就叫 `pressed`。


# %% tags=["solution"] lang="en"
from fastapi import HTTPException


@app.post("/refusing", status_code=202)
async def refusing(background_tasks: BackgroundTasks):
    limiter = anyio.to_thread.current_default_thread_limiter()
    if limiter.statistics().tasks_waiting >= 10:
        raise HTTPException(503, headers={"Retry-After": "1"})
    background_tasks.add_task(time.sleep, 0.3)  # long enough for the sixty to meet


web = serve(app, on="process")
pressed = web.burst("/refusing", [{}] * 60, at_once=20)

# %% tags=["solution"] lang="zh"
from fastapi import HTTPException


@app.post("/refusing", status_code=202)
async def refusing(background_tasks: BackgroundTasks):
    limiter = anyio.to_thread.current_default_thread_limiter()
    if limiter.statistics().tasks_waiting >= 10:
        raise HTTPException(503, headers={"Retry-After": "1"})
    background_tasks.add_task(time.sleep, 0.3)  # 够长，六十个请求才会碰到一起


web = serve(app, on="process")
pressed = web.burst("/refusing", [{}] * 60, at_once=20)

# %%
check(
    some_refused=lambda: {request.status for request in pressed} == {202, 503},
    accepted_work_done=lambda: {task.state for task in pressed.wait().tasks} == {"finished"},
)

# %% [markdown] lang="en"
# **In practice.** Watch the backlog, not the answer time. Leave background tasks when the backlog outlives
# a deploy, when losing it would hurt, or when one machine cannot catch up: that is what a queue is for.
#
# Next: [8. Hand over to a queue](08_hand_over_to_a_queue.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：盯着积压，别只看响应时间。积压拖到下次发布还消化不完、任务丢不起、或单机处理不过来时，就该改用任务队列。
#
# 下一课：[8. 交给队列](08_hand_over_to_a_queue.ipynb)
