"""Runs the notebooks and writes a report: HTML pages that need no network to be read.

Running and rendering are separate: the executed notebooks stay in `executed/` beside the pages,
and rendering them again gives the same pages.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from .building import LANGUAGES, NOTEBOOKS, folder

CELL_TIMEOUT = 120
PACKAGES = ("fastapi", "starlette", "uvicorn", "anyio", "httpx", "celery")
TEMPLATES = Path(__file__).parent
CSS = (TEMPLATES / "report_page" / "page.css").read_text(encoding="utf-8")
# Without this the kernel warns, at every start, of a connection that never leaves the machine.
ENCRYPTED = Config(KernelManager={"transport_encryption": "auto"})

WORDS = {
    "en": {
        "title": "Background Tasks Lab",
        "lead": "What FastAPI does after it has answered, measured on one machine.",
        "all": "All lessons",
        "other": "中文",
        "code": "code",
        "failed": "did not run to the end",
        "facts": "Run on {date} with {versions} on {machine}; {floor}.",
    },
    "zh": {
        "title": "后台任务实验室",
        "lead": "FastAPI 应答之后做了什么：在一台机器上的实测。",
        "all": "全部课程",
        "other": "English",
        "code": "代码",
        "failed": "没有运行到底",
        "facts": "运行于 {date}，{versions}，{machine}；{floor}。",
    },
}

Tell = Callable[[str], None]


def lessons(language: str, notebooks: Path = NOTEBOOKS) -> list[Path]:
    return sorted(folder(language, notebooks).glob("*.ipynb"))


def execute(notebook: nbformat.NotebookNode, place: Path) -> str | None:
    """Run a notebook in a fresh kernel; return what went wrong, if anything did.

    place: the folder it runs in. What it had put out by then stays in it either way.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        config=ENCRYPTED,
        record_timing=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(place)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = sum(bool(cell.get("execution_count")) for cell in notebook.cells)
        return f"code cell {number}: {type(error).__name__}: {str(error).strip()[-600:]}"
    return None


def run(to: Path, notebooks: Path = NOTEBOOKS, tell: Tell = print) -> dict[str, str]:
    """Run every notebook of every language into `to`/executed; return the problems by notebook."""
    problems = {}
    for language in LANGUAGES:
        for path in lessons(language, notebooks):
            name = f"{language}/{path.name}"
            tell(f"running {name}")
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
            problem = execute(notebook, path.parent)
            if problem:
                tell(f"FAILED {name}, {problem}")
                problems[f"{language}/{path.stem}"] = problem
            target = to / "executed" / language / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, target)  # type: ignore[no-untyped-call]
    facts = {"problems": problems, **machine()}
    (to / "executed" / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return problems


def machine() -> dict[str, str]:
    """What a reader must know of where the figures come from."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{package} {version(package)}" for package in PACKAGES]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": ", ".join(versions),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def render(to: Path) -> list[Path]:
    """Write the pages of the notebooks that `run` has left in `to`/executed.

    Raises FileNotFoundError when there are none.
    """
    executed = to / "executed"
    facts = json.loads((executed / "run.json").read_text(encoding="utf-8"))
    pages = []
    for language in LANGUAGES:
        (to / language).mkdir(exist_ok=True)
        paths = sorted((executed / language).glob("*.ipynb"))
        entries = []
        for number, path in enumerate(paths):
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
            around = (paths[number - 1] if number else None, *paths[number + 1 : number + 2])
            page = to / language / f"{path.stem}.html"
            page.write_text(lesson_page(notebook, path, language, around), encoding="utf-8")
            pages.append(page)
            entries.append(entry(notebook, path, language, facts["problems"]))
        floors = re.findall(r"noise floor [^<>\"]*?ms \(p50\)", "".join(map(str, entries)))
        index = to / ("index.html" if language == "en" else "index.zh.html")
        index.write_text(index_page(entries, facts, language, floors), encoding="utf-8")
        pages.append(index)
    return pages


def lesson_page(
    notebook: nbformat.NotebookNode, path: Path, language: str, around: tuple[Path | None, ...]
) -> str:
    words = WORDS[language]
    title = first_heading(notebook) or path.stem
    other = next(one for one in LANGUAGES if one != language)
    home = "index.html" if language == "en" else "index.zh.html"
    links = [f'<a href="../{home}">{words["all"]}</a>']
    for arrow, near in zip("←→", around, strict=False):
        if near is not None:
            links.append(f'<a href="{near.stem}.html">{arrow} {escape(near.stem[:2])}</a>')
    links.append(f'<a class="apart" href="../{other}/{path.stem}.html">{words["other"]}</a>')
    nav = f"<nav>{''.join(links)}</nav>"
    exporter: Any = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report_page",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
        require_js_url="",
        mathjax_url="",
    )
    notebook.metadata.pop("widgets", None)
    resources = {
        "metadata": {"name": path.stem},
        "page_head": head(title, language) + nav + "<main>",
        "page_foot": f"</main>{nav}</body></html>\n",
        "words": words,
    }
    html, _ = exporter.from_notebook_node(notebook, resources=resources)
    return re.sub(r'(href="[^":]+)\.ipynb', r"\1.html", html)


def head(title: str, language: str) -> str:
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{CSS}</style>\n</head>\n<body>\n"
    )


def first_heading(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        if found := re.search(r"^# (.+)$", cell.source, re.MULTILINE):
            return found[1]
    return ""


def entry(
    notebook: nbformat.NotebookNode, path: Path, language: str, problems: dict[str, str]
) -> dict[str, str]:
    """What the index says of a lesson: its title, what it is about, its first figure."""
    about = notebook.cells[0].source.partition("\n")[2].strip() if notebook.cells else ""
    shown = [
        str(output.get("data", {}).get("text/html", output.get("data", {}).get("text/plain", "")))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    return {
        "page": f"{language}/{path.stem}.html",
        "title": first_heading(notebook) or path.stem,
        "about": re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(about)),
        "figure": next((html for html in shown if html.startswith("<img ")), ""),
        "floor": next((text for text in shown if "noise floor" in text and "<img" not in text), ""),
        "problem": problems.get(f"{language}/{path.stem}", ""),
    }


def index_page(
    entries: list[dict[str, str]], facts: dict[str, str], language: str, floors: list[str]
) -> str:
    words = WORDS[language]
    items = []
    for lesson in entries:
        problem = f'<p class="failed">{words["failed"]}</p>' if lesson["problem"] else ""
        items.append(
            f'<li><h2><a href="{lesson["page"]}">{escape(lesson["title"])}</a></h2>{problem}'
            f"<p>{lesson['about']}</p>{lesson['figure']}</li>\n"
        )
    other = "index.zh.html" if language == "en" else "index.html"
    floor = floors[0] if floors else "noise floor: see each figure"
    told = escape(words["facts"].format(**{**facts, "floor": floor}))
    return (
        head(words["title"], language)
        + f'<nav><a class="apart" href="{other}">{words["other"]}</a></nav><main>'
        + f"<h1>{words['title']}</h1><p>{words['lead']}</p>"
        + f'<p class="facts">{told}</p><ol class="lessons">{"".join(items)}</ol>'
        + "</main></body></html>\n"
    )
