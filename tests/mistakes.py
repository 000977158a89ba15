"""A small shop with twelve usual mistakes, each at a path of its own, and beside it the mended way.

`done` has what the work has brought about. Where a mistake lies is what each docstring says.
"""

import asyncio
import contextlib
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, UploadFile
from fastapi.responses import JSONResponse
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

logger = logging.getLogger("shop")
done: list[str] = []
kept: set["asyncio.Task[None]"] = set()
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
Base.metadata.create_all(engine)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.awaited_at_shutdown = set()
    yield
    await asyncio.gather(*app.state.awaited_at_shutdown)


planted, mended = FastAPI(lifespan=lifespan), FastAPI(lifespan=lifespan)


def note(what: str) -> None:
    done.append(what)


def keep(task: "asyncio.Task[None]") -> None:
    kept.add(task)
    task.add_done_callback(kept.discard)


# 1. Blocking in an `async def`.


@planted.post("/blocking", status_code=202)
async def blocking(tasks: BackgroundTasks) -> None:
    async def render() -> None:
        time.sleep(0.3)  # noqa: ASYNC251
        note("rendered")

    tasks.add_task(render)


@mended.post("/blocking", status_code=202)
async def not_blocking(tasks: BackgroundTasks) -> None:
    def render() -> None:
        time.sleep(0.3)
        note("rendered")

    tasks.add_task(render)


# 2. Tasks are dropped when an HTTPException answers.


@planted.post("/refused", status_code=202)
async def refused(tasks: BackgroundTasks) -> None:
    tasks.add_task(note, "refusal noted")
    raise HTTPException(409)


@mended.post("/refused", status_code=202)
async def refused_and_noted() -> JSONResponse:
    tasks = BackgroundTasks()
    tasks.add_task(note, "refusal noted")
    return JSONResponse({}, 409, background=tasks)


# 3. A response's own `background=` takes the place of the injected tasks.


@planted.post("/replaced", status_code=202)
async def replaced(tasks: BackgroundTasks) -> JSONResponse:
    tasks.add_task(note, "mailed")
    own = BackgroundTasks()
    own.add_task(note, "indexed")
    return JSONResponse({}, 202, background=own)


@mended.post("/replaced", status_code=202)
async def not_replaced(tasks: BackgroundTasks) -> JSONResponse:
    tasks.add_task(note, "mailed")
    tasks.add_task(note, "indexed")
    return JSONResponse({}, 202, background=tasks)


# 4. A dependency adds a task after its `yield`, when all have run.


def audited(tasks: BackgroundTasks) -> Iterator[None]:
    yield
    tasks.add_task(note, "audited")


def audited_in_time(tasks: BackgroundTasks) -> Iterator[None]:
    tasks.add_task(note, "audited")
    yield


@planted.post("/after-yield", status_code=202, dependencies=[Depends(audited)])
async def after_yield() -> None:
    pass


@mended.post("/after-yield", status_code=202, dependencies=[Depends(audited_in_time)])
async def before_yield() -> None:
    pass


# 5. The function is called, and what it returns is added.


@planted.post("/called", status_code=202)
async def called(tasks: BackgroundTasks) -> None:
    tasks.add_task(note("mailed"))  # type: ignore[arg-type, func-returns-value]


@mended.post("/called", status_code=202)
async def not_called(tasks: BackgroundTasks) -> None:
    tasks.add_task(note, "mailed")


# 6. Nobody keeps the task: the garbage collector takes it, with all that it waits for.

listeners: "weakref.WeakSet[asyncio.Event]" = weakref.WeakSet()


async def remind() -> None:
    came = asyncio.Event()
    listeners.add(came)
    await came.wait()
    note("reminded")


def stock_comes_in() -> None:
    """Soon; and before that, CPython collects its garbage, as it does now and then."""
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, gc.collect)
    loop.call_later(0.1, lambda: [came.set() for came in listeners])


@planted.post("/unkept", status_code=202)
async def unkept() -> None:
    asyncio.create_task(remind())  # noqa: RUF006
    stock_comes_in()


@mended.post("/unkept", status_code=202)
async def kept_by_the_app() -> None:
    keep(asyncio.create_task(remind()))
    stock_comes_in()


# 7. The first of three tasks fails, and the others never run.


