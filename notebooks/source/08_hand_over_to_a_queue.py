# %% [markdown] lang="en"
# # 8. Hand the work over to a queue
#
# **Do** give the same webhook to a background task, a thread, a process pool and a Celery queue; kill
# the web server and a worker, freeze the broker. **Learn** what each of the four loses, and what safety
# costs. **Need** lessons 2, 4 and 6, and Linux or macOS.

# %% [markdown] lang="zh"
# # 8. 把任务交给任务队列
#
# **动手**：同一个 webhook，分别交给后台任务、线程、进程池和 Celery 队列；杀掉 Web 服务进程，杀掉 worker，冻结
# broker。**收获**：知道各会丢掉什么，又要付出什么代价。**前置**：第 2、4、6 课；要用 Linux 或 macOS。

# %%
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from signal import SIGKILL

import pandas as pd
from fastapi import FastAPI

import server
from lab import Queue, Traces, check, delivery, growth, serve, timeline

# %% [markdown] lang="en"
# A **broker** keeps messages; a **worker**, a process of its own, takes one, works on it, and then
# *acknowledges* it. `Queue` starts a broker on this machine and one Celery worker. With
# `CELERY_BROKER_URL` set, it uses that Redis or RabbitMQ instead.

# %% [markdown] lang="zh"
# **broker** 保管消息；**worker** 是单独的进程，取一条，处理完，再确认（acknowledge）。`Queue` 在本机启动一个
# broker 和一个 Celery worker。若设了 `CELERY_BROKER_URL`，就改用那里的 Redis 或 RabbitMQ。

# %%
queue = Queue(workers=1, WORK_SECONDS=0.5)
queue

# %% [markdown] lang="en"
# `server.py` hands over in the first three ways and to the queue. The pool, with two processes, has a
# small app of its own; its work takes as long.

# %% [markdown] lang="zh"
# `server.py` 里有后台任务、线程和队列三种交法。进程池（两个进程）另写一个小应用，处理时间一样长。


# %% tags=["app"]
@asynccontextmanager
async def with_pool(app):
    with ProcessPoolExecutor(2) as app.state.pool:
        yield


pooled = FastAPI(lifespan=with_pool)


@pooled.post("/webhook-test/pool", status_code=202)
async def to_pool():
    pooled.state.pool.submit(time.sleep, 0.5)


server.app.state.work_seconds = 0.5
QUEUE = "/webhook-test/queue"
WAYS = {
    "background": "/webhook-test",
    "thread": "/webhook-test/thread",
    "pool": "/webhook-test/pool",
    "queue": QUEUE,
}


def start():
    """A server for each way, warm: it has been used once."""
    web, pool = serve(server.app, on="process"), serve(pooled, on="process")
    servers = {"background": web, "thread": web, "pool": pool, "queue": web}
    one_each(servers)
    return servers


def one_each(servers):
    return Traces(servers[way].post(WAYS[way], **delivery("push")) for way in WAYS).wait()


def work(traces):
    """The tasks, less the call that gives a delivery to the broker."""
    return [task for task in traces.tasks if task.name != "publish"]


def pushes(number):
    return [delivery("push") for _ in range(number)]


servers = start()

# %% [markdown] lang="en"
# **Guess:** put the four in order: who answers first, whose work ends first?

# %% [markdown] lang="zh"
# **先猜**：给四种排个序：谁先响应？谁的处理先完成？

# %%
four = one_each(servers)
four.frame()[["path", "answered", "finished"]]

# %%
timeline(four)

# %% [markdown] lang="en"
# **All four answer long before the work is done; the queue's answer takes a little longer.** It waits
# until the broker has stored the delivery (`publish` in the figure). That is what its caller gets for
# waiting: the other three answers promise nothing.
#
# ## Kill the web server
#
# Ten deliveries each way, then SIGKILL to both servers. **Guess:** of each ten, how many get done?

