"""Alpaca's JSON, read and written: order rows, stream events, fill activities in; request bodies and client order ids out.

Money, prices and quantities are JSON strings, times RFC 3339 with up to nanoseconds. What is missing or null becomes None or zero;
unknown fields are ignored, unknown statuses kept as they come. No state, no clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import Combo, Option, instrument
from northstar_core.model.journal import plain
from northstar_core.model.order import OrderType, PlaceOrder, Side
from northstar_core.model.order_ids import client_order_id, order_id_of

ZERO = Decimal(0)
SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")

#: The order will never fill again; ``replaced`` hands over to its successor.
OVER = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
#: A replacement in one of these has taken the place of the order before it.
WORKS = frozenset({"new", "partially_filled", "filled", "done_for_day", "calculated", "stopped", "suspended"})
EVENTS = frozenset(
    "new fill partial_fill canceled expired done_for_day replaced rejected pending_new accepted stopped pending_cancel pending_replace "
    "calculated suspended held restated order_replace_rejected order_cancel_rejected".split()
)
FILLS = ("fill", "partial_fill")
COMPLEX = ("mleg", "oco", "oto", "bracket")

#: What Alpaca calls a change without a trade; a type that is not here moves cash and shares under the name EXTERNAL.
ACTIVITIES = {
    "FEE": ActivityKind.FEE, "CFEE": ActivityKind.FEE, "PTC": ActivityKind.FEE, "DIVFEE": ActivityKind.FEE,
    "INT": ActivityKind.INTEREST, "INTNRA": ActivityKind.INTEREST, "INTTW": ActivityKind.INTEREST,
    "SPLIT": ActivityKind.SPLIT, "SSP": ActivityKind.SPLIT,
    "OPEXP": ActivityKind.EXPIRATION, "OPASN": ActivityKind.ASSIGNMENT, "OPXRC": ActivityKind.EXERCISE, "OPEXC": ActivityKind.EXERCISE,
    "OPTRD": ActivityKind.DELIVERY, "OPCSH": ActivityKind.EXERCISE,
}  # fmt: skip


class Unreadable(ValueError):
    """A row lacks what it cannot be understood without, or holds something else in its place."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An order as Alpaca shows it."""

    id: str
    client_id: str = ""
    status: str
    symbol: str = ""  #: "" of a multi-leg parent
    side: Side | None = None
    order_type: str = ""
    order_class: str = ""
    qty: Decimal = ZERO
    filled: Decimal = ZERO  #: cumulative
    avg: Decimal = ZERO  #: average price of what has filled, as Alpaca rounds it
    limit: Decimal | None = None
    stop: Decimal | None = None
    replaces: str = ""
    replaced_by: str = ""
    created: int = 0  #: when it was submitted, ns UTC; 0 = not said
    ended: int = 0  #: when it was filled, canceled, expired, replaced or failed
    legs: tuple[Row, ...] = ()
    text: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the ``trade_updates`` stream."""

    event: str
    ts: int
    row: Row
    execution_id: str = ""
    qty: Decimal = ZERO  #: of this execution
    price: Decimal = ZERO

    @property
    def fills(self) -> bool:
        """Whether it tells of an execution."""
        return self.event in FILLS and self.qty > 0


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the FILL activities: an execution without an execution id."""

    id: str
    ts: int
    order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    cum: Decimal  #: the order's filled quantity after it


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the other activities."""

    id: str
    ts: int
    kind: ActivityKind
    symbol: str
    qty: Decimal
    cash: Decimal
    price: Decimal
    text: str


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value: Any) -> Decimal | None:
    """Return a JSON string or number as an exact decimal in plain form, None for null and "".

    Raises
    ------
    Unreadable
        If it is no finite number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable(f"{value!r} is no number")
    try:
        read = Decimal(str(value))
    except InvalidOperation:
        raise Unreadable(f"{value!r} is no number") from None
    if not read.is_finite() or abs(read) >= 10**15:
        raise Unreadable(f"{value!r} is no number that can be booked")
    return plain(read)


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|z|[+-]\d\d:?\d\d)?)?")


def time_ns(value: Any) -> int:
    """Return an RFC 3339 time, or a date (its midnight UTC), as ns UTC; 0 where there is none.

    Raises
    ------
    Unreadable
        If it is neither.
    """
    if not value:
        return 0
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Unreadable(f"{value!r} is no time")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    except ValueError:
        raise Unreadable(f"{value!r} is no time") from None
    if zone and zone not in "Zz":
        ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        at -= ahead if zone[0] == "+" else -ahead
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + int((fraction or "").ljust(9, "0"))


def rfc3339(ts: int) -> str:
    """Return ns UTC as RFC 3339 with all nine digits."""
    seconds, rest = divmod(ts, SECOND)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def side_of(value: Any) -> Side | None:
    """Return a side; ``sell_short`` is a sale."""
    if not value:
        return None
    if value == "buy":
        return Side.BUY
    if value in ("sell", "sell_short"):
        return Side.SELL
    raise Unreadable(f"{value!r} is no side")


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"{name} {value!r} is no text")
    return value


