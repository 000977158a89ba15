"""The report in a real browser: nothing fails, nothing is asked of the network, all is readable."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab.languages import LANGUAGES
from lab.publishing.notebooks import NOTEBOOKS, folder, make, tags
from lab.publishing.pages import render
from lab.publishing.run import run

from ..test_browser import browser as browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LESSONS = ["01_answer_first", "02_one_after_another"]
WIDTHS = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of two lessons, run for them."""
    chosen, to = tmp_path_factory.mktemp("chosen"), tmp_path_factory.mktemp("report")
    for language in LANGUAGES:
        folder(language, chosen).mkdir(exist_ok=True)
        for lesson in LESSONS:
            name = f"{lesson}.ipynb"
            shutil.copy(folder(language, NOTEBOOKS) / name, folder(language, chosen) / name)
    assert run(to, chosen, say=lambda line: None) == {}
    render(to)
    return to


def pages(report: Path) -> list[Path]:
    return sorted(path for path in report.rglob("*.html"))


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_network_or_error(
    browser: Any, report: Path, width: int, scheme: str, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    opened = pages(report)
    assert len(opened) == 2 + 2 * len(LESSONS)
    for path in opened:
        page.goto(path.as_uri())
        images = page.evaluate("() => [...document.images].map(i => [i.naturalWidth, i.alt])")
        assert images
        assert all(width > 0 and alt for width, alt in images)
        # Wide code and tables scroll in themselves; the page does not.
        overhang = page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if overhang > 0:
            page.screenshot(path=tmp_path / "page.png")
            pytest.fail(f"{path.name} is {overhang} px too wide; see {tmp_path / 'page.png'}")
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing(
    browser: Any, report: Path, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    found = {}
    for path in pages(report):
        page.goto(path.as_uri())
        for one in axe.run(page).response["violations"]:
            nodes = [node["html"][:100] for node in one["nodes"]]
            found[path.parent.name, path.name, one["id"]] = nodes
    page.close()
    assert found == {}


def test_an_exercise_shows_ticks_and_folds_its_solution(browser: Any, report: Path) -> None:
    page = browser.new_page()
    for language in LANGUAGES:
        page.goto((report / language / f"{LESSONS[0]}.html").as_uri())
        folds = page.locator("details.solution")
        lesson = make(NOTEBOOKS / "source" / f"{LESSONS[0]}.py", language, solved=True)
        assert folds.count() == sum("solution" in tags(cell) for cell in lesson.cells) > 0
        assert not any(folds.evaluate_all("all => all.map(fold => fold.open)"))
        assert "✓" in page.locator("main").inner_text()
        assert "✗" not in page.locator("main").inner_text()
    page.close()


def test_code_folds_and_opens(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto((report / "en" / f"{LESSONS[0]}.html").as_uri())
    folds = page.locator("details").filter(has=page.locator("pre"))
    assert folds.count() > 3
    before = folds.first.evaluate("fold => fold.open")
    folds.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folds.first.evaluate("fold => fold.open") is not before
    page.close()


def test_a_page_prints_with_its_code_and_figures(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto((report / "en" / f"{LESSONS[0]}.html").as_uri())
    page.emulate_media(media="print")
    assert page.locator("nav").first.is_hidden()
    assert page.locator("img").first.is_visible()
    assert page.pdf()[:5] == b"%PDF-"
    page.close()


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of all notebooks as they are before anybody runs them."""
    to = tmp_path_factory.mktemp("prose")
    for language in LANGUAGES:
        executed = to / "executed" / language
        executed.mkdir(parents=True)
        for path in folder(language, NOTEBOOKS).glob("*.ipynb"):
            shutil.copy(path, executed / path.name)
    facts = {"problems": {}, "date": "", "versions": "", "machine": ""}
    (to / "executed" / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    render(to)
    return to


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_no_page_is_wider_than_its_window(browser: Any, prose: Path, width: int) -> None:
    page = browser.new_page()
    page.set_viewport_size({"width": width, "height": 800})
    wide = []
    for path in pages(prose):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(path.name)
    page.close()
    assert wide == []
