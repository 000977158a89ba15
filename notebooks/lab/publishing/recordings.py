"""Keeps the requests of one real run of a lesson, and draws the README's figures from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from socket import gethostname
from typing import Any, NamedTuple

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
from .screens import draw_shown


class ReadmeFigure(NamedTuple):
    """A figure of the README: what it is drawn from, and how.

    lesson: the notebook. names: its variables, or a variable and a key ("beats.plain").
    draw: is given the requests under each name.
    """

    lesson: str
    names: tuple[str, ...]
    draw: Callable[..., Drawing]


FIGURES = {
    "answer-first": ReadmeFigure("01_answer_first", ("trace",), draw_timeline),
    "sequence": ReadmeFigure("01_answer_first", ("trace",), lambda one: draw_sequence(one[0])),
    "inline-or-background": ReadmeFigure(
        "01_answer_first", ("background", "inline"),
        lambda background, inline: draw_scatter(background=background, inline=inline),
    ),
    "one-after-another": ReadmeFigure(
        "02_one_after_another", ("by_number",),
        lambda traces: draw_growth({len(trace.tasks): trace for trace in traces}),
    ),
    "heartbeat": ReadmeFigure(
        "03_loop_or_thread", ("beats.plain", "beats.friendly", "beats.blocking"),
        lambda *beats: draw_heartbeat(
            dict(zip(("plain", "friendly", "blocking"), beats, strict=True))
        ),
    ),
    "failure": ReadmeFigure(
        "05_when_a_task_fails", ("failing", "neighbour"),
        lambda failing, neighbour: draw_timeline(failing + neighbour),
    ),
    "terminal": ReadmeFigure(
        "05_when_a_task_fails", ("failing",),
        lambda failing: draw_shown(failing, "data/recordings/05_when_a_task_fails/failing.json"),
    ),
    "sigterm": ReadmeFigure("06_stop_the_server", ("sigterm",), draw_lanes),
    "killed-worker": ReadmeFigure("08_hand_over_to_a_queue", ("unlucky",), draw_timeline),
    "workers": ReadmeFigure(
        "08_hand_over_to_a_queue", ("waiting",),
        lambda waiting: draw_growth(dict(zip((1, 2, 4), waiting, strict=True)), "workers"),
    ),
}  # fmt: skip
LESSONS = sorted({figure.lesson for figure in FIGURES.values()})


def names_of(lesson: str) -> set[str]:
    """List the names in a lesson that its figures are drawn from."""
    return {name for figure in FIGURES.values() if figure.lesson == lesson for name in figure.names}


def keep(namespace: Mapping[str, Any], names: Iterable[str], folder: str | Path) -> None:
    """Save the requests that a lesson has bound to names, a file for each name.

    namespace: the notebook's. names: as in `ReadmeFigure`. folder: where these files go, and those
    of other names are deleted. Raises KeyError for a name that the notebook does not know.
    """
    kept = {name: lookup(namespace, name) for name in names}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        stale.unlink()
    for name, traces in kept.items():
        path = folder / f"{name}.json"
        traces.save(path)
        # A worker's place names its host; whose machine it was is nobody's business.
        text = path.read_text(encoding="utf-8").replace(f" on {gethostname()}", "")
        path.write_text(text, encoding="utf-8", newline="\n")


def lookup(namespace: Mapping[str, Any], name: str) -> Traces:
    """Look up what a notebook holds under a name: one request, a list, or some by key."""
    variable, _, key = name.partition(".")
    value = namespace[variable][key] if key else namespace[variable]
    if isinstance(value, Mapping):
        value = value.values()
    return Traces([value] if isinstance(value, Trace) else value)


def recorded(notebook: nbformat.NotebookNode, lesson: str, to: Path) -> nbformat.NotebookNode:
    """Add a last cell to a lesson's notebook, which keeps what its figures are drawn from.

    to: the folder with one folder for each lesson.
    """
    arguments = f"globals(), {sorted(names_of(lesson))}, {str(to / lesson)!r}"
    code = f"from lab.publishing.recordings import keep\nkeep({arguments})"
    longer = copy.deepcopy(notebook)
    longer.cells.append(nbformat.v4.new_code_cell(code))  # type: ignore[no-untyped-call]
    return longer


def draw_all(recordings: Path, figures: Path) -> None:
    """Draw the README's figures; the same recordings give the same bytes."""
    figures.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        kept = (recordings / figure.lesson / f"{one}.json" for one in figure.names)
        figure.draw(*map(Traces.load, kept)).save(figures / f"{name}.svg")
