"""Writes the pages of a report from executed notebooks; they need no network to be read.

The same executed notebooks give the same bytes. The first page opens with one figure and three
findings, shows the first figure of each lesson, and ends with the outputs of the cells tagged
`key-figure`, the table of verdicts.
"""

from __future__ import annotations

import json
import posixpath
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html

from ..languages import LANGUAGES, Text
from .notebooks import ROOT, SOLUTION, tags

FIGURES = ROOT / "data" / "figures"
TEMPLATES = Path(__file__).with_name("report_page")
INDEX = Text("index.html", "index.zh.html")
WIDGET = "application/vnd.jupyter.widget-view+json"

LINK = re.compile(r'<a href="(?!#|[a-z]+:)([^"#]+)(#[^"]*)?">(.*?)</a>', re.DOTALL)
WIDE = re.compile(r"(<img [^>]*>|<table.*?</table>)", re.DOTALL)
# In a traceback, what comes before a module's own path tells of one person's machine only.
FOLDER = re.compile(
    r"(?<![\w:/.])(?:/|[A-Z]:\\)[^\s\"'&<>]*[\\/](?:site-packages|python3\.\d+|notebooks)[\\/]"
)

WORDS = {
    "title": Text("Background Tasks Lab", "后台任务实验室"),
    "lead": Text(
        "What FastAPI does after it has answered, measured on one machine.",
        "FastAPI 返回响应之后做了什么：在一台机器上的实测。",
    ),
    "all": Text("All lessons", "全部课程"),
    "name": Text("English", "中文"),
    "code": Text("code", "代码"),
    "solution": SOLUTION,
    "top": Text("The report", "报告"),
    "around": Text("Lessons before and after", "前后课程"),
    "failed": Text("Did not run to the end: ", "没有运行到底："),
    "facts": Text(
        "Run on {date} with {versions} on {machine}{floor}.",
        "运行于 {date}，{versions}，{machine}{floor}。",
    ),
    "floor": Text("; noise floor {floor} ms (p50)", "；底噪 {floor} 毫秒（p50）"),
}

FINDINGS = (
    (
        "01_answer_first",
        Text(
            "The caller has its 202 before the work is done. A 202 promises nothing: if the "
            "process dies, the work is gone.",
            "任务还没做完，调用方就拿到了 202。202 什么也没保证：进程一旦崩溃，任务就丢了。",
        ),
    ),
    (
        "05_when_a_task_fails",
        Text(
            "Tasks of one response run one after another. When one fails, those "
            "behind it never run.",
            "同一响应的任务串行执行，一个接一个。前一个出错，排在后面的就不再运行。",
        ),
    ),
    (
        "06_stop_the_server",
        Text(
            "On SIGTERM, uvicorn waits for background tasks, not for threads.",
            "收到 SIGTERM，uvicorn 会等后台任务做完，但不等线程。",
        ),
    ),
)

# Figures of the first page that are shown once they are drawn.
EXTRA_FIGURES = {
    "fates": Text(
        "The same work on several servers: what finishes, and what is lost.",
        "同样的任务放到几种服务器上：哪些做完，哪些丢失。",
    ),
    "radar": Text(
        "Which statements hold with which versions.",
        "哪些说法在哪些版本下成立。",
    ),
}

PAGES = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, undefined=StrictUndefined
)
PAGES.globals.update(words=WORDS, index=INDEX, findings=FINDINGS)
NOTEBOOK: Any = HTMLExporter(  # type: ignore[no-untyped-call]
    template_name=TEMPLATES.name,
    template_file="notebook.html.j2",
    extra_template_basedirs=[str(TEMPLATES.parent)],
)


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
        key_cells = [cell for cell in self.notebook.cells if "key-figure" in tags(cell)]
        return readable("".join(shown(key_cells)))

    @property
    def first_figure(self) -> Markup:
        figures = (html for html in shown(self.notebook.cells) if "<img " in html)
        return Markup(readable(next(figures, "")))

    @property
    def body(self) -> str:
        """The cells, as HTML."""
        resources = {word: WORDS[word].of(self.language) for word in ("code", "solution")}
        body, _ = NOTEBOOK.from_notebook_node(self.notebook, resources=resources)
        return readable(FOLDER.sub("", body))

    @property
    def floors(self) -> list[float]:
        """The noise floors (p50) of what it shows, in milliseconds."""
        metadata = [output.get("metadata", {}) for output in outputs(self.notebook.cells)]
        return [
            round(one["noise_floor"]["p50"] * 1000, 1) for one in metadata if "noise_floor" in one
        ]


