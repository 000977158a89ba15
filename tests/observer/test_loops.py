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


def watched(endpoint: Any, kind: Any = asyncio.SelectorEventLoop) -> Traces:
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
    loop = kind()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return ledger.traces


left: list[Any] = []


class Derived(asyncio.SelectorEventLoop):
    pass


class Own(asyncio.SelectorEventLoop):
    def create_task(self, *args: Any, **options: Any) -> Any:
        return super().create_task(*args, **options)


@pytest.mark.parametrize("kind", [asyncio.SelectorEventLoop, Derived, Own])
def test_a_loop_is_hooked_by_its_class_which_is_as_before_afterwards(kind: Any) -> None:
    def class_attributes() -> list[Any]:
        return [vars(each).get("create_task") for each in kind.__mro__]

    before = class_attributes()

    async def endpoint() -> None:
        # With attributes of its own beside those of its class, CPython is slower with an object.
        assert "create_task" not in vars(asyncio.get_running_loop())
        assert class_attributes() != before
        await asyncio.create_task(nothing())

    assert [task.state for task in watched(endpoint, kind).tasks] == ["finished"]
    assert left == [None]
    assert class_attributes() == before


def test_work_is_seen_once_where_a_loops_base_is_hooked_as_well() -> None:
    async def on_the_base() -> None:
        def on_derived() -> Traces:
            async def endpoint() -> None:
                await asyncio.create_task(nothing())

            return watched(endpoint, Derived)

        found.append(await asyncio.to_thread(on_derived))

    found: list[Traces] = []
    watched(on_the_base)
    assert [task.state for task in found[0].tasks] == ["finished"]


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
