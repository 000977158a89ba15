# %% [markdown] lang="en"
# # 1. Answer first, work later
#
# **Do** send a webhook and watch its work run behind the answer. **Learn** what "after the
# response" means, to the moment. **Need** nothing but this page: the server starts below.

# %% [markdown] lang="zh"
# # 1. 先响应，后干活
#
# **动手**：发一个 webhook，看它的处理怎样在响应之后进行。**收获**：知道“返回响应之后”究竟是哪一刻。**前置**：什么都不用，
# 服务器就在下面启动。

# %% [markdown] lang="en" tags=["long"]
# <details>
# <summary>The words that all lessons use</summary>
#
# | word | what it means here |
# |-|-|
# | request | one HTTP request to a watched server, with all the work that it leaves behind |
# | trace | what the lab has noted of one request: its answer, its moments, its tasks, its lines of the log |
# | stamp | one moment, noted where it happens, in seconds after the request's first byte left the client (`received`, if another client than the lab's sent it); client, server and workers read one clock, the machine's monotonic `perf_counter`. The first on the server is `received`: the app is called with the request |
# | task | one piece of work that a request leaves behind. Its stamps: `added`, it is announced (`add_task`, `Thread.start`, …); `queued`, it begins to wait for its turn (background tasks: those before it are over; in a queue: it is put in); `started` and `finished`, just before its first and just after its last line, where it runs |
# | runner | what runs a task: `background`, `thread`, `executor` (a pool of threads), `process` (a pool of processes), `create_task` or `queue` |
# | parent | the task that handed another one over while it ran; a task that the app's own call handed over has none |
# | responded | the app hands the last byte of the response to the server software (uvicorn), by the server's stamp: after `received` and, with no middleware in between, before any background task's `started`. The client does not have it yet |
# | answered | the client has read the last byte of the response, by the client's stamp: after `responded`, and before or after `started` |
# | noise floor | how long an empty answer takes on this machine, first byte sent to last byte read: the p50 of 100, given by the server without calling the app; a burst to another process measures its own, on as many connections. Smaller differences mean nothing |
# | lost | a task that had started, and whose process ended before it did |
# | never ran | a task that was announced and can no longer start |
# | delivery | one webhook, named by its `X-GitHub-Delivery`: sent again with the same body, it is still the same one |
# | effect | what a delivery has brought about: once, however often work on it was begun |
#
# </details>

# %% [markdown] lang="zh" tags=["long"]
# <details>
# <summary>各课通用的词</summary>
#
# | 词 | 在这里的意思 |
# |-|-|
# | request 请求 | 发给被观察的服务器的一个 HTTP 请求，连同它留下的全部后续工作 |
# | trace 追踪记录 | 实验室对一个请求的全部记录：它的响应、各个时刻、各个任务、属于它的日志 |
# | stamp 时间戳 | 一个时刻，在事情发生的地方记下；从请求的第一个字节离开客户端算起，单位是秒（不是实验室的客户端发来的，从 `received` 算起）；客户端、服务器和 worker 读的是同一个时钟，即本机的单调时钟 `perf_counter`。服务器上的第一个是 `received`：应用被调用，请求交到了它手里 |
# | task 任务 | 请求留下的一项后续工作。它的时间戳：`added`，注册（`add_task`、`Thread.start` 等）；`queued`，开始等待轮到自己（后台任务：前一个已结束；队列：放进了队列）；`started` 和 `finished`，在它运行的地方，第一行之前和最后一行之后 |
# | runner 执行者 | 由什么来执行任务：`background`、`thread`、`executor`（线程池）、`process`（进程池）、`create_task` 或 `queue` |
# | parent 父任务 | 一个任务在运行中又启动了别的任务，它就是后者的父任务；由应用的调用直接启动的任务没有父任务 |
# | responded 已发出响应 | 应用把响应的最后一个字节交给服务器软件（uvicorn）的那一刻，由服务器记下：在 `received` 之后；不经过中间件时，也在任何后台任务的 `started` 之前。这时客户端还没收到 |
# | answered 已收到响应 | 客户端读完了响应的最后一个字节，由客户端记下：在 `responded` 之后，可能早于也可能晚于 `started` |
# | noise floor 底噪 | 本机上一个空响应要花的时间，从发出第一个字节到读完最后一个字节：取 100 次的 p50，由服务器直接返回，不调用应用；对独立进程的 `burst` 用同样多的连接另测一次。比它更小的差别没有意义 |
# | lost 丢失 | 任务已经开始，它所在的进程却先结束了 |
# | never ran 从未运行 | 任务注册过，但再也不可能开始 |
# | delivery 投递 | 一个 webhook，以 `X-GitHub-Delivery` 为名：原样重发一次，还是同一次投递 |
# | effect 效果（副作用） | 一次投递带来的结果：不管处理开始过几次，效果只有一次 |
#
# </details>

