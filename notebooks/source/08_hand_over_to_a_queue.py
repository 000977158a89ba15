# %% [markdown] lang="en"
# # 8. Hand the work over to a queue
#
# **Do** give the same webhook to a background task, a thread, a process pool and a Celery queue; kill
# the web server and a worker, freeze the broker and wipe it. **Learn** what each of the four loses, and
# what safety costs. **Need** lessons 2, 4 and 6, and Linux or macOS.

# %% [markdown] lang="zh"
# # 8. 把任务交给任务队列
#
# **动手**：同一个 webhook，分别交给后台任务、线程、进程池和 Celery 队列；杀掉 Web 服务进程，杀掉 worker，冻结
# broker，再把它清空。**收获**：知道各会丢掉什么，又要付出什么代价。**前置**：第 2、4、6 课；要用 Linux 或 macOS。

# %%
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from signal import SIGKILL
from subprocess import check_output

import pandas as pd
from fastapi import FastAPI

import server
from lab import Queue, Traces, check, delivery, growth, serve, timeline

# %% [markdown] lang="en"
# A **database** keeps every delivery until its work is done. A **worker**, a process of its own, takes
# one and works on it. A **broker** carries the message that wakes a worker: it says which delivery, and
# nothing else. `Queue` starts two Celery workers on this machine, with a SQLite file and a broker of the
# lab's own (`"embedded"`), to which you may do what you like.

# %% [markdown] lang="zh"
# **数据库**保管每次投递，直到处理完；**worker** 是单独的进程，取一次投递来处理；**broker** 传的消息只用来叫醒
# worker：消息里只写是哪次投递，别的什么也没有。`Queue` 在本机启动两个 Celery worker，数据库是一个 SQLite
# 文件，broker 是实验室自带的（`"embedded"`），怎么折腾都行。

# %%
queue = Queue(workers=2, broker="embedded")
queue

# %% [markdown] lang="en"
# `server.py` hands over to a background task, a thread and the queue; here a pool of two processes joins
# them. The work takes 0.3 s each way.

# %% [markdown] lang="zh"
# `server.py` 里有后台任务、线程和队列三种交法，这里再加一种：进程池（两个进程）。不管哪一种，处理都是 0.3 秒。


# %% tags=["app"]
SECONDS = 0.3


@asynccontextmanager
async def with_pool(app):
    server.app.state.work_seconds = SECONDS
    with ProcessPoolExecutor(2) as app.state.pool:
        app.state.pool.submit(int).result()  # start its processes now
        yield


app = FastAPI(lifespan=with_pool)


@app.post("/webhook-test/pool", status_code=202)
async def webhook_test_pool():
    app.state.pool.submit(time.sleep, SECONDS)


app.mount("/", server.app)
QUEUE = "/webhook-test/queue"
WAYS = {
    "background": "/webhook-test",
    "thread": "/webhook-test/thread",
    "pool": "/webhook-test/pool",
    "queue": QUEUE,
}
web = serve(app, on="process")


def one_each(ways):
    """Send one delivery each way, in this order; return when all the work is done."""
    sent = {way: web.post(WAYS[way], **delivery("push")) for way in ways}
    return Traces(sent[way] for way in WAYS).wait()


def pushes(number):
    return [delivery("push") for _ in range(number)]


# %% [markdown] lang="en"
# **Guess:** put the four in order: who answers first, whose work ends first?
#
# They are sent in an order drawn anew in each run, so that a warm-up, or a machine that gets busier, is
# not taken for a difference between them. Set `seed` to the number shown to repeat it.

# %% [markdown] lang="zh"
# **先猜**：给四种排个序：谁先响应？谁的处理先完成？
#
# 发送的先后顺序每次运行都随机打乱，免得把预热、或机器忙闲的变化误当成四种办法之间的差别；想重现某次的顺序，把 `seed`
# 设成那次显示的数。

# %%
seed = random.randrange(1000)
drawn = random.Random(seed).sample([*WAYS], len(WAYS))
print(f"{seed=}")

# %%
one_each(drawn)  # each way has been used once: warm
four = one_each(drawn)
four.frame()[["path", "answered", "finished"]]

