"""Cells in a throw-away kernel, and programs in processes of their own."""

import socket
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.connect import LocalPortCache

from lab.lessons.kernels import last_line, run_all
from lab.publishing.run import execute


@pytest.mark.slow
def test_run_all_queues_cells_and_returns_the_fate_of_each() -> None:
    silent = "import time; time.sleep(1)"
    assert run_all(silent, "1 / 0", "2") == ["ran", "raised ZeroDivisionError", "ran"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kernels listen at ports there")
def test_kernels_start_while_others_take_the_ports_that_jupyter_picks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(LocalPortCache, "find_available_port", lambda self, ip: taken)
        assert run_all("1") == ["ran"]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
        assert execute(notebook, tmp_path) is None


def test_last_line_is_a_programs_error_or_its_output() -> None:
    assert last_line("print('a'); print('b')") == "b"
    assert last_line("1 / 0") == "ZeroDivisionError: division by zero"
    assert last_line("import time; time.sleep(60)", timeout=0.5) == "still running after 0.5 s"