# %% [markdown] lang="zh"
# **四种都远在处理完成之前响应；队列的响应稍慢一点**。它要等 broker 把这次投递记下来（图中的 `publish`）。
# 调用方多等的这一点，换来的是承诺；另外三个响应什么也没承诺。
#
# ## 杀掉 Web 服务进程
#
# 每种各投递十次，然后对两台服务器发 SIGKILL。**先猜**：每十个里有几个能做完？

# %%
sent = {way: servers[way].burst(WAYS[way], pushes(10)) for way in reversed(WAYS)}
for web in set(servers.values()):
    web.signal(SIGKILL)
    web.join()
queue.add_workers(1)

# %%
states = {way: [task.state for task in work(sent[way].wait())] for way in WAYS}
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
# One delivery, and all workers are killed in the middle of it; a new one comes. **Guess:** is the work lost, done, or done twice?

# %% [markdown] lang="zh"
# ## 杀掉 worker
#
# 一次投递，处理到一半，worker 全被杀掉，再来一个新的。**先猜**：它丢了，做完了，还是做了两遍？

# %%
servers = start()
web = servers["queue"]
unlucky = web.burst(QUEUE, pushes(1)).wait_started()
for worker in queue.workers:
    if not worker.ended:
        worker.kill()
queue.add_workers(1)
timeline(unlucky)

# %% [markdown] lang="en"
# **The broker gives an unacknowledged delivery to the next worker.** RabbitMQ sees the connection
# break and does so at once. Redis, and the broker that you have here, cannot see it: they wait for the
# visibility timeout, which must be longer than any work takes.
#
# ## At least once
#
# So work may be *begun* twice. That it has its *effect* once is up to us: the worker writes the
# effect and the mark "this `X-GitHub-Delivery` is done" in one transaction.

# %% [markdown] lang="zh"
# **没有确认的投递，broker 会交给下一个 worker**。RabbitMQ 看到连接断开，马上就转交。Redis（以及这里用的 broker）
# 看不到：超过可见性超时（visibility timeout，要设得比最长的任务还长）仍未确认，才重新投递。
#
# ## 至少一次
#
# 所以一次投递可能被处理两次。让它的效果（副作用）恰好一次，也就是幂等，是我们自己的事：worker 在同一个事务里写下效果，
# 和“这个 `X-GitHub-Delivery` 已完成”的标记。

# %%
same = delivery("push")
twice = Traces(web.post(QUEUE, **same) for _ in range(2)).wait()
queue.effects.frame().value_counts(["starts", "effects"]).reset_index()

# %% [markdown] lang="en"
# **Every delivery has one effect, however often it was started.** With the mark before the work, a
# killed worker would lose it; with the mark after, in a transaction of its own, it could have two
# effects. Effects outside the database, such as an e-mail, happen at least once.
#
# One gap is left: Redis hands a delivery out before it has recorded which worker holds it. So the
# service notes accepted deliveries in an outbox.

# %% [markdown] lang="zh"
# **不管开始了几次，效果都只有一次**。先做标记再处理，worker 一死任务就丢了；处理完再另开事务做标记，效果就可能有两次。
# 对外部系统的副作用（如发邮件）进不了本地事务，只能做到至少一次。
#
# 还剩一个空当：有那么一瞬间，Redis 已经把投递给了出去，却还没记下给了谁。所以服务把接收的投递另记在发件箱
# （outbox）里。

# %% [markdown] lang="en"
# ## Freeze the broker
#
# A broker that hangs is worse than a dead one: it accepts the connection and never answers. **Guess:**
# six deliveries come meanwhile: what do their callers get, and will that work be done?

# %% [markdown] lang="zh"
# ## 冻结 broker
#
# 卡住的 broker 比死掉的更糟：连接照收，就是不回话。**先猜**：这期间来六次投递，调用方得到什么？任务会执行吗？

# %%
own = Queue(workers=1, broker="embedded", WORK_SECONDS=0.1)
web = serve("server:app", on="process")
warm = web.burst(QUEUE, pushes(6), at_once=6).wait()

# %%
own.broker.freeze()
refused = web.burst(QUEUE, pushes(6), at_once=6)
own.broker.thaw()
web.post(QUEUE, **delivery("push")).wait()
answers = refused.frame()[["status"]]
answers["work"] = [task.state for task in work(refused)]
answers.value_counts().reset_index()

