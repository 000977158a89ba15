"""The promises of the repository: its commands, its sources, its tools."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.publishing.notebooks import ROOT, sources

INCLUDES = {"-r ../requirements.txt"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "notebooks" / "zh" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("start", ["import server", "import webhooks.worker"])
def test_the_service_starts_without_the_lab(start: str) -> None:
    code = f"{start}\nimport sys\nassert not [name for name in sys.modules if name[:3] == 'lab']"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"},
        check=True,
        capture_output=True,
    )


def test_packages_import_only_what_they_may() -> None:
    """The contracts stand in pyproject.toml."""
    # In a process of its own: it sets up logging anew.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_package_has_a_docstring() -> None:
    for package in [ROOT / "webhooks", *(ROOT / "notebooks" / "lab").iterdir()]:
        if (package / "__init__.py").exists():
            module = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
            assert ast.get_docstring(module), package


def test_both_readmes_give_the_same_two_commands_and_ci_runs_one_of_them() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert [line for line in CHINESE.splitlines() if line.startswith("python3 -m venv")] == commands
    pattern = re.search(r"grep -E '(.*)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    assert [line for line in commands if re.fullmatch(pattern[1].strip("^$"), line)] == commands[1:]


@pytest.mark.parametrize("page", ["README.md", "notebooks/zh/README.md"])
def test_links_lead_to_existing_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_every_lesson_is_in_the_readmes_table(text: str) -> None:
    assert [source.stem for source in sources() if f"{source.stem}.ipynb" not in text] == []


def test_every_requirement_is_pinned() -> None:
    for name, others in (("requirements.txt", {"-e ."}), ("tests/requirements.txt", INCLUDES)):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        wanted = {line for line in lines if line and not line.startswith("#")}
        assert {line for line in wanted if "==" not in line} == others


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
