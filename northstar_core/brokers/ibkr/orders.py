"""Orders as the Client Portal wants them, and what its answers to them mean: accepted, a question, refused, or nothing known.

Answers to an order come with the status 200 whether it was accepted, questioned or refused. A question must be confirmed before anything
is placed, and may be followed by another. Only questions on an allow-list are confirmed; one that is not answered places nothing.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.ibkr.wire import Unreadable, decode, error_of, text, whole
from northstar_core.model.instrument import Combo, instrument
from northstar_core.model.order import OrderType, PlaceOrder, TimeInForce
from northstar_core.model.order_ids import client_order_id

#: Questions confirmed unless the settings say otherwise: limit far from the market, no market data, risk of a market order, of a stop
#: order, mandatory cap price. Prices and sizes were checked before the order left.
CONFIRM = ("o163", "o354", "o10151", "o10152", "o10153")
LONGEST_CHAIN = 8  #: questions asked about one order

USD_SPREAD = 28812380  #: the contract under which combos in US dollars are quoted

_TYPES = {
    OrderType.MARKET: "MKT",
    OrderType.LIMIT: "LMT",
    OrderType.STOP: "STP",
    OrderType.STOP_LIMIT: "STOP_LIMIT",
}
_TIFS = {TimeInForce.DAY: "DAY", TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.OPG: "OPG"}
_AT_CLOSE = {OrderType.MARKET: "MOC", OrderType.LIMIT: "LOC"}

#: An id is unique for a day: being told that it is taken is evidence that the order exists.
_TAKEN = re.compile(r"already registered", re.IGNORECASE)
#: The question was dropped by another order request of the same login: it was not confirmed, so nothing was placed.
_DROPPED = re.compile(r"reply id .*not found", re.IGNORECASE)
#: Words of a gateway that gave up waiting, with the status 200: they say nothing about the order.
_GAVE_UP = re.compile(r"tim(e|ed)[ -]?out|not ready|unavailable|no response|try again", re.IGNORECASE)


class Terms(msgspec.Struct, frozen=True):
    """What of an order a replace may change."""

    qty: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None


class Accepted(msgspec.Struct, frozen=True):
    """The broker has the order."""

    broker_id: int
    status: str
    text: str = ""


class Question(msgspec.Struct, frozen=True):
    """Nothing is placed unless this is confirmed."""

    reply_id: str
    message_ids: tuple[str, ...]
    text: str


class Refused(msgspec.Struct, frozen=True):
    """The broker's own no: nothing was done."""

    text: str


class Unclear(msgspec.Struct, frozen=True):
    """It may have been done or not."""

    text: str


Answer = Accepted | Question | Refused | Unclear


def terms_of(order: PlaceOrder) -> Terms:
    """Return the terms an order was first sent with."""
    return Terms(order.qty, order.limit_price, order.stop_price)


def unsupported(order: PlaceOrder) -> str:
    """Return why the wire cannot carry an order, or nothing: such an order never leaves."""
    if order.tif is TimeInForce.FOK:
        return "FOK: the Client Portal has no such time in force; use IOC"
    if order.tif is TimeInForce.CLS and order.order_type not in _AT_CLOSE:
        return f"CLS {order.order_type}: the closing auction takes market and limit orders"
    if isinstance(instrument(order.symbol), Combo) and order.order_type not in (OrderType.MARKET, OrderType.LIMIT):
        return f"{order.order_type}: a combo is a market or limit order"
    return ""


def conidex(symbol: str, conids: dict[str, int]) -> str:
    """Return a combo's contract: the spread, then each leg's contract with its signed ratio."""
    legs = instrument(symbol).legs
    return f"{USD_SPREAD};;;" + ",".join(f"{conids[leg.instrument.symbol]}/{leg.ratio}" for leg in legs)


