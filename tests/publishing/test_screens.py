"""The picture of a terminal says what the command prints, each sign in its column."""

import os
import subprocess
import sys

from matplotlib.colors import to_hex

from lab.figures.look import WAITING, WORK
from lab.publishing.notebooks import ROOT
from lab.publishing.screens import COLUMN, MARGIN, ROW, draw_shown
from lab.traces import Traces

FILE = "data/recordings/05_when_a_task_fails/failing.json"


def test_the_picture_is_what_the_command_prints() -> None:
    (axes,) = draw_shown(Traces.load(ROOT / FILE), FILE).figure.axes
    rows: dict[int, str] = {}
    for text in axes.texts:
        x, y = text.get_position()
        row, column = round((y - MARGIN + 5) / ROW), round((x - MARGIN) / COLUMN)
        rows[row] = f"{rows.get(row, ''):{column}}{text.get_text()}"
    printed = subprocess.run(
        [sys.executable, "-m", "lab", "show", FILE],
        cwd=ROOT, env=os.environ | {"COLUMNS": "80"},
        capture_output=True, encoding="utf-8", check=True,
    ).stdout  # fmt: skip
    shown = [rows.get(row, "").rstrip() for row in range(1, max(rows) + 1)]
    assert shown == [f"$ python -m lab show {FILE}", *printed.splitlines()]


def test_the_picture_has_the_colours_of_the_figures() -> None:
    drawing = draw_shown(Traces.load(ROOT / FILE), FILE)
    (axes,) = drawing.figure.axes
    inks = {text.get_text(): to_hex(text.get_color()) for text in axes.texts}
    assert inks["╸"] == WAITING.lower()
    assert inks["█"] == WORK.lower()
    assert drawing.alt.startswith("A terminal. Timeline: answered at")