# %%
timeline(four)

# %% [markdown] lang="en"
# **All four answer long before the work is done.** They differ in what the 202 means. The queue's says:
# a database has written the delivery to its disk. The other three say that it is in the memory of a
# process.
#
# ## Kill the web server
#
# Ten deliveries each way, of work that now takes the server 5 s, then SIGKILL to it. **Guess:** of each
# ten, how many get done?

# %% [markdown] lang="zh"
# **四种都远在处理完成之前响应**。不同的是 202 的含义。队列的 202 表示：数据库已经把这次投递写进了磁盘；另外三种的 202
# 只表示它在某个进程的内存里。
#
# ## 杀掉 Web 服务进程
#
# 服务器自己做的处理这回改成 5 秒。每种各投递十次，然后对服务器发 SIGKILL。**先猜**：每十个里有几个能做完？

# %%
SECONDS = 5  # the kill must meet all of them at work, however slow the machine
web = serve(app, on="process")
# The queue first: its workers begin meanwhile.
sent = {way: web.burst(WAYS[way], pushes(10)) for way in reversed(WAYS)}
web.signal(SIGKILL)
web.join()

states = {way: [task.state for task in sent[way].wait().tasks] for way in WAYS}
outcomes = pd.DataFrame(states).melt(var_name="way", value_name="state")
outcomes = pd.crosstab(outcomes["way"], outcomes["state"]).reindex([*WAYS])
outcomes

# %% [markdown] lang="en"
# **Only the queue's deliveries survive the process that has accepted them.** They were no longer in it.
# The work of the other three died with it, running or waiting, and each of those callers holds a 202.

# %% [markdown] lang="zh"
# **Web 服务进程被杀，只有队列里的投递不受影响**：它们早已不在这个进程里。另外三种，不管在运行还是在等待，都跟着它一起没了，
# 而那些调用方手里都拿着 202。

# %%
timeline(sent["queue"])

# %% [markdown] lang="en"
# ## Kill a worker
#
# One delivery, and its worker, now a slow one, is killed in the middle of it; a new one comes. **Guess:** is
# the work lost, done, or done twice?

# %% [markdown] lang="zh"
# ## 杀掉 worker
#
# 换上一个处理得慢的 worker。一次投递，处理到一半，这个 worker 被杀掉，再来一个新的。**先猜**：它丢了，做完了，还是做了两遍？

# %%
web = serve(server.app, on="process")
while queue.workers:
    queue.workers.pop().kill()
queue.add_workers(1, WORK_SECONDS=5)  # here, too, the kill must meet it at work
unlucky = web.burst(QUEUE, pushes(1)).wait_started()
queue.workers.pop().kill()
queue.add_workers(1)
timeline(unlucky)

# %% [markdown] lang="en"
# **The delivery was begun again, by another worker, and done.** A worker *leases* a delivery, here for
# 2 s, and renews the lease for as long as it works, be it an hour. A dead one renews nothing: when its
# lease has run out, the next worker takes the delivery.
#
# ## One effect
#
# So work may be *begun* twice. And a caller who is not sure sends twice. **Guess:** how many effects?

# %% [markdown] lang="zh"
# **这次投递由另一个 worker 重新开始，做完了**。worker 取走投递，就持有一份租约（lease），这里是 2 秒；只要还在处理就不断续租，
# 处理一小时也一样。死掉的 worker 不会续租：租约一到期，投递就归下一个 worker。
#
# ## 效果恰好一次
#
# 所以同一次投递可能被处理两遍。调用方拿不准时，也会再发一遍。**先猜**：效果有几次？

# %%
same = delivery("push")
twice = [web.post(QUEUE, **same) for _ in range(2)]
queue.wait()
queue.frame().value_counts(["starts", "effects"]).reset_index()

# %% [markdown] lang="en"
# **Every delivery has one effect, however often it was sent or started.** The database knows each by its
# `X-GitHub-Delivery`, and the worker writes the effect and "done" in one transaction. Written before the
# work, "done" would lose what a killed worker had; written later, by itself, it could give two effects.
# What leaves the house, such as a mail, happens at least once.

