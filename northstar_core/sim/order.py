"""What the broker keeps of an order while it works."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.model.instrument import Combo, Instrument, Leg
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.sim.costs import Tally

ZERO = Decimal(0)


class Bracket(msgspec.Struct):
    """An entry order and its exits: exits cover what has been filled, and a fill of one takes from the others."""

    parent: str
    filled: Decimal = ZERO  #: of the entry
    exited: Decimal = ZERO  #: by all exits together
    over: bool = False  #: the entry works no more
    price: float = 0.0  #: of the entry's last fill
    exits: list[WorkingOrder] = msgspec.field(default_factory=list)


class WorkingOrder(msgspec.Struct):
    """An order at the broker. Prices to compare with observed ones are floats; what is traded stays Decimal."""

    order: PlaceOrder
    instrument: Instrument
    buy: bool
    leaves: Decimal
    active_from: int  #: when it reached the broker, ns UTC; replaced terms count from their own arrival
    plain: bool  #: a market order with nothing attached
    limit: float = 0.0
    stop: float = 0.0
    triggered: bool = False  #: the stop of a stop-limit order has been touched
    executions: int = 0  #: how many fills it had; their ids count from 1
    exit_of: Bracket | None = None
    bracket: Bracket | None = None
    legs: tuple[Leg, ...] = ()  #: of a combo; empty otherwise
    tallies: dict[str, Tally] | None = None  #: what its legs have traded so far; None without costs
    size: float = 0.0  #: leaves, for comparing with observed volume
    done: bool = False

    @property
    def available(self) -> Decimal:
        """How much may fill now: an exit is held until its entry has filled, and covers no more than that."""
        if self.exit_of is None:
            return self.leaves
        return min(self.leaves, self.exit_of.filled - self.exit_of.exited)


def working_order(order: PlaceOrder, instrument: Instrument, active_from: int) -> WorkingOrder:
    """Return the broker's view of an order that has just arrived."""
    buy, size = order.side is Side.BUY, float(order.qty)
    plain = (
        order.order_type is OrderType.MARKET
        and not order.reduce_only
        and not order.parent
        and (order.tif is TimeInForce.DAY or order.tif is TimeInForce.GTC)
        and type(instrument) is not Combo
    )
    if plain:
        return WorkingOrder(order, instrument, buy, order.qty, active_from, True, size=size)
    limit, stop = order.limit_price, order.stop_price
    return WorkingOrder(
        order,
        instrument,
        buy,
        order.qty,
        active_from,
        False,
        0.0 if limit is None else float(limit),
        0.0 if stop is None else float(stop),
        legs=instrument.legs if type(instrument) is Combo else (),
        size=size,
    )
