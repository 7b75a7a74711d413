"""What positions cost at the Interactive Brokers twin: by average, commissions and the contract's multiplier included."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.model.execution import AccountActivity, ActivityKind, ExecutionReport
from northstar_core.model.instrument import Combo, instrument
from northstar_core.model.order import Side

ZERO = Decimal(0)


class Cost(msgspec.Struct):
    """What a position cost, commissions and the contract's multiplier included."""

    qty: Decimal = ZERO
    total: Decimal = ZERO  #: signed like the position
    realized: Decimal = ZERO

    @property
    def average(self) -> Decimal:
        """Cost of one unit; 0 when flat."""
        return self.total / self.qty if self.qty else ZERO


class Costs:
    """Costs of an account's positions by average, as the service shows them."""

    def __init__(self) -> None:
        self.of: dict[str, Cost] = {}

    @property
    def realized(self) -> Decimal:
        """Realised profit of all symbols, after commissions."""
        return sum((cost.realized for cost in self.of.values()), ZERO)

    def traded(self, report: ExecutionReport) -> None:
        """Book a fill."""
        found = instrument(report.symbol)
        assert not isinstance(found, Combo)
        signed = report.qty if report.side is Side.BUY else -report.qty
        self._move(report.symbol, signed, report.price * found.multiplier, report.fees)

    def changed(self, activity: AccountActivity) -> None:
        """Book what changed a position without an order."""
        if not activity.qty:
            return
        cost = self.of.setdefault(activity.symbol, Cost())
        if activity.kind is ActivityKind.SPLIT:
            cost.qty += activity.qty  # other units, the same cost
            return
        found = instrument(activity.symbol)
        assert not isinstance(found, Combo)
        self._move(activity.symbol, activity.qty, activity.price * found.multiplier, ZERO)

    def _move(self, symbol: str, signed: Decimal, price: Decimal, fees: Decimal) -> None:
        cost = self.of.setdefault(symbol, Cost())
        closing = min(abs(signed), abs(cost.qty)) if cost.qty * signed < 0 else ZERO
        opening = abs(signed) - closing
        share = fees * closing / abs(signed)
        sign = 1 if signed > 0 else -1
        if closing:
            average = cost.average
            cost.realized += -sign * closing * (price - average) - share
            cost.total += sign * closing * average
            cost.qty += sign * closing
        if opening:
            cost.total += sign * opening * price + (fees - share)
            cost.qty += sign * opening
