"""Orders, fills and positions as their events left them: a pure fold into rows for COPY.

Only for SQL and dashboards: nothing is decided on these. The log is the truth, and an auditor's own fold checks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from northstar_core.model.account import Position
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument
from northstar_core.model.order import TERMINAL, OrderStatus, Side, Trigger, next_status
from northstar_core.store.rows import Fact, Placed

ORDER_COLUMNS = (
    "stream", "order_id", "strategy", "account", "symbol", "side", "order_type", "tif", "parent", "qty", "limit_price",
    "stop_price", "status", "cum_qty", "leaves_qty", "reason", "submitted_seq", "submitted_ts", "last_seq", "last_ts",
)
FILL_COLUMNS = (
    "stream", "seq", "ts", "order_id", "exec_id", "strategy", "account", "symbol", "side", "qty", "price", "fees",
    "late",
)
POSITION_COLUMNS = ("stream", "account", "strategy", "symbol", "qty", "cost", "realized", "fees", "last_seq")

TRIGGERS = {
    "OrderAccepted": "ACCEPT", "OrderRejected": "REJECT", "OrderCanceled": "CANCEL", "OrderReplaced": "REPLACE",
    "OrderExpired": "EXPIRE", "OrderUnknown": "LOSE_SIGHT", "CancelSubmitted": "CANCEL_REQUEST",
    "ReplaceSubmitted": "REPLACE_REQUEST", "RequestRejected": "REQUEST_REJECT",
}  # fmt: skip
#: the model's transition table over plain words, whose hash is cached: (status, trigger, partly filled) to status
AFTER = {
    (status.value, trigger.value, partly): after.value
    for status in OrderStatus
    for trigger in Trigger
    for partly in (False, True)
    if (after := next_status(status, trigger, partly_filled=partly)) is not None
}
CLOSED = frozenset(status.value for status in TERMINAL)


class OrderRow(msgspec.Struct, gc=False):
    """One order's row, as it stands; numbers as the events' text."""

    fixed: str  #: the columns that never change, rendered
    qty: str
    limit_price: str | None
    stop_price: str | None
    submitted_seq: int
    submitted_ts: int
    last_seq: int
    last_ts: int
    leaves_qty: str
    status: str = "PENDING_NEW"
    cum_qty: str = "0"
    reason: str = ""
    stored: bool = False  #: whether the table has this order, so that it must be updated, not copied

    def apply(self, seq: int, ts: int, fact: Fact) -> None:
        """Take in one event of this order."""
        self.last_seq, self.last_ts = seq, ts
        kind = fact.type
        if kind == "OrderFilled":
            self.cum_qty, self.leaves_qty = fact.cum_qty, fact.leaves_qty
            partial = fact.leaves_qty != "0" and Decimal(fact.leaves_qty) != 0
            after = AFTER.get((self.status, "PARTIAL_FILL" if partial else "LAST_FILL", True))
        else:
            if kind == "OrderReplaced":
                self._replace(fact)
            if fact.reason:
                self.reason = fact.reason
            after = AFTER.get((self.status, TRIGGERS[kind], self.cum_qty != "0"))
        if after is not None:
            self.status = after
            if after in CLOSED:
                self.leaves_qty = "0"

    def _replace(self, fact: Fact) -> None:
        if fact.qty is not None:
            self.qty = fact.qty
            self.leaves_qty = str(Decimal(fact.qty) - Decimal(self.cum_qty))
        self.limit_price = fact.limit_price if fact.limit_price is not None else self.limit_price
        self.stop_price = fact.stop_price if fact.stop_price is not None else self.stop_price

    def render(self) -> str:
        """Return the row in COPY's text format."""
        return (
            f"{self.fixed}\t{self.qty}\t{self.limit_price or NULL}\t{self.stop_price or NULL}\t{self.status}\t"
            f"{self.cum_qty}\t{self.leaves_qty}\t{text(self.reason)}\t{self.submitted_seq}\t{self.submitted_ts}\t"
            f"{self.last_seq}\t{self.last_ts}\n"
        )


class Changes(NamedTuple):
    """What a batch changes: rows in COPY's text format."""

    new_orders: bytes
    changed_orders: bytes
    fills: bytes
    positions: bytes


