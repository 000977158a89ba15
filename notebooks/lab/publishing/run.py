"""Runs the notebooks for a report, and keeps what they put out.

Running and rendering are separate: the executed notebooks stay in `executed/` beside the pages that
`pages` writes from them.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from ..languages import LANGUAGES
from ..lessons.kernels import own_sockets
from ..versions import versions
from .notebooks import NOTEBOOKS, folder, solve

CELL_TIMEOUT = 120

Say = Callable[[str], None]


def execute(notebook: nbformat.NotebookNode, place: Path) -> str | None:
    """Run a notebook in a fresh kernel; return what went wrong, if anything did.

    place: the folder it runs in. What it had put out by then stays in it either way.
    """
    begun: list[str] = []  # kept here: what a kernel says of a cell may be lost with it
    # What servers of a lesson say as they are stopped goes here, not among the lines of progress.
    with own_sockets() as config, TemporaryFile("w+", errors="replace") as said:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            config=config,
            record_timing=False,
            kernel_name="python3",
            resources={"metadata": {"path": str(place)}},
            on_cell_execute=lambda cell, cell_index: begun.append(cell.source),
        )
        try:
            client.execute(stderr=said)
        except CellExecutionError as error:
            return f"{last(begun)}: {error.ename}: {error.evalue}"
        except CellTimeoutError:
            return f"{last(begun)}: not over after {CELL_TIMEOUT} s"
        except RuntimeError as error:  # the kernel died, or never came up
            said.seek(0)
            return f"{last(begun)}: {error}\n{said.read()[-2000:]}".strip()
    return None


def last(begun: list[str]) -> str:
    """The last cell that was begun, as Jupyter numbers it, with its first line."""
    if not begun:
        return "before the first cell"
    return f"cell [{len(begun)}] {begun[-1].splitlines()[0]!r}"


def run(to: Path, notebooks: Path = NOTEBOOKS, say: Say = print) -> dict[str, str]:
    """Run every notebook of every language into `to`/executed; return the problems by notebook.

    Its solutions are run where a reader has left the exercise empty.

    say: is given a line for each. Each is kept as soon as it is over: what an interrupted run has
    done can be rendered.
    """
    executed = to / "executed"
    for stale in executed.glob("*/*.ipynb"):
        stale.unlink()
    problems: dict[str, str] = {}
    facts = {"problems": problems, **machine()}
    todo = [
        (language, path)
        for language in LANGUAGES
        for path in sorted(folder(language, notebooks).glob("*.ipynb"))
    ]
    for number, (language, path) in enumerate(todo, 1):
        say(f"{number} of {len(todo)}: {language}/{path.name}")
        try:
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
            problem = execute(solve(notebook, language), path.parent)
        except (ValueError, nbformat.ValidationError) as error:
            notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
            problem = f"not a notebook: {error}"
        if problem:
            say(f"FAILED {language}/{path.name}, {problem}")
            problems[f"{language}/{path.stem}"] = problem
        target = executed / language / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)  # type: ignore[no-untyped-call]
        (executed / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return problems


def machine() -> dict[str, str]:
    """What a reader must know of where the figures come from."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
