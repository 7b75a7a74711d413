"""What Alpaca tells when asked: lists of orders and activities with their filters, the market's hours, assets, options."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from northstar_core.model.execution import AccountActivity, ActivityKind
from northstar_core.model.instrument import Option, Right, instrument
from northstar_core.model.tape import Session
from northstar_core.twins.alpaca.book import Book, activity_id
from northstar_core.twins.alpaca.checks import NOT_FOUND, Refusal, bad
from northstar_core.twins.alpaca.order import (
    NEW_YORK,
    AlpacaOrder,
    asset_class,
    asset_id,
    at_new_york,
    made_id,
    number,
    parse_time,
)
from northstar_core.twins.market import TwinMarket

Page = dict[str, Any]
Query = Mapping[str, str]
MOST_ORDERS, MOST_ACTIVITIES, MOST_CONTRACTS = 500, 100, 10_000
AFTER_HOURS = dt.timedelta(hours=4)
KINDS = {
    ActivityKind.SPLIT: "SPLIT",
    ActivityKind.DIVIDEND: "DIV",
    ActivityKind.EXPIRATION: "OPEXP",
    ActivityKind.EXERCISE: "OPEXC",
    ActivityKind.ASSIGNMENT: "OPASN",
    ActivityKind.DELIVERY: "OPTRD",
    ActivityKind.FEE: "FEE",
    ActivityKind.INTEREST: "INT",
}


def whole(query: Query, name: str, default: int, most: int) -> int:
    """Return a number of a query, at most ``most``."""
    text = query.get(name) or str(default)
    if not text.isdigit() or not int(text):
        raise bad(f"{name} is invalid")
    return min(int(text), most)


def moment(query: Query, name: str) -> int | None:
    """Return a time of a query, ns UTC."""
    text = query.get(name)
    try:
        return parse_time(text) if text else None
    except ValueError:
        raise bad(f"{name} is invalid") from None


def flag(query: Query, name: str) -> bool:
    """Return a yes or no of a query."""
    return query.get(name, "").lower() in ("true", "1")


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def orders_page(book: Book, query: Query) -> list[Page]:
    """Return ``GET /v2/orders``."""
    status = query.get("status") or "open"
    if status not in ("open", "closed", "all"):
        raise bad("invalid status")
    direction = query.get("direction") or "desc"
    if direction not in ("asc", "desc"):
        raise bad("invalid direction")
    nested = flag(query, "nested")
    after, until = moment(query, "after"), moment(query, "until")
    if query.get("after_order_id"):
        after = book.find(query["after_order_id"]).submitted_at
    if query.get("before_order_id"):
        until = book.find(query["before_order_id"]).submitted_at
    symbols = set(filter(None, (query.get("symbols") or "").split(",")))
    kinds = set(filter(None, (query.get("asset_class") or "").split(",")))

    def wanted(order: AlpacaOrder) -> bool:
        legs = [order, *order.legs]
        return (
            (order.parent is None or not nested)
            and (status == "all" or order.open is (status == "open"))
            and (after is None or order.submitted_at > after)
            and (until is None or order.submitted_at < until)
            and (not symbols or any(own.symbol in symbols for own in legs))
            and (not query.get("side") or order.side == query["side"])
            and (not kinds or "all" in kinds or any(own.symbol and asset_class(own.symbol) in kinds for own in legs))
        )

    limit = whole(query, "limit", 50, MOST_ORDERS)
    found = []
    everything = list(book.orders.values())  # as submitted: no two at one time
    for order in everything if direction == "asc" else reversed(everything):
        if wanted(order):
            found.append(order)
            if len(found) == limit:
                break
    return [order.page(nested=nested or order.order_class == "mleg") for order in found]


# ── activities ────────────────────────────────────────────────────────────────────────────────────────────────────────


def activities_page(book: Book, query: Query, kinds: set[str]) -> list[Page]:
    """Return ``GET /v2/account/activities``, of these types (empty: all)."""
    direction = query.get("direction") or "desc"
    if direction not in ("asc", "desc"):
        raise bad("invalid direction")
    size = whole(query, "page_size", MOST_ACTIVITIES, MOST_ACTIVITIES)
    after, until = moment(query, "after"), moment(query, "until")
    if query.get("date"):
        day = moment({"date": query["date"][:10]}, "date")
        assert day is not None
        after, until = day - 1, day + 86_400 * 10**9
    rows = book.fills if not kinds or "FILL" in kinds else []
    made = (activity_row(activity) for activity in book.activities)
    others = [entry for entry in made if entry and (not kinds or entry[1]["activity_type"] in kinds)]
    if others:
        rows = sorted([*rows, *others], key=lambda entry: entry[0])
    # Ids begin with the time, so paging by id is paging by time.
    token, order_id = query.get("page_token"), query.get("order_id")
    out = []
    for row_id, row in rows if direction == "asc" else reversed(rows):
        if token and (row_id <= token if direction == "asc" else row_id >= token):
            continue
        ts = parse_time(row["transaction_time"]) if "transaction_time" in row else parse_time(row["date"])
        if (after is not None and ts <= after) or (until is not None and ts >= until):
            continue
        if order_id and row.get("order_id") != order_id:
            continue
        out.append(row)
        if len(out) == size:
            break
    return out


def activity_row(activity: AccountActivity) -> tuple[str, Page] | None:
    """Return the row of a change that no order made."""
    kind = KINDS.get(activity.kind)
    if kind is None:
        return None
    row_id = activity_id(activity.ts, activity.record_id)
    row = {
        "id": row_id,
        "account_id": made_id("account", activity.account),
        "activity_type": kind,
        "date": at_new_york(activity.ts)[:10],
        "net_amount": number(activity.cash),
        "description": activity.text,
        "symbol": activity.symbol,
        "qty": number(activity.qty),
        "price": number(activity.price),
        "status": "executed",
    }
    return row_id, row


# ── the market ────────────────────────────────────────────────────────────────────────────────────────────────────────


def clock_page(market: TwinMarket) -> Page:
    """Return ``GET /v2/clock``."""
    now = market.now()
    session = market.session_at(now)
    following = market.next_session(now) or _invented(now)
    closing = session or following
    return {
        "timestamp": at_new_york(now),
        "is_open": session is not None,
        "next_open": at_new_york(following.open),
        "next_close": at_new_york(closing.close),
    }


def _invented(now: int) -> Session:
    """Return the next weekday's usual session, for times after the data's last one."""
    local = dt.datetime.fromtimestamp(now // 10**9, NEW_YORK)
    day = local.date()
    if local.time() >= dt.time(9, 30):
        day += dt.timedelta(days=1)
    while day.weekday() >= 5:
        day += dt.timedelta(days=1)
    opens, closes = (dt.datetime.combine(day, dt.time(*at), NEW_YORK) for at in ((9, 30), (16, 0)))
    return Session(day, int(opens.timestamp()) * 10**9, int(closes.timestamp()) * 10**9)


def calendar_page(market: TwinMarket, query: Query) -> list[Page]:
    """Return ``GET /v2/calendar``: the sessions of the data."""
    first, last = query.get("start") or "", query.get("end") or "9999"
    out = []
    for session in market.sessions:
        day = session.label.isoformat()
        if not first[:10] <= day <= last[:10]:
            continue
        opens, closes = (dt.datetime.fromtimestamp(ts // 10**9, NEW_YORK) for ts in (session.open, session.close))
        settles = next((s.label for s in market.sessions if s.label > session.label), session.label)
        out.append(
            {
                "date": day,
                "open": f"{opens:%H:%M}",
                "close": f"{closes:%H:%M}",
                "session_open": "0400",
                "session_close": f"{closes + AFTER_HOURS:%H%M}",
                "settlement_date": settles.isoformat(),
            }
        )
    return out


def assets_page(market: TwinMarket, query: Query) -> list[Page]:
    """Return ``GET /v2/assets``."""
    kinds = query.get("asset_class")
    if (kinds and kinds != "us_equity") or query.get("status", "active") not in ("active", ""):
        return []
    return [asset_row(symbol) for symbol in market.symbols if asset_class(symbol) == "us_equity"]


def asset_page(market: TwinMarket, key: str) -> Page:
    """Return ``GET /v2/assets/{symbol or id}``."""
    for symbol in market.symbols:
        if asset_class(symbol) == "us_equity" and key in (symbol, asset_id(symbol)):
            return asset_row(symbol)
    raise Refusal(404, NOT_FOUND, f"asset not found for {key}")


def asset_row(symbol: str) -> Page:
    """Return a stock as Alpaca lists it."""
    return {
        "id": asset_id(symbol),
        "class": "us_equity",
        "exchange": "NASDAQ",
        "symbol": symbol,
        "name": f"{symbol} Common Stock",
        "status": "active",
        "tradable": True,
        "marginable": True,
        "maintenance_margin_requirement": 30,
        "shortable": True,
        "easy_to_borrow": True,
        "borrow_status": "easy_to_borrow",
        "fractionable": True,
        "attributes": ["has_options"],
    }


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def contracts_page(market: TwinMarket, query: Query) -> Page:
    """Return ``GET /v2/options/contracts``."""
    now = dt.datetime.fromtimestamp(market.now() // 10**9, NEW_YORK).date()
    names = set(filter(None, (query.get("underlying_symbols") or "").split(",")))
    exactly, first, last = (_day(query, f"expiration_date{end}") for end in ("", "_gte", "_lte"))
    if exactly is None and last is None:
        last = now + dt.timedelta(days=(5 - now.weekday()) % 7 + (7 if now.weekday() >= 5 else 0))  # the next weekend
    low, high = (_strike(query, f"strike_price_{end}") for end in ("gte", "lte"))
    wanted_right = {"call": Right.CALL, "put": Right.PUT}.get(query.get("type") or "")
    found = [
        option for option in (instrument(symbol) for symbol in market.symbols)
        if isinstance(option, Option)
        and (not names or option.underlying in names)
        and (not query.get("root_symbol") or option.underlying == query["root_symbol"])
        and (exactly is None or option.expiry == exactly)
        and (first or now) <= option.expiry
        and (last is None or option.expiry <= last)
        and (low is None or option.strike >= low)
        and (high is None or option.strike <= high)
        and (wanted_right is None or option.right is wanted_right)
    ]  # fmt: skip
    found.sort(key=lambda option: option.symbol)
    begin = int(query["page_token"]) if (query.get("page_token") or "").isdigit() else 0
    end = begin + whole(query, "limit", 100, MOST_CONTRACTS)
    return {
        "option_contracts": [contract_row(option) for option in found[begin:end]],
        "next_page_token": str(end) if end < len(found) else None,
    }


def contract_page(market: TwinMarket, key: str) -> Page:
    """Return ``GET /v2/options/contracts/{symbol or id}``."""
    for symbol in market.symbols:
        if asset_class(symbol) == "us_option" and key in (symbol, asset_id(symbol)):
            option = instrument(symbol)
            assert isinstance(option, Option)
            return contract_row(option)
    raise Refusal(404, NOT_FOUND, f"option contract not found for {key}")


def contract_row(option: Option) -> Page:
    """Return an option as Alpaca lists it."""
    kind = "call" if option.right is Right.CALL else "put"
    strike = number(option.strike)
    return {
        "id": asset_id(option.symbol),
        "symbol": option.symbol,
        "name": f"{option.underlying} {option.expiry:%b %d %Y} {strike} {kind.capitalize()}",
        "status": "active",
        "tradable": True,
        "expiration_date": option.expiry.isoformat(),
        "root_symbol": option.underlying,
        "underlying_symbol": option.underlying,
        "underlying_asset_id": asset_id(option.underlying),
        "type": kind,
        "style": "american" if option.american else "european",
        "strike_price": strike,
        "multiplier": str(option.multiplier),
        "size": str(option.multiplier),
        "open_interest": None,
        "open_interest_date": None,
        "close_price": None,
        "close_price_date": None,
        "ppind": True,
    }


def _day(query: Query, name: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(query[name][:10]) if query.get(name) else None
    except ValueError:
        raise bad(f"{name} is invalid") from None


def _strike(query: Query, name: str) -> Decimal | None:
    try:
        return Decimal(query[name]) if query.get(name) else None
    except ArithmeticError:
        raise bad(f"{name} is invalid") from None
