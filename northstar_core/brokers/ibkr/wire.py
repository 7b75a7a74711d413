"""The Client Portal's JSON as it comes: frames, rows, numbers and times, read once and carefully.

Interactive Brokers writes one thing in several ways: order ids as numbers here and strings there, sizes with thousands separators,
sides as ``B``, ``BUY`` or ``BOT``, an error with the status 200. Everything above this file sees one way only. Nothing here keeps state.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from northstar_core.model.order import Side

MS = 1_000_000
NO_FEE = 10**9  #: the largest double stands for a commission not known yet
RAW_BYTES = 400  #: of a frame that cannot be read, so many characters are kept

#: An execution's id whose last part counts its corrections from 01 (``0000e0d5.65a1b2c3.01.01``).
_EXEC_ID = re.compile(r"(?P<base>[0-9a-zA-Z]+\.[0-9a-zA-Z]+\.[0-9]{2})\.(?P<revision>[0-9]{2})")
_TAGS = re.compile(r"<[^>]*>")
_ENCODER = msgspec.json.Encoder(decimal_format="number")

SIDES = {
    "B": Side.BUY,
    "BUY": Side.BUY,
    "BOT": Side.BUY,
    "S": Side.SELL,
    "SELL": Side.SELL,
    "SLD": Side.SELL,
    "SSHORT": Side.SELL,
}


class Unreadable(ValueError):
    """What came is not what the protocol says; the words say what."""


class Frame(msgspec.Struct, frozen=True):
    """One message of the socket."""

    topic: str
    body: dict[str, Any]

    @property
    def args(self) -> Any:
        """What the message is about; None where there is none."""
        return self.body.get("args")


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One execution as one copy of it tells; a later copy may add the commission or correct the numbers."""

    exec_id: str
    base: str  #: the id without its count of corrections
    revision: int  #: 1 = as first told
    ts: int  #: ns UTC
    broker_id: int  #: 0 = not told
    order_ref: str
    conid: int
    conidex: str
    symbol: str
    sec_type: str
    side: Side
    qty: Decimal
    price: Decimal
    commission: Decimal | None  #: None = not known yet

    @property
    def booked_as(self) -> str:
        """The id under which the execution is booked, whichever of its revisions was seen first."""
        return f"{self.base}.01" if self.base != self.exec_id else self.exec_id


def encode(body: object) -> bytes:
    """Return a request's JSON, decimals as numbers."""
    return _ENCODER.encode(body)


def decode(raw: str | bytes) -> Any:
    """Return what JSON says, numbers with a point as exact decimals.

    Raises
    ------
    Unreadable
        If it is no JSON.
    """
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def frame(raw: str | bytes) -> Frame:
    """Return a socket's message.

    Raises
    ------
    Unreadable
        If it is no JSON object with a topic or an error.
    """
    body = decode(raw)
    if not isinstance(body, dict):
        raise Unreadable("a frame that is no object")
    topic = body.get("topic", next((word for word in ("error", "message") if word in body), None))
    if not isinstance(topic, str):
        raise Unreadable("a frame without a topic")
    return Frame(topic, body)


def rows(value: Any) -> list[dict[str, Any]]:
    """Return a list of rows.

    Raises
    ------
    Unreadable
        If it is anything else.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Unreadable(f"rows were expected, not {str(value)[:80]}")
    return value


def number(value: Any) -> Decimal | None:
    """Return a number, written as one or as text with thousands separators; None where there is none.

    Raises
    ------
    Unreadable
        If it is neither a finite number nor empty.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool):
            raise InvalidOperation
        found = Decimal(value.replace(",", "").strip()) if isinstance(value, str) else Decimal(value)
    except (InvalidOperation, ValueError, TypeError):
        raise Unreadable(f"{str(value)[:40]!r} is no number") from None
    if not found.is_finite():
        raise Unreadable(f"{value} is no number")
    whole_part = found.to_integral_value()
    return whole_part if found == whole_part else found


def whole(value: Any) -> int:
    """Return an id, written as a number or as text; 0 where there is none.

    Raises
    ------
    Unreadable
        If it is no whole number.
    """
    found = number(value)
    if found is None:
        return 0
    if found != found.to_integral_value() or abs(found) >= 10**18:
        raise Unreadable(f"{value} is no whole number")
    return int(found)


def side(value: Any) -> Side | None:
    """Return a side, whichever way it is written; None where it is not told."""
    return SIDES.get(value.upper()) if isinstance(value, str) else None


def text(value: Any) -> str:
    """Return words without markup; a list's items one after the other."""
    if isinstance(value, list):
        return " ".join(text(item) for item in value)
    return " ".join(_TAGS.sub(" ", value).split()) if isinstance(value, str) else "" if value is None else str(value)


def error_of(answer: Any) -> str:
    """Return the error an answer carries, also one with the status 200; "" where there is none."""
    if isinstance(answer, dict) and answer.get("error"):
        return text(answer["error"])
    return ""


def moment(row: dict[str, Any], ms_key: str, text_key: str = "") -> int:
    """Return when a row says it happened, ns UTC; 0 where it does not."""
    ms = row.get(ms_key)
    if isinstance(ms, (int, Decimal)) and not isinstance(ms, bool) and 0 < ms < 10**14:
        return int(ms) * MS
    words = row.get(text_key) if text_key else None
    if isinstance(words, str):
        try:
            return int(datetime.strptime(words, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC).timestamp()) * 10**9
        except ValueError:
            return 0
    return 0


def execution(row: dict[str, Any]) -> Execution:
    """Return an execution's row.

    Raises
    ------
    Unreadable
        If it lacks an id, a side, a size or a price, or one of them is no such thing.
    """
    exec_id = row.get("execution_id")
    which, qty, price = side(row.get("side")), number(row.get("size")), number(row.get("price"))
    if not isinstance(exec_id, str) or not exec_id:
        raise Unreadable("an execution without an id")
    parts = _EXEC_ID.fullmatch(exec_id)
    revision = int(parts["revision"]) if parts else 1
    if which is None or qty is None or qty < 0 or (qty == 0 and revision == 1) or price is None:
        raise Unreadable(
            f"execution {exec_id}: side {row.get('side')}, size {row.get('size')}, price {row.get('price')}"
        )
    commission = number(row.get("commission"))
    return Execution(
        exec_id=exec_id,
        base=parts["base"] if parts else exec_id,
        revision=revision,
        ts=moment(row, "trade_time_r", "trade_time"),
        broker_id=whole(row.get("order_id")),
        order_ref=str(row.get("order_ref") or ""),
        conid=whole(row.get("conid")),
        conidex=str(row.get("conidEx") or row.get("conidex") or ""),
        symbol=str(row.get("symbol") or ""),
        sec_type=str(row.get("sec_type") or ""),
        side=which,
        qty=qty,
        price=price,
        commission=commission if commission is not None and abs(commission) < NO_FEE else None,
    )


def excerpt(raw: str | bytes) -> str:
    """Return the beginning of a frame as text, to be kept."""
    return (raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace"))[:RAW_BYTES]
