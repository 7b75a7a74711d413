"""Limits in force, prepared for comparison: what is missing is known once, when limits change, not at each order."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from northstar_core.model.account import AccountLimits, StrategyLimits

OPTION_LIMITS = frozenset({"max_order_contracts", "max_position_contracts", "allow_uncovered"})
EQUITY_LIMITS = frozenset({"max_order_qty", "max_position_qty", "allow_short"})


def _float(limit: Decimal | None) -> float:
    return float("nan") if limit is None else float(limit)


class Caps:
    """One scope's limits; ``missing`` names those an equity or an option order would need and that are not set."""

    __slots__ = (
        "age_bars", "age_ns", "leverage", "limits", "max_gross", "max_net", "max_notional", "max_symbol_share", "missing_equity",
        "missing_option", "name", "window_ns",
    )  # fmt: skip

    def __init__(self, name: str, limits: StrategyLimits | AccountLimits) -> None:
        self.name = name
        self.limits = limits
        missing = [field for field in limits.__struct_fields__ if getattr(limits, field) is None]
        self.missing_equity = [field for field in missing if field not in OPTION_LIMITS]
        self.missing_option = [field for field in missing if field not in EQUITY_LIMITS]
        # Limits on observed values, as floats to compare with; nan where not set, so that nothing passes.
        self.max_notional = _float(getattr(limits, "max_notional", None))
        self.max_gross = _float(getattr(limits, "max_gross", None))
        self.max_net = _float(getattr(limits, "max_net", None))
        self.max_symbol_share = _float(getattr(limits, "max_symbol_share", None))
        self.leverage = _float(getattr(limits, "leverage", None))
        self.age_ns = int((getattr(limits, "max_data_age_s", None) or Decimal(0)) * 10**9)
        self.age_bars = float(getattr(limits, "max_data_age_bars", None) or 0)
        self.window_ns = int((limits.window_s or Decimal(0)) * 10**9)


class Rate:
    """When the orders of a scope were accepted, within the last window."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times: deque[int] = deque()

    def count(self, now: int, window_ns: int) -> int:
        """Return how many were accepted in ``(now - window_ns, now]``."""
        times, oldest = self.times, now - window_ns
        while times and times[0] <= oldest:
            times.popleft()
        return len(times)
