# %% [markdown] lang="en"
# # 1. Answer first, work later
#
# **Do** send a webhook and watch its work run behind the answer. **Learn** what "after the
# response" means, to the moment. **Need** nothing but this page: the server starts below.

# %% [markdown] lang="zh"
# # 1. 先应答，后干活
#
# **要做**：发一个 webhook，看它的处理怎样在应答之后进行。**要学**：“返回响应之后”究竟是哪一刻。
# **要备**：什么都不用，服务器就在下面启动。

# %%
import time

import httpx
from fastapi import BackgroundTasks, Response

from lab import check, delivery, scatter, sequence, serve, timeline
from server import app

web = serve(app)
web

# %% [markdown] lang="en"
# That is the webhook service of `server.py`, running on its own thread at a free port. It is
# *watched*: the lab notes when a request arrives, when its response leaves, and when each piece of
# work starts and ends. The noise floor is how long an empty answer takes here; smaller
# differences mean nothing.
#
# **Guess:** the work on a delivery takes 0.3 s. How long does the sender wait for its 202?

# %% [markdown] lang="zh"
# 这就是 `server.py` 里的 webhook 服务，跑在自己的线程里，用的是空闲端口。它正被*观察*着：
# 请求何时到达、响应何时离开、每个任务何时开始何时结束，都会记下来。噪声下限（noise floor）
# 是这台机器上一个空应答要花的时间，比它更小的差别没有意义。
#
# **先猜**：处理一次投递要 0.3 秒，那么发送方要等多久才拿到 202？

# %%
trace = web.post("/webhook-test", **delivery("push"))
trace.status, trace.answered

# %% [markdown] lang="en"
# The cell came back as soon as the answer was there. `trace` goes on filling while the work runs.

# %% [markdown] lang="zh"
# 应答一到，单元格就返回了；处理仍在进行，`trace` 还在继续被填写。

# %%
timeline(trace)

# %% [markdown] lang="en"
# **The caller waited for the thin bar only; the work is the long one.** The dashed line is the
# moment at which the response left the server.
#
# In the endpoint, `add_task` did no work: it wrote the function down. **Guess** which comes first:
# the task's start, or the sender's reading of the 202?

# %% [markdown] lang="zh"
# **调用方只等了那条细短的横条，长的那条才是干活的时间。** 虚线是响应离开服务器的时刻。
#
# 端点里的 `add_task` 没有干活，只是把函数记了下来。**先猜**：任务开始，和发送方读到 202，
# 哪个在先？

# %%
task = trace.tasks[0]
task.added, trace.responded, task.started, trace.answered

# %% [markdown] lang="en"
# `added`, then `responded`, then `started`: on the server that order always holds. `answered` is the
# *client's* moment, and it may fall on either side of `started`: once the bytes have left, two
# threads run at once, and either may get the processor first. Claims about order are therefore made
# from the server's stamps.

# %% [markdown] lang="zh"
# 先 `added`，再 `responded`，再 `started`：在服务器上，这个次序总是成立。`answered` 是*客户端*的时刻，
# 它可能早于也可能晚于 `started`：字节一旦发出，两个线程同时在跑，谁先拿到处理器都有可能。
# 所以凡是讲次序，都以服务器上的时刻为准。

# %%
sequence(trace)

# %% [markdown] lang="en"
# **There is no task queue in this picture.** The guide's diagram has one; in truth the list of tasks
# hangs on the response, and the call that sent the response goes on to run it. Nor does the
# connection close: the same one may carry the next request at once.

# %% [markdown] lang="zh"
# **这张图里没有“后台任务队列”。** 指南的示意图里有一个；其实任务列表就挂在响应上，
# 发送响应的那次调用接着把它跑完。连接也没有断开：同一条连接马上可以发下一个请求。

# %% [markdown] lang="en"
# ## The same work, with the caller waiting
#
# `/webhook-test/inline` does the very same work before it answers. **Guess:** what changes in the
# figure?

# %% [markdown] lang="zh"
# ## 同样的活，让调用方等着
#
# `/webhook-test/inline` 先干完同样的活再应答。**先猜**：图上会有什么不同？

