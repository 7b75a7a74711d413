"""The numbers of a decision record: plain finite floats, so that the record can be read back as it was written."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values as floats (a Decimal is one too), without those that are not finite."""
    return {name: number for name, value in values.items() if isfinite(number := float(value))}
