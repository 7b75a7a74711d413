"""An order as Alpaca keeps and shows it, and how it writes numbers, times and ids."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument

NEW_YORK = ZoneInfo("America/New_York")
ZERO = Decimal(0)
TERMINAL = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "twin.alpaca")


def made_id(*parts: object) -> str:
    """Return the UUID that stands for something; the same parts give the same one."""
    return str(uuid.uuid5(_IDS, "/".join(map(str, parts))))


def asset_id(symbol: str) -> str:
    """Return the id of an asset."""
    return made_id("asset", symbol)


def asset_class(symbol: str) -> str:
    """Return "us_option" or "us_equity"."""
    try:
        return "us_option" if type(instrument(symbol)) is Option else "us_equity"
    except DataError:
        return "us_equity"


def number(value: Decimal | None) -> str | None:
    """Return a number as Alpaca writes it: a string without exponent and trailing zeros."""
    if value is None:
        return None
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def zulu(ts: int | None) -> str | None:
    """Return a time as RFC 3339 in UTC, with up to nanoseconds."""
    if ts is None:
        return None
    seconds, ns = divmod(ts, 10**9)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{ns:09d}".rstrip("0") if ns else "") + "Z"


def at_new_york(ts: int) -> str:
    """Return a time as RFC 3339 with New York's offset, with up to nanoseconds."""
    seconds, ns = divmod(ts, 10**9)
    local = dt.datetime.fromtimestamp(seconds, NEW_YORK).isoformat()
    return local[:19] + (f".{ns:09d}".rstrip("0") if ns else "") + local[19:]


def parse_time(text: str) -> int:
    """Return an RFC 3339 time or a date (its midnight in New York) as ns UTC.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if len(text) == 10:
        day = dt.date.fromisoformat(text)
        return int(dt.datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()) * 10**9
    head, zone = text[:19], text[19:].replace(" ", "+")  # an unescaped + in a query is a space
    fraction = ""
    if zone.startswith("."):
        digits = 1
        while digits < len(zone) and zone[digits].isdigit():
            digits += 1
        fraction, zone = zone[1:digits], zone[digits:]
    moment = dt.datetime.fromisoformat(head + (zone or "Z"))
    return int(moment.timestamp()) * 10**9 + int((fraction + "000000000")[:9])


class AlpacaOrder(msgspec.Struct, kw_only=True):
    """One order, its terms and what has become of it. Times are ns UTC."""

    id: str
    client_order_id: str
    symbol: str  #: "" for the parent of several legs
    side: str  #: "buy", "sell"; "" for the parent of several legs
    type: str  #: "" for a leg
    time_in_force: str
    submitted_at: int
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    extended_hours: bool = False
    order_class: str = ""
    position_intent: str | None = None
    ratio_qty: Decimal | None = None
    status: str = "pending_new"
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO  #: quantity times price, summed; of several legs net
    updated_at: int = 0
    filled_at: int | None = None
    expired_at: int | None = None
    expires_at: int | None = None
    canceled_at: int | None = None
    failed_at: int | None = None
    replaced_at: int | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    legs: list[AlpacaOrder] = []
    parent: AlpacaOrder | None = None
    sim: str = ""  #: its id at the account; "" while it is held
    filled_before: Decimal = ZERO  #: what the order it replaces had filled when that was asked for

    @property
    def open(self) -> bool:
        """Whether anything may still become of it."""
        return self.status not in TERMINAL

    @property
    def leaves(self) -> Decimal:
        """What may still fill."""
        return (self.qty or ZERO) - self.filled_qty if self.open else ZERO

    @property
    def complex(self) -> bool:
        """Whether it is one of several that belong together."""
        return bool(self.legs) or self.parent is not None

    @property
    def filled_avg_price(self) -> Decimal | None:
        """Average price of what has filled."""
        return self.filled_value / self.filled_qty if self.filled_qty else None

    def page(self, *, nested: bool = True) -> dict[str, Any]:
        """Return what Alpaca answers with; ``nested`` puts the orders that belong to it into ``legs``."""
        several = self.order_class == "mleg" and not self.symbol
        average = self.filled_avg_price
        return {
            "id": self.id,
            "client_order_id": self.client_order_id,
            "created_at": zulu(self.submitted_at),
            "updated_at": zulu(self.updated_at or self.submitted_at),
            "submitted_at": zulu(self.submitted_at),
            "filled_at": zulu(self.filled_at),
            "expired_at": zulu(self.expired_at),
            "expires_at": zulu(self.expires_at),
            "canceled_at": zulu(self.canceled_at),
            "failed_at": zulu(self.failed_at),
            "replaced_at": zulu(self.replaced_at),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": "" if several else asset_id(self.symbol),
            "symbol": self.symbol,
            "asset_class": "" if several else asset_class(self.symbol),
            "notional": number(self.notional),
            "qty": number(self.qty) if self.notional is None else None,
            "filled_qty": number(self.filled_qty),
            "filled_avg_price": number(None if average is None else round(average, 6)),
            "order_class": self.order_class,
            "order_type": self.type,
            "type": self.type,
            "side": self.side,
            "position_intent": self.position_intent,
            "time_in_force": self.time_in_force,
            "limit_price": number(self.limit_price),
            "stop_price": number(self.stop_price),
            "status": self.status,
            "extended_hours": self.extended_hours,
            "legs": [leg.page() for leg in self.legs] if self.legs and nested else None,
            "trail_percent": number(self.trail_percent),
            "trail_price": number(self.trail_price),
            "hwm": number(self.hwm),
            "ratio_qty": number(self.ratio_qty),
            "subtag": None,
            "source": None,
        }
