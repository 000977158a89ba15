"""Apps of frameworks that are not FastAPI, each with work behind its answer at `/`.

`/told` tells what the work has done. An app is made when its name is first asked for.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

effects: list[str] = []
kept: set[Any] = set()


def store() -> None:
    effects.append("in a thread" if asyncio._get_running_loop() is None else "on the loop")


async def store_async() -> None:
    await asyncio.sleep(0.05)
    store()


async def fail() -> None:
    raise ValueError("boom")


def told(request: Request) -> Response:
    return JSONResponse(sorted(effects))


def behind() -> BackgroundTasks:
    return BackgroundTasks([BackgroundTask(store), BackgroundTask(store_async)])


async def hand_over(request: Request) -> Response:
    return JSONResponse("taken", background=behind())


def starlette() -> Any:
    return Starlette(routes=[Route("/", hand_over), Route("/told", told)])


def mounted() -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/", starlette())
    return app


def sse() -> Any:
    from sse_starlette import EventSourceResponse

    async def events() -> AsyncIterator[dict[str, str]]:
        for data in "ab":
            yield {"data": data}

    async def stream(request: Request) -> Response:
        return EventSourceResponse(events(), background=behind())

    return Starlette(routes=[Route("/", stream), Route("/told", told)])


def fasthtml() -> Any:
    from fasthtml.common import FastHTML, P

    app = FastHTML(secret_key="none")

    @app.get("/")
    def home() -> Any:
        return P("taken"), behind()

    app.get("/told")(told)
    return app


def litestar() -> Any:
    from litestar import Litestar, get
    from litestar import Response as LitestarResponse
    from litestar.background_tasks import BackgroundTask as Task
    from litestar.background_tasks import BackgroundTasks as Tasks

    @get("/", sync_to_thread=True)
    def home() -> LitestarResponse[str]:
        return LitestarResponse("taken", background=Tasks([Task(store), Task(store_async)]))

    @get("/told", sync_to_thread=False)
    def told() -> list[str]:
        return sorted(effects)

    return Litestar([home, told])


def quart() -> Any:
    from quart import Quart

    app = Quart(__name__)

    @app.get("/")
    async def home() -> str:
        app.add_background_task(store)
        app.add_background_task(store_async)
        return "taken"

    @app.get("/failing")
    async def failing() -> str:
        app.add_background_task(fail)
        return "taken"

    @app.get("/told")
    def told() -> list[str]:
        return sorted(effects)

    return app


def django() -> Any:
    """Threads that Django starts for each request are not the reader's; the view's are."""
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import JsonResponse
    from django.urls import path

    async def home(request: Any) -> Any:
        threading.Thread(target=store).start()
        task = asyncio.create_task(store_async())
        kept.add(task)
        return JsonResponse("taken", safe=False)

    def sync(request: Any) -> Any:
        return JsonResponse("no work", safe=False)

    def told(request: Any) -> Any:
        return JsonResponse(sorted(effects), safe=False)

    class urls:
        urlpatterns = (path("", home), path("sync", sync), path("told", told))

    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="none", LOGGING_CONFIG="")
    return get_asgi_application()


APPS: dict[str, Callable[[], Any]] = {
    each.__name__: each for each in (starlette, mounted, sse, fasthtml, litestar, quart, django)
}


def __getattr__(name: str) -> Any:
    try:
        make = APPS[name.removesuffix("_app")]
    except KeyError:
        raise AttributeError(name) from None
    app = globals()[name] = make()
    return app
