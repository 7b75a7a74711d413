"""The blotter: every order's life, by the published table of transitions. Written only by facts."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.model.errors import ProtocolError
from northstar_core.model.events import OrderFilled
from northstar_core.model.instrument import Combo, Instrument, instrument
from northstar_core.model.order import TERMINAL, OrderStatus, PlaceOrder, Side, Trigger, next_status

ZERO = Decimal(0)


class Order(msgspec.Struct, eq=False, gc=False):
    """An order that was submitted, as it stands now."""

    intent: PlaceOrder
    instrument: Instrument
    qty: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: OrderStatus = OrderStatus.PENDING_NEW
    cum_qty: Decimal = ZERO
    fees: Decimal = ZERO
    reserved: Decimal = ZERO  #: quantity whose exposure is counted
    #: quantity, limit and stop price asked for by a replace the broker has not answered
    pending: tuple[Decimal, Decimal | None, Decimal | None] | None = None
    leg_fills: dict[str, Decimal] | None = None  #: of a combo: filled by leg symbol

    @property
    def order_id(self) -> str:
        """The idempotency key, from notebook to broker."""
        return self.intent.order_id

    @property
    def side(self) -> Side:
        """Which way it trades."""
        return self.intent.side

    @property
    def leaves_qty(self) -> Decimal:
        """What may still fill; 0 when the order has ended."""
        return ZERO if self.status in TERMINAL else self.qty - self.cum_qty

    @property
    def authorised_qty(self) -> Decimal:
        """The most that may fill: the larger of what is and what a pending replace asks for."""
        return max(self.qty, self.pending[0]) if self.pending else self.qty

    @property
    def at_most(self) -> Decimal:
        """What may still fill at most, a pending replace counted; 0 when the order has ended."""
        return ZERO if self.status in TERMINAL else self.authorised_qty - self.cum_qty

    @property
    def working(self) -> bool:
        """Whether it may still fill."""
        return self.status not in TERMINAL

    def __repr__(self) -> str:
        """Side, quantity, symbol, price and where it stands."""
        price = f" @ {self.limit_price}" if self.limit_price is not None else ""
        return f"<{self.order_id} {self.side} {self.qty} {self.intent.symbol}{price}: {self.status}, {self.cum_qty} filled>"


class Blotter:
    """Orders by id; those that work are also kept apart."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.working: dict[str, Order] = {}
        self.children: dict[str, list[Order]] = {}  #: bracket exits by the id of their entry
        self.exec_ids: set[tuple[str, str]] = set()  #: (account, id): ids of two accounts may be the same
        self.denied: set[str] = set()  #: ids of orders that were refused: the first decision stands

    def submit(self, intent: PlaceOrder) -> Order:
        """Add an order that goes to the broker."""
        order = Order(intent, instrument(intent.symbol), intent.qty, intent.limit_price, intent.stop_price)
        self.orders[intent.order_id] = self.working[intent.order_id] = order
        if intent.parent:
            self.children.setdefault(intent.parent, []).append(order)
        return order

    def move(self, order: Order, trigger: Trigger) -> None:
        """Take an order to its next status.

        Raises
        ------
        ProtocolError
            If the table has no such row: the engine must have refused the report before.
        """
        after = next_status(order.status, trigger, partly_filled=order.cum_qty > 0)
        if after is None:
            raise ProtocolError(f"order {order.order_id}: {trigger} may not happen to an order that is {order.status}")
        order.status = after
        if after in TERMINAL:
            self.working.pop(order.intent.order_id, None)
            order.pending = None

    def fill(self, order: Order, fill: OrderFilled) -> None:
        """Book a fill of the order, or of one of its legs."""
        self.exec_ids.add((fill.account, fill.exec_id))
        order.fees += fill.fees
        order.cum_qty = fill.cum_qty
        if type(order.instrument) is Combo:
            fills = order.leg_fills = order.leg_fills or {}
            fills[fill.symbol] = fills.get(fill.symbol, ZERO) + fill.qty

    @staticmethod
    def cum_after(order: Order, symbol: str, qty: Decimal) -> Decimal:
        """Return the order's filled quantity after a fill; of a combo, whole units whose every leg has filled."""
        if symbol == order.intent.symbol:
            return order.cum_qty + qty
        fills = order.leg_fills or {}
        return min(
            (fills.get(leg.instrument.symbol, ZERO) + (qty if leg.instrument.symbol == symbol else ZERO)) // abs(leg.ratio)
            for leg in order.instrument.legs
        )
