"""What a run says of the guide: its statements, and the verdict that evidence gives to each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any

from ..languages import Text
from ..versions import versions
from .statements import STATEMENTS, Statement


class Verdict(StrEnum):
    """What is to be thought of a statement."""

    HOLDS = "holds"
    CONDITION = "holds with a condition"
    FAILS = "does not hold"
    UNMEASURED = "cannot be measured"
    UNCHECKED = "not checked"


# A verdict's shape and words; the shape is there for readers without colour.
SIGNS = {
    Verdict.HOLDS: ("✓", Text("holds", "成立")),
    Verdict.CONDITION: ("◐", Text("holds with a condition", "有条件成立")),
    Verdict.FAILS: ("✗", Text("does not hold", "不成立")),
    Verdict.UNMEASURED: ("–", Text("cannot be measured", "无法测量")),
    Verdict.UNCHECKED: ("?", Text("not checked", "未核对")),
}
HEADS = (
    Text("section", "章节"),
    Text("what the guide says", "指南的说法"),
    Text("verdict", "结论"),
    Text("what was seen", "实测"),
    Text("shown in", "出处"),
)
COUNTED = Text("{number} statements ({counts}).", "共 {number} 条说法：{counts}。")
COUNT = Text("{verdict}: {number}", "{verdict} {number} 条")
SEMICOLON = Text("; ", "，")
SPACE = Text(" ", "")
LESSON = Text("lesson {number}", "第 {number} 课")
# A notebook's own style aligns the cells of a table to the right.
STYLE = "<style>.verdicts th, .verdicts td { text-align: left; vertical-align: top }</style>"


def judge(claim: bool, but: bool = False) -> Verdict:
    """The verdict on a statement.

    claim: whether the plain case is as stated. but: whether a case was found where it is not.
    """
    if not claim:
        return Verdict.FAILS
    return Verdict.CONDITION if but else Verdict.HOLDS


@dataclass(frozen=True)
class Row:
    """A statement, the verdict on it and the figures on which that rests."""

    statement: Statement
    verdict: Verdict = Verdict.UNCHECKED
    figures: dict[str, Any] = field(default_factory=dict)

    def evidence(self, language: str) -> str:
        """What was seen, in words; why nothing can be, where that is so."""
        if self.verdict is Verdict.UNCHECKED:
            return ""
        told = self.statement.evidence.of(language).format(**self.figures)
        condition = self.statement.condition
        if self.verdict is Verdict.CONDITION and condition is not None:
            told += SPACE.of(language) + condition.of(language).format(**self.figures)
        return told


class Rows:
    """A table of verdicts, in the language of whoever reads it."""

    def __init__(self, rows: Iterable[Row], language: str, caption: str = "") -> None:
        self.rows = list(rows)
        self.language = language
        self.caption = caption

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{head.of(self.language)}</th>" for head in HEADS)
        body = "\n".join(self._row(row) for row in self.rows)
        caption = f"<caption>{self.caption}</caption>" if self.caption else ""
        return (
            f'{STYLE}<table class="verdicts">{caption}'
            f"<thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table>"
        )

    def _row(self, row: Row) -> str:
        statement = row.statement
        sign, words = SIGNS[row.verdict]
        lesson = ""
        if statement.lesson:
            named = LESSON.of(self.language).format(number=int(statement.lesson[:2]))
            lesson = f'<a href="{statement.lesson}.ipynb">{named}</a>'
        cells = {
            "section": f"§{escape(statement.section)}",
            "says": marked(statement.says.of(self.language)),
            "verdict": f"{sign} {words.of(self.language)}",
            "evidence": marked(row.evidence(self.language)),
            "lesson": lesson,
        }
        inner = "".join(f'<td class="{name}">{cell}</td>' for name, cell in cells.items())
        return f'<tr class="{row.verdict.name.lower()}">{inner}</tr>'


class Guide:
    """The guide's statements in its own order, each with the verdict that this run gives it.

    statements: those of the guide. language: of the words, "en" or "zh".
    """

    def __init__(self, statements: Sequence[Statement] = STATEMENTS, language: str = "en") -> None:
        self.language = language
        self._rows = {
            statement.key: Row(
                statement, Verdict.UNCHECKED if statement.measurable else Verdict.UNMEASURED
            )
            for statement in statements
        }

    def check(self, key: str, claim: bool, but: bool = False, **figures: Any) -> Rows:
        """Enter what was seen, and show the verdict that follows from it.

        key: the statement. claim: whether the plain case is as stated. but: whether a case was
        found where it is not. figures: what the words of the evidence name.
        Raises KeyError for an unknown statement, ValueError for one that takes no such evidence.
        """
        if key not in self._rows:
            raise KeyError(f"no statement {key!r}; there are {', '.join(self._rows)}")
        statement = self._rows[key].statement
        if not statement.measurable:
            raise ValueError(f"{key!r} is a statement that cannot be measured")
        if but and statement.condition is None:
            raise ValueError(f"{key!r} names no condition: give its Statement one")
        row = Row(statement, judge(bool(claim), bool(but)), figures)
        try:
            row.evidence(self.language)
        except KeyError as missing:
            raise ValueError(f"{key!r} tells of {missing}: give check() that figure") from None
        self._rows[key] = row
        return Rows([row], self.language)

    def section(self, number: str) -> Rows:
        """What the guide says in one of its sections. Raises KeyError when that is nothing."""
        rows = [row for row in self._rows.values() if number in row.statement.section.split(", ")]
        if not rows:
            raise KeyError(f"no statement of section {number!r}")
        return Rows(rows, self.language)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts, by the statements' keys."""
        return {key: row.verdict for key, row in self._rows.items()}

    def _repr_html_(self) -> str:
        counts = Counter(self.verdicts.values())
        told = SEMICOLON.of(self.language).join(
            COUNT.of(self.language).format(verdict=words.of(self.language), number=counts[verdict])
            for verdict, (_, words) in SIGNS.items()
            if counts[verdict]
        )
        caption = COUNTED.of(self.language).format(number=len(self._rows), counts=told)
        caption += f' <span class="versions">{versions()}</span>'
        return Rows(self._rows.values(), self.language, caption)._repr_html_()


def marked(text: str) -> str:
    """The text as HTML, with `code` marked as such."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
