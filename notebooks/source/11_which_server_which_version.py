# %% [markdown] lang="en"
# # 11. Which server, which version
#
# **Do** end one server of your choice in the middle of its work, let a task fail on it, and try nine
# claims on the versions you have; then look at what others do. **Learn** what is the server's, what the
# framework's, and since when. **Need** lessons 5 and 6, and Linux or macOS.

# %% [markdown] lang="zh"
# # 11. 哪种服务器，哪个版本
#
# **动手**：选一种服务器，在任务做到一半时结束它，再让一个任务在它上面失败；用你装的版本试九条说法；然后看别的怎么样。
# **收获**：分清哪些由服务器决定，哪些由框架决定，从哪个版本开始。**前置**：第 5、6 课；Linux 或 macOS。

# %%
import pandas as pd

from lab import check, lanes
from lab.radar.claims import keeps_connection
from lab.radar.drawn import claims, draw_radar, frame
from lab.radar.kept import kept_stopped, known
from lab.radar.run import started, stopped, tried
from lab.radar.sets import SERVERS

list(SERVERS)

# %% [markdown] lang="en"
# The same app runs on each of them, with the newest FastAPI. Choose one. uvicorn is here already; any
# other is installed into an environment of its own, which takes a network and half a minute.

# %% [markdown] lang="zh"
# 同一个应用，同样的最新版 FastAPI，可以跑在其中任何一种上。选一种。uvicorn 已经装好；
# 选别的，会装到一个单独的环境里，需要网络，大约半分钟。

# %%
server = "uvicorn"

# %% [markdown] lang="en"
# ## SIGTERM
#
# `/two` has an async task at work and another queued behind it; `/sleep` a `def` task; `/thread` a
# plain thread. **Guess:** which of the four are finished when the server is told to end?

# %% [markdown] lang="zh"
# ## SIGTERM
#
# `/two` 有一个正在运行的异步任务，后面还排着一个；`/sleep` 是一个 `def` 任务；`/thread` 是一个普通线程。
# **先猜**：让服务器结束时，这四个里哪些能做完？

# %%
mine = stopped(server)
lanes(mine)

# %% [markdown] lang="en"
# **What happens to work at SIGTERM is up to the server: FastAPI has no say in it.** Here are all six, as
# they were recorded:

# %% [markdown] lang="zh"
# **收到 SIGTERM 时任务的下场由服务器决定，FastAPI 说了不算。** 下面是事先录下的全部六种：

# %%
recorded = {name: kept_stopped(name) for name in SERVERS}
for name, traces in recorded.items():
    print(name)
    lanes(traces)

# %% [markdown] lang="en"
# **granian stops its event loop at once: an async task does not go on, and neither an exception nor a
# `finally` tells it so.** The process then waits for its threads, so that the `def` task is finished; when
# it exits, the async task is lost. uvicorn waits for its tasks, and not for threads.

# %% [markdown] lang="zh"
# **granian 立刻停掉事件循环：异步任务就停在那里，收不到异常，`finally` 也不执行。** 进程随后还会等自己的线程，
# 所以 `def` 任务做完了；进程一退出，异步任务就丢失了。uvicorn 会等任务，但不等线程。

# %% [markdown] lang="en"
# ## A task fails
#
# The client keeps its connection and sends the next request on it. **Guess:** is that one answered?

# %% [markdown] lang="zh"
# ## 一个任务失败
#
# 客户端保持连接不断，接着在上面发下一个请求。**先猜**：这个请求会有响应吗？

# %%
with started(server) as web:
    answered = keeps_connection(lambda: web)
answered

# %% [markdown] lang="en"
# **uvicorn and gunicorn close a connection on which a background task has failed; hypercorn and granian
# keep it.** What else the servers do, each cell tried ten times:

# %% [markdown] lang="zh"
# **后台任务失败之后，uvicorn 和 gunicorn 会关掉它的连接；hypercorn 和 granian 不关。** 服务器之间的其他差别如下，每格试了十次：

# %%
radar = known()
draw_radar(radar, "servers")

# %% [markdown] lang="en"
# ## Versions
#
# Nine claims about FastAPI. **Guess** which of them hold with the versions that you have here:

# %% [markdown] lang="zh"
# ## 版本
#
# 关于 FastAPI 的九条说法。**先猜**：用这里装的版本，哪几条成立？

# %% lang="en"
texts = claims()

# %% lang="zh"
texts = claims(language="zh")

# %%
with started("uvicorn") as web:
    here = tried(web)
pd.Series(here).rename(texts)

# %% [markdown] lang="en"
# **That the answer leaves first has held in every version; nearly all that one builds on it has turned at
# least once.** Each column is one FastAPI, with the Starlette of its time:

