"""The benchmark's rows run and measure something; whether their bars hold is not tested."""

import math

import pytest

from tests.bench.rows import ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_benchmark_gives_a_number(name: str) -> None:
    for row in ROWS[name](0.01):
        assert math.isfinite(row.value)
        assert row.value > 0 or row.name.startswith("order kept by the control")
