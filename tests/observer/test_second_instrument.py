"""FastAPI's own spans, an instrument that is not ours, tell the same order as the traces."""

import pytest

from ..bench.spans import agreeing


@pytest.mark.slow
def test_fastapis_spans_agree_on_the_order_of_every_request() -> None:
    order, _ = agreeing(200)
    assert order == 200
