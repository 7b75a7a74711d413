"""Whether and at what price an order fills on a bar: pure functions of one order and one bar.

The path of the price inside a bar is unknown. What is certain: the open came first, the close last, and low and high
were reached somewhere between. Where more than that would be needed, the worse for the trader is assumed.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from northstar_core.model.instrument import Instrument, exact
from northstar_core.model.market import Bar
from northstar_core.model.order import OrderType
from northstar_core.sim.order import WorkingOrder
from northstar_core.sim.slippage import Slippage

MARKET, LIMIT, STOP, STOP_LIMIT = OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT


class FillAt(StrEnum):
    """At what price a market order trades."""

    NEXT_OPEN = "next_open"  #: the open of the next bar
    CLOSE = "close"  #: the close of the bar it was decided on
    QUOTE = "quote"  #: a buy at the ask, a sell at the bid, for no more than the size shown


def trades_at(order: WorkingOrder, price: float) -> bool:
    """Tell whether an order trades at a price that is known to be on offer; a stop touched by it is triggered."""
    kind = order.order.order_type
    if kind is MARKET:
        return True
    if kind is STOP or kind is STOP_LIMIT:
        if not order.triggered and not (price >= order.stop if order.buy else price <= order.stop):
            return False
        order.triggered = True
        if kind is STOP:
            return True
    return price <= order.limit if order.buy else price >= order.limit


def through(order: WorkingOrder, price: float, touch: bool) -> bool:
    """Tell whether a price is beyond the order's limit (traded through), or just at it where ``touch`` is enough."""
    if touch:
        return price <= order.limit if order.buy else price >= order.limit
    return price < order.limit if order.buy else price > order.limit


def touches_stop(order: WorkingOrder, bar: Bar) -> bool:
    """Tell whether the bar reached the order's stop price."""
    return bar.high >= order.stop if order.buy else bar.low <= order.stop


def inside(order: WorkingOrder, bar: Bar, touch: bool) -> float | None:
    """Return the price at which an order that did not trade at the open trades inside the bar, or None.

    A limit fills at its limit when the bar traded through it. A stop fills at its stop price when touched. A
    stop-limit that was triggered before the bar, or by its open, is a limit; one triggered inside the bar fills at
    its limit only if the bar's close is through the limit, which proves that it traded there after the trigger; else
    it rests as a limit.
    """
    kind = order.order.order_type
    if kind is LIMIT or (kind is STOP_LIMIT and order.triggered):
        return order.limit if through(order, bar.low if order.buy else bar.high, touch) else None
    if kind is MARKET or not touches_stop(order, bar):
        return None
    order.triggered = True
    if kind is STOP:
        return order.stop
    return order.limit if through(order, bar.close, touch) else None


def inside_after_entry(order: WorkingOrder, bar: Bar, entry: float, touch: bool) -> float | None:
    """Return the price at which an exit trades in the very bar inside which its entry was filled, or None.

    The order of things is not known, so the worse is assumed: a stop that the bar touched fires, at the stop or the
    entry price, whichever is worse; a target fills only if the close is through it.
    """
    kind = order.order.order_type
    if kind is STOP:
        if not touches_stop(order, bar):
            return None
        order.triggered = True
        return max(order.stop, entry) if order.buy else min(order.stop, entry)
    if kind is STOP_LIMIT:
        if not order.triggered and not touches_stop(order, bar):
            return None
        order.triggered = True
    elif kind is MARKET:
        return None
    return order.limit if through(order, bar.close, touch) else None


def slipped(
    price: Decimal,
    order: WorkingOrder,
    instrument: Instrument,
    buy: bool,
    qty: Decimal,
    volume: float,
    slippage: Slippage,
) -> Decimal:
    """Return a price after slippage, rounded to the tick against the trader; never past the order's own limit, never
    below a tick.

    ``instrument`` and ``buy`` are the leg's: in a combo they may differ from the order's, and a combo's limit is
    checked on its net price instead.
    """
    tick = instrument.tick_at(price)
    amount = slippage.amount(price, qty, volume, tick)
    if buy:
        worse = ((price + amount) / tick).to_integral_value(ROUND_CEILING) * tick
    else:
        worse = max(((price - amount) / tick).to_integral_value(ROUND_FLOOR) * tick, min(tick, price))
    worse = worse.quantize(tick)
    limit = order.order.limit_price
    if limit is None or order.legs:
        return worse
    return min(worse, limit) if buy else max(worse, limit)


def share(volume: float, part: Decimal, lot: Decimal) -> Decimal:
    """Return how many whole lots a part of a volume is."""
    return exact(volume) * part // lot * lot


def whole(qty: Decimal, lot: Decimal) -> Decimal:
    """Return a quantity rounded down to whole lots."""
    return qty // lot * lot
