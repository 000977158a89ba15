"""Installed elsewhere, the package brings `lab` alone, and what serving and sending need."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.publishing.notebooks import ROOT

SEND = """
import importlib.util
from lab import serve

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 202})
        await send({"type": "http.response.body", "body": b""})

for on in ("thread", "process"):
    with serve(app, on=on) as web:
        assert web.post("/").wait().status == 202
assert not [name for name in ("server", "webhooks", "tests") if importlib.util.find_spec(name)]
"""


@pytest.mark.slow
def test_it_serves_and_sends_where_nothing_else_is(tmp_path: Path) -> None:
    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    installed = run(python, "-m", "pip", "install", "-q", ROOT)
    if "No matching distribution" in installed.stderr or "Retrying" in installed.stderr:
        pytest.skip("needs a package index")
    assert installed.returncode == 0, installed.stderr
    (tmp_path / "send.py").write_text(f"if __name__ == '__main__':\n{indented(SEND)}")
    done = run(python, "send.py")
    assert done.returncode == 0, done.stderr


def indented(code: str) -> str:
    return "".join(f"    {line}" for line in code.splitlines(keepends=True))
