"""One line of the benchmark's table."""

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table: what was measured, and what it may be."""

    name: str
    value: float
    bar: float
    at_most: bool = True
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.value <= self.bar if self.at_most else self.value >= self.bar
