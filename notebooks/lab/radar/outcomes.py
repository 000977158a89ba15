"""What the radar has found: kept in one file, a cell for each claim and each set of packages."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

VARIES = "varies"


class Cell(NamedTuple):
    """What came of a claim: how often each outcome was seen."""

    counts: dict[str, int]

    @classmethod
    def of(cls, outcomes: list[str]) -> Cell:
        return cls(dict(Counter(outcomes).most_common()))

    @property
    def verdict(self) -> str:
        """The outcome, if it was the same each time; "varies" otherwise."""
        return next(iter(self.counts)) if len(self.counts) == 1 else VARIES


@dataclass
class Column:
    """What was found with one set of packages.

    versions: of the packages, by name. cells: by claim. trouble: why nothing was found, if so.
    """

    versions: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    trouble: str | None = None


@dataclass
class Radar:
    """All that was found. date: of the run. machine: in words. versions, servers: by name."""

    date: str
    machine: str
    versions: dict[str, Column]
    servers: dict[str, Column]

    def save(self, path: Path) -> None:
        plain = asdict(self)
        for columns in (plain["versions"], plain["servers"]):
            for column in columns.values():
                column["cells"] = {claim: cell[0] for claim, cell in column["cells"].items()}
        path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path) -> Radar:
        """Read what `save` wrote. Raises ValueError for any other file."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                plain["date"], plain["machine"],
                _columns(plain["versions"]), _columns(plain["servers"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no radar ({error}); python -m lab radar writes one"
            ) from error

    def beside(self, before: Radar) -> Radar:
        """Return what was found before, and what was found now in its place."""
        return Radar(
            self.date, self.machine,
            before.versions | self.versions, before.servers | self.servers,
        )  # fmt: skip

    def turned(self, before: Radar) -> list[str]:
        """Return what is not as it was, a line for each cell that both have."""
        return [
            f"{name}: {claim}: {old.verdict} -> {new.verdict}"
            for mine, theirs in (
                (self.versions, before.versions), (self.servers, before.servers)
            )
            for name, column in mine.items()
            if name in theirs
            for claim, new in column.cells.items()
            if (old := theirs[name].cells.get(claim)) and old.verdict != new.verdict
        ]  # fmt: skip


def _columns(plain: dict[str, Any]) -> dict[str, Column]:
    return {
        name: Column(
            each["versions"],
            {claim: Cell(counts) for claim, counts in each["cells"].items()},
            each["trouble"],
        )
        for name, each in plain.items()
    }
