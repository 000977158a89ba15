# %% [markdown] lang="en"
# # 2. Run several tasks one after another
#
# **Do** add two tasks, then eight, then send five requests at once. **Learn** what runs in series and
# what does not. **Need** lesson 1.

# %% [markdown] lang="zh"
# # 2. 多个任务，一个接一个
#
# **动手**：先添加两个任务，再添加八个，再同时发五个请求。**收获**：知道什么是串行的，什么不是。**前置**：第 1 课。

# %%
import time

from fastapi import BackgroundTasks, FastAPI

from lab import Trace, check, growth, serve, timeline

# %% [markdown] lang="en"
# An app of our own this time, with the guide's `task_1` and `task_2`. Any ASGI app can be served and
# watched, as it is.

# %% [markdown] lang="zh"
# 这次用自己写的应用，里面是指南里的 `task_1` 和 `task_2`。任何 ASGI 应用都可以原样拿来启动和观察。

# %% tags=["app"]
app = FastAPI()


def task_1():
    time.sleep(0.3)


def task_2():
    time.sleep(0.2)


@app.post("/two", status_code=202)
async def two(background_tasks: BackgroundTasks):
    background_tasks.add_task(task_1)
    background_tasks.add_task(task_2)


web = serve(app)

# %% [markdown] lang="en"
# **Guess:** when does `task_2` start: with `task_1`, or after it?

# %% [markdown] lang="zh"
# **先猜**：`task_2` 什么时候开始，和 `task_1` 一起，还是在它之后？

# %%
trace = web.post("/two")
timeline(trace)

# %% [markdown] lang="en"
# **A staircase: each task waits for the one before it.** All tasks of a response are run by one loop,
# `for task in tasks: await task()`, and that is all. The guide says "by default", but there is no other
# mode.

# %% [markdown] lang="zh"
# **一级级台阶：每个任务都等前一个做完**。
# 一个响应的所有任务由同一个循环执行：`for task in tasks: await task()`，如此而已。没有别的选项：指南所说的“默认情况下”就是唯一的情况。

# %% [markdown] lang="en"
# ## One to eight tasks
#
# **Guess:** with N tasks of 0.1 s each, how do `answered` and `finished` grow with N?

# %% [markdown] lang="zh"
# ## 一到八个任务
#
# **先猜**：N 个任务，每个 0.1 秒，`answered` 和 `finished` 怎样随 N 变化？


# %%
@app.post("/many/{number}", status_code=202)
async def many(number: int, background_tasks: BackgroundTasks):
    for _ in range(number):
        background_tasks.add_task(time.sleep, 0.1)


by_number = {number: web.post(f"/many/{number}").wait() for number in range(1, 9)}

# %%
growth(by_number)

# %% [markdown] lang="en"
# **The answer stays flat; the end of the work is a straight line.** Its slope is the length of one
# task. Ten e-mails of a second each, added as ten tasks, are ten seconds of work whatever the number
# of threads.

# %% [markdown] lang="zh"
# **响应时间是平的，完成时间是一条直线**，斜率就是一个任务的时长。十封邮件各要一秒，添加成十个任务就要
# 十秒才能发完，有多少线程都一样。

# %% [markdown] lang="en"
# ## Five requests at once
#
# **Guess:** five callers, two tasks each. Do the tasks of the second caller wait for those of the
# first?

# %% [markdown] lang="zh"
# ## 同时来五个请求
#
# **先猜**：五个调用方，各有两个任务。第二个调用方的任务要等第一个的做完吗？

# %%
five = web.burst("/two", [{}] * 5, at_once=5)
timeline(five)

# %% [markdown] lang="en"
# **In series within a request, side by side across requests.** "One after another" holds for the
# tasks of one response only. Two tasks that must not overlap need a lock or a queue: the order within
# a response does not protect them.

# %% [markdown] lang="zh"
# **同一请求之内是串行的，不同请求之间是并行的**。“一个接一个”只对同一个响应的任务成立。不能同时执行的两个任务，
# 要靠锁或队列来互斥；同一响应内的先后顺序管不到别的请求。

