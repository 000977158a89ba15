# %% [markdown] lang="en"
# # Play with hand-over, work and failure
#
# **Do** choose what is handed over and how, guess the figure, press **Run**. **Learn** to predict it.
# **Need** lesson 1; the later ones explain what you find.

# %% [markdown] lang="zh"
# # 自己动手：交接方式、任务种类与出错
#
# **动手**：选好交什么、怎么交，先猜图的样子，再按 **Run**。**收获**：
# 不跑也能说中结果。**前置**：第 1 课；你碰上的现象，后面各课都有解释。

# %%
from lab import play

playground = play()

# %% [markdown] lang="en"
# **The answer leaves first; the tasks follow in series.** The button becomes **Stop** while work goes
# on: it kills the server, and the figure shows what is lost. Tab leads from control to control, arrow
# keys change a value, Enter presses the button. After reloading the page, run the cell again.
#
# **Guess first:** three tasks in threads; `blocking_in_async` with five requests at once; `compute` in
# threads, then in processes? And if the second task fails, in each?

# %% [markdown] lang="zh"
# **响应先发出，任务随后一个接一个**。任务没做完时，按钮变成 **Stop**：按下就杀掉服务器，图上会画出丢了什么。用 Tab
# 在各项之间移动，用方向键改值，用回车按按钮。刷新页面之后，请重新运行这一格。
#
# **先猜**再按：三个任务各开一个线程；`blocking_in_async` 加五个并发请求；`compute` 先用线程、再用进程。
# 如果第二个任务出错，又会怎样？

# %% [markdown] lang="en"
# ## The same by hand
#
# This code does the same as the newest run; each press of **Run** updates it. Copy it into a cell of
# your own and change what the controls cannot.

# %% [markdown] lang="zh"
# ## 手写同样的代码
#
# 下面的代码做的就是最近一次运行所做的，每按一次 **Run** 就跟着变。把它复制到自己的一格里，改改控件改不了的地方。

# %%
playground.code()

# %% [markdown] lang="en"
# ## Your own app
#
# Paste your app over this one: any ASGI app will do, as it is. An app in a file is served by its name,
# `serve("package.module:app", on="process")`.

# %% [markdown] lang="zh"
# ## 你自己的应用
#
# 用你自己的应用替换下面这个，任何 ASGI 应用都行，不用改动。写在文件里的，
# 按名字启动：`serve("package.module:app", on="process")`。

# %% tags=["app"]
import time

from fastapi import BackgroundTasks, FastAPI

from lab import serve, timeline

app = FastAPI()


@app.post("/order", status_code=202)
async def order(background_tasks: BackgroundTasks):
    background_tasks.add_task(time.sleep, 0.3)


web = serve(app)
timeline(web.post("/order"))
