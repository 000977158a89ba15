"""The report: pages that need no network, and that one run gives the same each time."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from starlette.applications import Starlette

from lab.publishing.notebooks import build
from lab.publishing.pages import EXTRA_FIGURES, FOLDER, render
from lab.publishing.run import execute, run
from lab.servers.web import Web

LESSON = """\
# %% [markdown] lang="en"
# # {number}. Send one
#
# **Do** send `x` ([code](../server.py)). [Next](02_b.ipynb#2.-Send-one) [中文](zh/01_a.ipynb)

# %% [markdown] lang="zh"
# # {number}. 发一个
#
# **动手**：发。[下一课](02_b.ipynb) [English](../01_a.ipynb) [网](https://example.org/a.ipynb)

# %%
from IPython.display import ProgressBar, display
from lab import Trace, timeline
from lab.traces import Floor
floor = Floor(p50={number}.5e-3, p99=9e-3)
timeline(Trace("1", 0.0, status=202, answered=0.01, responded=0.01, returned=0.02, floor=floor))

# %% tags=["{tag}"]
display({{"text/html": '<table><tr><td><a href="01_a.ipynb">verdicts</a></table>'}}, raw=True)

# %%
slider = {{"application/vnd.jupyter.widget-view+json": {{"model_id": "1"}}}}
display(slider | {{"text/plain": "Slider()"}}, raw=True)
display(ProgressBar(3))

