"""Every notebook runs from top to bottom, in both languages, and says nothing on stderr."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from lab.publishing.notebooks import NOTEBOOKS, folder, make, sources, tags
from lab.publishing.run import execute

pytestmark = pytest.mark.slow


# In Chinese, with the exercises solved; in English a browser runs them as a learner meets them.
@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_every_solved_notebook_runs_without_error_or_stderr(source: Path) -> None:
    notebook = make(source, "zh", solved=True)
    problem = execute(notebook, folder("zh", NOTEBOOKS))
    if problem:
        pytest.fail(f"{source.name}, {problem}", pytrace=False)
    on_stderr = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code" and "stderr" not in tags(cell)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]
    assert on_stderr == []
    assert [text for text in told(notebook) if re.search(r"\d\.\d{7}", text)] == []
    for lines in checked(notebook):
        missed = [line for line in lines if not line.startswith("✓ ")]
        assert lines
        assert missed == []


def told(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What the cells have put out as text or tables."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown = data.get("text/html", data.get("text/plain", ""))
            yield output.get("text", "") + re.sub(r'src="data:[^"]*"', "", shown)


def checked(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Return the output of each cell that checks an exercise, by line."""
    return [
        # One text: a busy kernel sends a line and its end apart.
        "".join(output.text for output in cell.outputs).splitlines()
        for cell in notebook.cells
        if cell.cell_type == "code" and "\ncheck(" in f"\n{cell.source}"
    ]


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_each_exercise_is_followed_by_its_check(source: Path) -> None:
    code = [cell for cell in make(source, "en", solved=True).cells if cell.cell_type == "code"]
    for number, cell in enumerate(code):
        if "solution" in tags(cell):
            assert "\ncheck(" in f"\n{code[number + 1].source}", cell.source
