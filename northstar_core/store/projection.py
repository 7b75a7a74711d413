"""Orders, fills and positions as their events left them: a pure fold into rows for COPY.

Only for SQL and dashboards: nothing is decided on these. The log is the truth, and an auditor's own fold checks them.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from northstar_core.model.account import Position
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument
from northstar_core.model.order import TERMINAL, OrderStatus, PlaceOrder, Side, Trigger, next_status
from northstar_core.store.rows import Fact

ORDER_COLUMNS = (
    "stream", "order_id", "strategy", "account", "symbol", "side", "order_type", "tif", "parent", "qty", "limit_price",
    "stop_price", "status", "cum_qty", "leaves_qty", "reason", "submitted_seq", "submitted_ts", "last_seq", "last_ts",
)
FILL_COLUMNS = (
    "stream", "seq", "ts", "order_id", "exec_id", "strategy", "account", "symbol", "side", "qty", "price", "fees",
    "late",
)
POSITION_COLUMNS = ("stream", "account", "strategy", "symbol", "qty", "cost", "realized", "fees", "last_seq")

TRIGGERS: dict[str, Trigger] = {
    "OrderAccepted": Trigger.ACCEPT,
    "OrderRejected": Trigger.REJECT,
    "OrderCanceled": Trigger.CANCEL,
    "OrderReplaced": Trigger.REPLACE,
    "OrderExpired": Trigger.EXPIRE,
    "OrderUnknown": Trigger.LOSE_SIGHT,
    "CancelSubmitted": Trigger.CANCEL_REQUEST,
    "ReplaceSubmitted": Trigger.REPLACE_REQUEST,
    "RequestRejected": Trigger.REQUEST_REJECT,
}


class OrderRow:
    """One order's row, as it stands."""

    __slots__ = (
        "cum_qty", "last_seq", "last_ts", "leaves_qty", "limit_price", "order", "qty", "reason", "status", "stop_price",
        "stored", "submitted_seq", "submitted_ts",
    )

    def __init__(self, order: PlaceOrder, seq: int, ts: int) -> None:
        self.order = order
        self.status = OrderStatus.PENDING_NEW
        self.qty = str(order.qty)
        self.limit_price = None if order.limit_price is None else str(order.limit_price)
        self.stop_price = None if order.stop_price is None else str(order.stop_price)
        self.cum_qty, self.leaves_qty, self.reason = "0", self.qty, ""
        self.submitted_seq, self.submitted_ts = seq, ts
        self.last_seq, self.last_ts = seq, ts
        self.stored = False  #: whether the table has this order, so that it must be updated, not copied

    def apply(self, seq: int, ts: int, fact: Fact) -> None:
        """Take in one event of this order."""
        self.last_seq, self.last_ts = seq, ts
        kind = fact.type
        if kind == "OrderFilled":
            self.cum_qty, self.leaves_qty = fact.cum_qty, fact.leaves_qty
            trigger = Trigger.PARTIAL_FILL if Decimal(fact.leaves_qty) else Trigger.LAST_FILL
        else:
            trigger = TRIGGERS[kind]
            if kind == "OrderReplaced":
                self._replace(fact)
            if fact.reason:
                self.reason = fact.reason
        after = next_status(self.status, trigger, partly_filled=self.cum_qty != "0")
        if after is not None:
            self.status = after
            if after in TERMINAL:
                self.leaves_qty = "0"

    def _replace(self, fact: Fact) -> None:
        if fact.qty is not None:
            self.qty = fact.qty
            self.leaves_qty = str(Decimal(fact.qty) - Decimal(self.cum_qty))
        self.limit_price = fact.limit_price if fact.limit_price is not None else self.limit_price
        self.stop_price = fact.stop_price if fact.stop_price is not None else self.stop_price


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
                orders[fact.order_id] = self._touched[fact.order_id] = OrderRow(fact.order, seq, ts)
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

    def take(self) -> Changes:
        """Return the rows that were made or changed since the last time."""
        new: list[str] = []
        changed: list[str] = []
        for order_id, row in self._touched.items():
            (changed if row.stored else new).append(self._order(order_id, row))
            row.stored = True
        positions = [self._position(key, seq) for key, seq in self._moved.items()]
        changes = Changes(*("".join(rows).encode() for rows in (new, changed, self._fills, positions)))
        self._touched, self._moved, self._fills = {}, {}, []
        return changes

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
        if fact.kind == ActivityKind.SPLIT:
            position.split(price)
        else:
            position.shift(qty, price)
        return True

    def _order(self, order_id: str, row: OrderRow) -> str:
        order = row.order
        return (
            f"{self.stream}\t{text(order_id)}\t{text(order.strategy)}\t{text(order.account)}\t{order.symbol}\t{order.side}\t"
            f"{order.order_type}\t{order.tif}\t{text(order.parent)}\t{row.qty}\t"
            f"{row.limit_price or NULL}\t{row.stop_price or NULL}\t"
            f"{row.status}\t{row.cum_qty}\t{row.leaves_qty}\t{text(row.reason)}\t{row.submitted_seq}\t{row.submitted_ts}\t"
            f"{row.last_seq}\t{row.last_ts}\n"
        )

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
    return word if word.isalnum() else word.translate(_ESCAPES)