# %%
waited = web.post("/webhook-test/inline", **delivery("push"))
timeline(waited)

# %% [markdown] lang="en"
# **Now the caller's bar is as long as the work.** The log shows that nothing else is different:
# the same lines, written on behalf of each request.

# %% [markdown] lang="zh"
# **现在调用方的横条和干活的时间一样长。** 看日志就知道别的都没变：两次请求写下的是同样的几行。

# %%
[line.partition(": ")[2][:70] for line in trace.log]

# %% [markdown] lang="en"
# ## Longer work, same answer
#
# Take 0.1 to 0.8 s over the work, both ways. **Guess** where the points will lie: across, when all
# is *finished*; up, when the caller was *answered*.

# %% [markdown] lang="zh"
# ## 活更久，应答不变
#
# 让处理从 0.1 秒到 0.8 秒，两种方式各来一遍。**先猜**这些点落在哪里：横轴是全部完成（finished）的
# 时刻，纵轴是得到应答（answered）的时刻。


# %%
def deliveries(path):
    for seconds in (0.1, 0.2, 0.4, 0.8):
        app.state.work_seconds = seconds
        yield web.post(path, **delivery("push")).wait()


background = list(deliveries("/webhook-test"))
inline = list(deliveries("/webhook-test/inline"))

# %%
scatter(background=background, inline=inline)

# %% [markdown] lang="en"
# **Done inline, the answer climbs the diagonal with the work; done in the background, it stays on
# the floor.** Note what this does *not* say: the work became no faster, and it is the same server
# that does it.

# %% [markdown] lang="zh"
# **在请求里干活，应答时间沿对角线上升；放到后台，应答时间贴着底线不动。** 也要注意图上*没有*说的：
# 活并没有变快，干活的仍是同一台服务器。

# %% [markdown] lang="en"
# **Change one thing:** send `delivery("push_large")`, about 100 KB. The endpoint reads the whole body
# before it answers. Does the answer still leave before the work?

# %% [markdown] lang="zh"
# **改一处试试**：改发 `delivery("push_large")`，大约 100 KB。端点要先读完整个请求体才应答。
# 应答还会先于处理离开吗？

# %%
app.state.work_seconds = 0.3
large = web.post("/webhook-test", **delivery("push_large")).wait()
large.received, large.responded, large.tasks[0].started

# %% [markdown] lang="en"
# ## How soon is "at once"?
#
# The same delivery, but its sender hands it over in four pieces, a tenth of a second apart. **Guess:**
# when does the server know of the request, and when does it answer?

# %% [markdown] lang="zh"
# ## “立刻”是多快？
#
# 还是同样的投递，只是发送方把它分成四块，每隔十分之一秒交出一块。**先猜**：服务器什么时候知道有这个请求，
# 什么时候才应答？


# %%
def slowly(body, pieces=4):
    size = len(body) // pieces + 1
    for start in range(0, len(body), size):
        time.sleep(0.1)
        handed_over.append(time.perf_counter())
        yield body[start : start + size]


handed_over = []
push = delivery("push")
slow = web.post("/webhook-test", headers=push["headers"], content=slowly(push["content"])).wait()
slow.received, slow.responded, slow.tasks[0].started

# %% [markdown] lang="en"
# **"At once" counts from the last byte of the body.** The request was known long before. Meanwhile
# what has come of the body lies in memory: this is why `server.py` sets a limit to it.
#
# And what is "sent"? An answer of 64 MiB this time, to a reader who takes one piece and then pauses.
# **Guess:** does the task wait for this reader?

# %% [markdown] lang="zh"
# **“立刻”要从请求体的最后一个字节算起。** 服务器早就知道有这个请求了；还没收完的时候，已到的部分都放在内存里，
# 所以 `server.py` 给请求体设了上限。
#
# 那么，怎样才算“发出”？这回的应答有 64 MiB，读的人取了一块就停下。**先猜**：任务会等他吗？


# %%
@app.get("/download")
async def download(background_tasks: BackgroundTasks):
    background_tasks.add_task(time.sleep, 0.1)
    return Response(bytes(64 * 2**20))


