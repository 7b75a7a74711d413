"""References to secrets, as a configuration holds them: ``file:PATH``, ``env:NAME``, ``keyring:SERVICE/NAME``."""

from __future__ import annotations

import re

_FORMS = {
    "file": re.compile(r"file:[^\0\n]{1,1000}"),
    "env": re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}"),
    "keyring": re.compile(r"keyring:[^/\0\n]{1,200}/[^/\0\n]{1,200}"),
}


def is_reference(text: str) -> bool:
    """Whether a text refers to a secret, rather than being one."""
    form = _FORMS.get(kind_of(text))
    return form is not None and form.fullmatch(text) is not None


def kind_of(text: str) -> str:
    """Return "file", "env" or "keyring"; anything where it is no reference."""
    return text.partition(":")[0]


def target_of(text: str) -> str:
    """Return what a reference points at: a path, a variable's name, SERVICE/NAME."""
    return text.partition(":")[2]
