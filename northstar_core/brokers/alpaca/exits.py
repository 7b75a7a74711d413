"""Exits of brackets: held here until their entry has ended, then sent as what Alpaca takes.

Alpaca's own bracket is one request with its entry, but here entry and exits come one after the other and the entry must not wait. Two
plain exits would not do either: the first promises the whole position away and Alpaca refuses the second. So the exits are held here,
and when the entry has ended, for as much as it filled, a target and a stop in shares go out as one ``oco`` order, of which Alpaca
cancels the other; any other exits go out one by one, stops first, and a fill of one cancels the others from here.

While an entry is partly filled its exits are not in the market yet; after an entry that ends partly filled they cover that part.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.model.instrument import Equity, instrument
from northstar_core.model.order import OrderType, PlaceOrder, TimeInForce

STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)


class Batch(msgspec.Struct, frozen=True):
    """What goes out in one request."""

    order: PlaceOrder
    qty: Decimal
    stop: PlaceOrder | None = None  #: with a stop, of which one cancels the other


class Exits:
    """Exits by the order id of their entry."""

    def __init__(self) -> None:
        self.held: dict[str, list[PlaceOrder]] = {}
        self.family: dict[str, tuple[str, ...]] = {}  #: exits sent one by one: each to the others

    def hold(self, order: PlaceOrder) -> None:
        """Keep an exit until its entry has ended."""
        exits = self.held.setdefault(order.parent, [])
        exits[:] = [other for other in exits if other.order_id != order.order_id] + [order]

    def get(self, order_id: str) -> PlaceOrder | None:
        """Return an exit that is held."""
        return next((order for exits in self.held.values() for order in exits if order.order_id == order_id), None)

    def take(self, order_id: str) -> PlaceOrder | None:
        """Stop holding an exit and return it."""
        order = self.get(order_id)
        if order is not None:
            self.held[order.parent].remove(order)
            if not self.held[order.parent]:
                del self.held[order.parent]
        return order

    def change(self, order_id: str, qty: Decimal, limit: Decimal | None, stop: Decimal | None) -> bool:
        """Change the terms of an exit that is held; False if it is not."""
        order = self.get(order_id)
        if order is None:
            return False
        exits = self.held[order.parent]
        exits[exits.index(order)] = msgspec.structs.replace(order, qty=qty, limit_price=limit, stop_price=stop)
        return True

    def release(self, entry: str, filled: Decimal) -> list[Batch]:
        """Stop holding the exits of an entry that has filled so much, and return what to send."""
        exits = self.held.pop(entry, [])
        targets = [order for order in exits if order.order_type is OrderType.LIMIT]
        stops = [order for order in exits if order.order_type in STOPS]
        if len(exits) == 2 and targets and stops and _alike(targets[0], stops[0]):
            return [Batch(targets[0], min(targets[0].qty, stops[0].qty, filled), stops[0])]
        ids = [order.order_id for order in exits]
        if len(ids) > 1:
            self.family |= {one: tuple(other for other in ids if other != one) for one in ids}
        return [Batch(order, min(order.qty, filled)) for order in sorted(exits, key=lambda order: order not in stops)]


def _alike(target: PlaceOrder, stop: PlaceOrder) -> bool:
    """Whether a target and a stop can be one ``oco`` order: in one share, of one kind, to its beyond and its behind."""
    assert target.limit_price is not None and stop.stop_price is not None
    beyond = (target.limit_price - stop.stop_price) * -target.side.sign
    same = (target.symbol, target.side, target.tif, target.qty) == (stop.symbol, stop.side, stop.tif, stop.qty)
    return same and beyond > 0 and target.tif in (TimeInForce.DAY, TimeInForce.GTC) and type(instrument(target.symbol)) is Equity
