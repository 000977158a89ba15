"""Text as a terminal shows it: in columns, some of it in colour."""

from __future__ import annotations

import itertools
import unicodedata
from typing import NamedTuple

# One ink per meaning, as in the figures; each as a terminal with 256 colours is told.
WAITING, WORK, REFERENCE, STRONG, PLAIN = "38;5;166", "38;5;32", "38;5;245", "1", ""


class Piece(NamedTuple):
    """A piece of a line. ink: its colour or weight, as the numbers of an SGR sequence."""

    text: str
    ink: str = PLAIN


Line = list[Piece]


def written(line: Line, colours: bool) -> str:
    """Return a line as a terminal is told it, or plain."""
    told = ""
    for ink, pieces in itertools.groupby(line, key=lambda piece: piece.ink):
        text = "".join(piece.text for piece in pieces)
        told += f"\x1b[{ink}m{text}\x1b[m" if colours and ink and text.strip() else text
    return told.rstrip()


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "FW")
        for sign in text
    )


def fitted(text: str, room: int) -> str:
    """Return a text in one line of at most `room` columns, shortened in its middle.

    Signs that a terminal might obey are shown as replaced.
    """
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    kept, short = len(text), text
    while columns(short) > room and kept > 1:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def padded(text: str, room: int) -> str:
    """Return a text that takes exactly `room` columns."""
    short = fitted(text, room)
    return short + " " * (room - columns(short))
