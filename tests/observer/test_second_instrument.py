"""FastAPI's own spans, an instrument that is not ours, tell the same order as the traces."""

import pytest

from ..bench.spans import agreeing

pytestmark = pytest.mark.slow


def test_fastapis_spans_agree_on_the_order_of_every_request() -> None:
    asked, order, _ = agreeing(100)
    assert order == asked == 200


@pytest.mark.parametrize(
    ("stamp", "dawdles"),
    [
        ("responded", "after"),
        ("first queued", "before"),
        ("second queued", "before"),
        ("second finished", "after"),
    ],
)
def test_a_moment_that_is_off_agrees_in_no_request(stamp: str, dawdles: str) -> None:
    asked, order, moments = agreeing(20, stamp, dawdles)
    assert order == asked
    assert moments == 0
