"""The report: pages that need no network, and that one run gives the same each time."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lab.building import build
from lab.reporting import render, run

LESSON = """\
# %% [markdown] lang="en"
# # {number}. Send one
#
# **Do** send. [Next](02_b.ipynb)

# %% [markdown] lang="zh"
# # {number}. 发一个
#
# **要做**：发。[下一课](02_b.ipynb)

# %%
from IPython.display import HTML
from lab.ink import Drawing, show
from lab.traces import Trace, Traces
from lab import timeline
timeline(Trace("1", 0.0, status=202, answered=0.01, responded=0.01, returned=0.02))

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
    for number, name, code in [(1, "01_a", "1"), (2, "02_b", "1 / 0")]:
        text = LESSON.format(number=number, code=code)
        (notebooks / "source" / f"{name}.py").write_text(text, encoding="utf-8")
    build(notebooks)
    to = tmp_path_factory.mktemp("report")
    problems = run(to, notebooks, tell=lambda line: None)
    render(to)
    return to, problems


def test_a_notebook_that_fails_is_named_and_the_others_are_there(
    report: tuple[Path, dict[str, str]],
) -> None:
    to, problems = report
    assert sorted(problems) == ["en/02_b", "zh/02_b"]
    assert "ZeroDivisionError" in problems["en/02_b"]
    assert "ZeroDivisionError" in (to / "en" / "02_b.html").read_text(encoding="utf-8")
    assert "did not run to the end" in (to / "index.html").read_text(encoding="utf-8")
    assert {path.name for path in to.rglob("*.html")} == {
        "index.html", "index.zh.html", "01_a.html", "02_b.html",
    }  # fmt: skip


def test_pages_load_nothing_and_their_links_and_anchors_hold(
    report: tuple[Path, dict[str, str]],
) -> None:
    for path in report[0].rglob("*.html"):
        page = Page(path)
        assert [load for load in page.loads if not load.startswith("data:")] == []
        assert "@import" not in path.read_text(encoding="utf-8")
        assert not re.search(r"url\((?!data:)", path.read_text(encoding="utf-8"))
        for link in page.links:
            target, _, anchor = link.partition("#")
            other = (path.parent / target).resolve() if target else path
            assert other.exists(), link
            assert not anchor or anchor in Page(other).ids, link
        assert len(set(page.ids)) == len(page.ids)


def test_figures_say_what_they_show(report: tuple[Path, dict[str, str]]) -> None:
    for path in report[0].rglob("*.html"):
        figures = Page(path).figures
        assert figures
        assert all(alt and alt.startswith("Timeline") for alt in figures)


def test_rendering_again_gives_the_same_bytes(report: tuple[Path, dict[str, str]]) -> None:
    before = {path: path.read_bytes() for path in report[0].rglob("*.html")}
    render(report[0])
    assert {path: path.read_bytes() for path in report[0].rglob("*.html")} == before


def test_nothing_to_render_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        render(tmp_path)