# %%
import random
import time

import httpx
from fastapi import BackgroundTasks, Response

from lab import check, delivery, scatter, sequence, serve, timeline
from lab.lessons.samples import TEST_SECRET
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
# 这就是 `server.py` 里的 webhook 服务，跑在自己的线程里，用的是空闲端口。它正被实验室观察着：
# 请求何时到达、响应何时发出、每个任务何时开始何时结束，都会记下来。底噪（noise floor）
# 是这台机器上一个空响应要花的时间，比它更小的差别没有意义。
#
# **先猜**：处理一次投递要 0.3 秒，那么调用方要等多久才拿到 202？

# %%
trace = web.post("/webhook-test", **delivery("push"))
trace.status, round(trace.answered, 4)

# %% [markdown] lang="en"
# The cell came back as soon as the answer was there. `trace` goes on filling while the work runs.

# %% [markdown] lang="zh"
# 响应一到，单元格就返回了；处理仍在进行，`trace` 还在继续被填写。

# %%
timeline(trace)

# %% [markdown] lang="en"
# **The caller waited for the thin bar only; the work is the long one.** The dashed line is the
# moment at which the response left the server.
#
# In the endpoint, `add_task` did no work: it only registered the function. **Guess** which comes first:
# the task's start, or the sender's reading of the 202?

# %% [markdown] lang="zh"
# **调用方只等了那条细短的横条，长的那条才是任务运行的时间**。虚线是响应离开服务器应用的时刻。
#
# 端点里的 `add_task` 并不执行，只是“注册”任务。**先猜**：任务开始，和客户端读到 202，
# 哪个在先？

# %%
task = trace.tasks[0]
[round(at, 5) for at in (task.added, trace.responded, task.started, trace.answered)]

# %% [markdown] lang="en"
# `added`, then `responded`, then `started`: on the server that order always holds. `answered` is the
# *client's* moment, and it may fall on either side of `started`: once the bytes have left, two threads
# run at once, and either may get the CPU first. Claims about order are therefore made from the server's
# stamps.

# %% [markdown] lang="zh"
# 先 `added`，再 `responded`，再 `started`：在服务器上，这个顺序总是成立。`answered` 是客户端上的时刻，
# 它可能早于也可能晚于 `started`：字节一旦发出，两个线程同时在跑，谁先拿到 CPU 都有可能。
# 所以凡是讲顺序，都以服务器上的时刻为准。

# %%
sequence(trace)

# %% [markdown] lang="en"
# **There is no task queue in this picture.** The guide's diagram has one; in truth the list of tasks
# hangs on the response, and the call that sent the response goes on to run it. Nor does the
# connection close: the same one may carry the next request at once.

# %% [markdown] lang="zh"
# **这张图里没有“后台任务队列”**。指南的示意图里有一个；其实任务列表就挂在响应上，
# 发送响应的那次调用接着把它们执行完。连接也没有断开：同一条连接马上可以发下一个请求。

# %% [markdown] lang="en"
# ## The same work, with the caller waiting
#
# `/webhook-test/inline` does the very same work before it answers. **Guess:** what changes in the
# figure?

# %% [markdown] lang="zh"
# ## 同样的工作，让调用方等着
#
# `/webhook-test/inline` 先做完同样的处理再响应。**先猜**：图上会有什么不同？

# %%
waited = web.post("/webhook-test/inline", **delivery("push"))
timeline(waited)

# %% [markdown] lang="en"
# **Now the caller's bar is as long as the work.** The log shows that nothing else is different:
# the same lines, written on behalf of each request.

# %% [markdown] lang="zh"
# **现在调用方的横条和处理时间一样长**。看日志就知道别的都没变：两次请求写下的是同样的几行。

# %%
[line.partition(": ")[2][:70] for line in trace.log]

# %% [markdown] lang="en"
# ## Longer work, same answer
#
# Let the work take 0.1 to 0.8 s, both ways. **Guess** where the points will lie: on the x axis, when
# all work is *finished*; on the y axis, when the caller is *answered*.
#
# The eight are sent in an order drawn anew in each run, so that a warm-up, or a machine that gets
# busier, is not taken for a difference between the two. Set `seed` to the number shown to repeat it.

