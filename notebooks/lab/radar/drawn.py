"""The radar in figures and tables: what each version does, and what each server does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ..figures.look import Drawing
from ..figures.matrices import Verdict, draw_matrix
from .claims import OF_SERVERS, OF_VERSIONS, OfServer, OfVersion, in_words
from .outcomes import Cell, Column, Radar
from .sets import LATEST_FASTAPI

if TYPE_CHECKING:
    import pandas as pd

Claims = Mapping[str, OfVersion | OfServer]
Part = Literal["versions", "servers"]


def part_of(radar: Radar, part: Part) -> tuple[Claims, dict[str, Column]]:
    """Return the claims about versions of FastAPI, or about servers, and what was found."""
    if part == "versions":
        return OF_VERSIONS, radar.versions
    return OF_SERVERS, radar.servers


def draw_radar(radar: Radar, part: Part) -> Drawing:
    """Draw the verdicts on versions of FastAPI, or on servers.

    Raises ValueError when nothing was found of them.
    """
    made, columns = part_of(radar, part)
    columns = {name: column for name, column in columns.items() if column.cells}
    rows = {
        claim.text.en: [
            column.cells.get(name) and verdict(column.cells[name], claim)
            for column in columns.values()
        ]
        for name, claim in made.items()
    }
    heads = [f"FastAPI {name}" if part == "versions" else name for name in columns]
    beside = "on uvicorn" if part == "versions" else f"FastAPI {LATEST_FASTAPI}"
    return draw_matrix(heads, rows, f"{beside} · ×: how often tried · {radar.date}")


def verdict(cell: Cell, claim: OfVersion | OfServer) -> Verdict:
    hoped_for = cell.verdict == claim.wanted if len(cell.counts) == 1 else None
    return Verdict(said(cell, "en"), hoped_for, f"×{sum(cell.counts.values())}")


def said(cell: Cell, language: str) -> str:
    """Return what a cell says: its outcome, or each with its count when they vary."""
    if len(cell.counts) == 1:
        return in_words(cell.verdict, language)
    return "; ".join(f"{in_words(each, language)} ×{n}" for each, n in cell.counts.items())


def claims(language: str = "en") -> dict[str, str]:
    """Return the text of each claim about versions of FastAPI."""
    return {name: claim.text.of(language) for name, claim in OF_VERSIONS.items()}


def frame(radar: Radar, part: Part, language: str = "en") -> pd.DataFrame:
    """Return what was found as a table: a row for each claim, a column for each set."""
    import pandas as pd

    made, columns = part_of(radar, part)
    rows = {
        claim.text.of(language): {
            name: said(column.cells[key], language)
            for name, column in columns.items()
            if column.cells
        }
        for key, claim in made.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