class Projection:
    """The fold of one stream's order events. Closed orders are kept, for a late fill: memory grows with orders."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.orders: dict[str, OrderRow] = {}
        self.positions: dict[tuple[str, str, str], Position] = {}  #: by account, strategy, symbol
        self._touched: dict[str, OrderRow] = {}
        self._moved: dict[tuple[str, str, str], int] = {}
        self._fills: list[str] = []

    def apply(self, facts: Iterable[tuple[int, int, Fact]]) -> None:
        """Take in events, in order."""
        orders, stream = self.orders, self.stream
        for seq, ts, fact in facts:
            if fact.order is not None:
                orders[fact.order_id] = self._touched[fact.order_id] = self._placed(fact.order, seq, ts)
                continue
            if fact.type == "PositionAdjusted":
                if self._adjust(fact):
                    self._moved[fact.account, fact.strategy, fact.symbol] = seq
                continue
            row = orders.get(fact.order_id)
            if row is not None:
                row.apply(seq, ts, fact)
                self._touched[fact.order_id] = row
            if fact.type == "OrderFilled":
                self._fills.append(
                    f"{stream}\t{seq}\t{ts}\t{text(fact.order_id)}\t{text(fact.exec_id)}\t{text(fact.strategy)}\t"
                    f"{text(fact.account)}\t{fact.symbol}\t{fact.side}\t{fact.qty}\t{fact.price}\t{fact.fees}\t"
                    f"{'t' if fact.late else 'f'}\n"
                )
                self._trade(fact)
                self._moved[fact.account, fact.strategy, fact.symbol] = seq

    def fold_positions(self, moves: Iterable[tuple[int, int, Fact]]) -> None:
        """Take in fills and adjustments that the tables have already."""
        for _, _, fact in moves:
            if fact.type == "OrderFilled":
                self._trade(fact)
            else:
                self._adjust(fact)

    def take(self) -> Changes:
        """Return the rows that were made or changed since the last time."""
        new: list[str] = []
        changed: list[str] = []
        for row in self._touched.values():
            (changed if row.stored else new).append(row.render())
            row.stored = True
        positions = [self._position(key, seq) for key, seq in self._moved.items()]
        changes = Changes(*("".join(rows).encode() for rows in (new, changed, self._fills, positions)))
        self._touched, self._moved, self._fills = {}, {}, []
        return changes

    def _placed(self, order: Placed, seq: int, ts: int) -> OrderRow:
        fixed = (
            f"{self.stream}\t{text(order.order_id)}\t{text(order.strategy)}\t{text(order.account)}\t{text(order.symbol)}\t"
            f"{order.side}\t{order.order_type}\t{order.tif}\t{text(order.parent)}"
        )
        return OrderRow(fixed, order.qty, order.limit_price, order.stop_price, seq, ts, seq, ts, order.qty)

    def position(self, account: str, strategy: str, symbol: str) -> Position:
        """Return the book's position, made when first asked for."""
        key = (account, strategy, symbol)
        found = self.positions.get(key)
        if found is None:
            multiplier = instrument(symbol).legs[0].instrument.multiplier
            found = self.positions[key] = Position(symbol, multiplier)
        return found

    def _trade(self, fact: Fact) -> None:
        assert fact.qty is not None and fact.price is not None
        position = self.position(fact.account, fact.strategy, fact.symbol)
        position.trade(Side(fact.side), Decimal(fact.qty), Decimal(fact.price), Decimal(fact.fees))

    def _adjust(self, fact: Fact) -> bool:
        """Book a change without an order; whether it touched a position."""
        qty, price = Decimal(fact.qty or 0), Decimal(fact.price or 0)
        if not fact.symbol or not qty:
            return False
        position = self.position(fact.account, fact.strategy, fact.symbol)
        position.adjust(qty, price, split=fact.kind == ActivityKind.SPLIT)
        return True

    def _position(self, key: tuple[str, str, str], seq: int) -> str:
        held = self.positions[key]
        account, strategy, symbol = key
        return (
            f"{self.stream}\t{text(account)}\t{text(strategy)}\t{symbol}\t{held.qty}\t{held.cost}\t{held.realized}\t"
            f"{held.fees}\t{seq}\n"
        )


NULL = r"\N"
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def text(word: str) -> str:
    """Return a word as COPY's text format has it."""
    return word if word.isprintable() and "\\" not in word else word.translate(_ESCAPES)
