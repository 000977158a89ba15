# %% [markdown] lang="en"
# # 5. See what happens when a task fails
#
# **Do** let the second of three tasks raise, and watch who suffers. **Learn** who notices, who does
# not, and how to contain it. **Need** lesson 2.

# %% [markdown] lang="zh"
# # 5. 任务出错时，看看会发生什么
#
# **动手**：让三个任务中的第二个抛出异常，看谁受牵连。**收获**：知道谁会察觉，谁不会，
# 怎样把影响控制住。**前置**：第 2 课。

# %%
import asyncio
import functools
import logging
import threading
import time

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask

from lab import check, delivery, serve, timeline

# %% tags=["app"]
app = FastAPI()
handled = []
log = logging.getLogger("lesson")


@app.exception_handler(ValueError)
async def on_value_error(request, error):
    handled.append(error)
    return JSONResponse({"detail": "handled"}, 500)


def save():
    time.sleep(0.25)


def notify():
    time.sleep(0.25)
    raise ValueError("no such address")


def report():
    time.sleep(0.25)


@app.post("/three", status_code=202)
async def three(background_tasks: BackgroundTasks):
    for task in (save, notify, report):
        background_tasks.add_task(task)


@app.get("/slow")
async def slow():
    await asyncio.sleep(1.0)
    return "done"


web = serve(app)

# %% [markdown] lang="en"
# `notify` will raise. **Guess:** does `report` run? What does the caller get: 202 or 500?

# %% [markdown] lang="zh"
# `notify` 会抛出异常。**先猜**：`report` 会运行吗？调用方拿到的是 202 还是 500？

# %%
trace = web.post("/three")
timeline(trace)

# %% [markdown] lang="en"
# **The caller keeps its 202, and `report` never runs.** The answer had left long before the failure,
# and the loop that runs the tasks ends with the first exception.

# %% [markdown] lang="zh"
# **调用方照样拿到 202，而 `report` 再也不会运行**。响应早在出错之前就发出去了；
# 逐个运行任务的那个循环，碰到第一个异常就结束了。

# %% [markdown] lang="en"
# ## Who notices?
#
# The guide says that FastAPI catches and logs the exception. The app even has a handler for
# `ValueError`. **Guess:** was it called?

# %% [markdown] lang="zh"
# ## 谁会察觉？
#
# 指南说，异常会被 FastAPI 捕获并记录。应用里还专门为 `ValueError` 写了处理函数。**先猜**：它被调用了吗？

# %%
trace.log, handled

# %% [markdown] lang="en"
# **Neither FastAPI nor the handler dealt with it: uvicorn did, in its own log.** A handler could do
# nothing anyway: it makes a response, and the response has already left. What uvicorn logs is a
# `RuntimeError` about just that; the `ValueError` is its cause.

# %% [markdown] lang="zh"
# **管这件事的既不是 FastAPI，也不是那个处理函数，而是 uvicorn，记在它自己的日志里**。处理函数也无能为力：
# 它的用处是生成响应，而响应已经发走了。uvicorn 记下的是一个 `RuntimeError`，说的正是这一点；
# 原来的 `ValueError` 是它的起因。

# %% [markdown] lang="en"
# ## The neighbour
#
# An HTTP connection is kept open and used again. **Guess:** another request, quite healthy, is under
# way on that connection when the task fails. What becomes of it?

# %% [markdown] lang="zh"
# ## 邻居
#
# HTTP 连接会保持打开，反复使用。**先猜**：任务出错的时候，同一条连接上正有另一个好端端的请求，它会怎样？

# %%
failing = web.post("/three")
neighbour = web.get("/slow")
timeline([failing, neighbour])

# %%
neighbour.error

# %% [markdown] lang="en"
# **It fails because of another request, which was answered long before.** After an exception uvicorn
# closes the connection, even while other requests use it (other servers differ). The control: the same
# failure, but now the neighbour comes by `burst`, which opens a connection of its own.

# %% [markdown] lang="zh"
# **它死于另一个请求的失败，而那个请求早已收到响应**。出现异常之后，uvicorn 就关闭这条连接，不管还有谁在用
# （别的服务器未必如此）。对照一下：任务同样出错，但邻居这回由 `burst` 发出，用的是自己的一条新连接。

# %%
web.post("/three")
(alone,) = web.burst("/slow", [{}], method="GET")
alone.status, alone.error

# %% [markdown] lang="en"
# ## Threads fail in silence
#
# **Guess:** the same `notify` in a `threading.Thread`: who notices now?

# %% [markdown] lang="zh"
# ## 线程的失败没有声音
#
# **先猜**：把同一个 `notify` 放进 `threading.Thread`，这回谁会察觉？


