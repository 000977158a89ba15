# %% [markdown] lang="en"
# # 3. Find out what runs on the loop and what on a thread
#
# **Do** run the same work as `def`, as `async def`, and as an `async def` that blocks. **Learn** which
# of them stops everybody else, and how many can run at once. **Need** lesson 2.

# %% [markdown] lang="zh"
# # 3. 看清什么在事件循环上跑，什么在线程里跑
#
# **动手**：把同样的工作写成 `def`、`async def`，再写成会阻塞的 `async def`。**收获**：知道哪一种会让所有人停下来，
# 同时最多能跑几个。**前置**：第 2 课。

# %%
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
from fastapi import BackgroundTasks, FastAPI

from lab import check, heartbeat, serve, steps, timeline
from lab.lessons.kernels import last_line, run_all

# %% tags=["app"]
app = FastAPI()
cache = {}


def plain():
    time.sleep(0.5)
    cache["plain"] = time.time()  # updating a cache, as the guide suggests


async def friendly():
    await asyncio.sleep(0.5)


async def blocking():
    time.sleep(0.5)


KINDS = {"plain": plain, "friendly": friendly, "blocking": blocking}


@app.get("/ping")
async def ping():
    return "pong"


@app.post("/run/{kind}", status_code=202)
async def run(kind: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(KINDS[kind])


web = serve(app, on="process")

# %% [markdown] lang="en"
# This server has a process of its own, so that the notebook does not disturb it.
#
# **Guess:** where does each of the three run?

# %% [markdown] lang="zh"
# 这台服务器有自己的进程，免得 notebook 干扰它。
#
# **先猜**：这三种各在哪里运行？


# %%
beats = {}


def under_heartbeat(kind):
    with web.heartbeat() as beats[kind]:
        return web.post(f"/run/{kind}").wait()


runs = {kind: under_heartbeat(kind) for kind in KINDS}
{kind: trace.tasks[0].where for kind, trace in runs.items()}

# %% [markdown] lang="en"
# **A `def` task runs on a thread of the pool, an `async def` on the event loop**, whatever it does
# there. The guide's "loop or thread pool" depends on one word, the `async` before your function.

# %% [markdown] lang="zh"
# **`def` 任务在线程池的线程里跑，`async def` 在事件循环上跑**，不管它在那里做什么。指南所说的“事件循环或线程池”，
# 就看函数前面有没有 `async` 这个词。

# %% [markdown] lang="en"
# ## The others
#
# While each task ran, somebody else pinged the server every few milliseconds, on another connection:
# `web.heartbeat()`. **Guess:** under which of the three did the heartbeat stop?

# %% [markdown] lang="zh"
# ## 其他人
#
# 刚才每个任务运行的时候，另有一个人每隔几毫秒就在另一条连接上 ping 一下服务器：`web.heartbeat()`。**先猜**：哪一种任务
# 让心跳停住了？

# %%
heartbeat(**beats)

# %% [markdown] lang="en"
# **Only the blocking `async def` stops everybody.** It holds the loop, and the loop serves everyone.
# The guide fears that a *sync* function blocks the event loop: it is the other way round; a sync task
# leaves the loop free.

# %% [markdown] lang="zh"
# **只有会阻塞的 `async def` 让所有人停下**。它占着事件循环，而所有请求都靠这个循环。指南担心同步函数会阻塞事件循环，
# 其实正相反：恰恰是同步任务不占用事件循环。

# %% [markdown] lang="en"
# ## A hundred at once
#
# Requests of a hundred callers, each with a `def` task of half a second. **Guess:** when are all done?

# %% [markdown] lang="zh"
# ## 一百个同时来
#
# 一百个调用方的请求，各有一个半秒的 `def` 任务。**先猜**：什么时候全部做完？

# %%
threads = web.burst("/run/plain", [{}] * 100, at_once=100).wait()
loop = web.burst("/run/friendly", [{}] * 100, at_once=100).wait()
steps(threads=threads, loop=loop)

# %% [markdown] lang="en"
# **Forty, forty, twenty: the thread pool has 40 threads.** On the loop all hundred sleep together. The
# answers came at once in both; what waits is the work. The limit is an object that anyone can read, the
# limiter:

# %% [markdown] lang="zh"
# **四十、四十、二十：线程池有 40 个线程**。在事件循环上，一百个协程可以同时 sleep。两种情况下响应都立即返回，
# 排队的是任务。这个上限由一个容量限制器（CapacityLimiter）掌管，谁都可以读出来：


# %% tags=["app"]
@app.get("/limit")
async def limit(total: int = 0):
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = total or limiter.total_tokens
    return limiter.total_tokens


@app.get("/report")
def report():  # a `def` endpoint
    return "done"


web = serve(app, on="process")
web.get("/limit").body

# %% [markdown] lang="en"
# ## Endpoints wait in the same line
#
# `/report` is a `def` endpoint and does nothing. **Guess:** how long does its answer take when 80 tasks
# of half a second have just come?

# %% [markdown] lang="zh"
# ## 端点也排在同一条队里
#
# `/report` 是一个 `def` 端点，什么也不做。**先猜**：刚来了 80 个半秒的任务，它要多久才返回响应？

# %%
busy = web.burst("/run/plain", [{}] * 80, at_once=80)
behind = web.get("/report")
timeline([behind])

# %% [markdown] lang="en"
# **It waits for two rounds of other people's background work.** `def` endpoints and `def` tasks share
# one pool. An `async def` endpoint beside them answers at once.

# %% [markdown] lang="zh"
# **它要等别人的后台任务做完两轮**。`def` 端点和 `def` 任务共用一个线程池。旁边的 `async def` 端点则立刻响应。

# %% [markdown] lang="en"
# **Change one thing:** give the limiter another number, and the step moves.

# %% [markdown] lang="zh"
# **改一处试试**：给容量限制器换个数字，台阶就跟着变。

# %%
busy.wait()
web.get("/limit", params={"total": 10})
ten = web.burst("/run/plain", [{}] * 20, at_once=20).wait()
steps(ten=ten)

# %% [markdown] lang="en"
# ## The notebook has a loop too
#
# Cells run on an event loop. Half the web advises `nest_asyncio` for a server in a notebook; there is
# also a fork of it, `nest_asyncio2`, which is still maintained. Run All queues every cell at once.
# **Guess** which of these four run: with the old package, with the fork, and with a plain `await`.

# %% [markdown] lang="zh"
# ## notebook 自己也有事件循环
#
# 单元格就跑在一个事件循环上。要在 notebook 里启动服务器，网上一半的文章都推荐 `nest_asyncio`；它还有
# 一个仍在维护的分支 `nest_asyncio2`。Run All 会把所有单元格一次排进队里。**先猜**：下面四个单元格，用旧的包、
# 用分支、直接 `await`，各有哪几个会运行？（这一节讲的是 notebook，不是指南，可以选读。）

# %%
drive = "import asyncio; asyncio.get_event_loop().run_until_complete(asyncio.sleep(0.2))"
first_two = {
    "nest_asyncio": ("import nest_asyncio; nest_asyncio.apply()", drive),
    "nest_asyncio2": ("import nest_asyncio2; nest_asyncio2.apply()", drive),
    "await": ("import asyncio", "await asyncio.sleep(0.2)"),
}
with ThreadPoolExecutor() as pool:  # three kernels, side by side
    fates = pool.map(lambda cells: run_all(*cells, "'third'", "'fourth'"), first_two.values())
nested = dict(zip(first_two, fates))
nested

# %% [markdown] lang="en"
# `serve(app, on="kernel")` puts a server on the kernel's own loop, with the fork. A cell that waits for
# a server in its own kernel would block that server for ever if the loop were not nested. **Guess**
# once more:

# %% [markdown] lang="zh"
# `serve(app, on="kernel")` 借助那个分支，把服务器放到 notebook 内核自己的事件循环上。单元格要等的服务器就跑在同一个内核里；
# 事件循环若不能嵌套，双方互相等待，就会死锁。**再猜一次**：

# %%
nested["kernel"] = run_all(
    "from lab import serve; from server import app",
    'web = serve(app, on="kernel")',
    'assert web.post("/webhook-test", json={}).wait().status == 202',
    "'fourth'",
)
nested["kernel"]

# %% [markdown] lang="en"
# And the usual advice for uvicorn, tried in a process of its own:

# %% [markdown] lang="zh"
# 再看网上为 uvicorn 给的办法，放在单独的进程里跑：

# %%
last_line("""
import asyncio, nest_asyncio, uvicorn
nest_asyncio.apply()
async def cell():
    uvicorn.run("server:app", port=0, log_level="critical")
asyncio.run(cell())
""")

# %% [markdown] lang="en"
# **On today's kernels the old package loses the cells queued behind it; its maintained fork does not,
# and neither does a plain `await`.** Nor does patching help uvicorn, which starts a loop of its own.
# Best is to need neither: `serve(app)` gives the server its own loop, on its own thread.

# %% [markdown] lang="zh"
# **在如今的 notebook 内核上，旧的包会弄丢排在后面的单元格；仍在维护的分支不会，直接 `await` 也不会**。打补丁也帮不了
# uvicorn，它要自己启动一个循环。最好是根本不需要这些：`serve(app)` 让服务器在自己的线程里有自己的循环。

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查


# %%
def most_at_once(requests):
    starts = [(request.sent + request.tasks[0].started, 1) for request in requests]
    ends = [(request.sent + request.tasks[0].finished, -1) for request in requests]
    running = most = 0
    for _, step in sorted(starts + ends):
        running += step
        most = max(most, running)
    return most


assert runs["plain"].tasks[0].where.startswith("thread")
assert runs["friendly"].tasks[0].where == runs["blocking"].tasks[0].where == "loop"

# %%
assert most_at_once(threads) <= 40 < most_at_once(loop)
assert len({request.tasks[0].where for request in threads}) <= 40
assert most_at_once(ten) <= 10
assert any(behind.sent + behind.answered > r.sent + r.tasks[0].finished for r in busy)
assert "lost" in nested.pop("nest_asyncio")
assert all(fates == ["ran"] * 4 for fates in nested.values())

# %% [markdown] lang="en"
# **What we saw**
#
# - `def` tasks run on threads, `async def` tasks on the loop.
# - A blocking call in an `async def` stops every caller of the process.
# - The pool has 40 threads, shared with `def` endpoints; later work waits.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - `def` 任务在线程里跑，`async def` 任务在事件循环上跑。
# - `async def` 里的阻塞调用，会让这个进程的所有调用方都停下。
# - 线程池有 40 个线程，与 `def` 端点共用；后来的要等。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Rewrite `blocking`, still as `async def`, so that the heartbeat goes on. Send it a request,
# `mended`, under `web.heartbeat()`, and call the beats `alive`. (A server in a process keeps the app
# that it was given: put the new function into `KINDS`, and `serve` again.)

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 重写 `blocking`：仍是 `async def`，但心跳不能停。在 `web.heartbeat()` 之下向它发一个请求，就叫 `mended`，
# 那些心跳就叫 `alive`。（另一个进程里的服务器用的是当初交给它的应用：把新函数放进 `KINDS`，再 `serve` 一次。）


# %% tags=["solution"]
async def blocking():
    await asyncio.to_thread(time.sleep, 0.5)


KINDS["blocking"] = blocking
web = serve(app, on="process")
with web.heartbeat() as alive:
    mended = web.post("/run/blocking").wait()


# %%
def during(beat, request):
    began, ended = request.tasks[0].started, request.tasks[0].finished
    return request.sent + began < beat.sent < beat.sent + beat.answered < request.sent + ended


check(
    still_on_the_loop=lambda: mended.tasks[0].where == "loop",
    heartbeat_lives=lambda: any(during(beat, mended) for beat in alive),
)

# %% [markdown] lang="en"
# **2.** How many `friendly` tasks run at once when 100 requests come? Count from the traces of `loop`, and
# call the number `friends`.

# %% [markdown] lang="zh"
# **2.** 一百个请求同时来，有多少个 `friendly` 任务在同时运行？从 `loop` 的各个 trace 里数出来，这个数就叫 `friends`。

# %% tags=["solution"]
friends = most_at_once(loop)
friends

# %%
check(no_pool_limits_them=lambda: 40 < friends <= len(loop))

# %% [markdown] lang="en"
# **In practice.** Write `def` for anything that may block: a database driver, `requests`, SMTP. Keep
# `async def` for code that awaits. Watch the limiter when `def` endpoints slow down for no visible
# reason.
#
# Next: [4. Threads and processes](04_threads_and_processes.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：凡是可能阻塞的（数据库驱动、`requests`、SMTP）都写成 `def`；`async def` 只留
# 给会 await 的代码。`def` 端点无缘无故变慢时，去看看容量限制器。
#
# 下一课：[4. 线程与进程](04_threads_and_processes.ipynb)
