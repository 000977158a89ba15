"""Cells in a throw-away kernel, and programs in processes of their own."""

import pytest

from lab.lessons.kernels import last_line, run_all


@pytest.mark.slow
def test_run_all_queues_cells_and_returns_the_fate_of_each() -> None:
    silent = "import time; time.sleep(1)"
    assert run_all(silent, "1 / 0", "2") == ["ran", "raised ZeroDivisionError", "ran"]


def test_last_line_is_a_programs_error_or_its_output() -> None:
    assert last_line("print('a'); print('b')") == "b"
    assert last_line("1 / 0") == "ZeroDivisionError: division by zero"
    assert last_line("import time; time.sleep(60)", timeout=0.5) == "still running after 0.5 s"
