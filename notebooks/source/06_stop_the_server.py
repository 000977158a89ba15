# %% [markdown] lang="en"
# # 6. Stop the server in the middle of its work
#
# **Do** end five servers in five ways while each has work running and work waiting. **Learn** what
# finishes, what is cancelled, what vanishes. **Need** lesson 3 (loop or thread), and Linux or macOS:
# signals work differently on Windows.

# %% [markdown] lang="zh"
# # 6. 任务做到一半，把服务器停掉
#
# **动手**：用五种办法结束五台服务器，每台都有正在运行的任务和还在排队的任务。**收获**：知道哪些能做完，哪些被取消，
# 哪些就此消失。**前置**：第 3 课（事件循环还是线程）；要用 Linux 或 macOS，Windows 上的信号不是这样工作的。

# %%
import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from signal import SIGINT, SIGKILL, SIGTERM

import pandas as pd
from fastapi import BackgroundTasks, FastAPI

from lab import check, lanes, serve

# %% [markdown] lang="en"
# Each kind of work has a lane of its own: sync tasks, async tasks, a thread, a daemon thread. The
# first two have one task to run and one to queue behind it. `/over` is short: it will be done before
# the end comes.

# %% [markdown] lang="zh"
# 每一类任务走自己的泳道：同步任务、异步任务、线程、守护线程。前两类各有一个在运行的任务，
# 后面还排着一个。`/over` 很短，服务器结束之前它就做完了。

# %% tags=["app"]
app = FastAPI()


def sync_1():
    time.sleep(2)


def sync_2():
    time.sleep(0.4)


async def async_1():
    await asyncio.sleep(2)


async def async_2():
    await asyncio.sleep(0.4)


def plain():
    time.sleep(3.4)


def daemon():
    time.sleep(5)


@app.post("/sync", status_code=202)
async def sync_tasks(background_tasks: BackgroundTasks):
    background_tasks.add_task(sync_1)
    background_tasks.add_task(sync_2)


@app.post("/async", status_code=202)
async def async_tasks(background_tasks: BackgroundTasks):
    background_tasks.add_task(async_1)
    background_tasks.add_task(async_2)


@app.post("/thread", status_code=202)
async def thread():
    threading.Thread(target=plain).start()


@app.post("/daemon", status_code=202)
async def daemon_thread():
    threading.Thread(target=daemon, daemon=True).start()


@app.post("/over", status_code=202)
async def over(background_tasks: BackgroundTasks):
    background_tasks.add_task(time.sleep, 0.2)


# %% [markdown] lang="en"
# A signal is for a whole process, so each server gets one of its own. It is sent not after a pause, but
# when the traces show that `/over` is over and that work has started behind every request. (`log_level`
# keeps the long traceback that uvicorn logs after Ctrl+C off this page.)

# %% [markdown] lang="zh"
# 信号是发给整个进程的，所以每台服务器各占一个进程。什么时候结束它，由 trace 说了算，
# 不靠等几秒：`/over` 已经做完，而且每个请求都有任务已经开始。（设 `log_level`，是免得 Ctrl+C 之后 uvicorn 的长篇调用栈占满页面。）


# %%
def ended_by(*signals, **settings):
    web = serve(app, on="process", log_level="critical", **settings)
    for path in ("/sync", "/async", "/thread", "/daemon"):
        web.post(path)
    web.post("/over").wait()
    web.traces.wait_started()
    for signal in signals:
        web.signal(signal)
    if not signals:
        web.stop()
    web.join()
    return web


# %% [markdown] lang="en"
# All five run now, side by side; you look at them one at a time. **Guess** first, for each: which of
# the seven pieces of work are finished?
#
# - SIGTERM: what `kill`, `docker stop` and a deployment send;
# - SIGTERM to a server with `timeout_graceful_shutdown=1`;
# - SIGINT twice: an impatient Ctrl+C;
# - SIGKILL: `kill -9`, or the kernel when memory runs out;
# - `web.stop()`: uvicorn's own `should_exit`, with no signal.

