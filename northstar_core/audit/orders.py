"""Orders as the log tells them: open ones in full, ended ones as what late messages need."""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b

import msgspec

from northstar_core.audit.books import ZERO
from northstar_core.model import events as e
from northstar_core.model.execution import ExecutionReport
from northstar_core.model.instrument import Instrument, instrument
from northstar_core.model.order import TERMINAL, OrderStatus, PlaceOrder, Side, Trigger

_encode = msgspec.json.Encoder().encode

TRIGGERS: dict[type, Trigger] = {
    e.OrderAccepted: Trigger.ACCEPT,
    e.OrderRejected: Trigger.REJECT,
    e.OrderCanceled: Trigger.CANCEL,
    e.OrderExpired: Trigger.EXPIRE,
    e.OrderUnknown: Trigger.LOSE_SIGHT,
    e.CancelSubmitted: Trigger.CANCEL_REQUEST,
    e.RequestRejected: Trigger.REQUEST_REJECT,
    e.ReplaceSubmitted: Trigger.REPLACE_REQUEST,
    e.OrderReplaced: Trigger.REPLACE,
}
#: Where an order stands after a fact, if the fact came out of turn.
FORCED: dict[Trigger, OrderStatus] = {
    Trigger.ACCEPT: OrderStatus.NEW,
    Trigger.REJECT: OrderStatus.REJECTED,
    Trigger.CANCEL: OrderStatus.CANCELED,
    Trigger.EXPIRE: OrderStatus.EXPIRED,
    Trigger.LOSE_SIGHT: OrderStatus.UNKNOWN,
    Trigger.REPLACE: OrderStatus.NEW,
    Trigger.CANCEL_REQUEST: OrderStatus.PENDING_CANCEL,
    Trigger.REQUEST_REJECT: OrderStatus.NEW,
    Trigger.REPLACE_REQUEST: OrderStatus.PENDING_REPLACE,
    Trigger.LAST_FILL: OrderStatus.FILLED,
    Trigger.PARTIAL_FILL: OrderStatus.PARTIALLY_FILLED,
}


def content(order: PlaceOrder) -> bytes:
    """Return 16 bytes that stand for an intent's whole content."""
    return blake2b(_encode(order), digest_size=16).digest()


class Terms(msgspec.Struct):
    """What is remembered of an order that ended."""

    strategy: str
    account: str
    symbol: str
    side: Side
    qty: Decimal
    authorised: Decimal
    cum: Decimal
    status: OrderStatus
    intended: bytes
    sent: bytes
    seq: int  #: of its submit
    leg_fills: dict[str, Decimal]


class Order:
    """An order as the log tells it."""

    __slots__ = (
        "account",
        "authorised",
        "cum",
        "id",
        "instrument",
        "intended",
        "leg_fills",
        "limit",
        "parent",
        "pending",
        "qty",
        "reports",
        "reserved",
        "sent",
        "seq",
        "side",
        "status",
        "stop",
        "strategy",
        "symbol",
        "terms",
    )

    def __init__(self, order: PlaceOrder, seq: int, intended: bytes | None) -> None:
        self.id = order.order_id
        self.strategy, self.account, self.symbol, self.side = order.strategy, order.account, order.symbol, order.side
        self.instrument: Instrument = instrument(order.symbol)
        self.qty = self.authorised = order.qty
        self.limit, self.stop, self.parent = order.limit_price, order.stop_price, order.parent
        self.terms = order
        self.seq = seq
        self.status = OrderStatus.PENDING_NEW
        self.cum = self.reserved = ZERO
        self.leg_fills: dict[str, Decimal] = {}
        self.pending: Decimal | None = None  #: quantity a replace asks for that is not answered
        self.sent = content(order)
        self.intended = self.sent if intended is None else intended
        self.reports: dict[int, ExecutionReport] = {}  #: the broker's messages about it, by their number in the log

    @property
    def working(self) -> bool:
        """Whether it may still fill."""
        return self.status not in TERMINAL

    @property
    def at_most(self) -> Decimal:
        """What may still fill, a replace that is not answered counted at the larger quantity."""
        if self.status in TERMINAL:
            return ZERO
        return (self.qty if self.pending is None else max(self.qty, self.pending)) - self.cum

    def leg_ratio(self, symbol: str) -> int:
        """Return the ratio of the leg of this symbol; 0 if there is none."""
        return next((leg.ratio for leg in self.instrument.legs if leg.instrument.symbol == symbol), 0)

    def ended(self) -> Terms:
        """Return what to remember."""
        return Terms(
            self.strategy,
            self.account,
            self.symbol,
            self.side,
            self.qty,
            self.authorised,
            self.cum,
            self.status,
            self.intended,
            self.sent,
            self.seq,
            self.leg_fills,
        )


def filled_after(
    symbol: str, traded: Instrument, cum: Decimal, legs: dict[str, Decimal], leg: str, qty: Decimal
) -> Decimal:
    """Return an order's filled quantity after a fill; of a combo, the units whose every leg has filled."""
    if leg == symbol:
        return cum + qty
    return min(
        (legs.get(part.instrument.symbol, ZERO) + (qty if part.instrument.symbol == leg else ZERO)) // abs(part.ratio)
        for part in traded.legs
    )


class Family:
    """A bracket: its entry, and the exits that work."""

    __slots__ = ("children", "entry_cum")

    def __init__(self, entry_cum: Decimal) -> None:
        self.entry_cum = entry_cum
        self.children: list[Order] = []