# %% [markdown] lang="en"
# **All got 503, within a bounded time, and the work was done all the same.** The broker found
# the deliveries in its connections when it woke up. A 503 means "I do not know that it is queued", not
# "it is not queued". The caller should send again, with the same id, and *effect once* does the rest.

# %% [markdown] lang="zh"
# **在限定时间内全都得到 503，任务照样执行了**。broker 醒来，发现连接里还躺着那些投递。503 的意思是“我不知道它
# 有没有入队”，不是“它没有入队”。调用方应该带着同一个 id 再发一次，幂等会保证效果只有一次。

# %% [markdown] lang="en"
# ## Add workers
#
# Twenty deliveries, 0.1 s each, for 1, 2 and 4 workers: first waiting, as for a database, then
# computing. **Guess:** which of the two becomes four times as fast?

# %% [markdown] lang="zh"
# ## 增加 worker
#
# 二十次投递，每次 0.1 秒，交给 1、2、4 个 worker：先是等待型的任务（像等数据库），再是计算型的。**先猜**：哪一种能快到四倍？


# %%
def last_of_twenty(web):
    traces = web.burst(QUEUE, pushes(20)).wait()
    return max(traces, key=lambda trace: trace.sent + trace.finished)


def with_more_and_more(queue, web):
    web.post(QUEUE, **delivery("push")).wait()
    ends = {1: last_of_twenty(web)}
    for more in (1, 2):
        queue.add_workers(more)
        ends[len(queue.workers)] = last_of_twenty(web)
    return ends


waiting = with_more_and_more(own, web)
growth(waiting, x="workers")

# %%
own = Queue(workers=1, broker="embedded", WORK_SECONDS=0.1, WORK_KIND="compute")
computing = with_more_and_more(own, serve("server:app", on="process"))
growth(computing, x="workers")

# %% [markdown] lang="en"
# **Work that waits gets faster with every worker, work that computes only up to the number of cores.**
# Twenty background tasks that wait would all have run at once, on forty threads (lesson 3): on one
# machine a queue is not there for speed. Its gain is that work survives, and that the next worker may
# run on another machine.

# %% [markdown] lang="zh"
# **等待型的任务，多一个 worker 就快一分；计算型的只快到核数为止**。换成二十个只是等待的后台任务，有四十个线程，会
# 一齐跑完（第 3 课）：在一台机器上，用队列不是图快。它换来的是：任务不会丢，而且下一个 worker 可以放到另一台机器上。

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
# | also to be run | nothing | nothing | nothing | a broker and workers |
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
# | 另外要运行 | 无 | 无 | 无 | broker 和 worker |
# | 适合 | 丢了也无妨的任务 | 会释放 GIL、丢了也无妨的任务 | 丢了也无妨的计算 | 非做不可的任务 |

# %% [markdown] lang="en"
# **Change one thing:** in *Kill a worker*, add a worker at the start and kill only
# `queue.workers[-1]`. Run it until it hits the one at work: who does the work now, and when?

# %% [markdown] lang="zh"
# **改一处试试**：在“杀掉 worker”里一开始就多加一个 worker，只杀 `queue.workers[-1]`。多运行几次，直到正好杀中在干活的
# 那个：现在由谁来处理？什么时候处理？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
assert outcomes.loc["queue", "finished"] == 10
assert (outcomes.drop("queue")["finished"] < 10).all()
assert [task.state for task in work(unlucky)] == ["lost", "finished"]
effects = queue.effects.frame()
assert (effects["effects"] == 1).all() and (effects["starts"] >= 1).all()
assert effects.set_index("delivery").loc[same["headers"]["X-GitHub-Delivery"], "starts"] == 2
assert set(answers["status"]) == {503} and "finished" in set(answers["work"])

# %% [markdown] lang="en"
# **What we saw**
#
# - Work in a queue survives the web server, a worker and the broker; work in its process does not.
# - The price: a broker and workers to run, a slower answer, and work that may begin twice.
# - 503 does not prove that nothing was queued: the work must be safe to ask for twice (idempotent).

