"""What Alpaca's door refuses by the order alone: bodies, prices, hours, kinds. Codes and wording as documented or seen."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation
from math import gcd
from typing import Any

import msgspec

from northstar_core.twins.alpaca.order import NEW_YORK, asset_class
from northstar_core.twins.market import TwinMarket

TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "opg", "cls", "ioc", "fok")
CLASSES = ("", "simple", "bracket", "oco", "oto", "mleg")
INTENTS = {"buy_to_open": "buy", "buy_to_close": "buy", "sell_to_open": "sell", "sell_to_close": "sell"}
LONGEST_ID = 128

BAD_PARAMETER, NOT_ALLOWED, NOT_FOUND, UNPROCESSABLE = 40010001, 40310000, 40410000, 42210000


class Refusal(Exception):
    """A definite no, with its status, code and words."""

    def __init__(self, status: int, code: int, message: str, **extra: Any) -> None:
        self.status, self.body = status, {"code": code, "message": message, **extra}
        super().__init__(message)


def bad(message: str) -> Refusal:
    """Return the refusal of a parameter."""
    return Refusal(422, BAD_PARAMETER, message)


def unprocessable(message: str) -> Refusal:
    """Return the refusal of something that is well said but cannot be."""
    return Refusal(422, UNPROCESSABLE, message)


class LegRequest(msgspec.Struct, frozen=True):
    """One leg of an order for several."""

    symbol: str
    ratio: int  #: negative when sold
    intent: str | None


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A body that makes sense."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    order_class: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    extended_hours: bool
    client_order_id: str | None
    position_intent: str | None
    take_profit: Decimal | None
    stop_loss: Decimal | None
    stop_loss_limit: Decimal | None
    legs: tuple[LegRequest, ...]


def decimal(body: dict[str, Any], name: str) -> Decimal | None:
    """Return a number of the body, given as string or number."""
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise bad(f"{name} is invalid") from None
    if isinstance(value, bool) or not found.is_finite():
        raise bad(f"{name} is invalid")
    return found


def one_of(body: dict[str, Any], name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    """Return a word of the body."""
    value = body.get(name, default)
    if value is None:
        value = default
    if value is None:
        raise bad(f"{name} is required")
    if value not in allowed:
        raise bad(f"invalid {name}")
    return str(value)


def parse_order(body: Any, market: TwinMarket) -> OrderRequest:
    """Return the order a body asks for.

    Raises
    ------
    Refusal
        If it could not be one at any time or price.
    """
    if not isinstance(body, dict):
        raise Refusal(400, 40010000, "request body format is invalid")
    kind = one_of(body, "type", TYPES)
    tif = one_of(body, "time_in_force", TIMES_IN_FORCE)
    group = one_of(body, "order_class", CLASSES, "")
    intent = body.get("position_intent")
    side = body.get("side") or INTENTS.get(str(intent), "")
    several = group == "mleg"
    symbol = str(body.get("symbol") or "")
    client_id = body.get("client_order_id") or None
    if client_id is not None and (not isinstance(client_id, str) or len(client_id) > LONGEST_ID):
        raise bad(f"client_order_id must be no more than {LONGEST_ID} characters")
    if intent is not None and INTENTS.get(str(intent)) != side:
        raise bad("position_intent does not match side")
    if several and (symbol or side):
        raise bad("mleg orders take symbol and side on their legs only")
    if not several and side not in ("buy", "sell"):
        raise bad("side is required" if not side else "invalid side")
    if not several and not symbol:
        raise bad("symbol is required")
    profit, loss = body.get("take_profit") or {}, body.get("stop_loss") or {}
    if not isinstance(profit, dict) or not isinstance(loss, dict):
        raise bad("take_profit and stop_loss are objects")
    request = OrderRequest(
        symbol=symbol,
        side=side,
        type=kind,
        time_in_force=tif,
        order_class=group,
        qty=decimal(body, "qty"),
        notional=decimal(body, "notional"),
        limit_price=decimal(body, "limit_price"),
        stop_price=decimal(body, "stop_price"),
        trail_price=decimal(body, "trail_price"),
        trail_percent=decimal(body, "trail_percent"),
        extended_hours=body.get("extended_hours") is True,
        client_order_id=client_id,
        position_intent=intent,
        take_profit=decimal(profit, "limit_price"),
        stop_loss=decimal(loss, "stop_price"),
        stop_loss_limit=decimal(loss, "limit_price"),
        legs=parse_legs(body.get("legs")) if several else (),
    )
    check_quantity(request)
    check_prices(request)
    check_kind(request)
    if several:
        check_known(market, *(leg.symbol for leg in request.legs))
    else:
        check_known(market, symbol)
        if asset_class(symbol) == "us_option":
            check_option(request)
    check_time(request, market.now())
    return request


def parse_legs(raw: Any) -> tuple[LegRequest, ...]:
    """Return the legs of a body."""
    if not isinstance(raw, list) or not 2 <= len(raw) <= 4:
        raise bad("mleg orders need two to four legs")
    legs = []
    for entry in raw:
        if not isinstance(entry, dict):
            raise bad("legs is invalid")
        ratio, intent = decimal(entry, "ratio_qty"), entry.get("position_intent")
        side = entry.get("side") or INTENTS.get(str(intent), "")
        if ratio is None or ratio <= 0 or ratio != int(ratio):
            raise bad("ratio_qty must be a whole number above zero")
        if side not in ("buy", "sell") or (intent is not None and INTENTS.get(str(intent)) != side):
            raise bad("leg side or position_intent is invalid")
        legs.append(LegRequest(str(entry.get("symbol") or ""), int(ratio) * (1 if side == "buy" else -1), intent))
    if len({leg.symbol for leg in legs}) != len(legs):
        raise bad("legs must have different symbols")
    if gcd(*(abs(leg.ratio) for leg in legs)) != 1:
        raise unprocessable("leg ratio quantities should be relatively prime")
    return tuple(legs)


def check_quantity(request: OrderRequest) -> None:
    """Refuse quantities that are none."""
    qty, notional = request.qty, request.notional
    if (qty is None) is (notional is None):
        raise bad("qty or notional is required" if qty is None else "only one of qty or notional is accepted")
    amount = qty if qty is not None else notional
    assert amount is not None
    if amount <= 0:
        raise bad(f"{'qty' if notional is None else 'notional'} must be > 0")
    if qty is None or qty != int(qty):
        if request.time_in_force != "day":
            raise unprocessable("fractional orders must be DAY orders")
        if request.order_class not in ("", "simple"):
            raise unprocessable("fractional orders must be simple orders")
        if request.type not in ("market", "limit"):
            raise unprocessable("fractional orders must be market or limit orders")


def check_prices(request: OrderRequest) -> None:
    """Refuse prices that are missing, superfluous or between ticks."""
    kind, group = request.type, request.order_class
    if kind in ("limit", "stop_limit") and request.limit_price is None and group != "oco":
        raise bad(f"{kind} orders require limit price")
    if kind in ("stop", "stop_limit") and request.stop_price is None:
        raise bad(f"{kind} orders require stop price")
    if kind in ("market", "stop", "trailing_stop") and request.limit_price is not None:
        raise bad(f"{kind} orders must not have limit price")
    if kind not in ("stop", "stop_limit") and request.stop_price is not None:
        raise bad(f"{kind} orders must not have stop price")
    if kind == "trailing_stop" and (request.trail_price is None) is (request.trail_percent is None):
        raise bad("trailing_stop orders require one of trail_price or trail_percent")
    for name in (
        "limit_price",
        "stop_price",
        "trail_price",
        "trail_percent",
        "take_profit",
        "stop_loss",
        "stop_loss_limit",
    ):
        value = getattr(request, name)
        if value is not None:
            check_price(name, value, credit=group == "mleg")


def check_price(name: str, value: Decimal, *, credit: bool = False) -> None:
    """Refuse a price at or below zero, or finer than two decimals (four below a dollar)."""
    if value <= 0 and not credit:
        raise bad(f"{name} must be > 0")
    if "percent" not in name and value != round(value, 2 if abs(value) >= 1 else 4):
        raise unprocessable(f"invalid {name} {value}. sub-penny increment does not fulfill minimum pricing criteria")


def check_kind(request: OrderRequest) -> None:
    """Refuse what the class or the hours of the order do not go with."""
    group, tif = request.order_class, request.time_in_force
    if request.extended_hours and (request.type != "limit" or tif not in ("day", "gtc")):
        raise unprocessable("extended hours order must be DAY or GTC limit orders")
    if tif in ("opg", "cls") and request.type not in ("market", "limit"):
        raise unprocessable(f"{tif} orders must be market or limit orders")
    if group == "mleg":
        if request.type not in ("market", "limit") or tif != "day":
            raise unprocessable("mleg orders must be DAY market or limit orders")
        return
    profit, loss = request.take_profit, request.stop_loss
    if group in ("bracket", "oco", "oto"):
        if tif not in ("day", "gtc"):
            raise unprocessable(f"{group} orders must be DAY or GTC orders")
        if group == "bracket" and (profit is None or loss is None):
            raise unprocessable("bracket orders require take_profit.limit_price and stop_loss.stop_price")
        if group == "oto" and (profit is None) is (loss is None):
            raise unprocessable("oto orders require one of take_profit or stop_loss")
        if group == "oco" and (request.type != "limit" or loss is None or (profit or request.limit_price) is None):
            raise unprocessable("oco orders must be limit orders with take_profit.limit_price and stop_loss.stop_price")
        target = profit or (request.limit_price if group == "oco" else None)
        exits_sell = (request.side == "buy") is not (group == "oco")
        if target is not None and loss is not None and (target <= loss if exits_sell else target >= loss):
            raise unprocessable("take_profit.limit_price must be beyond stop_loss.stop_price")
    elif profit is not None or loss is not None:
        raise unprocessable("take_profit and stop_loss need order_class bracket, oco or oto")


def check_option(request: OrderRequest) -> None:
    """Refuse what options are not traded with."""
    if request.qty is None or request.qty != int(request.qty):
        raise unprocessable("options orders must have a whole quantity")
    if request.time_in_force != "day":
        raise unprocessable("order_time_in_force provided not supported for options trading")
    if request.type not in ("market", "limit"):
        raise unprocessable("invalid order type for options trading")
    if request.extended_hours or request.order_class not in ("", "simple"):
        raise unprocessable("complex and extended hours orders not supported for options trading")


def check_known(market: TwinMarket, *symbols: str) -> None:
    """Refuse assets that are not there."""
    for symbol in symbols:
        if symbol not in market.symbols:
            raise unprocessable(f'asset "{symbol}" not found')


def check_time(request: OrderRequest, now: int) -> None:
    """Refuse orders for an auction whose time for orders is over; those for the next day come after seven in the evening."""
    local = dt.datetime.fromtimestamp(now // 10**9, NEW_YORK).time()
    if request.time_in_force == "opg" and dt.time(9, 28) <= local < dt.time(19):
        raise unprocessable("opg orders are not accepted between 9:28am and 7:00pm EST")
    if request.time_in_force == "cls" and dt.time(15, 50) <= local < dt.time(19):
        raise unprocessable("cls orders are not accepted between 3:50pm and 7:00pm EST")
