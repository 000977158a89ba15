"""The benchmark can fail: it finds every stamp that is a few milliseconds off."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.bench.moments import BESIDE

pytestmark = pytest.mark.slow

Measure = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def measure() -> Iterator[Measure]:
    """Measures the moments with an error planted, in a process where nothing else has run."""
    with subprocess.Popen(
        [sys.executable, "-c", "from tests.bench.answering import answer; answer()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip

        def measured(*planted: Any) -> tuple[int, str]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps(planted), file=process.stdin, flush=True)
            code, printed = json.loads(process.stdout.readline())
            return code, printed

        yield measured


def test_without_a_planted_error_the_moments_hold(measure: Measure) -> None:
    code, printed = measure()
    assert code == 0, printed
    assert "holds" in printed


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stamp", BESIDE)
def test_a_planted_error_is_found(measure: Measure, stamp: str, before: bool) -> None:
    code, printed = measure(stamp, before)
    assert code == 1
    assert "MISSED" in printed