# %% [markdown] lang="zh"
# ## 处理时间变长，响应时间不变
#
# 让处理从 0.1 秒到 0.8 秒，两种方式各来一遍。**先猜**这些点落在哪里：横轴是全部完成（finished）的
# 时刻，纵轴是收到响应（answered）的时刻。
#
# 这八次的先后顺序，每次运行都随机打乱，免得把预热、或机器忙闲的变化误当成两种方式的差别；想重现某次的顺序，
# 把 `seed` 设成那次显示的数。


# %%
SECONDS = (0.1, 0.2, 0.4, 0.8)
cases = [(path, each) for path in ("/webhook-test", "/webhook-test/inline") for each in SECONDS]
seed = random.randrange(1000)
drawn = random.Random(seed).sample(cases, len(cases))
print(f"{seed=}")

# %%
by_case = {}
for path, seconds in drawn:
    app.state.work_seconds = seconds
    by_case[path, seconds] = web.post(path, **delivery("push")).wait()
background = [by_case["/webhook-test", each] for each in SECONDS]
inline = [by_case["/webhook-test/inline", each] for each in SECONDS]

# %%
scatter(background=background, inline=inline)

# %% [markdown] lang="en"
# **Inline, the answer time climbs the diagonal with the work; in the background, it stays flat at the
# bottom.** Note what this does *not* say: the work became no faster, and the same server does it.

# %% [markdown] lang="zh"
# **在请求内处理，响应时间随处理时间沿对角线上升；放到后台，响应时间始终贴着横轴**。也要注意图上没有说的：
# 处理并没有变快，干活的仍是同一台服务器。

# %% [markdown] lang="en"
# **Change one thing:** send `delivery("push_large")`, about 100 KB. The endpoint reads the whole body
# before it answers. Does the answer still leave before the work?

# %% [markdown] lang="zh"
# **改一处试试**：改发 `delivery("push_large")`，大约 100 KB。端点要先读完整个请求体才响应。
# 响应还会先于处理发出吗？

# %%
app.state.work_seconds = 0.3
large = web.post("/webhook-test", **delivery("push_large")).wait()
[round(at, 5) for at in (large.received, large.responded, large.tasks[0].started)]

# %% [markdown] lang="en"
# ## How soon is "at once"?
#
# The same delivery, but its sender hands it over in four pieces, a tenth of a second apart. **Guess:**
# when does the server know of the request, and when does it answer?

# %% [markdown] lang="zh"
# ## “立刻”是多快？
#
# 还是同样的投递，只是客户端把它分成四块，每隔十分之一秒发出一块。**先猜**：服务器什么时候知道有这个请求，
# 什么时候才响应？


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
[round(at, 4) for at in (slow.received, slow.responded, slow.tasks[0].started)]

# %% [markdown] lang="en"
# **"At once" counts from the last byte of the body.** The request was known long before. Until then,
# the part of the body that has arrived is kept in memory: this is why `server.py` limits its size.
#
# And what is "sent"? An answer of 64 MiB this time, to a client that takes one piece and then pauses.
# **Guess:** does the task wait for this client?

# %% [markdown] lang="zh"
# **“立刻”要从请求体的最后一个字节算起**。服务器早就知道有这个请求了；还没收完的时候，已到的部分都放在内存里，
# 所以 `server.py` 给请求体设了上限。
#
# 那么，怎样才算“已发出”？这回的响应有 64 MiB，客户端取了一块就停下。**先猜**：任务会等这个客户端吗？


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
# **"Sent" means handed over to uvicorn to be sent.** The task was over while most of the answer still lay
# in the server's memory.

# %% [markdown] lang="zh"
# **所谓“已发出”，只是交给了 uvicorn 排队发送，不等于对方已收到**。任务都做完了，大部分响应还留在服务器的内存里。

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
for request in [trace, large, slow, *background]:
    assert request.status == 202
    assert request.tasks[0].added < request.responded < request.tasks[0].started
for request in inline:
    assert request.tasks[0].finished < request.responded
assert slow.sent + slow.received < handed_over[-1] < slow.sent + slow.responded
assert state == "finished" and read + unread == 64 * 2**20 and unread > read