# %% [markdown] lang="zh"
# **不管发了几次、开始了几次，每次投递的效果都只有一次**，也就是幂等：数据库按 `X-GitHub-Delivery` 认得每次投递，worker
# 在同一个事务里写下效果（副作用）和“已完成”。“已完成”若写在处理之前，worker 一死任务就丢了；若事后另开事务来写，效果就可能有
# 两次。对外部系统的副作用（如发邮件）进不了这个事务，只能做到至少一次。

# %% [markdown] lang="en"
# ## Freeze the broker
#
# A broker that hangs is worse than a dead one: it accepts the connection and never answers. **Guess:**
# six deliveries come meanwhile: what do their callers get, and when is that work done?

# %% [markdown] lang="zh"
# ## 冻结 broker
#
# 卡住的 broker 比死掉的更糟：连接照收，就是不回话。**先猜**：这期间来六次投递，调用方得到什么？任务什么时候执行？

# %% tags=["stderr"]
queue.broker.freeze()
met = web.burst(QUEUE, pushes(6), at_once=6)
met.frame()[["status", "answered"]]

# %% tags=["stderr"]
queue.frame().value_counts(["state", "effects"]).reset_index()

# %% [markdown] lang="en"
# **All six got 202, and their work waits.** No answer depends on the broker. But the message that would
# wake a worker does not get through.
#
# ## Wipe the broker
#
# It is killed, its files are removed, and it starts anew: it knows of no delivery, not even of a queue.
# **Guess:** how many of the six get done?

# %% [markdown] lang="zh"
# **六次都得到 202，任务则在等待**：响应不依赖 broker，但叫醒 worker 的消息送不到。
#
# ## 清空 broker
#
# 杀掉它，删掉它的文件，再重新启动：它不知道有过什么投递，连队列都没有了。**先猜**：六次投递有几次能做完？

# %% tags=["stderr"]
queue.broker.wipe()
queue.wait()
queue.frame().value_counts(["state", "effects"]).reset_index()

# %% [markdown] lang="en"
# **All six were done: late, and none was lost.** Every second, each worker looks into the database for
# deliveries that have been due for two seconds, and sends the missing message itself. So a broker may
# lose, forget or repeat whatever it likes. What must not be lost is the database.

# %% [markdown] lang="zh"
# **六次都做完了：晚了一点，一个也没丢**。每个 worker 每秒都到数据库里看一眼：有该处理、却已过了两秒还没人取的投递，就自己补发那条消息。
# 所以 broker 丢消息、忘消息、重复发消息，都不要紧。丢不得的是数据库。

# %% [markdown] lang="en" tags=["long"]
# ## What each is for
#
# | answer | what it says |
# |-|-|
# | 202 | a database has the delivery on its disk |
# | 409 | this id belongs to another body: nothing was changed |
# | 503 | not known within 5 s: send it again, under the same id; that is still one delivery |
#
# - **Why a database?** It forgets nothing that it has committed, and takes the effect and "done" in one
#   transaction. What a broker forgets depends on its kind and its settings, and it has no part in that
#   transaction.
# - **Why still a broker?** It wakes an idle worker on any host within milliseconds, where looking takes
#   seconds. And Celery, which starts, limits and reconnects the workers, is an engine that others maintain.
# - **When PostgreSQL?** As soon as workers run on more than one host: a SQLite file serves the
#   processes of one.
#
# What others do: [procrastinate](https://procrastinate.readthedocs.io) needs no broker. It keeps its jobs
# in PostgreSQL, which wakes the workers with LISTEN/NOTIFY; jobs of a killed worker begin again when a
# periodic task of yours retries them. [taskiq](https://taskiq-python.github.io) runs `async` functions,
# too. Its broker, such as RabbitMQ, Redis or NATS, keeps the message: what survives depends on the broker
# that you choose.

