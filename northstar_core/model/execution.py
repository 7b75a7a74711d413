"""What a broker tells us: claims, which the engine turns into facts."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from northstar_core.model.order import OrderStatus, Side


class ExecType(StrEnum):
    """What an execution report is about (FIX tag 150)."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    UNKNOWN = "UNKNOWN"  #: the adapter does not know what became of the order: silence, a lost response


class ExecutionReport(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """One message of a broker about one order. Fills of a combo are reported leg by leg."""

    ts: int  #: when it happened at the broker
    order_id: str
    exec_type: ExecType
    exec_id: str = ""  #: unique per broker for trades; the key under which a fill is booked once
    symbol: str = ""  #: of the leg that traded
    side: Side | None = None
    qty: Decimal = Decimal(0)  #: last quantity
    price: Decimal = Decimal(0)  #: last price
    fees: Decimal = Decimal(0)  #: commission and regulatory fees of this fill, positive = paid
    text: str = ""  #: the broker's reason


class ActivityKind(StrEnum):
    """Why a position or cash changed without an order."""

    SPLIT = "SPLIT"
    DIVIDEND = "DIVIDEND"
    EXPIRATION = "EXPIRATION"
    EXERCISE = "EXERCISE"
    ASSIGNMENT = "ASSIGNMENT"
    DELIVERY = "DELIVERY"  #: the shares that an exercise or assignment moves
    FEE = "FEE"
    INTEREST = "INTEREST"
    EXTERNAL = "EXTERNAL"  #: a trade that no order of ours made: by phone, by another program


class AccountActivity(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """A change the broker made to an account: corporate action, expiry, exercise, assignment, fee."""

    ts: int
    account: str
    kind: ActivityKind
    record_id: str  #: the broker's own id; each is booked once
    symbol: str = ""
    qty: Decimal = Decimal(0)  #: signed change of the position
    cash: Decimal = Decimal(0)  #: signed change of cash
    price: Decimal = Decimal(0)  #: at which delivered shares are booked; for a split, new shares for one old
    strategy: str = ""  #: whose book it belongs to, where the broker's simulation knows; else the engine divides it
    text: str = ""


class HeldPosition(msgspec.Struct, frozen=True, gc=False):
    """A position as the broker sees it."""

    symbol: str
    qty: Decimal


class OpenOrder(msgspec.Struct, frozen=True, gc=False):
    """An order as the broker sees it."""

    order_id: str
    status: OrderStatus
    leaves_qty: Decimal


class BrokerSnapshot(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An account as its broker sees it at one instant."""

    ts: int
    account: str
    cash: Decimal
    positions: tuple[HeldPosition, ...]
    orders: tuple[OpenOrder, ...]
