"""Keep a second of imports out of every start.

``jsonschema`` (under ``nbformat``, which papermill, nbclient and plotly import) imports ``rfc3987_syntax`` to check the
"iri" format, and that module compiles a grammar on import: 0.9 s of a 1.2 s import on two cores. No notebook schema has
that format. The real module is loaded when somebody asks it something.

``papermill`` imports ``pyarrow.fs`` (and with it numpy) to read notebooks from Hadoop: half a second more. It is told
that there is no Hadoop while it is imported.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def without_hadoop() -> Iterator[None]:
    """Let ``pyarrow.fs`` seem missing inside, for the import of papermill.

    Not where pyarrow is loaded already, which makes it cheap, nor where another thread could be importing it just now.
    """
    if "pyarrow" in sys.modules or threading.active_count() > 1:
        yield
        return
    sys.modules["pyarrow.fs"] = None  # type: ignore[assignment]  # what import documents to raise ImportError
    try:
        yield
    finally:
        del sys.modules["pyarrow.fs"]