# %% [markdown] lang="zh"
# 五台现在同时跑，然后一台一台看。请**先猜**：每种情况下，七个任务里有哪些能做完？
#
# - SIGTERM：`kill`、`docker stop`、发布新版本时发的都是它；
# - 给设了 `timeout_graceful_shutdown=1` 的服务器发 SIGTERM；
# - 两次 SIGINT：等不及，连按两下 Ctrl+C；
# - SIGKILL：`kill -9`，或者内存耗尽时由系统内核发出；
# - `web.stop()`：不用信号，由 uvicorn 自己置 `should_exit`。

# %%
with ThreadPoolExecutor(5) as pool:
    futures = {
        "SIGTERM": pool.submit(ended_by, SIGTERM),
        "SIGTERM, 1 s": pool.submit(ended_by, SIGTERM, timeout_graceful_shutdown=1),
        "SIGINT twice": pool.submit(ended_by, SIGINT, SIGINT),
        "SIGKILL": pool.submit(ended_by, SIGKILL),
        "stop()": pool.submit(ended_by),
    }
ended = {way: future.result() for way, future in futures.items()}
{way: web.exit_code for way, web in ended.items()}

# %% [markdown] lang="en"
# A negative exit code is the number of the signal that ended the process. After Ctrl+C it is 0: the
# uvicorn command treats it as an ordinary stop.
#
# ## SIGTERM

# %% [markdown] lang="zh"
# 退出码为负，表示进程是被这个号码的信号结束的。按 Ctrl+C 之后是 0：uvicorn 命令把它当作正常的停止。
#
# ## SIGTERM

# %%
sigterm = ended["SIGTERM"].traces
lanes(sigterm)

# %% [markdown] lang="en"
# **On SIGTERM, uvicorn loses no background task, not even one that waits its turn.** It takes no more
# requests, then waits for its tasks, however long they take. It does not wait for threads, daemon or
# not: once drained, it raises the signal against itself, and that ends every thread in mid-work. (Other
# servers differ.)

# %% [markdown] lang="zh"
# **收到 SIGTERM，uvicorn 不会丢后台任务，连排队的也不会丢**。它不再接新请求，然后等自己的任务做完，要多久等多久。
# 但它不等线程，是不是守护线程都一样：任务一做完，它就向自己再发一次这个信号，
# 所有线程都停在半路上。（别的服务器未必如此。）

# %% [markdown] lang="en"
# ## SIGTERM with a grace period of one second

# %% [markdown] lang="zh"
# ## SIGTERM：优雅停机，宽限期 1 秒

# %%
grace = ended["SIGTERM, 1 s"].traces
lanes(grace)

# %% [markdown] lang="en"
# **An async task is cancelled, and can clean up; a sync task is cut off, and cannot.** When the second
# is over uvicorn cancels the calls that run the tasks. `async_1` gets a `CancelledError`. Nothing can
# be raised in the thread of `sync_1`: it works on until the process ends. Queued tasks never ran.

# %% [markdown] lang="zh"
# **异步任务是被取消的，还来得及收拾；同步任务是被切断的，来不及**。
# 一秒一到，uvicorn 取消运行任务的那些调用。`async_1` 收到 `CancelledError`；`sync_1` 在线程里，没法往里抛异常，它一直运行到进程消失为止。
# 排队的从未运行。

# %% [markdown] lang="en"
# ## SIGINT, twice

# %% [markdown] lang="zh"
# ## 两次 SIGINT

# %%
sigint = ended["SIGINT twice"].traces
lanes(sigint)

# %% [markdown] lang="en"
# **On the second Ctrl+C, uvicorn cancels async tasks at once and drops queued ones; but Python then
# waits for its threads.** A process that ends in the ordinary way first joins every thread that is not
# a daemon. The thread of `sync_1` is one of them, which is why that task still finishes; and so does
# `plain`, which SIGTERM had cut off.

