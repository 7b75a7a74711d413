"""Bounded outputs: what a cell may leave in the executed notebook.

1.5 million printed lines cost a stock run 1.6 GB and a notebook of 329 MB. Here a cell keeps the beginning of its text
and its figures up to a size, and says how much it dropped.
"""

from __future__ import annotations

import re
from typing import Any

TEXT_LIMIT = 1_000_000  #: characters of printed text a cell keeps
RICH_LIMIT = 48_000_000  #: rough bytes of figures and tables a cell keeps
TRACEBACK_LIMIT = 40_000  #: characters of a traceback

_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")


def size_of(value: Any) -> int:
    """Return the rough size of a JSON value in bytes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(str(key)) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(size_of(item) for item in value)
    return 8


class Budget:
    """One cell's allowance."""

    def __init__(self) -> None:
        self.text, self.rich = TEXT_LIMIT, RICH_LIMIT
        self.dropped_text = self.dropped_rich = 0

    def admit_text(self, text: str) -> str:
        """Return as much of ``text`` as the cell may still keep."""
        if len(text) <= self.text:
            self.text -= len(text)
            return text
        kept = text[: self.text]
        # Cut at a blank, so that no half of a secret slips past the patterns.
        kept = kept[: max(kept.rfind(" "), kept.rfind("\n")) + 1]
        self.text = 0
        self.dropped_text += len(text) - len(kept)
        return kept

    def admit_rich(self, data: Any) -> bool:
        """Whether the cell may keep this figure or table as well."""
        size = size_of(data)
        if size > self.rich:
            self.dropped_rich += 1
            return False
        self.rich -= size
        return True

    def notice(self) -> str | None:
        """Return what to tell the reader about what was dropped."""
        parts = []
        if self.dropped_text:
            parts.append(f"{self.dropped_text:,} more characters of text")
        if self.dropped_rich:
            parts.append(f"{self.dropped_rich:,} more figures or tables")
        return f"[output cut: {' and '.join(parts)} were not kept]\n" if parts else None


def settle(text: str) -> str:
    """Return printed text as a terminal would show it: what a carriage return overwrote is gone."""
    return _OVERWRITTEN.sub("", text)