# %% [markdown] lang="zh" tags=["long"]
# ## 各管什么
#
# | 响应 | 含义 |
# |-|-|
# | 202 | 数据库已把这次投递写进磁盘 |
# | 409 | 这个 id 属于另一个请求体：什么也没有改动 |
# | 503 | 五秒内无法确认：带着同一个 id 再发一次，仍算同一次投递 |
#
# - **为什么要数据库？** 提交过的，它不会忘；效果和“已完成”也能写进同一个事务。broker 会不会忘，要看种类和配置，那个事务它更参与不了。
# - **为什么还要 broker？** 空闲的 worker 不管在哪台主机上，它几毫秒就能叫醒；靠查数据库要等几秒。而启动 worker、限制时长、断线重连
#   这些事由 Celery 负责，它有专门的人维护。
# - **什么时候用 PostgreSQL？** worker 只要不在同一台主机上，就该用它：SQLite 文件只能供一台主机上的进程共用。
#
# 别的办法：[procrastinate](https://procrastinate.readthedocs.io) 不需要 broker，任务存在 PostgreSQL 里，靠 LISTEN/NOTIFY 叫醒
# worker；worker 被杀，它的任务要由你自己写的周期任务来重试。[taskiq](https://taskiq-python.github.io) 也能运行 `async` 函数，
# 消息由它的 broker（RabbitMQ、Redis、NATS 等）保管：什么丢不了，取决于选哪个 broker。

# %% [markdown] lang="en"
# ## More workers
#
# Twenty deliveries for 4, 2 and 1 workers; the work waits 0.05 s, as for a database. **Guess:** when is the
# last of them done, and does any caller wait for it?

# %% [markdown] lang="zh"
# ## 多几个 worker
#
# 二十次投递，每次等待 0.05 秒（像等数据库），交给 4、2、1 个 worker。**先猜**：最后一次什么时候做完？有调用方在等它吗？


# %%
def last_of_twenty():
    traces = web.burst(QUEUE, pushes(20)).wait()
    return max(traces, key=lambda trace: trace.sent + trace.finished)


def by_workers(**environment):
    queue.add_workers(4, WORK_SECONDS=0.05, **environment)
    last_of_twenty()  # warm
    ends = {}
    for number in (4, 2, 1):
        while len(queue.workers) > number:
            queue.workers.pop(0).kill()
        ends[number] = last_of_twenty()
    return dict(sorted(ends.items()))


# %%
waiting = by_workers()
growth(waiting, x="workers")

# %% [markdown] lang="en"
# **Work that waits gets faster with every worker; no answer waits for it.** Twenty background tasks that
# wait would all have run at once, on forty threads (lesson 3): on one machine a queue is not there for
# speed. Its gain is that work survives, and that the next worker may run on another machine.
#
# **Change one thing:** `growth(by_workers(WORK_KIND="compute"), x="workers")`. How much faster is that with
# four workers, and why?

# %% [markdown] lang="zh"
# **等待型的任务，多一个 worker 就快一分；没有一个响应要等它**。换成二十个只是等待的后台任务，有四十个线程，会
# 一齐跑完（第 3 课）：在一台机器上，用队列不是图快。它换来的是：任务不会丢，而且下一个 worker 可以放到另一台机器上。
#
# **改一处试试**：`growth(by_workers(WORK_KIND="compute"), x="workers")`。计算型的任务，四个 worker 快了几倍？为什么？

# %% [markdown] lang="en" tags=["long"]
# ## When to choose which
#
# | | background task | thread | process pool | queue |
# |-|-|-|-|-|
# | starts | after the answer | before it | before it | when a worker is free |
# | at once | 40, shared with `def` endpoints | no limit | as many as processes | as many as workers |
# | computing in pure Python | slows everybody down | the same | one core each | one core each, any machine |
# | SIGTERM | uvicorn waits for it | lost | uvicorn waits, if its `with` is in the lifespan; else lost | untouched |
# | SIGKILL | lost | lost | lost | begun again |
# | when it fails | uvicorn closes the connection | a traceback on stderr | silent | tried again, then set aside |
# | also to be run | nothing | nothing | nothing | a database, a broker and workers |
# | choose it for | what may be lost | work that releases the GIL and may be lost | computing that may be lost | what must be done |

