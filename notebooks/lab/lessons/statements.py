"""What the guide says, statement by statement and in its order; told in other words than its own.

Each statement brings the words in which its evidence is told. What stands in braces is filled in
with the figures of the run.
"""

from __future__ import annotations

from typing import NamedTuple

from ..languages import Text


class Statement(NamedTuple):
    """One thing that the guide says.

    key: its name in code. section: where it stands, or stand. lesson: the notebook that shows it at
    length. says: in other words. evidence: how to tell what was seen, or why nothing can be.
    condition: how to tell of the case in which it is otherwise.
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
            "先干活再应答，调用方就得一直等。",
        ),
        Text(
            "{late} of {asked} answers came only when their {seconds:g} s of work were over.",
            "{asked} 次应答中，有 {late} 次等到 {seconds:g} 秒的活干完才来。",
        ),
    ),
    Statement(
        "at-once", "1", ANSWER,
        Text(
            "The caller has a confirmation at once; the server goes on working behind it.",
            "调用方马上得到确认，服务器在背后接着干活。",
        ),
        Text(
            "{answered} of {asked} callers had their 202 while their work still waited for a "
            "sign from them.",
            "{asked} 个调用方中，有 {answered} 个拿到 202 时，它的活还在等它放行。",
        ),
        Text(
            "But the whole body must have arrived: {half} answers to half a body.",
            "但请求体必须先到齐：只到一半时，应答 {half} 次。",
        ),
    ),
    Statement(
        "after", "1, 2.1, 4", ANSWER,
        Text(
            "A background task starts only after the response.",
            "后台任务要等响应之后才开始。",
        ),
        Text(
            "{after} of {tasks} tasks began after their response had left the application.",
            "{tasks} 个任务中，有 {after} 个在响应离开应用之后才开始。",
        ),
        Text(
            "But “left” is not “arrived”: a task ended while its caller still had {unread} MiB "
            "of the answer to read.",
            "但“离开”不等于“送到”：有个任务结束时，调用方还有 {unread} MiB 的应答没有读到。",
        ),
    ),
    Statement(
        "register", "2.1", ANSWER,
        Text(
            "`add_task` only writes the function down; when the endpoint returns, nothing has run.",
            "`add_task` 只是把函数记下来；端点返回时，什么都还没跑。",
        ),
        Text(
            "{early} of {tasks} had run when the endpoint returned, {ran} in the end.",
            "端点返回时，{tasks} 个任务跑了 {early} 个；最后跑了 {ran} 个。",
        ),
    ),
    Statement(
        "bad-json", "2.1", ANSWER,
        Text(
            "A body that cannot be parsed is accepted too, and the task is told that it was bad.",
            "解析不了的请求体照样收下，并告诉任务它有问题。",
        ),
        Text(
            "Not JSON: {status}, and the task saw `{payload}`.",
            "不是 JSON：应答 {status}，任务看到的是 `{payload}`。",
        ),
        Text(
            "But a caller who sends just that looks the same, and with `except Exception` so does "
            "a body over the limit ({limit_status}, not 413).",
            "但有人偏偏就发这段 JSON，看起来也一样；用 `except Exception` 时，"
            "超过上限的请求体也一样（应答 {limit_status}，而不是 413）。",
        ),
    ),
    Statement(
        "automatic", "2.1", FAILURE,
        Text(
            "With the response sent, FastAPI starts the task of its own accord.",
            "响应一发出，FastAPI 就会自行启动任务。",
        ),
        Text("{ran} of {tasks} tasks ran.", "{tasks} 个任务跑了 {ran} 个。"),
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
            "次序是：登记，应答，干活。",
        ),
        Text(
            "{ordered} of {tasks} tasks were added before, and began after, their response.",
            "{tasks} 个任务中，有 {ordered} 个在响应之前登记、在响应之后开始。",
        ),
    ),
    Statement(
        "queue", "2.2", ANSWER,
        Text(
            "The work goes into a task queue beside the main process.",
            "活进了主进程旁边的一个任务队列。",
        ),
        Text(
            "{inside} of {tasks} tasks were run by the very call that had answered, before it "
            "returned, {here} of them in the server's own process.",
            "{tasks} 个任务中，有 {inside} 个就由应答的那次调用在返回之前跑完，"
            "其中 {here} 个在服务器自己的进程里。",
        ),
    ),
    Statement(
        "connection", "2.2", ANSWER,
        Text(
            "When the caller has the answer, the connection is closed.",
            "调用方收到应答，连接就关了。",
        ),
        Text(
            "{reused} of {asked} further requests came over the same connection, with the work "
            "still going on.",
            "后面 {asked} 次请求中，有 {reused} 次走的还是同一条连接，那时活还没干完。",
        ),
    ),
    Statement(
        "series", "2.3, 4", SERIES,
        Text(
            "Several tasks run one after another, in the order in which they were added.",
            "多个任务按登记的次序，一个接一个地跑。",
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
            "第一个任务完了，就轮到第二个。",
        ),
        Text(
            "{ran} of {tasks} second tasks ran.",
            "{tasks} 个排在第二的任务，跑了 {ran} 个。",
        ),
        Text(
            "But when the first one fails, the second never runs: {skipped} of {failures} skipped.",
            "但第一个一出错，第二个就再也不跑了：{failures} 个中跳过了 {skipped} 个。",
        ),
    ),
    Statement(
        "injected", "3.1", FAILURE,
        Text(
            "Integration: tasks come by injection, and need no further care.",
            "集成：任务靠依赖注入得到，不必再操心。",
        ),
        Text(
            "{ran} of {tasks} ran, added by an endpoint and by its dependency.",
            "端点和它的依赖各登记了任务，{tasks} 个跑了 {ran} 个。",
        ),
        Text(
            "But a response that brings its own `background` drops them silently: {dropped} lost.",
            "但响应若自带 `background`，它们就被悄悄丢掉：丢了 {dropped} 个。",
        ),
    ),
    Statement(
        "by-hand", "3.1", STOP,
        Text(
            "Integration: the life of a thread is yours to look after.",
            "集成：线程的一生要自己照管。",
        ),
        Text(
            "SIGTERM in mid-work: {tasks} background tasks finished, {threads} threads did.",
            "活干到一半来了 SIGTERM：后台任务做完 {tasks} 个，线程做完 {threads} 个。",
        ),
    ),
    Statement(
        "loop-or-pool", "3.1", LOOP,
        Text(
            "Context: an `async` task runs on the event loop, any other in the thread pool.",
            "上下文：`async` 任务在事件循环上跑，其余的在线程池里跑。",
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
            "上下文：任务与应用联系紧密。",
        ),
        Text(
            "{saw} of {tasks} tasks saw the context variable that their request had set.",
            "{tasks} 个任务中，有 {saw} 个看得见请求设的上下文变量。",
        ),
    ),
    Statement(
        "own-thread", "3.1", THREADS,
        Text(
            "Context: a thread is a new one of the system, and stands rather apart.",
            "上下文：线程是系统新开的，与应用较为疏离。",
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
            "资源：任务用的是现成的东西，花费很少。",
        ),
        Text(
            "{tasks} `def` tasks in a row, threads used: {used}.",
            "一连 {tasks} 个 `def` 任务，用到的线程数：{used}。",
        ),
        Text(
            "But each that waits holds a thread as well: {waiting} waiting tasks, {held} threads.",
            "但每个等着的任务也占一个线程：{waiting} 个等着，占了 {held} 个。",
        ),
    ),
    Statement(
        "thread-cost", "3.1", THREADS,
        Text(
            "Resources: threads cost more, each with its own stack and overhead.",
            "资源：线程更贵，各有各的栈和系统开销。",
        ),
        Text(
            "Address space for each waiting piece of work: task {task_space:.0f} KiB, thread "
            "{thread_space:.0f} KiB.",
            "每件等着的活占的地址空间：任务 {task_space:.0f} KiB，线程 {thread_space:.0f} KiB。",
        ),
        Text(
            "But memory really used: task {task_memory:.0f} KiB, thread {thread_memory:.0f} KiB.",
            "但真正用掉的内存：任务 {task_memory:.0f} KiB，线程 {thread_memory:.0f} KiB。",
        ),
    ),
    Statement(
        "one-by-one", "3.1", SERIES,
        Text(
            "Concurrency: background tasks take their turns.",
            "并发：后台任务要轮流来。",
        ),
        Text(
            "Ten tasks of one response, under way at once: {most}.",
            "同一响应的十个任务，同时在跑的：{most} 个。",
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
            "并发：线程可以同时跑，但受 GIL 约束。",
        ),
        Text(
            "Ten waiting threads, under way at once: {met}; four computing ones used "
            "{cores:.1f} processors.",
            "十个在等待的线程，同时在跑的：{met} 个；四个在计算的线程用了 {cores:.1f} 个处理器。",
        ),
    ),
    Statement(
        "light", "3.1", LOOP,
        Text(
            "Use: background tasks are for light work that does not block.",
            "用途：后台任务适合不阻塞的轻活。",
        ),
        Text(
            "{free} of {asked} other callers were answered while an `async def` task waited.",
            "`async def` 任务等待期间，另外 {asked} 个调用方有 {free} 个得到应答。",
        ),
        Text(
            "But it must not block: while one did, {blocked} of {asked} were answered.",
            "但千万不能阻塞：一阻塞，{asked} 个里就只有 {blocked} 个得到应答。",
        ),
    ),
    Statement(
        "cpu-threads", "3.1", THREADS,
        Text(
            "Use: threads are for computing, so that the main thread is never held up.",
            "用途：计算交给线程，主线程就一刻也不会耽搁。",
        ),
        Text(
            "Four computing threads used {threads:.1f} processors (never more than 1 with a GIL), "
            "two processes {processes:.1f}.",
            "四个在计算的线程用了 {threads:.1f} 个处理器（有 GIL 就不会超过 1 个），"
            "两个进程用了 {processes:.1f} 个。",
        ),
    ),
    Statement(
        "caught", "3.1", FAILURE,
        Text(
            "Errors: FastAPI catches a task's exception and logs it.",
            "出错：任务的异常由 FastAPI 捕获，并记入日志。",
        ),
        Text(
            "Logged by the framework: {framework}; by uvicorn: {uvicorn}. The application's own "
            "handler was called {handled} times; later tasks that ran: {later} of {tasks}.",
            "框架记的日志：{framework} 条；uvicorn 记的：{uvicorn} 条。"
            "应用自己的异常处理函数被调用 {handled} 次；后面的 {tasks} 个任务跑了 {later} 个。",
        ),
    ),
    Statement(
        "survives", "3.1", FAILURE,
        Text(
            "Errors: the application as a whole usually survives.",
            "出错：整个应用一般不会倒下。",
        ),
        Text(
            "{served} of {asked} later requests were served.",
            "后面的 {asked} 次请求，有 {served} 次得到服务。",
        ),
        Text(
            "But the connection is cut: requests under way on it that died: {cut}.",
            "但连接会被切断：正在这条连接上的请求，断了 {cut} 个。",
        ),
    ),
    Statement(
        "thread-silent", "3.1", FAILURE,
        Text(
            "Errors: what a thread raises may pass unnoticed.",
            "出错：线程里抛出的异常可能没人察觉。",
        ),
        Text(
            "Status {status}, log lines: {lines}.",
            "应答 {status}，日志 {lines} 条。",
        ),
        Text(
            "But there is a traceback on stderr, for whoever reads that ({shown} lines).",
            "但 stderr 上有一段回溯（{shown} 行），就看有没有人读。",
        ),
    ),
    Statement(
        "mail", "3.2", THREADS,
        Text(
            "For a background task: sending mail.",
            "适合后台任务：发邮件。",
        ),
        Text(
            "{letters} of {sent} letters arrived.",
            "{sent} 封信送到了 {letters} 封。",
        ),
        Text(
            "But with no mail server the caller is told the same: {status}, and the task {state}.",
            "但邮件服务器不在时，调用方听到的也一样：{status}；任务的结局是 `{state}`。",
        ),
    ),
    Statement(
        "webhook", "3.2", ANSWER,
        Text(
            "For a background task: handling and logging a webhook.",
            "适合后台任务：处理 webhook，写日志。",
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
            "任务做完之后读到：`{after}`。",
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
            "适合后台任务：调用别的 API。",
        ),
        Text(
            "{answered} of {calls} calls were answered, by the very server whose task made them.",
            "{calls} 次调用有 {answered} 次得到应答，应答的正是任务所在的服务器。",
        ),
    ),
    Statement(
        "not-too-many", "3.2", LOOP,
        Text(
            "Background tasks cannot burden a server with too many threads.",
            "后台任务不会开出太多线程，把服务器压垮。",
        ),
        Text(
            "{asked} pieces of work at once: tasks used {used} threads, threads {started}.",
            "{asked} 件活同时来：后台任务用了 {used} 个线程，手动多线程用了 {started} 个。",
        ),
        Text(
            "But `def` endpoints share that pool: while it was full, {answered} of {callers} "
            "got an answer.",
            "但 `def` 端点也用这个线程池：池满的时候，{callers} 个调用方有 {answered} 个得到应答。",
        ),
    ),
    Statement(
        "ninety", "3.2, 4", "",
        Text(
            "In nine cases of ten, background tasks are the right choice.",
            "十有八九，该选后台任务。",
        ),
        Text(
            "Which work people have is no property of the framework. What the choice costs is in "
            "the other rows.",
            "人们有什么样的活，不是框架的性质。选它要付出什么，看其他各行。",
        ),
        measurable=False,
    ),
    Statement(
        "ten", "3.2", THREADS,
        Text(
            "For threads: ten pieces of work at the same time.",
            "适合线程：十件活同时做。",
        ),
        Text(
            "Under way at once, of ten: threads {threads}, tasks of one response {tasks}.",
            "十件之中同时在跑的：线程 {threads} 个，同一响应的任务 {tasks} 个。",
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
            "适合线程：很重的活，因为写成同步函数会堵住事件循环。",
        ),
        Text(
            "{free} of {asked} other callers were answered while a sync task was held up; while "
            "an `async def` one blocked, {blocked}.",
            "同步任务卡着的时候，另外 {asked} 个调用方有 {free} 个得到应答；"
            "`async def` 任务阻塞的时候，有 {blocked} 个。",
        ),
    ),
    Statement(
        "outlives", "3.2", STOP,
        Text(
            "For threads: work that outlives its request by far.",
            "适合线程：请求早就结束了，还要继续很久的活。",
        ),
        Text(
            "{finished} of {tasks} background tasks went on to their end when their caller had "
            "gone. Lost at SIGTERM: {lost_tasks} tasks, {lost_threads} threads.",
            "调用方走了之后，{tasks} 个后台任务有 {finished} 个照样做到底。"
            "SIGTERM 时丢的：任务 {lost_tasks} 个，线程 {lost_threads} 个。",
        ),
    ),
    Statement(
        "processes", "3.2", THREADS,
        Text(
            "For `multiprocessing`: heavy work.",
            "适合 `multiprocessing`：很重的活。",
        ),
        Text(
            "{elsewhere} of {asked} pieces ran outside the server's process, on {cores:.1f} "
            "processors.",
            "{asked} 件活有 {elsewhere} 件在服务器的进程之外运行，用了 {cores:.1f} 个处理器。",
        ),
    ),
    Statement(
        "unmanaged", "3.3", THREADS,
        Text(
            "A thread started by hand is none of FastAPI's business.",
            "手动开的线程，FastAPI 概不负责。",
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
            "Background tasks make for clean code.",
            "用后台任务，代码更简洁。",
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
            "后台任务容易测试。",
        ),
        Text(
            "{effects} of {tests} effects were there when the in-memory client returned.",
            "内存里的测试客户端返回时，{tests} 个效果已有 {effects} 个。",
        ),
        Text(
            "But that client waits, and raises the task's exception; a real caller does not wait, "
            "and hears nothing of it ({status}).",
            "但这种客户端会一直等，还会抛出任务的异常；"
            "真实的调用方不等，异常也听不到（应答 {status}）。",
        ),
    ),
    Statement(
        "few-resources", "4", THREADS,
        Text(
            "Background tasks take up few resources.",
            "后台任务占的资源不多。",
        ),
        Text(
            "Memory for each task that waits: {alone:.0f} KiB.",
            "每个等着的任务占内存 {alone:.0f} KiB。",
        ),
        Text(
            "But it keeps what it was given: {with_body:.0f} KiB with a body of 1 MiB.",
            "但交给它的东西会一直留着：请求体为 1 MiB 时，每个占 {with_body:.0f} KiB。",
        ),
    ),
    Statement(
        "only-extreme", "4", QUEUE,
        Text(
            "A task queue or threads are for extreme load or intricate concurrency only.",
            "只有负载极高、并发很复杂时，才用得着任务队列或多线程。",
        ),
        Text(
            "No bottleneck, only a SIGKILL: {accepted} requests had their 202, {finished} of "
            "them were done.",
            "没有什么瓶颈，只来了一个 SIGKILL："
            "拿到 202 的请求有 {accepted} 个，做完的有 {finished} 个。",
        ),
    ),
)  # fmt: skip
