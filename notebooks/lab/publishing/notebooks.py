"""Makes the notebooks of both languages from their one source.

Code cells are shared; prose stands in pairs of cells, `lang="en"` and `lang="zh"`, and so does code
that is not the same in both. Cells tagged `solution` become exercises, with the solution folded
away below.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat.sign import NotebookNotary

from ..languages import LANGUAGES, Text

SOLUTION = Text("Solution", "参考答案")
EXERCISE = Text("# Write your code here", "# 在这里写你的代码")
ROOT = Path(__file__).parents[3]
NOTEBOOKS = ROOT / "notebooks"

FOLDED = re.compile(
    r"<details>\n<summary>[^<]*</summary>\n\n```python\n(.*)\n```\n\n</details>", re.DOTALL
)

# Within Chinese, a line break of the source would be shown as a space.
CJK_BREAK = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])")

Cell = Any  # nbformat's cells are dictionaries with attributes


def folder(language: str, notebooks: Path = NOTEBOOKS) -> Path:
    """Where the notebooks of a language stand."""
    return notebooks if language == "en" else notebooks / language


def sources(notebooks: Path = NOTEBOOKS) -> list[Path]:
    """The files that people edit, in the order of the lessons."""
    return sorted((notebooks / "source").glob("*.py"))


def build(notebooks: Path = NOTEBOOKS) -> list[Path]:
    """Write the notebooks of both languages; return those that changed.

    A notebook whose source is gone goes too; a reader's own notebooks stay. Raises ValueError when
    a piece of prose lacks its partner in the other language.
    """
    changed = []
    for language in LANGUAGES:
        target = folder(language, notebooks)
        target.mkdir(exist_ok=True)
        made = {
            target / f"{source.stem}.ipynb": text(make(source, language))
            for source in sources(notebooks)
        }
        for path, content in made.items():
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                path.write_text(content, encoding="utf-8", newline="\n")
                changed.append(path)
        for path in target.glob("*.ipynb"):
            if path not in made and is_generated(path):
                path.unlink()
                changed.append(path)
    return changed


def make(source: Path, language: str, solved: bool = False) -> nbformat.NotebookNode:
    """One lesson in one language; `solved` leaves the solutions in their cells."""
    cells = jupytext.read(source).cells
    check_pairs(cells, source.name)
    chosen = [cell for cell in cells if cell.metadata.get("lang", language) == language]
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(chosen):
        for part, made in enumerate([cell] if solved else exercise(cell, language)):
            made.id = cell_id(source.stem, number, part)
            made.metadata = {"tags": tags(made)} if tags(made) else {}
            if made.cell_type == "markdown":
                made.source = CJK_BREAK.sub("", made.source)
            notebook.cells.append(made)
    return notebook  # type: ignore[no-any-return]


def cell_id(lesson: str, number: int, part: int = 0) -> str:
    """The same in both languages, and after every build."""
    return hashlib.sha256(f"{lesson}/{number}/{part}".encode()).hexdigest()[:8]


def sign(notebooks: Path = NOTEBOOKS) -> None:
    """Sign the built notebooks for this user: Jupyter warns of a notebook that nobody has signed.

    One that holds outputs is left to Jupyter, since these may hold scripts.
    """
    notary: Any = NotebookNotary()  # type: ignore[no-untyped-call]
    with closing(notary.store):
        for language in LANGUAGES:
            for path in filter(is_generated, folder(language, notebooks).glob("*.ipynb")):
                notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
                if not any(cell.get("outputs") for cell in notebook.cells):
                    notary.sign(notebook)


def is_generated(path: Path) -> bool:
    """Whether the build made this notebook, under this name."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError):
        return False
    return bool(cells) and cells[0].get("id") == cell_id(path.stem, 0)


def check_pairs(cells: list[Cell], name: str) -> None:
    """Raise ValueError unless what has a language stands in English, then in Chinese, alike."""
    awaited, place = None, ""
    end = nbformat.v4.new_raw_cell("the end")  # type: ignore[no-untyped-call]
    for number, cell in enumerate([*cells, end], 1):
        language, kind = cell.metadata.get("lang"), (cell.cell_type, tags(cell))
        if not awaited:
            place = f"cell {number} ({cell.source[:40]!r})"
        if (language, kind) != awaited if awaited else language not in (None, "en"):
            raise ValueError(f"{name}, {place}: what has a lang stands in pairs, en and then zh")
        awaited = ("zh", kind) if language == "en" else None


def exercise(cell: Cell, language: str) -> Iterator[Cell]:
    """The cell as a learner meets it."""
    if "solution" not in tags(cell):
        yield cell
        return
    yield nbformat.v4.new_code_cell(EXERCISE.of(language))  # type: ignore[no-untyped-call]
    yield nbformat.v4.new_markdown_cell(  # type: ignore[no-untyped-call]
        f"<details>\n<summary>{SOLUTION.of(language)}</summary>\n\n"
        f"```python\n{cell.source}\n```\n\n</details>"
    )


def solve(notebook: nbformat.NotebookNode, language: str) -> nbformat.NotebookNode:
    """Move each folded solution of a built notebook into its cell, tagged `solution`.

    A cell in which a reader has written an answer keeps it.
    """
    empty = EXERCISE.of(language)
    cells: list[Cell] = []
    for cell in notebook.cells:
        folded = FOLDED.fullmatch(cell.source)
        if folded and cells and (cells[-1].cell_type, cells[-1].source) == ("code", empty):
            cells[-1].source = folded[1]
            cells[-1].metadata["tags"] = ["solution"]
        else:
            cells.append(cell)
    notebook.cells = cells
    return notebook


def tags(cell: Cell) -> list[str]:
    return list(cell.metadata.get("tags", []))


def text(notebook: nbformat.NotebookNode) -> str:
    return nbformat.writes(notebook, version=4) + "\n"  # type: ignore[no-any-return, no-untyped-call]