# %% [markdown] lang="zh" tags=["long"]
# ## 什么时候选哪个
#
# | | 后台任务 | 线程 | 进程池 | 队列 |
# |-|-|-|-|-|
# | 何时开始 | 响应之后 | 响应之前 | 响应之前 | 有空闲 worker 时 |
# | 同时几个 | 40 个，与 `def` 端点共用 | 没有上限 | 进程数 | worker 数 |
# | 纯 Python 计算 | 拖慢所有人 | 同左 | 每个占一个核 | 每个占一个核，哪台机器都行 |
# | SIGTERM | uvicorn 等它做完 | 丢 | `with` 写在 lifespan 里，uvicorn 就等；否则丢 | 不受影响 |
# | SIGKILL | 丢 | 丢 | 丢 | 重新开始 |
# | 出错时 | uvicorn 关闭连接 | stderr 上一段调用栈 | 无声无息 | 重试，不行就搁置（相当于死信队列） |
# | 另外要运行 | 无 | 无 | 无 | 数据库、broker 和 worker |
# | 适合 | 丢了也无妨的任务 | 会释放 GIL、丢了也无妨的任务 | 丢了也无妨的计算 | 非做不可的任务 |

# %% [markdown] lang="en"
# **Change one thing:** in *Kill a worker*, add a second worker at the start and kill only
# `queue.workers[-1]`. Run it until it hits the one at work: who does the work now, and when?

# %% [markdown] lang="zh"
# **改一处试试**：在“杀掉 worker”里一开始就多加一个 worker，只杀 `queue.workers[-1]`。多运行几次，直到正好杀中在干活的
# 那个：现在由谁来处理？什么时候处理？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
assert all(trace.finished for trace in sent["queue"])
assert (outcomes.drop("queue")["finished"] < 10).all()
assert [task.state for task in unlucky.tasks] == ["lost", "finished"]
known = queue.frame().set_index("delivery")
assert (known["effects"] == 1).all() and (known["starts"] >= 1).all()
assert [trace.status for trace in twice] == [202, 202]
assert known.loc[same["headers"]["X-GitHub-Delivery"], "starts"] == 1
assert {trace.status for trace in met} == {202}
assert {task.state for task in met.wait().tasks} == {"finished"}

# %% [markdown] lang="en"
# **What we saw**
#
# - Work in a queue survives the web server, a worker and the broker, since a database has it; work in
#   its process does not survive.
# - The price: a database, a broker and workers to run, an answer that waits for a disk, and work that may
#   begin twice.
# - A broker that fails makes work late. Whoever gets no 202 sends again: it is still one delivery.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - Web 服务、worker 或 broker 崩溃，队列里的任务都不会丢，因为数据库里有；只在进程内存里的任务做不到。
# - 代价：要运行数据库、broker 和 worker，响应要等磁盘，同一任务可能开始两次。
# - broker 出故障，任务只会晚，不会丢。没拿到 202 就再发一次：仍算同一次投递。

# %% [markdown] lang="en"
# ## Exercises
#
# **1.** Everything at once. Send a queue `own` with one worker ten deliveries (`queued`), and while it is at
# work kill the web server and the worker, and wipe the broker. Then add a worker. How many effects are
# there in the end?

# %% [markdown] lang="zh"
# ## 练习
#
# **1.** 祸不单行。另开一个队列 `own`，一个 worker。投递十次（`queued`），趁 worker 还在处理，杀掉 Web 服务进程和
# worker，清空 broker，最后加一个 worker。最终有几次效果？

# %% tags=["solution"]
own = Queue(workers=1, broker="embedded", WORK_SECONDS=0.1)
web = serve("server:app", on="process")
queued = web.burst(QUEUE, pushes(10))
web.signal(SIGKILL)
own.workers[0].kill()
own.broker.wipe()
own.add_workers(1)
own.wait()

# %%
check(
    ten_were_accepted=lambda: [trace.status for trace in queued] == [202] * 10,
    each_has_one_effect=lambda: own.frame()["effects"].tolist() == [1] * 10,
)

