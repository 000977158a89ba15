"""A loop is hooked while a server needs it, and left as the app has it."""

import asyncio
import gc
from typing import Any

import pytest

from lab.observer.asgi import Watched
from lab.observer.hooks import hooked
from lab.traces import Ledger, Traces

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def nothing() -> None:
    pass


def watched(endpoint: Any) -> Traces:
    """The traces of one call of an endpoint."""
    ledger = Ledger()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endpoint()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with hooked():
            await Watched(app, ledger.enter)(SCOPE, None, None)  # type: ignore[arg-type]
            for _ in range(3):
                await asyncio.sleep(0)
        left.append(vars(loop).get("create_task"))

    left.clear()
    asyncio.run(main())
    return ledger.traces


left: list[Any] = []


def test_nothing_of_ours_is_left_on_the_loop() -> None:
    async def endpoint() -> None:
        assert "create_task" in vars(asyncio.get_running_loop())
        await asyncio.create_task(nothing())

    assert [task.state for task in watched(endpoint).tasks] == ["finished"]
    assert left == [None]


def test_what_the_app_has_put_in_our_place_stays() -> None:
    own = []

    async def endpoint() -> None:
        loop = asyncio.get_running_loop()
        before = loop.create_task
        own.append(lambda *args, **options: before(*args, **options))
        vars(loop)["create_task"] = own[0]

    watched(endpoint)
    assert left == own


def test_a_task_that_a_loop_refuses_never_ran() -> None:
    async def endpoint() -> None:
        coro = nothing()
        with pytest.raises(TypeError, match="unexpected"):
            asyncio.get_running_loop().create_task(coro, odd=1)  # type: ignore[call-arg]
        coro.close()

    (task,) = watched(endpoint).tasks
    assert task.state == "never ran"
    assert task.error is not None
    assert task.error.startswith("TypeError")


def test_a_pending_task_that_nobody_keeps_is_said_to_be_gone() -> None:
    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def endpoint() -> None:
        asyncio.create_task(for_ever())  # noqa: RUF006
        await asyncio.sleep(0)
        gc.collect()

    (task,) = watched(endpoint).tasks
    assert task.state == "lost"
    assert task.error == "destroyed while it was pending"