def readable(html: str) -> str:
    """The HTML, with a box around whatever may be too wide, which a keyboard can push sideways.

    An empty head of a table becomes an empty cell: nobody could tell what it heads.
    """
    html = html.replace("<th></th>", "<td></td>")
    return WIDE.sub(r'<div class="wide" tabindex="0">\1</div>', html)


def is_control(output: Any) -> bool:
    """Whether an output is for who runs the notebook: a widget, a script, a bar of progress."""
    data = output.get("data", {})
    return (
        WIDGET in data
        or "application/javascript" in data
        or data.get("text/html", "").startswith("<progress")
    )


def outputs(cells: Iterable[Any]) -> Iterator[Any]:
    return (output for cell in cells for output in cell.get("outputs", []))


def shown(cells: Iterable[Any]) -> Iterator[str]:
    """What cells have put out as HTML."""
    data = (output.get("data", {}) for output in outputs(cells))
    return (one["text/html"] for one in data if "text/html" in one)


def extra_figures(figures: Path) -> list[tuple[str, Text]]:
    """Those of EXTRA_FIGURES that a folder has, as addresses that hold the figure, and captions."""
    found = ((figures / f"{name}.svg", caption) for name, caption in EXTRA_FIGURES.items())
    return [
        ("data:image/svg+xml;base64," + b64encode(path.read_bytes()).decode(), caption)
        for path, caption in found
        if path.exists()
    ]


def render(to: Path, figures: Path = FIGURES) -> list[Path]:
    """Write the pages of the notebooks that stand in `to`/executed; return them.

    figures: where the first page's figures that no notebook draws are looked for.
    Raises FileNotFoundError when no run has left any.
    """
    facts = json.loads((to / "executed" / "run.json").read_text(encoding="utf-8"))
    problems = facts.pop("problems")
    by_language = {
        language: [
            Lesson(language, path, problems.get(f"{language}/{path.stem}", ""))
            for path in sorted((to / "executed" / language).glob("*.ipynb"))
        ]
        for language in LANGUAGES
    }
    pages = {lesson.source: lesson.page for group in by_language.values() for lesson in group}
    written = {}
    for language, other in zip(LANGUAGES, reversed(LANGUAGES), strict=True):
        lessons = by_language[language]
        twins = {twin.path.stem: twin for twin in by_language[other]}
        around = zip([None, *lessons], lessons, [*lessons[1:], None], strict=False)
        for before, lesson, after in around:
            written[lesson.page] = PAGES.get_template("lesson.html.j2").render(
                language=language, lesson=lesson, before=before, after=after,
                twin=twins.get(lesson.path.stem),
                relinked=partial(relinked, page=lesson.page, pages=pages),
            )  # fmt: skip
        written[INDEX.of(language)] = PAGES.get_template("index.html.j2").render(
            language=language, other=other, lessons=lessons, facts=facts,
            floor=noise_floor(lessons), extra_figures=extra_figures(figures),
            relinked=partial(relinked, page=INDEX.of(language), pages=pages),
        )  # fmt: skip
    for stale in (path for language in LANGUAGES for path in (to / language).glob("*.html")):
        stale.unlink()
    for page, html in written.items():
        (to / page).parent.mkdir(exist_ok=True)
        (to / page).write_text(html, encoding="utf-8", newline="\n")
    return [to / page for page in written]


def noise_floor(lessons: list[Lesson]) -> str:
    """The least and the greatest noise floor of the lessons, in milliseconds; "" without any."""
    floors = sorted(floor for lesson in lessons for floor in lesson.floors)
    return "–".join(f"{floor:g}" for floor in dict.fromkeys(floors[:1] + floors[-1:]))


def relinked(html: str, lesson: Lesson, page: str, pages: Mapping[str, str]) -> Markup:
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
        way = posixpath.relpath(leads_to, posixpath.dirname(page))
        return f'<a href="{way}{anchor}">{text}</a>'

    return Markup(LINK.sub(new_link, html))
