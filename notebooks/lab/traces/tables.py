"""Small HTML tables."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def moment(at: float | None) -> str:
    """Return a moment, in seconds, as a table shows it."""
    return "" if at is None else f"{at:.3f}"


def table(caption: str, heads: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a small HTML table."""
    # An empty head heads nothing.
    head = "".join(f"<th>{escape(cell)}</th>" if cell else "<td></td>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
