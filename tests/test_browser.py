"""In a real JupyterLab, in a real browser: every notebook opens and runs to its end."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.publishing.notebooks import sources

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
OPENED = "() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel"
RUN_ALL = """async () => {
  const app = window.jupyterapp, context = app.shell.currentWidget.context;
  await app.restored; await context.ready; await context.sessionContext.ready;
  await context.sessionContext.session.kernel.info;
  await app.commands.execute('notebook:run-all-cells');
}"""
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === 'code')
  .map(cell => ({ran: cell.model.executionCount, outputs: cell.model.outputs.toJSON()}))"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab as `python -m lab` opens it for somebody new; it saves nothing. Its address."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian's package `chromium`)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "lab", "open", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]  # fmt: skip
    settings = tmp_path_factory.mktemp("settings")
    own = settings / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    own.parent.mkdir(parents=True)
    own.write_text('{"autosave": false}')
    server = subprocess.Popen(
        command,
        env=os.environ
        | {
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path_factory.mktemp("workspaces")),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/{{place}}?token={token}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        profile = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1300, "height": 1400}
        )
        yield context
        context.close()


def test_jupyterlab_opens_at_the_first_lesson_and_lists_server_py(lab: str, browser: Any) -> None:
    page = browser.new_page()
    page.goto(lab.format(place=""))
    page.wait_for_function(OPENED, timeout=60_000)
    path = page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")
    assert path == "notebooks/01_answer_first.ipynb"
    page.close()


# One language: the code is the same in both.
@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(lab: str, browser: Any, source: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(lab.format(place=f"lab/tree/notebooks/{source.stem}.ipynb") + "&reset")
    page.wait_for_function(OPENED, timeout=60_000)
    page.evaluate(RUN_ALL)
    cells = page.evaluate(CELLS)
    outputs = [output for cell in cells for output in cell["outputs"]]
    problems = [output for output in outputs if output["output_type"] == "error"]
    if problems or not all(cell["ran"] for cell in cells):
        page.screenshot(path=tmp_path / "lab.png")
        pytest.fail(f"{problems or 'cells were left out'}; see {tmp_path / 'lab.png'}")
    images = page.evaluate(
        "() => [...document.querySelectorAll('.jp-OutputArea img[alt]')].map(i => i.naturalWidth)"
    )
    assert images or page.locator(".jp-OutputArea table").count()
    assert all(width > 0 for width in images)
    page.close()


@contextlib.contextmanager
def pictured(page: Any, path: Path) -> Iterator[None]:
    """Keep a picture of the page when something fails."""
    try:
        yield
    except BaseException as error:
        page.screenshot(path=path)
        error.add_note(f"see {path}")
        raise


def test_the_playground_works_by_keyboard(lab: str, browser: Any, tmp_path: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    expect.set_options(timeout=30_000)
    page = browser.new_page()
    errors: list[Any] = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(lab.format(place="lab/tree/notebooks/playground.ipynb") + "&reset")
    page.wait_for_function(OPENED, timeout=60_000)
    page.evaluate(RUN_ALL)
    figure, code = page.locator("figure img"), page.locator(".jp-RenderedMarkdown pre")
    status = page.locator(".lab-status .widget-html-content")
    focused = page.locator(":focus")
    press = page.keyboard.press

    def tab_to(label: str) -> None:
        for _ in range(10):
            press("Tab")
            if focused.evaluate("at => (at.labels?.[0] ?? at).innerText").startswith(label):
                return
        pytest.fail(f"Tab does not lead to {label}")

    with pictured(page, tmp_path / "lab.png"):
        expect(figure).to_have_attribute("alt", re.compile("^Timeline: answered at"))
        cells = len(page.evaluate(CELLS))

        page.get_by_label("hand-over").focus()
        press("ArrowDown")
        expect(status).to_have_text("Guess what comes, then press Run.")
        expect(status).to_have_attribute("role", "status")
        tab_to("work")
        press("ArrowDown")
        expect(status).to_contain_text("no event loop")
        press("ArrowUp")
        expect(status).not_to_contain_text("no event loop")
        tab_to("Run")
        press("Enter")
        expect(status).to_contain_text(re.compile("^Finished.* 3 finished"))
        expect(figure).to_have_attribute("alt", re.compile(r"(sleep from [\d.]+ s to .*){3}"))
        expect(code).to_contain_text("threading.Thread(target=sleep, args=[0.3]).start()")

        page.get_by_label("hand-over").focus()
        press("ArrowUp")
        tab_to("tasks")
        for _ in range(9):
            press("ArrowUp")
        tab_to("seconds")
        page.keyboard.type("99")
        tab_to("Run")
        expect(page.get_by_label("tasks")).to_have_value("6")
        expect(page.get_by_label("seconds")).to_have_value("2")
        press("Space")
        expect(status).to_contain_text("Running; answered 202")
        expect(figure).to_have_attribute("alt", re.compile("running; sleep waiting"))
        expect(focused).to_have_text("Stop")
        press("Space")
        expect(status).to_contain_text("Stopped")
        expect(figure).to_have_attribute("alt", re.compile("lost; sleep never ran"))

        after = page.evaluate(CELLS)
        assert len(after) == cells
        outputs = [output["output_type"] for cell in after for output in cell["outputs"]]
        assert "error" not in outputs
        assert errors == []
    page.close()
