"""Texts in each of the lab's languages."""

from __future__ import annotations

from typing import NamedTuple

LANGUAGES = ("en", "zh")


class Text(NamedTuple):
    """A text in both languages; without `zh`, in the language of its author."""

    en: str
    zh: str | None = None

    def of(self, language: str) -> str:
        """Return the text in a language, "en" or "zh"."""
        return self.zh if language == "zh" and self.zh is not None else self.en
