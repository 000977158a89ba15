"""Every notebook runs from top to bottom, in both languages, and says nothing on stderr."""

from pathlib import Path

import pytest

from lab.building import NOTEBOOKS, folder, make, sources, tags
from lab.reporting import execute

pytestmark = pytest.mark.slow


# In English as a learner meets it, in Chinese with the exercises solved.
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_it_runs(source: Path, language: str) -> None:
    notebook = make(source, language, solved=language == "zh")
    problem = execute(notebook, folder(language, NOTEBOOKS))
    if problem:
        pytest.fail(f"{source.name}, {problem}", pytrace=False)
    said = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code" and "stderr" not in tags(cell)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]
    assert said == []
