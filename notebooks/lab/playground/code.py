"""Writes the code that does the same as a run of the playground."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .choice import HAND_OVERS, Choice
from .works import WORKS

IMPORTS = {
    "sleep": "import time",
    "async_sleep": "import asyncio",
    "blocking_in_async": "import time",
    "compute": "import time",
}


SEND_ONE = 'trace = web.post("/")\ntimeline(trace)'
SEND_MANY = 'traces = web.burst("/", [{{}}] * {number})\ntimeline(traces)'
CODE = """\
{standard}

from fastapi import {fastapi}

{lab}

{app}

{work}
@app.post("/", status_code={status})
{handler} endpoint({parameter}):
    for {number} in {numbers}:
        {line}


web = serve(app, on="process")
{send}
"""


def code(choice: Choice) -> str:
    """Return code for a cell that does the same as the playground."""
    way, work = HAND_OVERS[choice.hand_over], WORKS[choice.work]
    awaited = choice.hand_over == "inline" and choice.is_async
    arguments = f"{choice.seconds:g}"
    if choice.failing:
        arguments += f", number == {choice.failing}"
    line = way.line.format(work=choice.work, arguments=arguments)
    lab = [f"from lab import {way.lab}"]
    if imported := way.imported.format(work=choice.work):
        lab.append(f"from lab.playground.works import {imported}  # other processes import it")
    elif choice.work == "compute":
        lab.append("from lab.lessons.crunch import crunch")
    standard = [way.imports, "" if imported else IMPORTS[choice.work]]
    return CODE.format(
        standard="\n".join(sorted(filter(None, standard))),
        fastapi="BackgroundTasks, FastAPI" if way.parameter else "FastAPI",
        lab="\n".join(lab),
        app=way.app,
        work="" if imported else f"\n{source(work)}\n",
        status=way.status,
        handler="def" if way.blocks and not choice.is_async else "async def",
        parameter=way.parameter,
        number="number" if choice.failing else "_",
        numbers=f"range(1, {choice.tasks + 1})" if choice.failing else f"range({choice.tasks})",
        line=f"await {line}" if awaited else line,
        send=SEND_ONE if choice.at_once == 1 else SEND_MANY.format(number=choice.at_once),
    )


def source(work: Callable[..., Any]) -> str:
    """Return the source of a function, without comments for the linter."""
    return inspect.getsource(work).replace("  # noqa: ASYNC251", "")
