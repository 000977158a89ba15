"""The apps that the benchmark serves."""

import threading

from fastapi import BackgroundTasks, FastAPI

from lab.observer.asgi import Receive, Scope, Send


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with an empty 202."""
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


two = FastAPI()


def first() -> None:
    pass


async def second() -> None:
    pass


@two.post("/two", status_code=202)
async def two_tasks(tasks: BackgroundTasks) -> None:
    tasks.add_task(first)
    tasks.add_task(second)


@two.get("/none", status_code=202)
async def no_task() -> None:
    pass


@two.get("/one", status_code=202)
async def one_task(tasks: BackgroundTasks) -> None:
    tasks.add_task(first)


@two.post("/thread", status_code=202)
async def thread_first(tasks: BackgroundTasks) -> None:
    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