# %% tags=["app", "stderr"]
@app.post("/thread", status_code=202)
async def thread():
    threads.append(threading.Thread(target=notify))
    threads[-1].start()


threads = []
threaded = web.post("/thread").wait()
threads[-1].join()
threaded.tasks[0].state, threaded.log

# %% [markdown] lang="en"
# **No log, no closed connection: a traceback on stderr, and that is all.** If nobody reads stderr,
# nobody learns of the error.

# %% [markdown] lang="zh"
# **没有日志，连接也没有关闭：只在 stderr 上打印一段调用栈（traceback），仅此而已**。stderr 若没人看，错误也就没人知道。

# %% [markdown] lang="en"
# ## Tasks that get lost on the way
#
# Three endpoints add a task and then answer. **Guess** in which of them it runs.

# %% [markdown] lang="zh"
# ## 半路丢掉的任务
#
# 下面三个端点都添加了任务，然后返回响应。**先猜**：在哪几个里任务真的会运行？


# %% tags=["app"]
@app.post("/raised")
async def raised(background_tasks: BackgroundTasks):
    background_tasks.add_task(save)
    raise HTTPException(400)


@app.post("/returned")
async def returned(background_tasks: BackgroundTasks):
    background_tasks.add_task(save)
    return JSONResponse({"detail": "no"}, 400)


@app.post("/own")
async def own(background_tasks: BackgroundTasks):
    background_tasks.add_task(save)
    return Response(background=BackgroundTask(report))


lost = {path: web.post(path).wait() for path in ("/raised", "/returned", "/own")}
{path: [(task.name, task.state) for task in each.tasks] for path, each in lost.items()}

# %% [markdown] lang="en"
# **Only a response that is returned carries tasks along.** A raised error makes a new response without
# them; a response with its own `background` keeps that and drops the others. No message says so.

# %% [markdown] lang="zh"
# **只有 return 出去的响应才带着任务走**。抛出错误时，会另做一个不带任务的响应；自带 `background` 的响应只认
# 自己的，其余的丢掉。这一切都没有任何提示。

# %% [markdown] lang="en"
# ## Dependencies with `yield`
#
# A database session is often such a dependency. **Guess:** is it still open while the task runs?

# %% [markdown] lang="zh"
# ## 带 `yield` 的依赖
#
# 数据库会话常常就是这样的依赖。**先猜**：任务运行的时候，它还开着吗？


# %% tags=["app"]
def session(background_tasks: BackgroundTasks):
    yield
    log.warning("session closed")
    background_tasks.add_task(tidy)


def tidy():
    log.warning("tidied up")


def use():
    log.warning("task runs")


@app.post("/request-scope")
async def request_scope(background_tasks: BackgroundTasks, _=Depends(session)):
    background_tasks.add_task(use)


@app.post("/function-scope")
async def function_scope(background_tasks: BackgroundTasks, _=Depends(session, scope="function")):
    background_tasks.add_task(use)


scopes = {path: web.post(path).wait() for path in ("/request-scope", "/function-scope")}
{path: each.log for path, each in scopes.items()}

# %% [markdown] lang="en"
# **By default it closes after the tasks; with `scope="function"`, before them.** A session that is held
# during slow tasks keeps its connection out of the pool.
#
# The dependency adds a task of its own after its `yield`. **Guess:** does `tidy` run?

# %% [markdown] lang="zh"
# **默认在任务之后关闭；用 `scope="function"` 则在任务之前**。慢任务期间一直占着会话，连接池里就少一个连接。
#
# 这个依赖在 `yield` 之后还添加了一个自己的任务。**先猜**：`tidy` 会运行吗？

# %%
{path: [(task.name, task.state) for task in each.tasks] for path, each in scopes.items()}

# %% [markdown] lang="en"
# **By default it comes too late: the list has been run through already.** With `scope="function"` it is
# still in time. Again, no message says so.

# %% [markdown] lang="zh"
# **默认情况下它来得太晚：任务列表已经跑完了**。用 `scope="function"` 还赶得上。这一回同样没有任何提示。

# %% [markdown] lang="en"
# ## Tests that hide it
#
# An in-memory client waits for the tasks, and raises their exceptions in the test. In production nobody
# receives them.

# %% [markdown] lang="zh"
# ## 掩盖问题的测试
#
# 内存里的测试客户端会等任务做完，并把任务的异常交给测试。到了生产环境，可没有人接收它们。

# %%
client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab")
try:
    await client.post("/three")
except Exception as error:
    caught = error
type(caught).__name__, type(caught.__cause__).__name__

# %% [markdown] lang="en"
# ## The remedy
#
# Catch exceptions in the task itself, log them with the delivery's id, and retry a few times, not for
# ever.

