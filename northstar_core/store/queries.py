"""All SQL by name: ``SQL["head"]`` is the statement that stands under ``-- head --`` in queries.sql."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- (\w+) --$\n(?P<about>(?:-- .*\n)+)(?P<statement>(?:(?!-- \w+ --$).*\n?)+)", re.MULTILINE)


def load(text: str) -> dict[str, str]:
    """Return the statements of a file of named, described queries.

    Raises
    ------
    ValueError
        If a name stands twice.
    """
    found: dict[str, str] = {}
    for match in _NAME.finditer(text):
        if match[1] in found:
            raise ValueError(f"two queries are named {match[1]}")
        found[match[1]] = match["statement"].strip().rstrip(";")
    return found


SQL = load(Path(__file__).with_name("queries.sql").read_text())