def _mapping(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Unreadable(f"{what} that is no object")
    return data


def row_of(data: Any) -> Row:
    """Return an order row.

    Raises
    ------
    Unreadable
        If it has no id or status, or a field is of another kind.
    """
    data = _mapping(data, "an order")
    order_id, status = _text(data, "id"), _text(data, "status")
    if not order_id or not status:
        raise Unreadable("an order without id or status")
    ended = max(time_ns(data.get(name)) for name in ("filled_at", "canceled_at", "expired_at", "failed_at", "replaced_at"))
    legs = data.get("legs") or ()
    if not isinstance(legs, list | tuple):
        raise Unreadable("legs that are no list")
    return Row(
        id=order_id,
        client_id=_text(data, "client_order_id"),
        status=status,
        symbol=_text(data, "symbol"),
        side=side_of(data.get("side")),
        order_type=_text(data, "type") or _text(data, "order_type"),
        order_class=_text(data, "order_class"),
        qty=number(data.get("qty")) or ZERO,
        filled=number(data.get("filled_qty")) or ZERO,
        avg=number(data.get("filled_avg_price")) or ZERO,
        limit=number(data.get("limit_price")),
        stop=number(data.get("stop_price")),
        replaces=_text(data, "replaces"),
        replaced_by=_text(data, "replaced_by"),
        created=time_ns(data.get("submitted_at")) or time_ns(data.get("created_at")),
        ended=ended,
        legs=tuple(row_of(leg) for leg in legs),
        text=_text(data, "reject_reason"),
    )


def rows_of(data: Any) -> list[Row]:
    """Return a list of order rows."""
    if not isinstance(data, list):
        raise Unreadable("orders that are no list")
    return [row_of(item) for item in data]


def event_of(data: Any) -> Event:
    """Return a stream event from the ``data`` of its frame."""
    data = _mapping(data, "an event")
    row = row_of(data.get("order"))
    name = _text(data, "event")
    if not name:
        raise Unreadable("an event without a name")
    return Event(
        event=name,
        ts=time_ns(data.get("timestamp")) or row.ended or row.created,
        row=row,
        execution_id=_text(data, "execution_id"),
        qty=number(data.get("qty")) or ZERO,
        price=number(data.get("price")) or ZERO,
    )


def fill_of(data: Any) -> Fill:
    """Return a FILL activity."""
    data = _mapping(data, "an activity")
    side, qty, price, cum = side_of(data.get("side")), number(data.get("qty")), number(data.get("price")), number(data.get("cum_qty"))
    ts, order_id = time_ns(data.get("transaction_time")), _text(data, "order_id")
    if side is None or qty is None or price is None or cum is None or not order_id or not ts or qty <= 0:
        raise Unreadable("a fill without side, quantity, price, time or order")
    return Fill(id=_text(data, "id"), ts=ts, order_id=order_id, symbol=_text(data, "symbol"), side=side, qty=qty, price=price, cum=cum)


def change_of(data: Any) -> Change:
    """Return an activity that is no fill. Dividends of every kind are dividends; an unknown type is EXTERNAL."""
    data = _mapping(data, "an activity")
    name, activity_id = _text(data, "activity_type"), _text(data, "id")
    if not name or not activity_id:
        raise Unreadable("an activity without type or id")
    kind = ActivityKind.DIVIDEND if name.startswith("DIV") and name != "DIVFEE" else ACTIVITIES.get(name, ActivityKind.EXTERNAL)
    qty = number(data.get("qty")) or ZERO
    if kind in (ActivityKind.DIVIDEND, ActivityKind.FEE, ActivityKind.INTEREST):
        qty = ZERO  # how many shares it was paid on, not how many moved
    return Change(
        id=activity_id,
        ts=time_ns(data.get("transaction_time")) or _id_time(activity_id) or time_ns(data.get("date")),
        kind=kind,
        symbol=_text(data, "symbol"),
        qty=qty,
        cash=number(data.get("net_amount")) or ZERO,
        price=number(data.get("price")) or number(data.get("per_share_amount")) or ZERO,
        text=" ".join(filter(None, (name, _text(data, "description")))),
    )


def _id_time(activity_id: str) -> int:
    """Return the time in an activity's id, which is New York's; 0 where there is none. Its row shows the day only."""
    digits = activity_id.partition("::")[0]
    if not re.fullmatch(r"[0-9]{17}", digits):
        return 0
    try:
        local = datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(tzinfo=NEW_YORK)
    except ValueError:
        return 0
    return int(local.timestamp()) * SECOND + int(digits[14:]) * 1_000_000


def frame_of(raw: bytes) -> dict[str, Any]:
    """Return a stream frame: JSON, whether it came as text or as binary, or MessagePack.

    Raises
    ------
    Unreadable
        If it is neither, or no object.
    """
    json_like = raw[:1] in b"{[ \n\r\t\""
    try:
        data = msgspec.json.decode(raw) if json_like else msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"a frame that is neither JSON nor MessagePack: {error}") from None
    return _mapping(data, "a frame")


