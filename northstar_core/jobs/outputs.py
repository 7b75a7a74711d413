"""Bounded outputs: what a cell may leave in the executed notebook.

1.5 million printed lines cost a stock run 1.6 GB and a notebook of 329 MB. Here a cell keeps the beginning of its text
and its figures up to a size, and says how much it dropped. In a run of hours the end is what a reader wants as well, so there a cell
keeps the beginning and the end.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

TEXT_LIMIT = 1_000_000  #: characters of printed text a cell keeps
RICH_LIMIT = 48_000_000  #: rough bytes of figures and tables a cell keeps
OUTPUTS_LIMIT = 5_000  #: outputs a cell keeps, whatever their size: two streams that take turns make one each
HEAD_LIMIT = TAIL_LIMIT = 200_000  #: characters that a cell of a long run keeps of its first and of its last text
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

    def admit_text(self, text: str, full: bool = False) -> str:
        """Return as much of ``text`` as the cell may still keep: nothing where it is ``full``."""
        if full:
            self.text = 0
        if len(text) <= self.text:
            self.text -= len(text)
            return text
        kept = text[: self.text]
        # Cut at a blank, so that no half of a secret slips past the patterns.
        kept = kept[: max(kept.rfind(" "), kept.rfind("\n")) + 1]
        self.text = 0
        self.dropped_text += len(text) - len(kept)
        return kept

    def admit_rich(self, data: Any, full: bool = False) -> bool:
        """Whether the cell may keep this figure or table as well."""
        size = size_of(data)
        if size > self.rich or full:
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

    def closing(self) -> list[tuple[str, str]]:
        """Return what is put behind the cell's outputs: names of streams and texts."""
        notice = self.notice()
        return [("stderr", notice)] if notice else []


class LongBudget(Budget):
    """A cell's allowance in a run of hours: its first text and its last; ``write`` gets all of it."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.text = HEAD_LIMIT
        self._write = write
        self.seen = 0  #: outputs so far, kept or not
        self._tail: deque[str] = deque()
        self._held = 0

    def admit_text(self, text: str, full: bool = False) -> str:
        """Return as much of ``text`` as belongs to the beginning, and hold the rest for the end."""
        self.seen += 1
        if self._write is not None:
            self._write(text)
        dropped = self.dropped_text
        kept = super().admit_text(text, full)
        self.dropped_text = dropped
        rest = text[len(kept) :]
        if rest:
            self._tail.append(rest)
            self._held += len(rest)
            while self._held - len(self._tail[0]) >= TAIL_LIMIT:
                self._held -= len(self._tail[0])
                self.dropped_text += len(self._tail.popleft())
        return kept

    def admit_rich(self, data: Any, full: bool = False) -> bool:
        """Whether the cell may keep this figure or table as well."""
        self.seen += 1
        return super().admit_rich(data, full)

    def closing(self) -> list[tuple[str, str]]:
        """Return the notice of what is left out, and the end of the text."""
        tail = "".join(self._tail)
        cut = max(len(tail) - TAIL_LIMIT, 0)
        if cut or self.dropped_text:  # begin at a line, so that no half of a secret slips past the patterns
            cut = tail.find("\n", cut) + 1 or len(tail)
        before = self.dropped_text
        self.dropped_text += cut
        notice, self.dropped_text = self.notice(), before
        return [*([("stderr", notice)] if notice else []), *([("stdout", tail[cut:])] if tail[cut:] else [])]


def settle(text: str) -> str:
    """Return printed text as a terminal would show it: what a carriage return overwrote is gone."""
    return _OVERWRITTEN.sub("", text)
