"""Orders: what a strategy asks for, and the table of an order's life.

Words follow FIX where FIX has one. *Deny* is ours and never left the house; *reject* is the broker's.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other one."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    """How an order may fill."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"


class TimeInForce(StrEnum):
    """How long an order works."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    OPG = "OPG"  #: at the opening auction only
    CLS = "CLS"  #: at the closing auction only


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING_NEW = "PENDING_NEW"  #: written down and sent; the broker has not answered
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    UNKNOWN = "UNKNOWN"  #: sent, outcome unknown; its exposure stays reserved until there is evidence
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class Trigger(StrEnum):
    """What may happen to an order that was submitted."""

    ACCEPT = "ACCEPT"
    PARTIAL_FILL = "PARTIAL_FILL"
    LAST_FILL = "LAST_FILL"
    CANCEL_REQUEST = "CANCEL_REQUEST"
    CANCEL = "CANCEL"
    REPLACE_REQUEST = "REPLACE_REQUEST"
    REPLACE = "REPLACE"
    REQUEST_REJECT = "REQUEST_REJECT"  #: the broker refused a cancel or replace; the order works on
    REJECT = "REJECT"
    EXPIRE = "EXPIRE"
    LOSE_SIGHT = "LOSE_SIGHT"  #: silence, a lost response: the outcome is unknown


S, T = OrderStatus, Trigger

TERMINAL = frozenset({S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED})
WORKING = frozenset(S) - TERMINAL

#: The published state machine: (status, what happened) to the next status. A pair that is absent may not happen.
TRANSITIONS: dict[tuple[OrderStatus, Trigger], OrderStatus] = {
    **{(s, T.ACCEPT): S.NEW for s in (S.PENDING_NEW, S.UNKNOWN)},
    (S.PENDING_CANCEL, T.ACCEPT): S.PENDING_CANCEL,  # our cancel overtook the broker's acknowledgement
    (S.PENDING_REPLACE, T.ACCEPT): S.PENDING_REPLACE,
    (S.PARTIALLY_FILLED, T.ACCEPT): S.PARTIALLY_FILLED,  # a fill overtook the acknowledgement
    **{(s, T.PARTIAL_FILL): S.PARTIALLY_FILLED for s in (S.PENDING_NEW, S.NEW, S.PARTIALLY_FILLED, S.UNKNOWN)},
    (S.PENDING_CANCEL, T.PARTIAL_FILL): S.PENDING_CANCEL,  # the remainder is still being cancelled
    (S.PENDING_REPLACE, T.PARTIAL_FILL): S.PENDING_REPLACE,
    **{(s, T.LAST_FILL): S.FILLED for s in WORKING},
    **{(s, T.CANCEL_REQUEST): S.PENDING_CANCEL for s in WORKING},
    **{(s, T.CANCEL): S.CANCELED for s in WORKING},
    **{(s, T.REPLACE_REQUEST): S.PENDING_REPLACE for s in (S.NEW, S.PARTIALLY_FILLED)},
    **{(s, T.REPLACE): S.NEW for s in (S.PENDING_REPLACE, S.UNKNOWN)},
    **{(s, T.REPLACE): S.NEW for s in (S.NEW, S.PARTIALLY_FILLED)},  # a refused cancel overtook the replace's answer
    (S.PENDING_CANCEL, T.REPLACE): S.PENDING_CANCEL,  # replace acknowledged after we asked to cancel
    **{(s, T.REQUEST_REJECT): S.NEW for s in (S.PENDING_CANCEL, S.PENDING_REPLACE, S.UNKNOWN, S.NEW, S.PARTIALLY_FILLED)},
    **{(s, T.REJECT): S.REJECTED for s in (S.PENDING_NEW, S.NEW, S.UNKNOWN, S.PENDING_CANCEL)},
    **{(s, T.EXPIRE): S.EXPIRED for s in WORKING},
    **{(s, T.LOSE_SIGHT): S.UNKNOWN for s in WORKING - {S.UNKNOWN}},
    # Late fills: the fill and the end of the order crossed on the wire. The order stays closed, the fill is booked.
    **{(s, T.PARTIAL_FILL): s for s in (S.CANCELED, S.EXPIRED, S.REJECTED)},
    **{(s, T.LAST_FILL): s for s in (S.CANCELED, S.EXPIRED, S.REJECTED)},
}


def next_status(status: OrderStatus, trigger: Trigger, *, partly_filled: bool) -> OrderStatus | None:
    """Return the status after a trigger, or None where the table has no such row."""
    after = TRANSITIONS.get((status, trigger))
    return S.PARTIALLY_FILLED if partly_filled and after is S.NEW else after


class PlaceOrder(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """An intent to trade. ``order_id`` is strategy-session-counter: the idempotency key from notebook to broker."""

    ts: int
    order_id: str
    strategy: str
    account: str
    symbol: str
    side: Side
    qty: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    tif: TimeInForce = TimeInForce.DAY
    reduce_only: bool = False  #: may only bring a position nearer to zero
    parent: str = ""  #: bracket exit: held until this order has filled; siblings cancel each other
    signal: int = 0  #: number of the Signal it follows from; 0 = none
    basis_seq: int = 0  #: the last input its strategy had seen


class ReplaceOrder(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """An intent to change a working order; None keeps what is."""

    ts: int
    order_id: str
    strategy: str
    account: str
    qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    basis_seq: int = 0


class CancelOrder(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """An intent to cancel a working order; never denied by a risk check."""

    ts: int
    order_id: str
    strategy: str
    account: str
    reason: str = ""
    basis_seq: int = 0
