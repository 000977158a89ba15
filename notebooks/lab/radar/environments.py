"""Virtual environments with the versions that the radar looks at."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

CREATED_WITHIN = 600.0


class NotInstalled(Exception):
    """A set of packages cannot be installed here; the text is the installer's last line."""


def programs(packages: Sequence[str], python: str = sys.executable) -> Path:
    """Return the folder of the programs of an environment with these packages.

    It is made when it is not there yet, by uv if the machine has it, and kept for the next time if
    every version is pinned. packages: as pip takes them. python: the interpreter.
    Raises NotInstalled.
    """
    name = hashlib.sha256("\n".join([python, *packages]).encode()).hexdigest()[:16]
    folder = user_cache_path("background-tasks-lab", appauthor=False) / "environments" / name
    found = folder / ("Scripts" if os.name == "nt" else "bin")
    pinned = all("==" in package for package in packages)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # another notebook, or another set, may need the same one
        if not (pinned and (folder / "complete").exists()):
            shutil.rmtree(folder, ignore_errors=True)
            make(folder, found, packages, python)
            (folder / "complete").touch()
    return found


def at_hand(packages: Sequence[str]) -> Path:
    """Return the folder of this environment's own programs, if it has all these packages, and
    otherwise that of one which is made for them.
    """
    wanted = dict(package.split("==") for package in packages)
    here = Path(sys.executable).parent
    return here if versions(here, [*wanted]).items() >= wanted.items() else programs(packages)


def make(folder: Path, found: Path, packages: Sequence[str], python: str) -> None:
    inside = str(found / "python")
    if uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", python, str(folder))
        install = [uv, "pip", "install", "--quiet", "--python", inside]
    else:
        run(python, "-m", "venv", str(folder))
        install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if packages:
        run(*install, *packages)


def run(*command: str) -> None:
    """Run an installer. Raises NotInstalled when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=CREATED_WITHIN)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalled(said[-1] if said else f"{command[0]} ended with {done.returncode}")


def versions(found: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages in an environment, by name; those that it does not have
    are left out. found: the folder of its programs.
    """
    code = (
        "import importlib.metadata as m, platform, sys\n"
        "print('python', platform.python_version())\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass\n"
    )
    said = subprocess.run(
        [found / "python", "-c", code, *packages], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split() for line in said.splitlines())
