"""Keeps one real run of each lesson, and draws the README's figures from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from .figures import draw_growth, draw_scatter, draw_sequence, draw_timeline
from .ink import Drawing
from .traces import Trace, Traces

MOST_KEPT = 200

Recording = Mapping[str, Traces]


def keep(names: Mapping[str, Any], folder: str | Path) -> None:
    """Save the requests that a lesson has bound to names, a file for each name.

    names: a notebook's namespace. folder: where the files go. More than `MOST_KEPT` requests
    under one name are left out: they would swell the repository.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        stale.unlink()
    for name, value in names.items():
        traces = found(value)
        if traces and len(traces) <= MOST_KEPT and not name.startswith("_"):
            traces.save(folder / f"{name}.json")


def found(value: Any) -> Traces:
    """The requests that a notebook's variable holds; none when it holds something else."""
    if isinstance(value, Trace):
        return Traces([value])
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list) and all(isinstance(item, Trace) for item in value):
        return Traces(value)
    return Traces()


def recorded(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook, with a last cell that keeps what it has measured."""
    code = f"from lab.recording import keep\nkeep(dict(globals()), {str(folder)!r})"
    last: Any = nbformat.v4.new_code_cell(code)  # type: ignore[no-untyped-call]
    longer = copy.deepcopy(notebook)
    longer.cells.append(last)
    return longer


def load(folder: str | Path) -> Recording:
    """The requests that `keep` saved, by name."""
    return {path.stem: Traces.load(path) for path in sorted(Path(folder).glob("*.json"))}


def by_number_of_tasks(traces: Traces) -> dict[float, Trace]:
    return {len(trace.tasks): trace for trace in traces}


FIGURES: dict[str, tuple[str, Callable[[Recording], Drawing]]] = {
    "answer-first": ("01_answer_first", lambda run: draw_timeline(run["trace"])),
    "sequence": ("01_answer_first", lambda run: draw_sequence(run["trace"][0])),
    "inline-or-background": (
        "01_answer_first",
        lambda run: draw_scatter(background=run["background"], inline=run["inline"]),
    ),
    "one-after-another": (
        "02_one_after_another",
        lambda run: draw_growth(by_number_of_tasks(run["by_number"])),
    ),
}


def draw_all(recordings: Path, figures: Path) -> None:
    """Draw the README's figures; the same recordings give the same bytes."""
    figures.mkdir(parents=True, exist_ok=True)
    for name, (lesson, draw) in FIGURES.items():
        draw(load(recordings / lesson)).save(figures / f"{name}.svg")
