"""Virtual environments with other versions and other servers, made from the package index."""

import subprocess
from pathlib import Path

import pytest

from .pythons import pythons


def environment(folder: Path, version: str, packages: list[str]) -> Path:
    """Return the programs' folder of a new environment; skip the test where it cannot be made."""
    python = pythons((3, 9)).get(version)
    if python is None:
        pytest.skip(f"needs CPython {version}")
    subprocess.run([python, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *packages]
    done = subprocess.run(install, capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "Retrying" in done.stderr:
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr
    return folder / "bin"
