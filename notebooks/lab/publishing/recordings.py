"""Keeps one real run of each lesson, and draws the README's figures from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from socket import gethostname
from typing import Any

import nbformat

from ..figures import (
    draw_growth,
    draw_heartbeat,
    draw_lanes,
    draw_scatter,
    draw_sequence,
    draw_timeline,
)
from ..figures.look import Drawing
from ..traces import Trace, Traces

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
        for part, traces in found(name, value):
            if traces and len(traces) <= MOST_KEPT and not name.startswith("_"):
                path = folder / f"{part}.json"
                traces.save(path)
                # A worker's place names its host; whose machine it was is nobody's business.
                text = path.read_text(encoding="utf-8").replace(f" on {gethostname()}", "")
                path.write_text(text, encoding="utf-8", newline="\n")


def found(name: str, value: Any) -> Iterator[tuple[str, Traces]]:
    """The requests that a notebook's variable holds: one, a list, or either by keyword."""
    if isinstance(value, Trace):
        yield name, Traces([value])
    elif isinstance(value, list) and all(isinstance(item, Trace) for item in value):
        yield name, Traces(value)
    elif isinstance(value, Mapping) and all(isinstance(item, Trace) for item in value.values()):
        yield name, Traces(value.values())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and isinstance(item, Traces):
                yield f"{name}.{key}", item


def recorded(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook, with a last cell that keeps what it has measured."""
    code = f"from lab.publishing.recordings import keep\nkeep(dict(globals()), {str(folder)!r})"
    last: Any = nbformat.v4.new_code_cell(code)  # type: ignore[no-untyped-call]
    longer = copy.deepcopy(notebook)
    longer.cells.append(last)
    return longer


def load(folder: str | Path) -> Recording:
    """The requests that `keep` saved, by name."""
    return {path.stem: Traces.load(path) for path in sorted(Path(folder).glob("*.json"))}


def by_number_of_tasks(traces: Traces) -> dict[float, Trace]:
    return {len(trace.tasks): trace for trace in traces}


def parts(run: Recording, name: str, *keys: str) -> dict[str, Traces]:
    return {key: run[f"{name}.{key}"] for key in keys}


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
    "heartbeat": (
        "03_loop_or_thread",
        lambda run: draw_heartbeat(parts(run, "beats", "plain", "friendly", "blocking")),
    ),
    "failure": (
        "05_when_a_task_fails",
        lambda run: draw_timeline([*run["failing"], *run["neighbour"]]),
    ),
    "sigterm": ("06_stop_the_server", lambda run: draw_lanes(run["sigterm"])),
    "killed-worker": ("08_hand_over_to_a_queue", lambda run: draw_timeline(run["unlucky"])),
    "workers": (
        "08_hand_over_to_a_queue",
        lambda run: draw_growth(dict(zip((1, 2, 4), run["waiting"], strict=True)), "workers"),
    ),
}


def draw_all(recordings: Path, figures: Path) -> None:
    """Draw the README's figures; the same recordings give the same bytes."""
    figures.mkdir(parents=True, exist_ok=True)
    for name, (lesson, draw) in FIGURES.items():
        draw(load(recordings / lesson)).save(figures / f"{name}.svg")
