"""The commands, as a reader types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import lab.__main__ as commands
from lab.publishing.notebooks import ROOT

FIRST = "notebooks/01_answer_first.ipynb"
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "bGFiIGxhYiBsYWIgbGFiIQ==",
}  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ([], []),
        (["open"], []),
        (["--port", "8899"], ["--port", "8899"]),
        (["open", "--no-browser", "--port=1"], ["--no-browser", "--port=1"]),
    ],
)
def test_without_a_command_the_lab_opens_and_options_go_on_to_jupyter(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], options: list[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(commands, "open_lab", lambda given: asked.append(given) or 0)
    assert commands.main(typed) == 0
    assert asked == [options]


@pytest.mark.parametrize("typed", [["build", "--no"], ["report", "x"], ["nonsense"]])
def test_wrong_arguments_show_the_usage(typed: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        commands.main(typed)
    assert "usage: python -m lab" in capsys.readouterr().err


def test_to_watch_and_to_show_take_neither_jupyter_nor_matplotlib() -> None:
    code = (
        "import sys, lab.__main__, lab.terminal.watching, lab.traces.files\n"
        "print({'IPython', 'jupytext', 'matplotlib', 'numpy', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (["watch", "shop:app"], ("shop:app", [], None, None)),
        (["watch", "--save", "a", "shop:app", "--cwd", "b"], ("shop:app", [], "b", "a")),
        (["watch", "shop:app", "--", "granian", "{app}", "--", "-x"],
         ("shop:app", ["granian", "{app}", "--", "-x"], None, None)),
    ],
)  # fmt: skip
def test_what_stands_behind_two_dashes_is_the_readers_own_command(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], asked: tuple[object, ...]
) -> None:
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(commands, "watch", lambda *told: given.append(told) or 0)
    assert commands.main(typed) == 0
    app, own, cwd, save = asked
    assert given == [(app, own, cwd and Path(str(cwd)), save and Path(str(save)))]


def test_a_build_error_is_printed_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def build() -> list[Path]:
        raise ValueError("01_x.py, cell 3: prose stands in pairs")

    monkeypatch.setattr("lab.publishing.notebooks.build", build)
    assert commands.main(["build"]) == 1
    assert capsys.readouterr().err == "01_x.py, cell 3: prose stands in pairs\n"


@pytest.mark.parametrize(
    ("typed", "lesson"),
    [
        ([], None),
        (["5"], "05_when_a_task_fails"),
        (["05"], "05_when_a_task_fails"),
        (["05_when_a_task_fails"], "05_when_a_task_fails"),
    ],
)
def test_a_lesson_is_recorded_by_its_number_or_name(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], lesson: str | None
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(commands, "record", lambda given: asked.append(given) or 0)
    assert commands.main(["record", *typed]) == 0
    assert asked == [lesson]


@pytest.mark.parametrize("typed", ["04", "when_a_task_fails", ""])
def test_recording_an_unknown_lesson_lists_the_known_ones(
    typed: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        commands.main(["record", typed])
    shown = capsys.readouterr().err
    assert f"no lesson {typed!r}" in shown
    assert "01_answer_first, 02_one_after_another, " in shown


def test_report_again_without_a_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert commands.main(["report", "--again", "--to", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().out


@pytest.mark.slow
def test_jupyterlab_opens_quietly_at_the_first_lesson(tmp_path: Path) -> None:
    places = {
        f"JUPYTER_{name}": str(tmp_path / name)
        for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    }
    as_root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    lab = subprocess.Popen(
        [sys.executable, "-m", "lab", "open", "--no-browser", "--port=0", *as_root],
        env=os.environ | places, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        about = server_of(tmp_path / "RUNTIME_DIR", lab)
        with httpx.Client(
            base_url=about["url"],
            headers={"Authorization": f"token {about['token']}"},
            trust_env=False,
        ) as client:
            assert about["hostname"] in ("localhost", "127.0.0.1")
            assert about["root_dir"] == str(ROOT)
            assert client.get("").headers["location"].rstrip("?").endswith(commands.FIRST)
            notices = client.get("lab/api/settings/@jupyterlab/apputils-extension:notification")
            properties = notices.json()["schema"]["properties"]
            assert properties["fetchNews"]["default"] == "false"
            assert client.get("api/contents/server.py?content=0").status_code == 200
            assert client.get(f"api/contents/{FIRST}").json()["content"]["cells"]
            kernel = client.post("api/kernels").json()["id"]
            channels = f"api/kernels/{kernel}/channels?session_id=1"
            with client.stream("GET", channels, headers=UPGRADE) as opened:
                assert opened.status_code == 101
        assert not (tmp_path / "CONFIG_DIR" / "lab" / "user-settings").exists()
    finally:
        lab.send_signal(signal.SIGTERM)
        said = lab.communicate(timeout=30)[0].decode()
    assert f"{about['url']}lab/tree/{FIRST}?token={about['token']}" in said
    assert "Control-C" in said
    for noise in ("[I ", "[W ", "Skipped non-installed", "not trusted", "ping_", "encryption"):
        assert noise not in said


def test_the_readers_own_settings_of_jupyter_come_before_the_labs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = [str(tmp_path / "path"), str(tmp_path / "dir")]
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", own[0])
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", own[1])
    monkeypatch.setattr("lab.publishing.notebooks.sign", lambda: None)
    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", lambda options: None)
    commands.open_lab([])
    labs = str(Path(commands.__file__).with_name("jupyter_config"))
    assert os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep) == [*own, labs]


def server_of(runtime: Path, lab: subprocess.Popen) -> dict[str, str]:
    """Return the description that JupyterLab writes once it listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and lab.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            if path.stat().st_size:
                return json.loads(path.read_text(encoding="utf-8"))
        time.sleep(0.1)
    assert lab.stdout is not None
    pytest.fail(f"JupyterLab did not come up: {lab.stdout.read().decode()}")