# %% [markdown] lang="en"
# **What we saw**
#
# - `add_task` only registers a function; it runs after the response has left the server.
# - The caller's wait is the same however long the work takes.
# - There is no queue: the call that answered goes on to work.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - `add_task` 只是“注册”任务；响应发出之后它才运行。
# - 不管处理要多久，调用方等的时间都一样。
# - 没有什么队列：返回响应的那次调用接着执行任务。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Send a body that is not JSON, `content=b"not JSON"`, and call the request `odd`. What is the
# status, and what did the task log as payload?

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 发一个不是 JSON 的请求体（`content=b"not JSON"`），这个请求就叫 `odd`。
# 状态码是多少？任务日志里的 payload 是什么？

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

# %% tags=["solution"] lang="en"
before = time.perf_counter()
client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab")
await client.post("/webhook-test", **delivery("push"))
took = time.perf_counter() - before  # it waits for the tasks too

# %% tags=["solution"] lang="zh"
before = time.perf_counter()
client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lab")
await client.post("/webhook-test", **delivery("push"))
took = time.perf_counter() - before  # 它连任务也一起等

# %%
check(waited_for_the_task=lambda: took > app.state.work_seconds)

# %% [markdown] lang="en"
# **3.** Send a delivery to `/webhook-test/thread`, call the request `threaded`, and draw it as a timeline.
# Which of the two order claims above fails there?

# %% [markdown] lang="zh"
# **3.** 给 `/webhook-test/thread` 发一次投递，这个请求就叫 `threaded`，画成时间线。
# 上面关于顺序的两个说法，哪一个在那里不成立？

# %% tags=["solution"] lang="en"
threaded = web.post("/webhook-test/thread", **delivery("push"))
timeline(threaded)  # the second: the work may start before the response has left

# %% tags=["solution"] lang="zh"
threaded = web.post("/webhook-test/thread", **delivery("push"))
timeline(threaded)  # 第二个：处理可能在响应发出之前就开始

# %%
check(run_by_a_thread=lambda: threaded.wait().tasks[0].runner == "thread")

# %% [markdown] lang="en"
# **4.** Who sent it? Once a secret is set, `server.py` accepts only bodies that were signed with it. Send
# three deliveries: `signed`, as it comes; `changed`, with a space after its body; `renamed`, the first
# again, under another `X-GitHub-Delivery`. What does the signature cover, and what not?

# %% [markdown] lang="zh"
# **4.** 这是谁发来的？设了密钥，`server.py` 就只接收用它签过名的请求体。发三次投递：`signed`，原样发出；`changed`，请求体末尾
# 多加一个空格；`renamed`，再发一遍第一次的请求体，只把 `X-GitHub-Delivery` 换掉。签名管到什么，管不到什么？

# %%
app.state.webhook_secret = TEST_SECRET

# %% tags=["solution"] lang="en"
push = delivery("push")
another = {**push["headers"], "X-GitHub-Delivery": "another"}
signed = web.post("/webhook-test", **push)
changed = web.post("/webhook-test", headers=push["headers"], content=push["content"] + b" ")
renamed = web.post("/webhook-test", headers=another, content=push["content"])
# Every byte of the body, and not the id: whoever has seen a delivery can send it again as a new one.

# %% tags=["solution"] lang="zh"
push = delivery("push")
another = {**push["headers"], "X-GitHub-Delivery": "another"}
signed = web.post("/webhook-test", **push)
changed = web.post("/webhook-test", headers=push["headers"], content=push["content"] + b" ")
renamed = web.post("/webhook-test", headers=another, content=push["content"])
# 管到请求体的每个字节，管不到 id：谁见过一次投递，就能换个 id 当作新的再发一遍（重放）。

# %%
check(
    signed_accepted=lambda: signed.status == 202,
    changed_refused=lambda: changed.status == 401,
    renamed_accepted=lambda: renamed.status == 202,
)

# %%
app.state.webhook_secret = None  # whoever goes on experimenting needs no signature

# %% [markdown] lang="en"
# **In practice.** Answer at once when the sender needs nothing but "I have it": GitHub waits 10 s for
# a webhook and then gives up. Keep in mind that a 202 promises nothing: if this process dies now, the
# work is gone (lesson 6), and a queue is the remedy.
#
# Next: [2. One after another](02_one_after_another.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：调用方只需要一句“收到了”，就立刻响应：GitHub 对一个 webhook 只等 10 秒，之后就放弃。
# 但要记住，202 什么也没保证：这个进程此刻若是崩溃，任务就丢了（第 6 课），补救的办法是任务队列。
#
# 下一课：[2. 一个接一个](02_one_after_another.ipynb)