# %% [markdown] lang="zh"
# **我们看到了**
#
# - Web 服务、worker 或 broker 崩溃，队列里的任务都不会丢；只在进程内存里的任务做不到。
# - 代价：要运行 broker 和 worker，响应稍慢，同一任务可能开始两次。
# - 503 不能证明没有入队，所以处理必须幂等，经得起重复投递。

# %% [markdown] lang="en"
# ## Exercises
#
# **1.** In a queue `own` with one worker, kill the broker with ten deliveries waiting (`queued`; freeze the
# worker first), restart it, thaw the worker. How many effects are there in the end?

# %% [markdown] lang="zh"
# ## 练习
#
# **1.** 另开一个队列 `own`，一个 worker。让十次投递（`queued`）在队里等着（先冻结 worker），杀掉 broker，再重启它，
# 最后解冻 worker。最终有几次效果？

# %% tags=["solution"]
own = Queue(workers=1, broker="embedded", WORK_SECONDS=0.05)
web = serve("server:app", on="process")
own.workers[0].freeze()
queued = web.burst(QUEUE, pushes(10))
own.broker.kill()
own.broker.restart()
own.workers[0].thaw()
queued.wait(60)

# %%
check(
    all_are_over=lambda: len(queued) == 10 and all(trace.settled for trace in queued),
    each_has_one_effect=lambda: sum(own.effects.tally.values()) == 10,
)

# %% [markdown] lang="en"
# **2.** A delivery that kills its worker every time must not do so for ever. Take one, with its `name`
# (the `X-GitHub-Delivery`), and call `own.effects.begin(name, "killed")` three times, as three dying
# workers would. Send it, keep `aside = own.effects.aside`, then `own.replay(name)`.

# %% [markdown] lang="zh"
# **2.** 总让 worker 崩溃的投递（毒消息）不能无限重试。取一次投递，记下它的 `name`（即 `X-GitHub-Delivery`），调用三次
# `own.effects.begin(name, "killed")`（三个崩溃的 worker 留下的就是这个），再投出去，留下
# `aside = own.effects.aside`，然后 `own.replay(name)`。

# %% tags=["solution"] lang="en"
poison = delivery("push")
name = poison["headers"]["X-GitHub-Delivery"]
for _ in range(3):
    own.effects.begin(name, "killed")
web.post(QUEUE, **poison)
web.post(QUEUE, **delivery("push")).wait()  # one worker: it comes after
aside = own.effects.aside
own.replay(name)
web.post(QUEUE, **delivery("push")).wait()

# %% tags=["solution"] lang="zh"
poison = delivery("push")
name = poison["headers"]["X-GitHub-Delivery"]
for _ in range(3):
    own.effects.begin(name, "killed")
web.post(QUEUE, **poison)
web.post(QUEUE, **delivery("push")).wait()  # 只有一个 worker，它排在后面
aside = own.effects.aside
own.replay(name)
web.post(QUEUE, **delivery("push")).wait()

# %%
check(
    it_lay_aside=lambda: [each.delivery for each in aside] == [name],
    it_was_done_when_replayed=lambda: name in own.effects.done,
)

# %% [markdown] lang="en"
# **In practice.** A worker on another machine needs this code and one variable:
# `CELERY_BROKER_URL=redis://broker.example:6379/0 celery -A webhooks.worker worker`. Effects happen
# once for all workers that share one database; here it is a file, across machines it must be a server.
# Watch the length of the queue and the deliveries that were set aside: nothing else reports them.
#
# Next: [9. Check the guide](09_check_the_guide.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：另一台机器上的 worker，
# 只要有这份代码和一个变量：`CELERY_BROKER_URL=redis://broker.example:6379/0 celery -A webhooks.worker worker`。共用同一个数据库的 worker 之间，
# 效果恰好一次（effectively once）；这里是一个文件，跨机器就得是数据库服务器。要盯着队列的长度和被搁置的投递：
# 别人不会来告诉你。
#
# 下一课：[9. 核对指南](09_check_the_guide.ipynb)
