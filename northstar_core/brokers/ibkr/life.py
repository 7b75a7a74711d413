"""One order of ours at Interactive Brokers: what its rows told so far, merged.

Rows carry only what changed. Quantities filled never shrink and an end is an end, so any order of the same rows leads to the same state.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.ibkr.orders import Terms
from northstar_core.brokers.ibkr.wire import number, text
from northstar_core.model.execution import ExecType
from northstar_core.model.order import OrderStatus, OrderType, PlaceOrder

ZERO = Decimal(0)

WORKING = frozenset({"PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "PreCancelled", "WarnState"})
CANCELLING = frozenset({"PendingCancel", "PreCancelled"})
ENDED = frozenset({"Filled", "Cancelled"})


class Life(msgspec.Struct, eq=False):
    """An order of ours, and what has been claimed of it."""

    order: PlaceOrder
    terms: Terms
    broker_id: int = 0
    status: str = ""
    since: int = 0  #: when the status was first seen
    begun: int = 0  #: when it was sent, or met after a restart
    inherited: bool = False  #: sent before a restart: its terms are what the rows say
    filled: Decimal = ZERO  #: the most the rows told
    told: bool = False  #: whether a row told how much has filled
    told_at: int = 0  #: when that last rose
    size: Decimal | None = None  #: as rows have it
    price: Decimal | None = None
    aux: Decimal | None = None  #: the stop, where rows have it apart
    words: str = ""  #: the broker's reason
    asked: Terms | None = None  #: a replace that no row shows yet
    asked_at: int = 0
    cancelling: bool = False  #: rows showed a cancel under way
    lost: frozenset[str] = frozenset()  #: requests without an answer: "submit", "cancel", "replace"
    lost_at: int = 0
    acked: bool = False  #: claimed as accepted
    end: ExecType | None = None  #: claimed as ended; TRADE: every share is booked
    warned: bool = False
    reduced: bool = False  #: a bracket exit that works with less than was asked for, its siblings having exited the rest
    cancel: bool = False  #: a cancel waits until the broker shows the order
    sending: bool = False  #: its submission is under way

    def __repr__(self) -> str:
        """What it is and where it stands."""
        return f"<{self.order.order_id} {self.broker_id} {self.status} {self.filled}/{self.terms.qty}>"

    @property
    def over(self) -> bool:
        """Whether nothing more can fill, as far as the broker told."""
        return self.status in ENDED or self.end is not None

    @property
    def order_status(self) -> OrderStatus:
        """Where it stands, in our words."""
        if self.status == "PendingCancel":
            return OrderStatus.PENDING_CANCEL
        if self.status in ("", "Inactive", "PendingSubmit"):
            return OrderStatus.PENDING_NEW
        return OrderStatus.PARTIALLY_FILLED if self.filled else OrderStatus.NEW

    def has(self, terms: Terms) -> bool:
        """Whether the rows show these terms; the stop of a stop order may be in either place."""
        if self.size != terms.qty:
            return False
        if self.order.order_type is OrderType.STOP:
            return terms.stop_price in (self.price, self.aux)
        same_stop = terms.stop_price is None or self.aux in (None, terms.stop_price)
        return same_stop and terms.limit_price in (None, self.price)


def merge(life: Life, row: dict[str, Any], now: int) -> None:
    """Take over what a row tells.

    Raises
    ------
    Unreadable
        If a number in it is none.
    """
    size, filled, price = number(row.get("totalSize")), number(row.get("filledQuantity")), number(row.get("price"))
    if filled is None and isinstance(row.get("sizeAndFills"), str) and "/" in row["sizeAndFills"]:
        filled = number(row["sizeAndFills"].partition("/")[0])
    if filled is not None:
        _fill(life, filled, now)
    if size is not None:
        life.size = size
    if price is not None:
        life.price = price
    if (aux := number(row.get("auxPrice"))) is not None:
        life.aux = aux
    if life.inherited and life.asked is None:
        _inherit(life)
    status = row.get("status")
    if isinstance(status, str) and status and status != life.status and not _ended(life.status, status):
        life.status, life.since = status, now
        life.cancelling = life.cancelling or status in CANCELLING
    if life.status == "Filled":
        _fill(life, life.size or life.terms.qty, now)
    words = text(row.get("text") or row.get("order_cancellation_by_system_reason"))
    if words and life.status in ("Inactive", "Cancelled"):
        life.words = words


def _fill(life: Life, filled: Decimal, now: int) -> None:
    if filled > life.filled or not life.told:
        life.filled, life.told, life.told_at = max(life.filled, filled), True, now


def _inherit(life: Life) -> None:
    qty, limit, stop = life.size or life.terms.qty, life.terms.limit_price, life.terms.stop_price
    if life.price is not None and life.order.order_type is OrderType.STOP:
        stop = life.price
    elif life.price is not None and limit is not None:
        limit = life.price
    life.terms = Terms(qty, limit, stop)


def merge_status(life: Life, row: dict[str, Any], now: int) -> None:
    """Take over what the order's own page tells, whose numbers are text under other names."""
    renamed = {
        **row, "status": row.get("order_status"), "totalSize": row.get("total_size"), "filledQuantity": row.get("cum_fill"),
    }  # fmt: skip
    if row.get("limit_price") not in (None, ""):
        renamed["price"] = row["limit_price"]
    merge(life, renamed, now)


def _ended(before: str, after: str) -> bool:
    """Whether a status that comes later may not replace an end; a fill may overtake a cancel."""
    return before == "Filled" or (before == "Cancelled" and after != "Filled")
