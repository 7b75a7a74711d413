"""What trading cost: commissions, regulatory fees, and the shortfall against the prices orders were decided on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from northstar_core.model.events import OrderFilled, OrderSubmitted
from northstar_core.model.instrument import Equity, Option, exact, instrument
from northstar_core.model.order import Side
from northstar_core.sim.costs import NOTHING
from northstar_core.sim.regulatory import RegulatoryFees

ZERO = Decimal(0)


def fees_split(fills: Iterable[OrderFilled], assumptions: Mapping[str, str]) -> dict[str, Decimal]:
    """Return fees by who takes them, ``commission`` and ``regulatory``; they add up to what the fills paid.

    A fill carries their sum. Regulatory fees depend on one execution alone, so they are computed again, where the run's
    assumptions say that they were charged; commission is the rest.
    """
    fills = list(fills)
    rule, regulatory = RegulatoryFees(), ZERO
    if rule.describe() in assumptions.get("costs", ""):
        for f in fills:
            traded = instrument(f.symbol)
            if isinstance(traded, Equity | Option):  # a combo's fills are of its legs
                regulatory += rule.fee(traded, f.side is Side.BUY, f.qty, f.price, f.ts, NOTHING)
    return {"commission": sum((f.fees for f in fills), ZERO) - regulatory, "regulatory": regulatory}


def shortfall(fills: Iterable[OrderFilled], submitted: Iterable[OrderSubmitted]) -> Decimal:
    """Return what fills cost against the price each order was decided on, in dollars; positive = worse.

    Implementation shortfall of what was filled (Perold, *Journal of Portfolio Management* 14, 1988): slippage and delay
    together. The decision price is the reference in the order's verdict; of a combo's leg, the leg's mark there.
    """
    decided = {event.order.order_id: event for event in submitted}
    total = ZERO
    for f in fills:
        event = decided.get(f.order_id)
        if event is None:
            continue
        price = event.verdict.ref if event.order.symbol == f.symbol else event.verdict.prices.get(f.symbol)
        if price is not None:
            total += (f.price - exact(price)) * f.qty * f.side.sign * instrument(f.symbol).multiplier
    return total
