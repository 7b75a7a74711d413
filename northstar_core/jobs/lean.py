"""Keep a second of imports out of every start.

``jsonschema`` (under ``nbformat``, which papermill, nbclient and plotly import) imports ``rfc3987_syntax`` to check the
"iri" format, and that module compiles a grammar on import: 0.9 s of a 1.2 s import on two cores. No notebook schema has
that format. The real module is loaded when somebody asks it something.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_NAME = "rfc3987_syntax"


class _Deferred(ModuleType):
    """Stands for a module until its first use."""

    def __getattr__(self, name: str) -> Any:
        if name == "is_valid_syntax":
            # What jsonschema binds at import time: must not load the grammar yet.
            return lambda *args, **kwargs: _load().is_valid_syntax(*args, **kwargs)
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_load(), name)


def _load() -> ModuleType:
    if isinstance(sys.modules.get(_NAME), _Deferred):
        del sys.modules[_NAME]
    return importlib.import_module(_NAME)


def defer_slow_imports() -> None:
    """Put the stand-in in place, unless the module is loaded already."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = _Deferred(_NAME)
