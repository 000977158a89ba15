"""The statements of the guide, in its order, paraphrased.

Each statement has templates for its evidence: the run's figures replace the names in braces.
"""

from __future__ import annotations

from typing import NamedTuple

from ..languages import Text


class Statement(NamedTuple):
    """One statement of the guide.

    key: its name in code. section: the sections of the guide that make it. lesson: the notebook
    that shows it at length. says: the statement, paraphrased. evidence: template for what the run
    has shown, or the reason why no run can show it. condition: template for the case in which the
    statement does not hold.
    """

    key: str
    section: str
    lesson: str
    says: Text
    evidence: Text
    condition: Text | None = None
    measurable: bool = True


ANSWER = "01_answer_first"
SERIES = "02_one_after_another"
LOOP = "03_loop_or_thread"
THREADS = "04_threads_and_processes"
FAILURE = "05_when_a_task_fails"
STOP = "06_stop_the_server"
QUEUE = "08_hand_over_to_a_queue"

STATEMENTS = (
    Statement(
        "inline", "1", ANSWER,
        Text(
            "Work that is done before the answer keeps the caller waiting.",
            "先处理再响应，调用方就得一直等。",
        ),
        Text(
            "{late} of {asked} answers came only when their {seconds:g} s of work were over.",
            "{asked} 个响应中，有 {late} 个等到 {seconds:g} 秒的处理做完才返回。",
        ),
    ),
    Statement(
        "at-once", "1", ANSWER,
        Text(
            "The caller has a confirmation at once; the server goes on working behind it.",
            "调用方马上收到确认，服务器在后台接着干活。",
        ),
        Text(
            "{answered} of {asked} callers had their 202 while their work still waited for a "
            "signal from them.",
            "{asked} 个调用方中，有 {answered} 个拿到 202 时，任务还在等它放行。",
        ),
        Text(
            "But the whole body must have arrived: {half} answers to half a body.",
            "但请求体必须先收齐：只收到一半时，返回的响应有 {half} 个。",
        ),
    ),
    Statement(
        "after", "1, 2.1, 4", ANSWER,
        Text(
            "A background task starts only after the response.",
            "后台任务在返回响应之后才开始。",
        ),
        Text(
            "{after} of {tasks} tasks began after their response had left the application.",
            "{tasks} 个任务中，有 {after} 个在响应离开应用之后才开始。",
        ),
        Text(
            "But “left” means handed over to uvicorn, not “arrived”: a task ended while its caller "
            "still had {unread} MiB of the answer to read.",
            "但“离开”只是交给了 uvicorn，不等于对方已收到："
            "有个任务结束时，调用方还有 {unread} MiB 的响应没有读到。",
        ),
    ),
    Statement(
        "register", "2.1", ANSWER,
        Text(
            "`add_task` only registers the function; when the endpoint returns, nothing has run.",
            "`add_task` 只是“注册”任务；端点返回时，任务都还没有运行。",
        ),
        Text(
            "{early} of {tasks} had run when the endpoint returned, {ran} in the end.",
            "端点返回时，{tasks} 个任务运行了 {early} 个；最终运行了 {ran} 个。",
        ),
    ),
    Statement(
        "bad-json", "2.1", ANSWER,
        Text(
            "A body that cannot be parsed is accepted too, and the task is told that it was bad.",
            "无法解析的请求体照样接收，并告诉任务它有问题。",
        ),
        Text(
            "Not JSON: {status}, and the task saw `{payload}`.",
            "不是 JSON：状态码 {status}，任务看到的是 `{payload}`。",
        ),
        Text(
            "But a caller who sends just that looks the same, and with `except Exception` so does "
            "a body over the limit ({limit_status}, not 413).",
            "但有人偏偏就发这段 JSON，看起来也一样；用 `except Exception` 时，"
            "超过上限的请求体也一样（状态码 {limit_status}，而不是 413）。",
        ),
    ),
    Statement(
        "automatic", "2.1", FAILURE,
        Text(
            "When the response is sent, FastAPI starts the task automatically.",
            "响应一发出，FastAPI 就会自行启动任务。",
        ),
        Text("{ran} of {tasks} tasks ran.", "{tasks} 个任务运行了 {ran} 个。"),
        Text(
            "But an `HTTPException` raised after `add_task` drops the task: {dropped} of "
            "{raised} never ran.",
            "但在 `add_task` 之后抛出 `HTTPException`，任务就丢了："
            "{raised} 个中有 {dropped} 个从未运行。",
        ),
    ),
    Statement(
        "diagram-order", "2.2", ANSWER,
        Text(
            "The order is: register, answer, work.",
            "顺序是：注册任务，返回响应，执行任务。",
        ),
        Text(
            "{ordered} of {tasks} tasks were added before, and began after, their response.",
            "{tasks} 个任务中，有 {ordered} 个在响应之前注册、在响应之后开始。",
        ),
    ),
    Statement(
        "queue", "2.2", ANSWER,
        Text(
            "The work goes into a task queue beside the main process.",
            "任务进入主进程之外的一个后台任务队列。",
        ),
        Text(
            "{inside} of {tasks} tasks were run by the very call that had answered, before it "
            "returned, {here} of them in the server's own process.",
            "{tasks} 个任务中，有 {inside} 个就由返回响应的那次调用在结束之前执行完，"
            "其中 {here} 个在服务器自己的进程里。",
        ),
    ),
    Statement(
        "connection", "2.2", ANSWER,
        Text(
            "When the caller has the answer, the connection is closed.",
            "客户端收到响应，连接断开。",
        ),
        Text(
            "{reused} of {asked} further requests came over the same connection, with the work "
            "still going on.",
            "之后的 {asked} 次请求中，有 {reused} 次走的还是同一条连接，那时任务还没做完。",
        ),
    ),
    Statement(
        "series", "2.3, 4", SERIES,
        Text(
            "Several tasks run one after another, in the order in which they were added.",
            "多个任务按添加的顺序串行执行。",
        ),
        Text(
            "In {ordered} of {pairs} pairs the later task began when the earlier one had ended.",
            "{pairs} 对前后相邻的任务中，有 {ordered} 对是前一个结束后，后一个才开始。",
        ),
    ),
    Statement(
        "next", "2.3", FAILURE,
        Text(
            "When the first task is over, the second one is run.",
            "第一个任务完成后，执行第二个。",
        ),
        Text(
            "{ran} of {tasks} second tasks ran.",
            "{tasks} 个排在第二的任务，运行了 {ran} 个。",
        ),
        Text(
            "But when the first one fails, the second never runs: {skipped} of {failures} skipped.",
            "但第一个一出错，第二个就不再运行：{failures} 个中跳过了 {skipped} 个。",
        ),
    ),
    Statement(
        "injected", "3.1", FAILURE,
        Text(
            "Integration: tasks come by injection, and need no further care.",
            "集成度：通过依赖注入使用后台任务，其余不必操心。",
        ),
        Text(
            "{ran} of {tasks} ran, added by an endpoint and by its dependency.",
            "端点和它的依赖各添加了任务，{tasks} 个运行了 {ran} 个。",
        ),
        Text(
            "But a response that brings its own `background` drops them silently: {dropped} lost.",
            "但响应若自带 `background`，它们就被悄悄丢弃：丢了 {dropped} 个。",
        ),
    ),
    Statement(
        "by-hand", "3.1", STOP,
        Text(
            "Integration: you manage the life cycle of a thread yourself.",
            "集成度：线程的生命周期要自己管理。",
        ),
        Text(
            "SIGTERM in mid-work: uvicorn let {tasks} background tasks finish, {threads} threads.",
            "任务做到一半收到 SIGTERM：uvicorn 等到做完的后台任务有 {tasks} 个，"
            "线程有 {threads} 个。",
        ),
    ),
    Statement(
        "loop-or-pool", "3.1", LOOP,
        Text(
            "Context: an `async` task runs on the event loop, any other in the thread pool.",
            "执行上下文：`async` 任务在事件循环上运行，其余的在线程池里运行。",
        ),
        Text(
            "`async def`: {loop} of {tasks} on the loop; `def`: {pool} of {tasks} on a thread.",
            "`async def`：{tasks} 个中有 {loop} 个在事件循环上；"
            "`def`：{tasks} 个中有 {pool} 个在线程里。",
        ),
    ),
    Statement(
        "bound", "3.1", THREADS,
        Text(
            "Context: a task is closely tied to the application.",
            "执行上下文：任务与应用紧密绑定。",
        ),
        Text(
            "{saw} of {tasks} tasks saw the context variable that an `async def` handler had set.",
            "{tasks} 个任务中，有 {saw} 个看得见 `async def` 处理函数设的上下文变量。",
        ),
        Text(
            "But what a `def` handler or dependency had set, {unseen} of {others} did not see.",
            "但由 `def` 处理函数或依赖来设时，{others} 个中有 {unseen} 个看不见。",
        ),
    ),
    Statement(
        "own-thread", "3.1", THREADS,
        Text(
            "Context: a thread is a new one of the operating system, and rather isolated.",
            "执行上下文：线程是系统新开的，与应用相对分离。",
        ),
        Text(
            "{distinct} new threads for {threads} starts; {saw} of them saw that variable.",
            "启动 {threads} 次，得到 {distinct} 个新线程；其中 {saw} 个看得见那个变量。",
        ),
    ),
    Statement(
        "reuse", "3.1", LOOP,
        Text(
            "Resources: tasks cost little, since they use what is there already.",
            "资源：任务重用现有资源，开销很小。",
        ),
        Text(
            "{tasks} `def` tasks in a row, threads used: {used}.",
            "连续 {tasks} 个 `def` 任务，用到的线程数：{used}。",
        ),
        Text(
            "But each that waits holds a thread as well: {waiting} waiting tasks, {held} threads.",
            "但每个等待中的任务也占一个线程：{waiting} 个在等，占了 {held} 个。",
        ),
    ),
    Statement(
        "thread-cost", "3.1", THREADS,
        Text(
            "Resources: threads cost more, each with its own stack and overhead.",
            "资源：线程消耗较高，每个都有独立的栈和系统开销。",
        ),
        Text(
            "Address space for each waiting piece of work: task {task_space:.0f} KiB, thread "
            "{thread_space:.0f} KiB.",
            "每个等待中的任务占用的虚拟地址空间："
            "后台任务 {task_space:.0f} KiB，线程 {thread_space:.0f} KiB。",
        ),
        Text(
            "But memory really used: task {task_memory:.0f} KiB, thread {thread_memory:.0f} KiB.",
            "但实际占用的内存：后台任务 {task_memory:.0f} KiB，线程 {thread_memory:.0f} KiB。",
        ),
    ),
    Statement(
        "one-by-one", "3.1", SERIES,
        Text(
            "Concurrency: background tasks run one after another.",
            "并发：后台任务是串行的，一个接一个。",
        ),
        Text(
            "Ten tasks of one response, under way at once: {most}.",
            "同一响应的十个任务，同时在运行的：{most} 个。",
        ),
        Text(
            "But of ten responses with one task each: {met}.",
            "但十个响应各有一个任务时：{met} 个。",
        ),
    ),
    Statement(
        "together", "3.1", THREADS,
        Text(
            "Concurrency: threads run at the same time, as far as the GIL allows.",
            "并发：多个线程可以同时运行，但受 GIL 限制。",
        ),
        Text(
            "Ten waiting threads, under way at once: {met}; four computing in pure Python used "
            "{cores:.1f} processors.",
            "十个在等待的线程，同时在运行的：{met} 个；"
            "四个做纯 Python 计算的线程用了 {cores:.1f} 个 CPU 核。",
        ),
    ),
    Statement(
        "light", "3.1", LOOP,
        Text(
            "Use: background tasks are for light work that does not block.",
            "适用场景：后台任务适合轻量级、非阻塞的操作。",
        ),
        Text(
            "{free} of {asked} other callers were answered while an `async def` task waited.",
            "`async def` 任务等待期间，另外 {asked} 个调用方有 {free} 个收到响应。",
        ),
        Text(
            "But it must not block: while one did, {blocked} of {asked} were answered.",
            "但绝不能阻塞：一阻塞，{asked} 个里有 {blocked} 个收到响应。",
        ),
    ),
    Statement(
        "cpu-threads", "3.1", THREADS,
        Text(
            "Use: threads are for computing, so that the main thread is never held up.",
            "适用场景：CPU 密集型操作交给线程，不阻塞主线程任何时间。",
        ),
        Text(
            "Two threads that compress, in a library that releases the GIL, used {released:.1f} "
            "processors; during one such call the main thread had {turns} turns.",
            "两个做压缩的线程（所用的库会释放 GIL）用了 {released:.1f} 个 CPU 核；"
            "一次压缩调用期间，主线程照样轮到 {turns} 次。",
        ),
        Text(
            "But four that compute in pure Python used {threads:.1f} (never more than 1 on a build "
            "with a GIL), two processes {processes:.1f}.",
            "但四个做纯 Python 计算的线程用了 {threads:.1f} 个"
            "（带 GIL 的 Python 不会超过 1 个），两个进程用了 {processes:.1f} 个。",
        ),
    ),
    Statement(
        "caught", "3.1", FAILURE,
        Text(
            "Errors: FastAPI catches a task's exception and logs it.",
            "错误处理：任务的异常会被 FastAPI 捕获并记录。",
        ),
        Text(
            "Logged by the framework: {framework}; by uvicorn: {uvicorn}. The application's own "
            "handler was called {handled} times; later tasks that ran: {later} of {tasks}.",
            "框架记的日志：{framework} 条；uvicorn 记的：{uvicorn} 条。"
            "应用自己的异常处理函数被调用 {handled} 次；后面的 {tasks} 个任务运行了 {later} 个。",
        ),
    ),
    Statement(
        "survives", "3.1", FAILURE,
        Text(
            "Errors: the application as a whole usually survives.",
            "错误处理：通常不会崩掉整个应用。",
        ),
        Text(
            "{served} of {asked} later requests were served.",
            "之后的 {asked} 次请求，有 {served} 次正常返回。",
        ),
        Text(
            "But uvicorn closes the connection: requests under way on it that died: {cut}.",
            "但 uvicorn 会关闭这条连接：连接上正在进行的请求，断了 {cut} 个。",
        ),
    ),
    Statement(
        "thread-silent", "3.1", FAILURE,
        Text(
            "Errors: what a thread raises may pass unnoticed.",
            "错误处理：线程里抛出的异常可能没人察觉（静默失败）。",
        ),
        Text(
            "Status {status}, log lines: {lines}.",
            "状态码 {status}，日志 {lines} 条。",
        ),
        Text(
            "But there is a traceback on stderr, for those who read it ({shown} lines).",
            "但 stderr 上有调用栈（traceback，{shown} 行），就看有没有人读。",
        ),
    ),
    Statement(
        "mail", "3.2", THREADS,
        Text(
            "For a background task: sending mail.",
            "适合后台任务：发送电子邮件。",
        ),
        Text(
            "{letters} of {sent} letters arrived.",
            "{sent} 封信送到了 {letters} 封。",
        ),
        Text(
            "But with no mail server the caller is told the same: {status}, and the task {state}.",
            "但没有邮件服务器时，调用方收到的也一样：{status}；任务的状态是 `{state}`。",
        ),
    ),
    Statement(
        "webhook", "3.2", ANSWER,
        Text(
            "For a background task: handling and logging a webhook.",
            "适合后台任务：处理 Webhook 数据并记录日志。",
        ),
        Text(
            "{accepted} of {sent} deliveries got their 202, {logged} are in the log.",
            "{sent} 次投递，{accepted} 次得到 202，{logged} 次记进了日志。",
        ),
    ),
    Statement(
        "cache", "3.2", LOOP,
        Text(
            "For a background task: updating a cache.",
            "适合后台任务：更新缓存。",
        ),
        Text(
            "Read when the task was over: `{after}`.",
            "任务完成之后读到：`{after}`。",
        ),
        Text(
            "But a caller who reads after its 202 may be too early: `{before}`.",
            "但调用方拿到 202 就去读，可能太早：`{before}`。",
        ),
    ),
    Statement(
        "api", "3.2", THREADS,
        Text(
            "For a background task: calling other APIs.",
            "适合后台任务：触发其他的 API 调用。",
        ),
        Text(
            "{answered} of {calls} calls were answered, by the very server whose task made them.",
            "{calls} 次调用有 {answered} 次收到响应，响应的正是任务所在的服务器。",
        ),
    ),
    Statement(
        "not-too-many", "3.2", LOOP,
        Text(
            "Background tasks cannot burden a server with too many threads.",
            "后台任务不会因为开启过多线程而拖垮服务器。",
        ),
        Text(
            "{asked} pieces of work at once: tasks used {used} threads, threads {started}.",
            "{asked} 个任务同时来：后台任务用了 {used} 个线程，手动多线程用了 {started} 个。",
        ),
        Text(
            "But `def` endpoints share that pool: while it was full, {answered} of {callers} "
            "got an answer.",
            "但 `def` 端点也用这个线程池：池满的时候，{callers} 个调用方有 {answered} 个收到响应。",
        ),
    ),
    Statement(
        "ninety", "3.2, 4", "",
        Text(
            "In nine cases of ten, background tasks are the right choice.",
            "九成情况下，该用后台任务。",
        ),
        Text(
            "How common each kind of work is does not depend on the framework. The other rows "
            "show what the choice costs.",
            "业务里各类任务各占多少，不由框架决定，无从测量。选后台任务要付出什么，看其他各行。",
        ),
        measurable=False,
    ),
    Statement(
        "ten", "3.2", THREADS,
        Text(
            "For threads: ten pieces of work at the same time.",
            "适合线程：同时并行处理 10 个任务。",
        ),
        Text(
            "Under way at once, of ten: threads {threads}, tasks of one response {tasks}.",
            "十个之中同时在运行的：线程 {threads} 个，同一响应的任务 {tasks} 个。",
        ),
        Text(
            "But one task with `asyncio.gather` had {gathered}.",
            "但一个任务里用 `asyncio.gather`，也有 {gathered} 个。",
        ),
    ),
    Statement(
        "blocks-loop", "3.2", LOOP,
        Text(
            "For threads: heavy work that, being a sync function, would block the event loop.",
            "适合线程：很重的任务，因为它若是同步函数，会阻塞事件循环。",
        ),
        Text(
            "{free} of {asked} other callers were answered while a sync task was held up; while "
            "an `async def` one blocked, {blocked}.",
            "同步任务卡住的时候，另外 {asked} 个调用方有 {free} 个收到响应；"
            "`async def` 任务阻塞的时候，有 {blocked} 个。",
        ),
    ),
    Statement(
        "outlives", "3.2", STOP,
        Text(
            "For threads: work that outlives its request by far.",
            "适合线程：存活时间比 HTTP 请求的上下文长很多的任务。",
        ),
        Text(
            "{finished} of {tasks} background tasks went on to their end when their caller had "
            "gone. Lost when uvicorn got a SIGTERM: {lost_tasks} tasks, {lost_threads} threads.",
            "客户端断开之后，{tasks} 个后台任务有 {finished} 个照样做完。"
            "uvicorn 收到 SIGTERM 时丢失的：任务 {lost_tasks} 个，线程 {lost_threads} 个。",
        ),
    ),
    Statement(
        "processes", "3.2", THREADS,
        Text(
            "For `multiprocessing`: heavy work.",
            "适合 `multiprocessing`：很重的任务。",
        ),
        Text(
            "{elsewhere} of {asked} pieces ran outside the server's process, on {cores:.1f} "
            "processors.",
            "{asked} 个任务有 {elsewhere} 个在服务器的进程之外运行，用了 {cores:.1f} 个 CPU 核。",
        ),
    ),
    Statement(
        "unmanaged", "3.3", THREADS,
        Text(
            "FastAPI does not manage a thread that is started by hand.",
            "手动开启的线程，不受 FastAPI 管理。",
        ),
        Text(
            "{over} of {threads} calls returned without waiting for their thread; {early} of the "
            "threads had begun before the response left.",
            "{threads} 次调用中，有 {over} 次没等自己的线程就返回了；"
            "有 {early} 个线程在响应离开之前就已开始。",
        ),
    ),
    Statement(
        "concise", "4", "",
        Text(
            "Background tasks keep the code clean.",
            "用后台任务，代码简洁。",
        ),
        Text(
            "A matter of taste. In `server.py` either way to send a mail takes one line.",
            "这是口味问题。`server.py` 里两种发邮件的写法，都只占一行。",
        ),
        measurable=False,
    ),
    Statement(
        "testable", "4", FAILURE,
        Text(
            "Background tasks are easy to test.",
            "后台任务易于测试。",
        ),
        Text(
            "{effects} of {tests} effects were there when the in-memory client returned.",
            "内存里的测试客户端返回时，{tests} 个任务的效果已有 {effects} 个。",
        ),
        Text(
            "But that client waits, and raises the task's exception; a real caller does not wait, "
            "and hears nothing of it ({status}).",
            "但这种客户端会等任务做完，还会抛出任务的异常；"
            "真实的客户端不等，也不知道有异常（状态码 {status}）。",
        ),
    ),
    Statement(
        "few-resources", "4", THREADS,
        Text(
            "Background tasks take up few resources.",
            "后台任务资源占用少。",
        ),
        Text(
            "Memory for each task that waits: {alone:.0f} KiB.",
            "每个等待中的任务占内存 {alone:.0f} KiB。",
        ),
        Text(
            "But it keeps what it was given: {with_body:.0f} KiB with a body of 1 MiB.",
            "但交给它的数据会一直留在内存里：请求体为 1 MiB 时，每个占 {with_body:.0f} KiB。",
        ),
    ),
    Statement(
        "only-extreme", "4", QUEUE,
        Text(
            "Task queues and threads are only for extreme load or complex concurrency.",
            "只有遇到极端性能瓶颈或复杂并发时，才需要任务队列或手动多线程。",
        ),
        Text(
            "No bottleneck, only a SIGKILL: {accepted} requests had their 202, {finished} of "
            "them were done.",
            "没有性能瓶颈，只来了一个 SIGKILL："
            "拿到 202 的请求有 {accepted} 个，做完的有 {finished} 个。",
        ),
    ),
)  # fmt: skip