with httpx.stream("GET", f"{web.url}/download", trust_env=False) as answer:
    pieces = answer.iter_raw()
    read = len(next(pieces))
    state = web.traces[-1].wait().tasks[0].state
    unread = sum(map(len, pieces))
{"task": state, "read by then": read, "still unread": unread}

# %% [markdown] lang="en"
# **"Sent" means handed over to be sent.** The task was over while most of the answer still lay in the
# server's memory.

# %% [markdown] lang="zh"
# **“发出”只是说交出去待发。** 任务都做完了，应答的大部分还留在服务器的内存里。

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
for request in [trace, large, slow, *background]:
    assert request.status == 202
    assert request.tasks[0].added < request.responded < request.tasks[0].started
for request in inline:
    assert request.responded > app.state.work_seconds or not request.tasks
assert slow.sent + slow.received < handed_over[-1] < slow.sent + slow.responded
assert state == "finished" and read + unread == 64 * 2**20 and unread > read

# %% [markdown] lang="en"
# **What we saw**
#
# - `add_task` writes a function down; it runs when the response has left the server.
# - The caller's wait is the same however long the work takes.
# - There is no queue: the call that answered goes on to work.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - `add_task` 只是登记函数；响应离开服务器之后它才运行。
# - 不管活要干多久，调用方等的时间都一样。
# - 没有什么队列：应答的那次调用接着干活。

# %% [markdown] lang="en"
# ## Exercises
#
# Under each stands a check: run it as often as you like.
#
# **1.** Send a body that is not JSON, `content=b"not JSON"`, and call the request `odd`. What is the
# status, and what did the task log as payload?

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 发一个不是 JSON 的请求体（`content=b"not JSON"`），这个请求就叫 `odd`。
# 状态码是多少？任务把什么当作内容记进了日志？

# %% tags=["solution"]
odd = web.post("/webhook-test", content=b"not JSON")
odd.status, odd.wait().log

# %%
check(
    accepted=lambda: odd.status == 202,
    logged_as_invalid=lambda: any("Invalid JSON" in line for line in odd.wait().log),
)

# %% [markdown] lang="en"
# **2.** Most tests of FastAPI apps use `TestClient`. Time one call of it, or of httpx's `ASGITransport`
# (`time.perf_counter()` before and after); call the seconds `took`. Why is it of no use for this lesson?

# %% [markdown] lang="zh"
# **2.** FastAPI 应用的测试大多用 `TestClient`。给它（或 httpx 的 `ASGITransport`）的一次调用计时：前后各取
# 一次 `time.perf_counter()`，秒数就叫 `took`。为什么它不能用来上这一课？

# %% tags=["solution"]
before = time.perf_counter()
client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab")
await client.post("/webhook-test", **delivery("push"))
took = time.perf_counter() - before  # it waits for the tasks too

# %%
check(waited_for_the_task=lambda: took > app.state.work_seconds)

# %% [markdown] lang="en"
# **3.** Send a delivery to `/webhook-test/thread`, call the request `threaded`, and draw it as a timeline.
# Which of the two order claims above fails there?

# %% [markdown] lang="zh"
# **3.** 给 `/webhook-test/thread` 发一次投递，这个请求就叫 `threaded`，画成时间线。
# 上面关于次序的两个说法，哪一个在那里不成立？

# %% tags=["solution"]
threaded = web.post("/webhook-test/thread", **delivery("push"))
timeline(threaded)  # the work may start before the response has left

# %%
check(run_by_a_thread=lambda: threaded.wait().tasks[0].runner == "thread")

# %% [markdown] lang="en"
# **In practice.** Answer at once when the sender needs nothing but "I have it": GitHub waits 10 s for
# a webhook and then gives up. Keep in mind that a 202 promises nothing: if this process dies now, the
# work is gone (lesson 6), and a queue is the remedy.
#
# Next: [2. One after another](02_one_after_another.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：发送方只需要一句“收到了”，就立刻应答：GitHub 对一个 webhook 只等 10 秒。但要记住，
# 202 什么也没保证：这个进程此刻若是死掉，活就丢了（第 6 课），补救的办法是任务队列。
#
# 下一课：[2. 一个接一个](02_one_after_another.ipynb)
