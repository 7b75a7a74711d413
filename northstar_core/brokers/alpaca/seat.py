"""One order as Alpaca numbers them: how much of it is booked, and what is known to be missing.

Alpaca says how much an order has filled in all, and tells of single executions, each of which took it from one quantity to another.
An execution is therefore a span of the order's quantity: booked once, whoever tells of it, however often and in whatever order. What
the total says and no span covers is missing, and looked up.
"""

from __future__ import annotations

from decimal import Decimal

from northstar_core.brokers.alpaca.wire import OVER, WORKS, Row
from northstar_core.model.order import Side

ZERO = Decimal(0)
Span = tuple[Decimal, Decimal]  #: (from, to] in the order's filled quantity


class Seat:
    """An order of one id at Alpaca. A replacement is another seat; a leg of a multi-leg order is one too."""

    __slots__ = (
        "avg", "base", "created", "depth", "ended", "filled", "id", "legs", "multi", "parent", "price_of", "qty", "reads", "replaced_by",
        "replaces", "side", "spans", "status", "symbol", "took",
    )  # fmt: skip

    def __init__(self, row: Row, depth: int, parent: Seat | None = None) -> None:
        self.id, self.depth, self.parent = row.id, depth, parent
        self.symbol, self.side = row.symbol, row.side
        self.multi = row.order_class == "mleg" and parent is None and not row.symbol  #: it fills leg by leg
        self.status = ""
        self.took = False  #: it has worked: a replacement is in force
        self.filled = ZERO  #: the largest total told
        self.avg = ZERO  #: average price at that total
        self.base = ZERO  #: of that total, what an order before it had filled
        self.qty = ZERO
        self.created = self.ended = 0
        self.replaces = self.replaced_by = ""
        self.legs: dict[str, str] = {}  #: of a multi-leg order: symbol to the leg's id
        self.spans: list[Span] = []  #: booked; disjoint, in order
        self.price_of: dict[Span, Decimal] = {}
        self.reads = 0  #: how often activities were read to the end without finding what is missing

    def learn(self, row: Row) -> None:
        """Take what a row says; a row that was overtaken takes nothing back."""
        if self.status not in OVER:
            self.status = row.status
        self.took = self.took or row.status in WORKS
        if row.filled > self.filled:
            self.filled, self.avg = row.filled, row.avg
        self.qty = row.qty or self.qty
        self.created = self.created or row.created
        self.ended = self.ended or row.ended
        self.replaces = self.replaces or row.replaces
        self.replaced_by = self.replaced_by or row.replaced_by
        self.side = self.side or row.side
        self.symbol = self.symbol or row.symbol

    @property
    def over(self) -> bool:
        """Whether it will never fill again."""
        return self.status in OVER

    @property
    def booked(self) -> Decimal:
        """How much of it is booked."""
        return sum((high - low for low, high in self.spans), ZERO)

    @property
    def missing(self) -> list[Span]:
        """What the total says has filled and no execution has told of."""
        return self.free(self.base, self.filled)

    def free(self, low: Decimal, high: Decimal) -> list[Span]:
        """Return the parts of (low, high] that are not booked."""
        out: list[Span] = []
        at = low
        for start, end in self.spans:
            if end <= at:
                continue
            if start >= high:
                break
            if start > at:
                out.append((at, start))
            at = end
        if at < high:
            out.append((at, high))
        return out

    def book(self, low: Decimal, high: Decimal, price: Decimal) -> None:
        """Book a span that is free."""
        self.spans.append((low, high))
        self.spans.sort()
        self.price_of[low, high] = price
        if high > self.filled:
            self.filled, self.avg = high, ZERO

    def price_of_missing(self) -> Decimal:
        """Return the price at which what is missing has filled, from the average and what is booked.

        Exact where Alpaca did not round its average; the average itself where that gives no sense.
        """
        missing = sum((high - low for low, high in self.missing), ZERO)
        known = sum(((high - low) * price for (low, high), price in self.price_of.items()), ZERO)
        price = (self.avg * (self.filled - self.base) - known) / missing if missing and self.avg else self.avg
        return round(price, 6).normalize() if price > 0 else self.avg

    def direction(self, otherwise: Side) -> Side:
        """Return which way it trades."""
        return self.side or otherwise