def bad_mail() -> None:
    raise ConnectionError("no mail server")


def mail_or_not() -> None:
    with contextlib.suppress(ConnectionError):
        bad_mail()


def three(first: Callable[[], None]) -> Callable[[BackgroundTasks], Any]:
    async def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(first)
        tasks.add_task(note, "indexed")
        tasks.add_task(note, "counted")

    return endpoint


planted.post("/three", status_code=202)(three(bad_mail))
mended.post("/three", status_code=202)(three(mail_or_not))


# 8. A thread begins before the answer is sure.


def mail() -> None:
    note("mailed")
    time.sleep(0.1)


@planted.post("/thread", status_code=202)
async def thread_first() -> None:
    threading.Thread(target=mail).start()


@mended.post("/thread", status_code=202)
async def answer_first(tasks: BackgroundTasks) -> None:
    tasks.add_task(mail)


# 9. A task is given an object of a session that is closed by then.


def pack(order: Order) -> None:
    note(f"packed {order.item}")


def pack_item(item: str) -> None:
    note(f"packed {item}")


def ordered(session: Session) -> Order:
    order = Order(item="tea")
    session.add(order)
    session.commit()  # what it has is read anew when it is asked for
    return order


@planted.post("/detached", status_code=202)
def detached(tasks: BackgroundTasks) -> None:
    with Session(engine) as session:
        tasks.add_task(pack, ordered(session))


@mended.post("/detached", status_code=202)
def attached(tasks: BackgroundTasks) -> None:
    with Session(engine) as session:
        tasks.add_task(pack_item, ordered(session).item)


# 10. An upload is read when the request is over, and its file closed.


async def store(file: UploadFile) -> None:
    await asyncio.sleep(0.05)
    note(f"stored {len(await file.read())} bytes")


async def store_bytes(content: bytes) -> None:
    await asyncio.sleep(0.05)
    note(f"stored {len(content)} bytes")


@planted.post("/upload", status_code=202)
async def upload(file: UploadFile) -> None:
    keep(asyncio.create_task(store(file)))


@mended.post("/upload", status_code=202)
async def upload_read(file: UploadFile) -> None:
    keep(asyncio.create_task(store_bytes(await file.read())))


# 11. A thread of the executor does not know whose request it works for.


def bill() -> None:
    logger.warning("billed %s", tenant.get())
    note(f"billed {tenant.get()}")


@planted.post("/context", status_code=202)
async def context_lost() -> None:
    tenant.set("acme")
    await asyncio.get_running_loop().run_in_executor(None, bill)


@mended.post("/context", status_code=202)
async def context_kept() -> None:
    tenant.set("acme")
    await asyncio.to_thread(bill)


# 12. Nobody waits for a task when the server ends.


async def ship() -> None:
    await asyncio.sleep(0.3)
    note("shipped")


@planted.post("/shutdown", status_code=202)
async def cancelled_at_shutdown() -> None:
    keep(asyncio.create_task(ship()))


@mended.post("/shutdown", status_code=202)
async def awaited_at_shutdown() -> None:
    mended.state.awaited_at_shutdown.add(asyncio.create_task(ship()))


class Mistake(NamedTuple):
    """What a test of it would ask, and expect."""

    path: str
    effects: list[str]
    status: int = 202
    files: dict[str, bytes] | None = None
    stops: bool = False


MISTAKES = {
    "blocking in async": Mistake("/blocking", ["rendered"]),
    "dropped by HTTPException": Mistake("/refused", ["refusal noted"], 409),
    "dropped by an own background=": Mistake("/replaced", ["mailed", "indexed"]),
    "added after yield": Mistake("/after-yield", ["audited"]),
    "add_task(f())": Mistake("/called", ["mailed"]),
    "unkept create_task": Mistake("/unkept", ["reminded"]),
    "the first of three fails": Mistake("/three", ["indexed", "counted"]),
    "a thread before the answer": Mistake("/thread", ["mailed"]),
    "a detached ORM object": Mistake("/detached", ["packed tea"]),
    "an upload read too late": Mistake("/upload", ["stored 5 bytes"], files={"file": b"hello"}),
    "context lost": Mistake("/context", ["billed acme"]),
    "cancelled at shutdown": Mistake("/shutdown", ["shipped"], stops=True),
}