def body(order: PlaceOrder, terms: Terms, account_id: str, conids: dict[str, int], *, first: bool) -> dict[str, Any]:
    """Return an order's JSON object, complete.

    Parameters
    ----------
    conids
        Contract ids by symbol, of every leg.
    first
        Of a new order, which carries our id; a modification names the order in its path instead.
    """
    kind = _TYPES[order.order_type]
    if order.tif is TimeInForce.CLS:
        kind = _AT_CLOSE[order.order_type]
    out: dict[str, Any] = {"acctId": account_id}
    if "*" in order.symbol:
        out["conidex"] = conidex(order.symbol, conids)
    else:
        out["conid"] = conids[order.symbol]
    if first:
        out["cOID"] = client_order_id(order.order_id)
    out |= {
        "orderType": kind,
        "side": order.side.value,
        "quantity": terms.qty,
        "tif": _TIFS.get(order.tif, "DAY"),
        "outsideRTH": False,
    }
    if order.order_type is OrderType.STOP:
        out["price"] = out["auxPrice"] = terms.stop_price  # the manual's field is price; older gateways read auxPrice
    elif order.order_type is not OrderType.MARKET:
        out["price"] = terms.limit_price
        if order.order_type is OrderType.STOP_LIMIT:
            out["auxPrice"] = terms.stop_price
    return out


def answer(status: int, raw: str | bytes) -> Answer:
    """Return what the answer to an order, a modification or a reply means."""
    try:
        said = decode(raw)
    except Unreadable as error:
        said = None
        if status < 400:
            return Unclear(f"an answer that cannot be read: {error}")
    words = error_of(said)
    if _DROPPED.search(words):
        return Refused(f"nothing was placed: {words}")
    if status >= 500 or 300 <= status < 400 or status == 408:
        return Unclear(f"status {status}: {words or 'no answer'}")
    if status >= 400:
        return Unclear(words) if _TAKEN.search(words) else Refused(words or _refusal(status))
    if words:
        return Unclear(words) if _TAKEN.search(words) or _GAVE_UP.search(words) else Refused(words)
    items = said if isinstance(said, list) else [said]
    try:
        return _one(items)
    except Unreadable as error:
        return Unclear(f"an answer that cannot be read: {error}")


def _refusal(status: int) -> str:
    return {401: "401: not logged in", 403: "403: not allowed", 429: "429: too many requests"}.get(
        status, f"status {status}"
    )


def _one(items: list[Any]) -> Answer:
    for item in items:
        if not isinstance(item, dict):
            raise Unreadable(f"an order or a question was expected, not {str(item)[:80]}")
        if words := error_of(item):
            return Unclear(words) if _TAKEN.search(words) or _GAVE_UP.search(words) else Refused(words)
        if item.get("order_id") not in (None, ""):
            return Accepted(whole(item["order_id"]), str(item.get("order_status") or ""), text(item.get("text") or ""))
        if isinstance(item.get("id"), str) and "message" in item:
            ids = item.get("messageIds") or ()
            return Question(
                item["id"], tuple(str(one) for one in ids) if isinstance(ids, list) else (), text(item["message"])
            )
    raise Unreadable("neither an order nor a question")


def cancel_answer(status: int, raw: str | bytes) -> Accepted | Refused | Unclear:
    """Return what the answer to a cancel means; accepted is an intent only, the order's row tells what came of it."""
    try:
        said = decode(raw)
    except Unreadable as error:
        return (
            Refused(_refusal(status)) if 400 <= status < 500 and status != 408 else Unclear(f"status {status}: {error}")
        )
    words = error_of(said)
    if status >= 500 or 300 <= status < 400 or status == 408:
        return Unclear(f"status {status}: {words or 'no answer'}")
    if status >= 400:
        return Refused(words or _refusal(status))
    if words:
        return Unclear(words) if _GAVE_UP.search(words) else Refused(words)
    if isinstance(said, dict) and ("msg" in said or "order_id" in said):
        return Accepted(0, "", text(said.get("msg")))
    return Unclear(f"an answer that cannot be read: {str(said)[:80]}")


def may_confirm(question: Question, allowed: tuple[str, ...] | frozenset[str]) -> bool:
    """Whether every message of a question is on the list; one without an id is on no list."""
    return bool(question.message_ids) and all(one in allowed for one in question.message_ids)