# %% [markdown] lang="zh"
# **“响应先离开”在每个版本里都成立；建立在它上面的东西，却几乎都变过。** 每一列是一个 FastAPI 版本，配当时的 Starlette：

# %%
draw_radar(radar, "versions")

# %% [markdown] lang="en"
# With 0.115 and 0.117 a dependency with `yield` exited before the task, and an upload was closed by then.
# Behind a `BaseHTTPMiddleware`, a connection stood still until the task was done (0.68, 0.78, 0.105), and
# a client who left cancelled the task (0.78).

# %% [markdown] lang="zh"
# 在 0.115 和 0.117 里，带 `yield` 的依赖在任务之前就退出，上传的文件那时已经关闭。有 `BaseHTTPMiddleware` 时，
# 连接要等任务做完才能再用（0.68、0.78、0.105）；客户端一离开，任务就被取消（0.78）。

# %% [markdown] lang="en"
# **Change one thing:** set `server` to another name, and run again from there. Which lane changes?

# %% [markdown] lang="zh"
# **改一处试试**：把 `server` 换成另一个名字，从那里重新运行。哪条泳道变了？

# %% [markdown] lang="en"
# ## Check

# %% [markdown] lang="zh"
# ## 检查

# %%
states = {name: [task.state for task in traces.tasks] for name, traces in recorded.items()}
assert states["uvicorn"][:3] == ["finished", "finished", "finished"]
assert states["granian"][:3] == ["lost", "never ran", "finished"]
assert [task.name for task in mine.tasks] == ["wait", "nothing", "sleep", "sleep"]
if server == "uvicorn":
    assert [task.state for task in mine.tasks] == states["uvicorn"]
    assert answered == "no"
assert here == {
    claim: cell.verdict for claim, cell in list(radar.versions.values())[-1].cells.items()
}

# %% [markdown] lang="en"
# **What we saw**
#
# - What SIGTERM does to a task, and what a failed task does to its connection, is the server's.
# - When a dependency exits, whether an upload can be read, what a middleware delays, is the version's.
# - The answer left before the work with every version and every server that was tried.

# %% [markdown] lang="zh"
# **我们看到了**
#
# - SIGTERM 时任务的下场，任务失败后连接的下场，由服务器决定。
# - 依赖何时退出，上传的文件能不能读，中间件耽误什么，由版本决定。
# - 试过的每个版本、每种服务器，响应都先于任务离开。

# %% [markdown] lang="en"
# ## Exercises
#
# Below each is a check: run it as often as you like.
#
# **1.** A colleague's service runs FastAPI 0.115.0. Its tasks read uploads, and these "silently never
# appear". Read its row: which is the first version in the table that mends it? Call it `first`.

# %% [markdown] lang="zh"
# ## 练习
#
# 每道题下面都有一格检查，随时可以运行，运行几次都行。
#
# **1.** 同事的服务用 FastAPI 0.115.0，任务里要读上传的文件，结果文件“悄无声息地没了”。查表里的那一行：
# 从哪个版本起就好了？把它叫作 `first`。

# %% tags=["solution"]
uploads = frame(radar, "versions").loc["a task can read the upload"]
names = list(uploads.index)
first = next(name for name in names[names.index("0.115.0") :] if uploads[name] == "yes")
first

# %%
check(
    later=lambda: list(radar.versions).index(first) > list(radar.versions).index("0.115.0"),
    reads=lambda: radar.versions[first].cells["upload"].verdict == "yes",
    earliest=lambda: first == "0.118.0",
)

# %% [markdown] lang="en"
# **2.** Find the servers among `recorded` whose async tasks vanish at SIGTERM: neither finished nor
# cancelled. Call the set of their names `vanishing`.

# %% [markdown] lang="zh"
# **2.** 在 `recorded` 里找出收到 SIGTERM 时异步任务会消失的服务器：既没有完成，也没有被取消。把它们名字的集合叫作 `vanishing`。

# %% tags=["solution"]
vanishing = {
    name
    for name, traces in recorded.items()
    if any(task.where == "loop" and task.state == "lost" for task in traces.tasks)
}
vanishing

# %%
check(
    granian=lambda: "granian" in vanishing,
    no_other=lambda: vanishing == {"granian"},
)

# %% [markdown] lang="en"
# **In practice.** Before you change the server or upgrade, run `python -m lab radar --only NAME` for
# what you have and for what you want, and read the two columns. Whichever server it is: work that must
# not be lost goes into a queue before you answer.
#
# Back to: [the playground](playground.ipynb)

# %% [markdown] lang="zh"
# **实际使用**：换服务器或升级之前，用 `python -m lab radar --only NAME` 把现在的和将要用的各跑一遍，对照两列来看。
# 不管哪种服务器，绝不能丢的任务都先放进队列，再发响应。
#
# 回到：[自己动手](playground.ipynb)