def refusal(status: int, raw: bytes) -> tuple[str, str]:
    """Return (code, message) of an error body; ("", …) where it is not Alpaca's kind."""
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", f"HTTP {status}"
    if not isinstance(data, dict) or "message" not in data:
        return "", f"HTTP {status}"
    more = ", ".join(f"{key}={value}" for key, value in sorted(data.items()) if key not in ("code", "message", "symbol"))
    text = str(data["message"]) + (f" ({more})" if more else "")
    return str(data.get("code") or status), " ".join(text.split())[:400]


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def client_id(order_id: str, n: int = 0) -> str:
    """Return the client order id of an order (``n`` 0), or of its n-th replacement: every one needs its own."""
    return client_order_id(order_id) + (f".{n}" if n else "")


def ours(client: str) -> tuple[str, int] | None:
    """Return (order id, number of the replacement) of a client order id of ours, None of another's."""
    head, dot, tail = client.rpartition(".")
    if dot and tail.isascii() and tail.isdigit() and (found := order_id_of(head)):
        return found, int(tail)
    order_id = order_id_of(client)
    return None if order_id is None else (order_id, 0)


def exec_id(broker_id: str, cum: Decimal, low: Decimal | None = None) -> str:
    """Return the id of the execution that took an order to ``cum``: the same from the stream, from activities and from an order row."""
    part = "" if low is None else f"{plain(low)}-"
    return f"{broker_id}:{part}{plain(cum)}"


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = {
    OrderType.MARKET: "market", OrderType.LIMIT: "limit", OrderType.STOP: "stop", OrderType.STOP_LIMIT: "stop_limit",
}  # fmt: skip


def _sent(value: Decimal) -> str:
    return f"{plain(value):f}"


def _side(side: Side) -> str:
    return "buy" if side is Side.BUY else "sell"


def order_body(order: PlaceOrder, qty: Decimal | None = None, *, extended_hours: bool = False) -> dict[str, Any]:
    """Return the body that asks for an order, of ``qty`` where that is less than the order's own.

    A combo is an ``mleg`` order: its limit is a debit above zero and a credit below, so that of a sale has its sign turned.
    """
    found = instrument(order.symbol)
    body: dict[str, Any] = {
        "client_order_id": client_id(order.order_id),
        "qty": _sent(order.qty if qty is None else qty),
        "type": _KINDS[order.order_type],
        "time_in_force": order.tif.value.lower(),
    }
    if isinstance(found, Combo):
        body["order_class"] = "mleg"
        body["legs"] = [
            {
                "symbol": leg.instrument.symbol,
                "ratio_qty": str(abs(leg.ratio)),
                **_intent(order.side if leg.ratio > 0 else order.side.opposite, order.reduce_only),
            }
            for leg in found.legs
        ]
    else:
        body["symbol"] = order.symbol
        body |= _intent(order.side, order.reduce_only and isinstance(found, Option))
    if order.limit_price is not None:
        credit = isinstance(found, Combo) and order.side is Side.SELL
        body["limit_price"] = _sent(-order.limit_price if credit else order.limit_price)
    if order.stop_price is not None:
        body["stop_price"] = _sent(order.stop_price)
    if extended_hours and order.order_type is OrderType.LIMIT and body["time_in_force"] in ("day", "gtc") and "symbol" in body:
        body["extended_hours"] = not isinstance(found, Option)
    return body


def _intent(side: Side, closing: bool) -> dict[str, str]:
    if not closing:
        return {"side": _side(side)}
    return {"side": _side(side), "position_intent": f"{_side(side)}_to_close"}


def oco_body(target: PlaceOrder, stop: PlaceOrder, qty: Decimal) -> dict[str, Any]:
    """Return the body for a target and a stop of which one cancels the other; the parent is the target, the stop its only leg."""
    assert target.limit_price is not None and stop.stop_price is not None
    loss = {"stop_price": _sent(stop.stop_price)}
    if stop.limit_price is not None:
        loss["limit_price"] = _sent(stop.limit_price)
    return {
        **order_body(target, qty),
        "order_class": "oco",
        "take_profit": {"limit_price": _sent(target.limit_price)},
        "stop_loss": loss,
    }


def replace_body(order: PlaceOrder, n: int, qty: Decimal, limit: Decimal | None, stop: Decimal | None) -> dict[str, Any]:
    """Return the body that asks for other terms; the quantity is always said."""
    body = {"client_order_id": client_id(order.order_id, n), "qty": _sent(qty)}
    if limit is not None:
        credit = order.side is Side.SELL and isinstance(instrument(order.symbol), Combo)
        body["limit_price"] = _sent(-limit if credit else limit)
    if stop is not None:
        body["stop_price"] = _sent(stop)
    return body
