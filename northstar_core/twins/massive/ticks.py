"""Prints, quotes, the last of both, and snapshots of stocks over REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp import web

from northstar_core.model.market import Quote, Trade
from northstar_core.twins.market import DAY_NS, MINUTE_NS, TwinMarket
from northstar_core.twins.massive import rest
from northstar_core.twins.massive.aggs import Aggregates, row
from northstar_core.twins.massive.messages import (
    EXCHANGES,
    MS_NS,
    VOLUME_ONLY,
    new_york_date,
    symbol_of,
    ticker_of,
    whole,
)  # fmt: skip

DEFAULT_LIMIT, LARGEST_LIMIT = 1000, 50_000


class Ticks:
    """The routes ``/v3/trades``, ``/v3/quotes``, ``/v2/last`` and ``/v2/snapshot``."""

    def __init__(self, market: TwinMarket, aggregates: Aggregates, quote_lot: int) -> None:
        self._market, self._aggregates, self._quote_lot = market, aggregates, quote_lot

    def routes(self) -> list[web.RouteDef]:
        """Return them; a route's name is its place for faults."""
        snapshot = "/v2/snapshot/locale/us/markets/stocks/tickers"
        return [
            web.get("/v3/trades/{ticker}", self.trades, name="trades"),
            web.get("/v3/quotes/{ticker}", self.quotes, name="quotes"),
            web.get("/v2/last/trade/{ticker}", self.last_trade, name="last_trade"),
            web.get("/v2/last/nbbo/{ticker}", self.last_quote, name="last_quote"),
            web.get(snapshot, self.snapshots, name="snapshots"),
            web.get(snapshot + "/{ticker}", self.snapshot, name="snapshot"),
        ]

    async def trades(self, request: web.Request) -> web.Response:
        """Prints of a ticker, newest first unless asked otherwise."""
        return self._list(request, Trade)

    async def quotes(self, request: web.Request) -> web.Response:
        """Quotes of a ticker, newest first unless asked otherwise."""
        return self._list(request, Quote)

    def _list(self, request: web.Request, kind: type[Trade] | type[Quote]) -> web.Response:
        request = rest.resumed(request)
        limit = rest.limit_of(request, DEFAULT_LIMIT, LARGEST_LIMIT)
        first, last = rest.tick_span(request)
        now = self._market.now()
        first = first or now - DAY_NS  # without a lower bound the last day will do
        symbol = symbol_of(request.match_info["ticker"])
        found = [event for event in self._market.ticks(symbol, first - 1, min(last, now)) if type(event) is kind]
        if request.query.get("order", "desc") == "desc":
            found.reverse()
        part, more = rest.page(request, found, limit)
        return rest.ok([self._row(event) for event in part], **more)

    def _row(self, event: Any) -> rest.Row:
        ms = event.ts // MS_NS
        stock = ticker_of(event.symbol) == event.symbol
        common = {"participant_timestamp": event.ts, "sip_timestamp": event.ts, "sequence_number": ms % 86_400_000 * 100}
        if stock:
            common["tape"] = 3
        if type(event) is Trade:
            trade: rest.Row = {
                "exchange": EXCHANGES[ms % 3], "id": str(common["sequence_number"]), "price": event.price,
                "size": whole(event.size), **common,
            }  # fmt: skip
            return trade if event.forms_price else {"conditions": [VOLUME_ONLY], **trade}
        lot = self._quote_lot if stock else 1
        return {
            "ask_exchange": 12, "ask_price": event.ask, "ask_size": whole(event.ask_size / lot), "bid_exchange": 11,
            "bid_price": event.bid, "bid_size": whole(event.bid_size / lot), **common,
        }  # fmt: skip

    async def last_trade(self, request: web.Request) -> web.Response:
        """The last print that formed a price."""
        ticker = request.match_info["ticker"]
        state = self._market.last(symbol_of(ticker))
        if state is None or state.trade is None:
            return rest.error(404, "Not found.")
        return rest.ok(self._last_trade(state.trade))

    async def last_quote(self, request: web.Request) -> web.Response:
        """The quote in force."""
        ticker = request.match_info["ticker"]
        state = self._market.last(symbol_of(ticker))
        if state is None or state.quote is None:
            return rest.error(404, "Not found.")
        return rest.ok(self._last_quote(state.quote))

    def _last_trade(self, trade: Trade) -> rest.Row:
        ms = trade.ts // MS_NS
        number = ms % 86_400_000 * 100
        return {
            "T": ticker_of(trade.symbol), "f": trade.ts, "i": str(number), "p": trade.price, "q": number,
            "s": whole(trade.size), "t": trade.ts, "x": EXCHANGES[ms % 3], "y": trade.ts, "z": 3,
        }  # fmt: skip

    def _last_quote(self, quote: Quote) -> rest.Row:
        lot = self._quote_lot if ticker_of(quote.symbol) == quote.symbol else 1
        return {
            "T": ticker_of(quote.symbol), "P": quote.ask, "S": whole(quote.ask_size / lot), "X": 12, "p": quote.bid,
            "q": quote.ts // MS_NS % 86_400_000 * 100, "s": whole(quote.bid_size / lot), "t": quote.ts, "x": 11,
            "y": quote.ts, "z": 3,
        }  # fmt: skip

    async def snapshots(self, request: web.Request) -> web.Response:
        """Snapshots of all stocks, or of those in ``tickers``."""
        asked = [ticker for ticker in request.query.get("tickers", "").split(",") if ticker]
        symbols = asked or [symbol for symbol in self._market.symbols if ticker_of(symbol) == symbol]
        found = [made for symbol in symbols if (made := self._snapshot(symbol)) is not None]
        return rest.answer({"status": "OK", "request_id": rest.request_id(), "count": len(found), "tickers": found})

    async def snapshot(self, request: web.Request) -> web.Response:
        """A stock's day, minute, last print and quote."""
        made = self._snapshot(request.match_info["ticker"])
        if made is None:
            return rest.error(404, "NotFound")
        return rest.answer({"status": "OK", "request_id": rest.request_id(), "ticker": made})

    def _snapshot(self, symbol: str) -> rest.Row | None:
        state = self._market.last(symbol)
        if state is None:
            return None
        today = new_york_date(self._market.now())
        day = self._aggregates.day(symbol, today)
        before = next((b for n in range(1, 8) if (b := self._aggregates.day(symbol, today - timedelta(days=n)))), None)
        made: rest.Row = {"ticker": symbol, "updated": state.ts}
        if day is not None:
            made["day"] = row(day.start, day)
        if before is not None:
            made["prevDay"] = row(before.start, before)
            change = state.price - before.close
            made |= {"todaysChange": round(change, 4), "todaysChangePerc": round(100 * change / before.close, 4)}
        if state.bar is not None and state.bar.ts - state.bar.start == MINUTE_NS:
            made["min"] = {**row(state.bar.start, state.bar), "av": whole(day.volume) if day is not None else 0}
        if state.trade is not None:
            made["lastTrade"] = self._last_trade(state.trade)
        if state.quote is not None:
            made["lastQuote"] = self._last_quote(state.quote)
        return made