# %% [markdown] lang="zh"
# **第二次 Ctrl+C，uvicorn 立刻取消异步任务，排队的也丢弃；但随后 Python 还要等它的线程**。进程正常退出时，会先等所有
# 非守护线程结束。`sync_1` 所在的线程也算在内，所以它仍然做完了；`plain` 也一样，而在 SIGTERM 之下它是被切断的。

# %% [markdown] lang="en"
# ## SIGKILL

# %% [markdown] lang="zh"
# ## SIGKILL

# %%
sigkill = ended["SIGKILL"].traces
lanes(sigkill)

# %% [markdown] lang="en"
# **Everything is gone, and nobody says so.** No code of the process runs any more: no handler, no
# `finally`, no log line. Each of these callers holds a 202.

# %% [markdown] lang="zh"
# **全没了，而且没有任何动静**。进程的代码一行也不再运行：没有信号处理函数，没有 `finally`，没有日志。
# 而每个调用方手里都拿着一个 202。

# %% [markdown] lang="en"
# ## Stop from within the process

# %% [markdown] lang="zh"
# ## 在进程内部停止

# %%
stopped = ended["stop()"].traces
lanes(stopped)

# %% [markdown] lang="en"
# **It drains as on SIGTERM, then ends like any Python process.** With no signal to raise again, the
# process waits for `plain`. Only the daemon thread is lost: that is what daemon means.

# %% [markdown] lang="zh"
# **像 SIGTERM 那样等任务做完，再像普通 Python 程序那样退出**。没有信号要重发，进程就等 `plain` 做完。
# 只有守护线程丢了：守护（daemon）就是这个意思。

# %% [markdown] lang="en"
# ## All five
#
# The same outcomes, counted from the traces.

# %% [markdown] lang="zh"
# ## 五种放在一起
#
# 同样的结果，从 trace 里数出来。

# %%
tasks = pd.concat({way: web.traces.task_frame() for way, web in ended.items()}, names=["way"])
outcome = tasks.reset_index("way").pivot(index="way", columns="name", values="state")
outcome = outcome.loc[list(ended), ["sync_1", "sync_2", "async_1", "async_2", "plain", "daemon"]]
outcome

# %%
outcome.apply(pd.Series.value_counts, axis=1).fillna(0).astype(int)

# %% [markdown] lang="en"
# **Change one thing:** make `sync_1` and `async_1` last half a second, run all again. Which row of the
# table changes, and why only that one?

# %% [markdown] lang="zh"
# **改一处试试**：把 `sync_1` 和 `async_1` 改成半秒，全部重新运行。表里哪一行变了？为什么只有它变？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
background = ["sync_1", "sync_2", "async_1", "async_2"]
assert (outcome.loc[["SIGTERM", "stop()"], background] == "finished").all(axis=None)
assert list(outcome.loc["SIGTERM, 1 s", background]) == [
    "lost", "never ran", "cancelled", "never ran",
]  # fmt: skip
assert list(outcome.loc["SIGINT twice", background]) == [
    "finished", "never ran", "cancelled", "never ran",
]  # fmt: skip
assert set(outcome.loc["SIGKILL"]) == {"lost", "never ran"}
assert set(outcome["daemon"]) == {"lost"}
assert list(outcome["plain"]) == ["lost", "lost", "finished", "lost", "finished"]

# %% [markdown] lang="en"
# **What we saw**
#
# - On SIGTERM, uvicorn waits for background tasks, queued ones too, without limit; for threads it does not.
# - After a grace time async tasks are cancelled, sync tasks are cut off, queued ones never run.
# - SIGKILL loses everything, silently. A 202 says "accepted", not "done".

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 收到 SIGTERM，uvicorn 会等后台任务，连排队的也等，没有上限；但不等线程。
# - 宽限期一过，异步任务被取消，同步任务被切断，排队的从未运行。
# - SIGKILL 让一切无声地消失。202 只表示已接收，不代表已处理完。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Give the server no grace at all: `timeout_graceful_shutdown=0`. Which work still gets done?
# Call its traces `graceless`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 一点宽限期也不给：`timeout_graceful_shutdown=0`。哪些任务还能做完？它的 traces 就叫 `graceless`。