# %% [markdown] lang="zh"
# ## 补救
#
# 在任务自己里面捕获异常，记日志时带上能认出这次投递的编号；可以重试几次，但不要没完没了。


# %% tags=["app"]
def guarded(task, delivery_id, attempts=3):
    @functools.wraps(task)
    def careful():
        for attempt in range(1, attempts + 1):
            try:
                return task()
            except Exception as error:
                log.warning("%s: attempt %d of %s: %r", delivery_id, attempt, task.__name__, error)

    return careful


@app.post("/guarded", status_code=202)
async def guarded_three(request: Request, background_tasks: BackgroundTasks):
    for task in (save, notify, report):
        background_tasks.add_task(guarded(task, request.headers["x-github-delivery"]))


mended = web.post("/guarded", **delivery("push")).wait()
mended.log

# %%
timeline(mended)

# %% [markdown] lang="en"
# **All three run, each failure leaves its line, and the connection lives.** Still, when the last
# attempt has failed the work is lost; keeping it for later takes a queue.

# %% [markdown] lang="zh"
# **三个都运行了，每次失败都留下一行日志，连接也还在**。不过最后一次尝试也失败的话，任务还是丢了；
# 要把它留到以后再做，就得用队列。

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
assert trace.status == 202
assert [task.state for task in trace.tasks] == ["finished", "failed", "never ran"]
assert handled == []
assert any("uvicorn.error" in line for line in trace.log)
assert failing.status == 202 and neighbour.error and alone.status == 200
assert threaded.tasks[0].state == "failed" and threaded.log == []

# %%
assert [lost[path].tasks[0].state for path in lost] == ["never ran", "finished", "never ran"]
assert "task runs" in scopes["/request-scope"].log[0]
assert "session closed" in scopes["/function-scope"].log[0]
assert [scopes[path].tasks[-1].state for path in scopes] == ["never ran", "finished"]
assert [task.name for task in mended.tasks] == ["save", "notify", "report"]
assert {task.state for task in mended.tasks} == {"finished"}
assert len(mended.log) == 3

# %% [markdown] lang="en"
# **What we saw**
#
# - The first exception skips all later tasks of its response; the caller never learns of it.
# - uvicorn logs it and closes the connection, and with it whatever else is under way there.
# - Tasks are dropped silently by a raised `HTTPException` and by a response with its own `background=`.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 第一个异常会跳过同一响应后面的所有任务，调用方却一无所知。
# - uvicorn 把它记入日志并关闭连接，这条连接上正在进行的请求也一并断掉。
# - 抛出 `HTTPException`，或者响应自带 `background=`，已添加的任务会无声无息地丢掉。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Keep both the injected task `save` and the response's own `report`: write `/both`, which returns a
# `Response` and loses nothing. Call your request `kept`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 注入的任务 `save` 要保住，响应自己的 `report` 也要保住：写一个 `/both`，返回 `Response`，一个任务也不丢。
# 你的请求就叫 `kept`。


# %% tags=["solution"]
@app.post("/both")
async def both(background_tasks: BackgroundTasks):
    background_tasks.add_task(save)
    background_tasks.add_task(report)
    return Response(background=background_tasks)


kept = web.post("/both")
timeline(kept)

# %%
check(
    both=lambda: {task.name for task in kept.wait().tasks} == {"save", "report"},
    finished=lambda: {task.state for task in kept.wait().tasks} == {"finished"},
)

# %% [markdown] lang="en"
# **2.** Give the neighbour a second chance: send `/slow` again on the connection of a failing task, but
# after `/guarded` this time. Call the two requests `guarding` and `beside`. Does it survive?

# %% [markdown] lang="zh"
# **2.** 再给邻居一次机会：还是在任务会出错的那条连接上发 `/slow`，不过这回排在 `/guarded` 后面。
# 两个请求就叫 `guarding` 和 `beside`。邻居能活下来吗？

# %% tags=["solution"]
guarding = web.post("/guarded", **delivery("push"))
beside = web.get("/slow")
timeline([guarding, beside])

# %%
check(
    neighbour_lives=lambda: beside.status == 200,
    nothing_reached_the_server=lambda: "uvicorn.error" not in str(guarding.wait().log),
)

# %% [markdown] lang="en"
# **In practice.** Wrap every task in something like `guarded`. Alert on its log lines, which name the
# delivery. Never raise an HTTP error after adding a task that must run.
#
# Next: [6. Stop the server](06_stop_the_server.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：每个任务都用类似 `guarded` 的函数包一层，按它记下的日志（带投递编号）报警。添加了必须执行的任务之后，
# 就不要再抛 HTTP 错误。
#
# 下一课：[6. 停掉服务器](06_stop_the_server.ipynb)