# %% [markdown] lang="en"
# **Change one thing:** swap the two `add_task` lines in the app's cell, run it and the cells below it.
# `serve` replaces the old server. What changes, and what does not?

# %% [markdown] lang="zh"
# **改一处试试**：把应用里两行 `add_task` 对调，重新运行那一格和下面的各格。`serve` 会替换掉旧的服务器。
# 什么变了，什么没变？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查


# %%
def in_order(request: Trace) -> bool:
    tasks = request.tasks
    return all(one.finished <= next.started for one, next in zip(tasks, tasks[1:]))


assert all(map(in_order, [trace, *by_number.values(), *five]))
assert [task.name for task in trace.tasks] == ["task_1", "task_2"]
starts = [request.sent + request.tasks[0].started for request in five]
ends = [request.sent + request.finished for request in five]
assert max(starts) < min(ends)  # all five were at work together

# %% [markdown] lang="en"
# **What we saw**
#
# - Tasks of one response run in the order in which they were added, each after the one before.
# - `answered` does not depend on their number; `finished` is their sum.
# - Tasks of different requests overlap.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - 同一响应的任务按添加的顺序串行执行，一个做完再做下一个。
# - `answered` 与任务个数无关；`finished` 是各任务时长之和。
# - 不同请求的任务彼此重叠。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** Three pieces of work of 0.2 s should end after about 0.2 s, not 0.6 s, and still run behind the
# answer. Write an endpoint with *one* task that runs them side by side (`asyncio.gather`), send it a
# request, and call that `together`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 三项工作各要 0.2 秒，希望约 0.2 秒（而不是 0.6 秒）全部做完，而且仍在响应之后进行。写一个端点，
# 只添加一个任务，让三项工作并行（`asyncio.gather`）；再向它发一个请求，就叫 `together`。

# %% tags=["solution"]
import asyncio


async def side_by_side():
    await asyncio.gather(*(asyncio.sleep(0.2) for _ in range(3)))


@app.post("/gathered", status_code=202)
async def gathered(background_tasks: BackgroundTasks):
    background_tasks.add_task(side_by_side)


together = web.post("/gathered")
timeline(together)

# %%
check(
    one_task=lambda: [task.runner for task in together.wait().tasks].count("background") == 1,
    after_the_answer=lambda: together.responded < together.tasks[0].started,
)

# %% [markdown] lang="en"
# **2.** `add_task(task_1)` and `add_task(task_1())` differ by two characters. What does the second one
# do to the answer? Call your request `mistake`, and look at its `log`.

# %% [markdown] lang="zh"
# **2.** `add_task(task_1)` 和 `add_task(task_1())` 只差两个字符。后者对响应有什么影响？你的请求就叫
# `mistake`，看看它的 `log`。


# %% tags=["solution"] lang="en"
@app.post("/called", status_code=202)
async def called(background_tasks: BackgroundTasks):
    background_tasks.add_task(task_1())


mistake = web.post("/called")
timeline(mistake)  # task_1 ran before the answer; what was added is its None, not callable


# %% tags=["solution"] lang="zh"
@app.post("/called", status_code=202)
async def called(background_tasks: BackgroundTasks):
    background_tasks.add_task(task_1())


mistake = web.post("/called")
timeline(mistake)  # task_1 在响应之前就运行了；添加的是它的返回值 None，不可调用

# %%
check(
    failed=lambda: mistake.wait().tasks[0].state == "failed",
    type_error=lambda: any("TypeError" in line for line in mistake.wait().log),
)

# %% [markdown] lang="en"
# **In practice.** Add work that must happen in order as separate tasks, and put work that may happen
# together into one task. Work that must never overlap with that of other requests belongs in a queue
# with one worker.
#
# Next: [3. Loop or thread](03_loop_or_thread.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：必须依次进行的，添加成几个任务；可以一起进行的，放进同一个任务。绝不能与其他请求的任务同时执行的，
# 交给只有一个 worker 的队列。
#
# 下一课：[3. 事件循环还是线程](03_loop_or_thread.ipynb)