# %% [markdown] lang="en"
# **2.** Work that hangs must not be tried for ever. `Queue(WORK_SECONDS=5, MOST_SECONDS=1)` gives up each
# attempt after 1 s. Send such a queue, `own`, one delivery, `stuck`; wait; keep `aside = own.frame()` and
# read `!{sys.executable} -m webhooks aside`. Then mend the cause, with a worker that has
# `WORK_SECONDS=0.1` in place of the old one, and `own.replay` its id.

# %% [markdown] lang="zh"
# **2.** 卡住的任务不能无限重试。`Queue(WORK_SECONDS=5, MOST_SECONDS=1)` 让每次尝试最多 1 秒。给这样的队列
# `own` 一次投递 `stuck`，等到结束，留下 `aside = own.frame()`，再看看 `!{sys.executable} -m webhooks aside`。
# 然后除掉病根：换上一个 `WORK_SECONDS=0.1` 的 worker，用 `own.replay` 重放它的 id。

# %% tags=["solution"] lang="en"
own = Queue(workers=1, broker="embedded", WORK_SECONDS=5, MOST_SECONDS=1)
web = serve("server:app", on="process")
stuck = delivery("push")
hung = web.post(QUEUE, **stuck).wait()
own.wait()
aside = own.frame()
print(check_output([sys.executable, "-m", "webhooks", "aside"], text=True))
own.workers[0].kill()
own.add_workers(1, WORK_SECONDS=0.1)
own.replay(stuck["headers"]["X-GitHub-Delivery"])
own.wait()
timeline(hung)  # three attempts, the pauses between them longer and longer, and the last

# %% tags=["solution"] lang="zh"
own = Queue(workers=1, broker="embedded", WORK_SECONDS=5, MOST_SECONDS=1)
web = serve("server:app", on="process")
stuck = delivery("push")
hung = web.post(QUEUE, **stuck).wait()
own.wait()
aside = own.frame()
print(check_output([sys.executable, "-m", "webhooks", "aside"], text=True))
own.workers[0].kill()
own.add_workers(1, WORK_SECONDS=0.1)
own.replay(stuck["headers"]["X-GitHub-Delivery"])
own.wait()
timeline(hung)  # 前三次尝试，间隔越来越长；最后是重放的一次

# %%
check(
    it_lay_aside=lambda: aside["state"].tolist() == ["aside"],
    it_was_tried_three_times=lambda: aside["starts"].tolist() == [3],
    it_was_done_when_replayed=lambda: own.frame()["effects"].tolist() == [1],
)

# %% [markdown] lang="en"
# **3.** Send `stuck` once more, and then its id with another body. What do the two callers get (`again`,
# `other`), and how many effects are there?

# %% [markdown] lang="zh"
# **3.** 把 `stuck` 再发一次，然后用它的 id 发一个不同的请求体。两个调用方各得到什么（`again`、`other`）？效果有几次？

# %% tags=["solution"]
again = web.post(QUEUE, **stuck)
other = web.post(QUEUE, headers=stuck["headers"], content=b"{}")
own.wait()

# %%
check(
    the_same_is_accepted=lambda: again.status == 202,
    another_body_is_refused=lambda: other.status == 409,
    there_is_one_effect=lambda: own.frame()["effects"].tolist() == [1],
)

# %% [markdown] lang="en"
# **In practice.** A worker on another machine needs this code and two variables:
# `CELERY_BROKER_URL=redis://broker.example:6379/0 DATABASE_URL=postgresql://db.example/webhooks celery -A webhooks.worker worker`.
# Watch `python -m webhooks waiting` and `python -m webhooks aside`: nothing else reports what
# waits too long, or waits for you. Back the database up, as you would any other.
#
# Next: [9. Check the guide](09_check_the_guide.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：另一台机器上的 worker，只要有这份代码和两个变量：
# `CELERY_BROKER_URL=redis://broker.example:6379/0 DATABASE_URL=postgresql://db.example/webhooks celery -A webhooks.worker worker`。
# 要常看 `python -m webhooks waiting` 和 `python -m webhooks aside`：哪些等得太久，哪些被搁置、等着人来管，别人不会来告诉你。
# 这个数据库和别的数据库一样，要做备份。
#
# 下一课：[9. 核对指南](09_check_the_guide.ipynb)
