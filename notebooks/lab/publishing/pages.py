"""Writes the pages of a report from executed notebooks; they need no network to be read.

The same executed notebooks give the same bytes. The first page opens with the outputs of the cells
tagged `key-figure`, the table of verdicts, and shows the first figure of each lesson.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from ..languages import LANGUAGES
from .notebooks import tags

TEMPLATES = Path(__file__).parent
CSS = (TEMPLATES / "report_page" / "page.css").read_text(encoding="utf-8")
INDEX = {"en": "index.html", "zh": "index.zh.html"}
OTHER = {"en": "zh", "zh": "en"}
WIDGET = "application/vnd.jupyter.widget-view+json"

LINK = re.compile(r'<a href="(?!#|[a-z]+:)([^"#]+)(#[^"]*)?">(.*?)</a>', re.DOTALL)
# In a traceback, what comes before a module's own path tells of one person's machine only.
FOLDER = re.compile(
    r"(?<![\w:/.])(?:/|[A-Z]:\\)[^\s\"'&<>]*[\\/](?:site-packages|python3\.\d+|notebooks)[\\/]"
)

WORDS = {
    "en": {
        "title": "Background Tasks Lab",
        "lead": "What FastAPI does after it has answered, measured on one machine.",
        "all": "All lessons",
        "name": "English",
        "code": "code",
        "failed": "Did not run to the end: ",
        "facts": "Run on {date} with {versions} on {machine}{floor}.",
        "floor": "; noise floor {floor} ms (p50)",
    },
    "zh": {
        "title": "后台任务实验室",
        "lead": "FastAPI 应答之后做了什么：在一台机器上的实测。",
        "all": "全部课程",
        "name": "中文",
        "code": "代码",
        "failed": "没有运行到底：",
        "facts": "运行于 {date}，{versions}，{machine}{floor}。",
        "floor": "；噪声下限 {floor} 毫秒（p50）",
    },
}


@dataclass
class Lesson:
    """An executed notebook, and what went wrong in it."""

    language: str
    path: Path
    problem: str

    @property
    def source(self) -> str:
        """Where the notebook stands beside the others, as their links name it."""
        return self.path.name if self.language == "en" else f"{self.language}/{self.path.name}"

    @property
    def page(self) -> str:
        """Where its page stands in the report."""
        return f"{self.language}/{self.path.stem}.html"

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        notebook: Any = nbformat.read(self.path, as_version=4)  # type: ignore[no-untyped-call]
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            if "outputs" in cell:
                cell.outputs = [output for output in cell.outputs if not is_control(output)]
        return notebook  # type: ignore[no-any-return]

    @property
    def title(self) -> str:
        for cell in self.notebook.cells:
            if found := re.search(r"^# (.+)$", cell.source, re.MULTILINE):
                return found[1]
        return self.path.stem

    @property
    def about(self) -> str:
        """The opening, below the title."""
        cells = self.notebook.cells
        opening = cells[0].source.partition("\n")[2] if cells else ""
        return str(markdown2html(opening))

    @property
    def key_figures(self) -> str:
        """What the whole report comes down to."""
        return "".join(html for cell in self.notebook.cells for html in shown(cell, "key-figure"))

    @property
    def first_figure(self) -> str:
        images = [html for cell in self.notebook.cells for html in shown(cell) if "<img " in html]
        return f'<div class="output">{images[0]}</div>' if images else ""

    @property
    def floors(self) -> list[float]:
        """The noise floors (p50) of what it shows, in milliseconds."""
        outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", [])]
        noted = [output.get("metadata", {}).get("noise_floor") for output in outputs]
        return [round(floor["p50"] * 1000, 1) for floor in noted if floor]


def is_control(output: Any) -> bool:
    """Whether an output is for who runs the notebook: a widget, a script, a bar of progress."""
    data = output.get("data", {})
    return (
        WIDGET in data
        or "application/javascript" in data
        or data.get("text/html", "").startswith("<progress")
    )


def shown(cell: Any, tag: str | None = None) -> list[str]:
    """What a cell, if it is tagged so, has put out as HTML."""
    if tag is not None and tag not in tags(cell):
        return []
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [one["text/html"] for one in data if "text/html" in one]


def render(to: Path) -> list[Path]:
    """Write the pages of the notebooks that stand in `to`/executed; return them.

    Raises FileNotFoundError when no run has left any.
    """
    facts = json.loads((to / "executed" / "run.json").read_text(encoding="utf-8"))
    problems = facts.pop("problems")
    lessons = {
        language: [
            Lesson(language, path, problems.get(f"{language}/{path.stem}", ""))
            for path in sorted((to / "executed" / language).glob("*.ipynb"))
        ]
        for language in LANGUAGES
    }
    pages = {lesson.source: lesson.page for group in lessons.values() for lesson in group}
    written = {}
    for language, group in lessons.items():
        for number, lesson in enumerate(group):
            before, after = group[:number][-1:], group[number + 1 :][:1]
            written[lesson.page] = lesson_page(lesson, before, after, pages)
        written[INDEX[language]] = index_page(language, group, facts, pages)
    for stale in (path for language in LANGUAGES for path in (to / language).glob("*.html")):
        stale.unlink()
    for page, html in written.items():
        (to / page).parent.mkdir(exist_ok=True)
        (to / page).write_text(html, encoding="utf-8", newline="\n")
    return [to / page for page in written]


def lesson_page(
    lesson: Lesson, before: list[Lesson], after: list[Lesson], pages: Mapping[str, str]
) -> str:
    words = WORDS[lesson.language]
    exporter: Any = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report_page",
        extra_template_basedirs=[str(TEMPLATES)],
        require_js_url="",
        mathjax_url="",
    )
    resources = {"metadata": {"name": lesson.path.stem}, "words": words}
    body, _ = exporter.from_notebook_node(lesson.notebook, resources=resources)
    body = relinked(FOLDER.sub("", body), lesson, lesson.page, pages)
    other = OTHER[lesson.language]
    twin = f"{other}/{lesson.path.stem}.html"
    top = link(f"../{INDEX[lesson.language]}", words["all"])
    if twin in pages.values():
        top += link(f"../{twin}", WORDS[other]["name"], f' class="apart" hreflang="{other}"')
    bottom = ""
    for near in before:
        bottom += link(f"{near.path.stem}.html", f"← {near.title}", ' rel="prev"')
    for near in after:
        bottom += link(f"{near.path.stem}.html", f"{near.title} →", ' class="apart" rel="next"')
    return html_page(
        lesson.language,
        lesson.title,
        f"<nav>{top}</nav>",
        f"<main>{failed(lesson)}{body}</main>",
        f"<nav>{bottom}</nav>",
    )


def index_page(
    language: str, lessons: list[Lesson], facts: Mapping[str, str], pages: Mapping[str, str]
) -> str:
    """The page that a trainer hands out: the verdicts, where they were measured, each lesson."""
    words, other = WORDS[language], OTHER[language]
    floors = [floor for lesson in lessons for floor in lesson.floors]
    spread = (
        "–".join(f"{floor:g}" for floor in sorted({min(floors), max(floors)})) if floors else ""
    )
    floor = words["floor"].format(floor=spread) if floors else ""
    told = escape(words["facts"].format(**facts, floor=floor))
    front = "".join(
        relinked(lesson.key_figures, lesson, INDEX[language], pages) for lesson in lessons
    )
    items = (
        f"<li><h2>{link(lesson.page, lesson.title)}</h2>{failed(lesson)}"
        + relinked(lesson.about, lesson, INDEX[language], pages)
        + f"{lesson.first_figure}</li>\n"
        for lesson in lessons
    )
    top = link("#lessons", words["all"])
    top += link(INDEX[other], WORDS[other]["name"], f' class="apart" hreflang="{other}"')
    return html_page(
        language,
        words["title"],
        f"<nav>{top}</nav>",
        f'<main><h1>{words["title"]}</h1><p>{words["lead"]}</p><p class="facts">{told}</p>',
        f'{front}<ol class="lessons" id="lessons">{"".join(items)}</ol></main>',
    )


def relinked(html: str, lesson: Lesson, page: str, pages: Mapping[str, str]) -> str:
    """The HTML with links between notebooks leading from page to page.

    What a link outside of the report leads to would be missing where the report is read: of such a
    link the text alone stays.
    """

    def new_link(found: re.Match[str]) -> str:
        target, anchor, text = found.groups(default="")
        place = posixpath.join(posixpath.dirname(lesson.source), unquote(target))
        leads_to = pages.get(posixpath.normpath(place))
        if leads_to is None:
            return text
        return (
            f'<a href="{posixpath.relpath(leads_to, posixpath.dirname(page))}{anchor}">{text}</a>'
        )

    return LINK.sub(new_link, html)


def failed(lesson: Lesson) -> str:
    if not lesson.problem:
        return ""
    return f'<p class="failed">{WORDS[lesson.language]["failed"]}{escape(lesson.problem)}</p>'


def link(target: str, text: str, more: str = "") -> str:
    return f'<a href="{target}"{more}>{escape(text)}</a>'


def html_page(language: str, title: str, *parts: str) -> str:
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