# %%
{code}
"""


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.figures: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif given.get("src") or given.get("href"):
            self.loads.append(given.get("src") or given.get("href") or "")
        if tag == "img":
            self.figures.append(given.get("alt"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    notebooks = tmp_path_factory.mktemp("notebooks")
    (notebooks / "source").mkdir()
    for number, name, tag, code in [(1, "01_a", "app", "1"), (2, "02_b", "key-figure", "1 / 0")]:
        text = LESSON.format(number=number, tag=tag, code=code)
        (notebooks / "source" / f"{name}.py").write_text(text, encoding="utf-8")
    build(notebooks)
    (notebooks / "mine.ipynb").write_text("not JSON", encoding="utf-8")
    to = tmp_path_factory.mktemp("report")
    problems = run(to, notebooks, say=lambda line: None)
    render(to)
    return to, problems


@pytest.mark.slow
def test_a_notebook_that_fails_is_named_and_the_others_are_there(
    report: tuple[Path, dict[str, str]],
) -> None:
    to, problems = report
    assert sorted(problems) == ["en/02_b", "en/mine", "zh/02_b"]
    assert problems["en/02_b"] == "cell [4] '1 / 0': ZeroDivisionError: division by zero"
    assert problems["en/mine"].startswith("not a notebook")
    assert "ZeroDivisionError" in (to / "en" / "02_b.html").read_text(encoding="utf-8")
    for page in ("index.html", "en/02_b.html", "en/mine.html"):
        assert "Did not run to the end" in (to / page).read_text(encoding="utf-8")
    assert "没有运行到底" in (to / "zh" / "02_b.html").read_text(encoding="utf-8")
    assert {path.name for path in to.rglob("*.html")} == {
        "index.html", "index.zh.html", "01_a.html", "02_b.html", "mine.html",
    }  # fmt: skip


@pytest.mark.slow
def test_pages_load_nothing_and_their_links_and_anchors_hold(
    report: tuple[Path, dict[str, str]],
) -> None:
    for path in report[0].rglob("*.html"):
        page = Page(path)
        assert [load for load in page.loads if not load.startswith("data:")] == []
        assert "@import" not in path.read_text(encoding="utf-8")
        assert not re.search(r"url\((?!data:)", path.read_text(encoding="utf-8"))
        for link in page.links:
            if link == "https://example.org/a.ipynb":
                continue
            target, _, anchor = link.partition("#")
            other = (path.parent / target).resolve() if target else path
            assert other.exists(), link
            assert not anchor or anchor in Page(other).ids, link
        assert len(set(page.ids)) == len(page.ids)


@pytest.mark.slow
def test_figures_say_what_they_show(report: tuple[Path, dict[str, str]]) -> None:
    for path in report[0].rglob("0*.html"):
        figures = Page(path).figures
        assert figures
        assert all(alt and alt.startswith("Timeline") for alt in figures)


@pytest.mark.slow
def test_the_first_page_goes_from_a_figure_to_the_verdicts_and_tells_its_facts(
    report: tuple[Path, dict[str, str]],
) -> None:
    for name in ("index.html", "index.zh.html"):
        html = (report[0] / name).read_text(encoding="utf-8")
        front, first, second = html.split("<li><h2>")[:3]
        language = "zh" if "zh" in name else "en"
        assert html.count(f'<a href="{language}/01_a.html">verdicts</a>') == 1
        assert html.rindex("verdicts</a>") > html.rindex("</ol>")
        assert front.count("<img alt=") == 1 + len(EXTRA_FIGURES)
        assert (first.count("<img alt="), second.count("<img alt=")) == (0, 1)
        for fact in ("Python 3.", "starlette", "anyio", "cores", "1.5–2.5 "):
            assert fact in html


@pytest.mark.slow
def test_figures_that_no_notebook_draws_are_shown_once_they_are_there(
    report: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    index = report[0] / "index.html"
    render(report[0], tmp_path)
    assert "<figure>" not in index.read_text(encoding="utf-8")
    (tmp_path / "radar.svg").write_text("<svg/>", encoding="utf-8")
    render(report[0], tmp_path)
    assert index.read_text(encoding="utf-8").count("<figcaption>") == 1
    render(report[0])


def test_a_server_looks_as_it_did_and_carries_its_noise_floor(serving: Callable[..., Web]) -> None:
    web = serving(Starlette())
    data, metadata = DisplayFormatter().format(web)
    assert data == {"text/plain": repr(web)}
    assert metadata == {"noise_floor": {"p50": web.floor.p50, "p99": web.floor.p99}}


@pytest.mark.slow
def test_links_lead_from_page_to_page_and_those_outside_become_text(
    report: tuple[Path, dict[str, str]],
) -> None:
    english = Page(report[0] / "en" / "01_a.html").links
    assert {link for link in english if not link.startswith("#")} == {
        "01_a.html", "02_b.html", "02_b.html#2.-Send-one", "../zh/01_a.html", "../index.html",
    }  # fmt: skip
    chinese = Page(report[0] / "zh" / "01_a.html").links
    assert {link for link in chinese if not link.startswith("#")} == {
        "01_a.html", "02_b.html", "../en/01_a.html", "../index.zh.html",
        "https://example.org/a.ipynb",
    }  # fmt: skip
    assert {"en/01_a.html", "en/02_b.html#2.-Send-one"} <= {*Page(report[0] / "index.html").links}


@pytest.mark.slow
def test_widgets_and_bars_of_progress_are_left_out(report: tuple[Path, dict[str, str]]) -> None:
    html = (report[0] / "en" / "01_a.html").read_text(encoding="utf-8")
    assert "output_widget" not in html
    assert "<progress" not in html
    assert "<pre>Slider()" not in html


def test_a_dead_kernel_is_told(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os; os._exit(3)")])
    assert "cell [1] 'import os; os._exit(3)'" in (execute(notebook, tmp_path) or "")


def test_folders_of_this_machine_are_not_shown() -> None:
    line = 'File "/home/me/.venv/lib/python3.11/site-packages/uvicorn/server.py", line 89'
    assert FOLDER.sub("", line) == 'File "uvicorn/server.py", line 89'
    for kept in ("https://example.org/notebooks/a", "data/notebooks/x", "POST /webhook-test"):
        assert FOLDER.sub("", kept) == kept


@pytest.mark.slow
def test_rendering_again_gives_the_same_bytes(report: tuple[Path, dict[str, str]]) -> None:
    before = {path: path.read_bytes() for path in report[0].rglob("*.html")}
    render(report[0])
    assert {path: path.read_bytes() for path in report[0].rglob("*.html")} == before


def test_nothing_to_render_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        render(tmp_path)