# %% tags=["solution"]
graceless = ended_by(SIGTERM, timeout_graceful_shutdown=0).traces
lanes(graceless)


# %%
def state(name):
    return next(task.state for task in graceless.tasks if task.name == name)


check(
    sync_cut_off=lambda: state("sync_1") == "lost",
    async_cancelled=lambda: state("async_1") == "cancelled",
    queued_never_ran=lambda: state("sync_2") == state("async_2") == "never ran",
)

# %% [markdown] lang="en"
# **2.** Serve `app` in *this* process, `serve(app)`, send `/daemon`, stop the server. What has become of
# the daemon thread, and why? Call the request `survivor`.

# %% [markdown] lang="zh"
# **2.** 在本进程里启动 `serve(app)`，发一个 `/daemon`，然后停掉服务器。守护线程怎么样了？为什么？
# 这个请求就叫 `survivor`。

# %% tags=["solution"] lang="en"
inside = serve(app)
survivor = inside.post("/daemon")
inside.stop()
survivor.tasks[0].state  # a thread ends with its process, not with the server

# %% tags=["solution"] lang="zh"
inside = serve(app)
survivor = inside.post("/daemon")
inside.stop()
survivor.tasks[0].state  # 线程随进程结束，不随服务器结束

# %%
check(
    server_stopped=lambda: [what for what, _ in survivor.ending] == ["stop"],
    thread_lives_on=lambda: survivor.tasks[0].state in ("running", "finished"),
)

# %% [markdown] lang="en"
# **3.** Write an async task that logs "cancelled", and how far it got, when it is cancelled. Call the
# request `copied`, end its server without grace, and find the line in the log. Why must the task raise
# the error again?

# %% [markdown] lang="zh"
# **3.** 写一个异步任务，被取消时在日志里记下 “cancelled” 和做到了哪里。请求就叫 `copied`，不留宽限期地结束它的服务器，
# 再到日志里找出那一行。为什么一定要把异常再抛出去？


# %% tags=["solution"] lang="en"
async def copying():
    for step in range(100):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            logging.getLogger("copying").warning("cancelled at step %d", step)
            raise  # or the code that cancelled it would take it for finished


@app.post("/copy", status_code=202)
async def copy(background_tasks: BackgroundTasks):
    background_tasks.add_task(copying)


copier = serve(app, on="process", log_level="critical", timeout_graceful_shutdown=0)
copied = copier.post("/copy")
copier.traces.wait_started()
copier.signal(SIGTERM)
copied.wait().log


# %% tags=["solution"] lang="zh"
async def copying():
    for step in range(100):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            logging.getLogger("copying").warning("cancelled at step %d", step)
            raise  # 否则取消它的一方会以为它正常做完了


@app.post("/copy", status_code=202)
async def copy(background_tasks: BackgroundTasks):
    background_tasks.add_task(copying)


copier = serve(app, on="process", log_level="critical", timeout_graceful_shutdown=0)
copied = copier.post("/copy")
copier.traces.wait_started()
copier.signal(SIGTERM)
copied.wait().log

# %%
check(
    cancelled=lambda: copied.tasks[0].state == "cancelled",
    logged=lambda: any("cancelled" in line for line in copied.log),
)

# %% [markdown] lang="en"
# **In practice.** By default Docker waits 10 s after SIGTERM, Kubernetes 30 s; then comes SIGKILL. Set
# `timeout_graceful_shutdown` below that, or uvicorn waits until it is killed. Keep tasks short, make
# them safe to run twice, and give work that must not be lost to a queue before you answer.
#
# Next: [7. Under load](07_under_load.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：发出 SIGTERM 之后，Docker 默认等 10 秒，Kubernetes 默认等 30 秒，
# 然后就发 SIGKILL。`timeout_graceful_shutdown` 要设得比它短，否则 uvicorn 会一直等到被杀。任务要短，并且幂等；
# 绝不能丢的，先交给任务队列再响应。
#
# 下一课：[7. 压力之下](07_under_load.ipynb)
