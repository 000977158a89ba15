"""The benchmark can fail: it finds every stamp that is a few milliseconds off."""

import pytest

from tests.bench.__main__ import main
from tests.bench.moments import BESIDE
from tests.bench.planted import planted


@pytest.mark.slow
def test_without_a_planted_error_the_moments_hold(capsys: pytest.CaptureFixture[str]) -> None:
    # A busy machine puts a run off; an error of the instrument would be in all of them.
    assert any(main(["moments"]) == 0 for _ in range(3))
    assert "holds" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stamp", BESIDE)
def test_a_planted_error_is_found(
    stamp: str, before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with planted(stamp, before):
        assert main(["moments"]) == 1
    assert "MISSED" in capsys.readouterr().out
