"""Builders of small notebooks for the tests of jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARAMETERS = 'symbols = ["SPY"]\nfast = 10\nslow = 30\ncash = "1000.10"\nlabel = "a"\nratio = 0.5\nflag = False\n'

STRATEGY = '''
from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec

from northstar_core.strategy.base import Params as Base
from northstar_core.strategy.base import Strategy


class Cross(Strategy):
    """Buys when the fast average crosses the slow one."""

    class Params(Base):
        symbols: list[str]
        fast: Annotated[int, msgspec.Meta(ge=2, le=400)] = 10
        slow: Annotated[int, msgspec.Meta(ge=2, le=400)] = 30
        cash: Decimal = Decimal(1000)

    def on_bar(self, ctx, bar):
        return 1 / 0
'''

RUN = "total = fast + slow\nprint(symbols, total)"


def code(source: str, tag: str | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {"tags": [tag]} if tag else {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def document(*cells: dict[str, Any]) -> dict[str, Any]:
    return {
        "cells": [{"id": f"cell-{n}", **cell} for n, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(path: Path, *cells: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document(*cells)), encoding="utf-8")
    return path


def cross(path: Path, *, run: str = RUN, strategy: str = STRATEGY, parameters: str = PARAMETERS) -> Path:
    """Write the standard notebook: prose, parameters, strategy, research that fails, run."""
    return write(
        path,
        markdown("# Cross"),
        code(parameters, "parameters"),
        code(strategy, "strategy"),
        code("raise RuntimeError('research must not run headlessly')"),
        code(run, "run"),
    )


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def texts(executed: dict[str, Any], tag: str) -> str:
    """Return what the cell with this tag printed."""
    cell = next(c for c in executed["cells"] if tag in c["metadata"].get("tags", []))
    return "".join("".join(o.get("text", "")) for o in cell["outputs"] if o.get("name") == "stdout")
