"""What the repository promises of itself: its commands, its sources, its tools."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.publishing.notebooks import ROOT, sources

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "notebooks" / "zh" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]])
def test_the_tools_find_nothing(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_readmes_give_the_same_two_commands_and_ci_runs_one_of_them() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert [line for line in CHINESE.splitlines() if line.startswith("python3 -m venv")] == commands
    pattern = re.search(r"grep -E '(.*)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    assert [line for line in commands if re.fullmatch(pattern[1].strip("^$"), line)] == commands[1:]


@pytest.mark.parametrize("page", ["README.md", "notebooks/zh/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_every_lesson_stands_in_the_table(text: str) -> None:
    assert [source.stem for source in sources() if f"{source.stem}.ipynb" not in text] == []


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted[-1] == "-e ."
    assert [line for line in wanted[:-1] if "==" not in line] == []


def test_server_and_lab_are_found_from_any_folder_and_are_this_checkout(tmp_path: Path) -> None:
    code = "import server, webhooks, lab; print(server.__file__, webhooks.__file__, lab.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        str(ROOT / "server.py"),
        str(ROOT / "webhooks" / "__init__.py"),
        str(ROOT / "notebooks" / "lab" / "__init__.py"),
    ]
