"""Options over REST: contracts, and snapshots of a whole chain with implied volatility and Greeks from the quotes in force."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from aiohttp import web

from northstar_core.model.greeks import greeks, implied_volatility
from northstar_core.model.instrument import Option, Right, instrument
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.massive import rest
from northstar_core.twins.massive.aggs import Aggregates
from northstar_core.twins.massive.messages import (
    SECOND_NS,
    new_york_date,
    new_york_midnight,
    symbol_of,
    ticker_of,
    whole,
)

RATE = 0.04
EXPIRY_HOUR_NS = 16 * 3600 * SECOND_NS
YEAR_NS = 365 * 86_400 * SECOND_NS
CONTRACTS = (10, 1000)  #: page sizes: default, largest
CHAIN = (10, 250)


class Options:
    """The routes ``/v3/reference/options`` and ``/v3/snapshot/options``."""

    def __init__(self, market: TwinMarket, aggregates: Aggregates) -> None:
        self._market, self._aggregates = market, aggregates

    def routes(self) -> list[web.RouteDef]:
        """Return them; a route's name is its place for faults."""
        return [
            web.get("/v3/reference/options/contracts", self.contracts, name="contracts"),
            web.get("/v3/reference/options/contracts/{ticker}", self.contract, name="contract"),
            web.get("/v3/snapshot/options/{underlying}", self.chain, name="chain"),
            web.get("/v3/snapshot/options/{underlying}/{ticker}", self.snapshot, name="option_snapshot"),
        ]

    async def contracts(self, request: web.Request) -> web.Response:
        """Contracts by underlying, type, expiry and strike; ``expired`` ones only when asked for, as of a day."""
        request = rest.resumed(request)
        limit = rest.limit_of(request, *CONTRACTS)
        asked = request.query
        day = rest.date_of(asked["as_of"]) if "as_of" in asked else new_york_date(self._market.now())
        expired = asked.get("expired", "false") == "true"
        rows = [
            row for option in self._options() if (option.expiry < day) == expired
            for row in [_contract(option)] if _passes(request, row)
        ]  # fmt: skip
        field = asked.get("sort", "ticker")
        if rows and field not in rows[0]:
            raise rest.BadRequest(f"sort is not a field: {field}")
        rows.sort(key=lambda row: (row[field], row["ticker"]), reverse=asked.get("order", "asc") == "desc")
        part, more = rest.page(request, rows, limit)
        return rest.ok(list(part), **more)

    async def contract(self, request: web.Request) -> web.Response:
        """One contract."""
        option = self._option(request.match_info["ticker"])
        return rest.error(404, "Contract not found") if option is None else rest.ok(_contract(option))

    async def chain(self, request: web.Request) -> web.Response:
        """Snapshots of an underlying's contracts that have not expired."""
        request = rest.resumed(request)
        limit = rest.limit_of(request, *CHAIN)
        today = new_york_date(self._market.now())
        options = [
            option for option in self._market.chain(request.match_info["underlying"])
            if option.expiry >= today and _passes(request, _contract(option))
        ]  # fmt: skip
        options.sort(key=lambda option: ticker_of(option.symbol), reverse=request.query.get("order", "asc") == "desc")
        part, more = rest.page(request, options, limit)
        return rest.ok([self._snapshot(option) for option in part], **more)

    async def snapshot(self, request: web.Request) -> web.Response:
        """One contract's snapshot."""
        option = self._option(request.match_info["ticker"])
        if option is None or option.underlying != request.match_info["underlying"]:
            return rest.error(404, "Options contract not found.")
        return rest.ok(self._snapshot(option))

    def _options(self) -> list[Option]:
        return [option for symbol in self._market.symbols if type(option := instrument(symbol)) is Option]

    def _option(self, ticker: str) -> Option | None:
        symbol = symbol_of(ticker)
        found = instrument(symbol) if symbol in self._market.symbols else None
        return found if type(found) is Option else None

    def _snapshot(self, option: Option) -> rest.Row:
        state, now = self._market.last(option.symbol), self._market.now()
        spot_state = self._market.last(option.underlying)
        spot = spot_state.price if spot_state is not None else 0.0
        asset: rest.Row = {"ticker": option.underlying}
        made: rest.Row = {
            "day": {}, "details": {k: v for k, v in _contract(option).items() if k in _DETAILS}, "greeks": {},
            "open_interest": 0, "underlying_asset": asset,
        }  # fmt: skip
        if spot:
            asset |= {"price": spot, "last_updated": now, "timeframe": "REAL-TIME"}
        day = self._aggregates.day(option.symbol, new_york_date(now))
        if day is not None:
            made["day"] = {
                "open": day.open, "high": day.high, "low": day.low, "close": day.close, "volume": whole(day.volume),
                "last_updated": day.ts,
            }  # fmt: skip
        if state is None:
            return made
        if state.trade is not None:
            made["last_trade"] = {
                "price": state.trade.price, "size": int(state.trade.size), "sip_timestamp": state.trade.ts,
                "conditions": [209], "exchange": 322, "timeframe": "REAL-TIME",
            }  # fmt: skip
        quote = state.quote
        if quote is not None:
            made["last_quote"] = {
                "ask": quote.ask, "ask_size": whole(quote.ask_size), "bid": quote.bid, "bid_size": whole(quote.bid_size),
                "midpoint": quote.price, "last_updated": quote.ts, "timeframe": "REAL-TIME",
            }  # fmt: skip
        self._value(option, state.price, spot, now, made)
        return made

    def _value(self, option: Option, price: float, spot: float, now: int, made: rest.Row) -> None:
        """Add the break-even price and, where a volatility explains the price, it and the Greeks."""
        strike = float(option.strike)
        if price:
            made["break_even_price"] = round(strike + (price if option.right is Right.CALL else -price), 4)
        years = (new_york_midnight(option.expiry) + EXPIRY_HOUR_NS - now) / YEAR_NS
        if price <= 0 or spot <= 0 or years <= 0:
            return
        vol = implied_volatility(price, spot, strike, years, RATE, option.right)
        if vol is None:
            return
        made["implied_volatility"] = vol
        found = greeks(spot, strike, years, RATE, vol, option.right)
        made["greeks"] = {
            "delta": found.delta, "gamma": found.gamma, "theta": found.theta_per_day, "vega": found.vega_per_point,
        }  # fmt: skip


_FILTERS = ("ticker", "underlying_ticker", "contract_type", "expiration_date", "strike_price")
_DETAILS = ("contract_type", "exercise_style", "expiration_date", "shares_per_contract", "strike_price", "ticker")


def _passes(request: web.Request, row: rest.Row) -> bool:
    return all(rest.wanted(request, field, row[field]) for field in _FILTERS)


def _contract(option: Option) -> rest.Row:
    return {
        "cfi": ("OC" if option.right is Right.CALL else "OP") + "ASPS",
        "contract_type": "call" if option.right is Right.CALL else "put",
        "exercise_style": "american" if option.american else "european",
        "expiration_date": _iso(option.expiry),
        "primary_exchange": "BATO",
        "shares_per_contract": option.multiplier,
        "strike_price": _number(option.strike),
        "ticker": ticker_of(option.symbol),
        "underlying_ticker": option.underlying,
    }


def _iso(day: date) -> str:
    return day.isoformat()


def _number(value: Decimal) -> int | float:
    return whole(float(value))
