"""Builders of small market data files, and the folder of real ones where it is present."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def shared_data() -> Path:
    folder = Path(os.environ.get("NORTHSTAR_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the folder of real market data is not present")
    return folder


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Write lines to a csv and return its path."""

    def write(*lines: str, name: str = "bars.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
