"""Aggregates over REST: ranges, yesterday, a whole market's day, open and close. Minutes and longer from the bars that have happened."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import groupby

from aiohttp import web

from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar
from northstar_core.twins.market import DAY_NS, HOUR_NS, MINUTE_NS, TwinMarket
from northstar_core.twins.massive import rest
from northstar_core.twins.massive.messages import (
    MS_NS,
    SECOND_NS,
    average_price,
    new_york_date,
    new_york_midnight,
    symbol_of,
    ticker_of,
    transactions,
    whole,
)  # fmt: skip

LENGTHS = {"second": SECOND_NS, "minute": MINUTE_NS, "hour": HOUR_NS}  # the longer ones are dates in New York
CALENDAR = ("day", "week", "month", "quarter", "year")
DEFAULT_LIMIT, LARGEST_LIMIT = 5000, 50_000


class Aggregates:
    """The routes below ``/v2/aggs`` and ``/v1/open-close``."""

    def __init__(self, market: TwinMarket) -> None:
        self._market = market

    def routes(self) -> list[web.RouteDef]:
        """Return them; a route's name is its place for faults."""
        return [
            web.get("/v2/aggs/ticker/{ticker}/range/{n}/{span}/{first}/{last}", self.range, name="aggs"),
            web.get("/v2/aggs/ticker/{ticker}/prev", self.previous, name="prev"),
            web.get("/v2/aggs/grouped/locale/us/market/{market}/{date}", self.grouped, name="grouped"),
            web.get("/v1/open-close/{ticker}/{date}", self.open_close, name="open_close"),
        ]

    async def range(self, request: web.Request) -> web.Response:
        """Bars of a ticker; ``limit`` counts the bars they are made of, and a window is never cut by a page."""
        request = rest.resumed(request)
        asked = request.match_info
        ticker, span, number = asked["ticker"], asked["span"], asked["n"]
        if span not in LENGTHS and span not in CALENDAR:
            raise rest.BadRequest(f"The parameter 'timespan' is not known: {span}")
        if not number.isdigit() or int(number) < 1:
            raise rest.BadRequest(f"The parameter 'multiplier' must be a number above zero: {number}")
        multiplier, limit = int(number), rest.limit_of(request, DEFAULT_LIMIT, LARGEST_LIMIT)
        first, last = rest.aggregate_time(asked["first"], last=False), rest.aggregate_time(asked["last"], last=True)
        if last < first:
            raise rest.BadRequest("The parameter 'to' cannot be a time that occurs before 'from'")
        adjusted = request.query.get("adjusted", "true") != "false"
        base = self._base(symbol_of(ticker), SECOND_NS if span == "second" else MINUTE_NS, first, last, adjusted)
        groups = [(key, list(bars)) for key, bars in groupby(base, key=lambda bar: window(bar.start, multiplier, span))]
        if request.query.get("sort", "asc") == "desc":
            groups.reverse()
        begin = at = int(rest.cursor_of(request).get("at", 0))
        scanned = 0
        while at < len(groups) and (at == begin or scanned + len(groups[at][1]) <= limit):
            scanned += len(groups[at][1])
            at += 1
        results = [row(key, joined(bars)) for key, bars in groups[begin:at]]
        more = rest.next_url(request, at=at) if at < len(groups) else {}
        return rest.ok(
            results or None, ticker=ticker, queryCount=scanned, resultsCount=len(results), count=len(results),
            adjusted=adjusted, **more,
        )  # fmt: skip

    async def previous(self, request: web.Request) -> web.Response:
        """The last day before today that has bars."""
        ticker = request.match_info["ticker"]
        today = new_york_date(self._market.now())
        for back in range(1, 11):
            bar = self.day(symbol_of(ticker), today - timedelta(days=back))
            if bar is not None:
                return rest.ok(
                    [{"T": ticker, **row(bar.ts, bar)}], ticker=ticker, queryCount=1, resultsCount=1, adjusted=True, count=1
                )
        return rest.ok(ticker=ticker, queryCount=0, resultsCount=0, adjusted=True, count=0)

    async def grouped(self, request: web.Request) -> web.Response:
        """Every stock's bar of one day."""
        day = rest.date_of(request.match_info["date"])
        bars = [bar for symbol in self._market.symbols if _stock(symbol) and (bar := self.day(symbol, day)) is not None]
        results = [{"T": ticker_of(bar.symbol), **row(bar.ts, bar)} for bar in bars]
        return rest.ok(results or None, queryCount=len(bars), resultsCount=len(bars), count=len(bars), adjusted=True)

    async def open_close(self, request: web.Request) -> web.Response:
        """A ticker's regular day, and its first and last price outside of it."""
        ticker, day = request.match_info["ticker"], rest.date_of(request.match_info["date"])
        symbol, begin = symbol_of(ticker), new_york_midnight(day)
        bars = self._base(symbol, MINUTE_NS, begin, begin + DAY_NS - 1, adjusted=False)
        if not bars:
            return rest.error(404, "Data not found.")
        regular = [bar for bar in bars if self._market.session_at(bar.start) is not None] or bars
        whole_day = joined(regular)
        body = {
            "status": "OK", "from": day.isoformat(), "symbol": ticker, "open": whole_day.open, "high": whole_day.high,
            "low": whole_day.low, "close": whole_day.close, "volume": whole(sum(bar.volume for bar in bars)),
            "preMarket": bars[0].open, "afterHours": bars[-1].close,
        }  # fmt: skip
        return rest.answer(body)

    def day(self, symbol: str, day: date) -> Bar | None:
        """Return the bar of one day in New York, extended hours included; None where nothing has traded."""
        begin = new_york_midnight(day)
        bars = self._base(symbol, MINUTE_NS, begin, new_york_midnight(day + timedelta(days=1)) - 1, adjusted=False)
        return joined(bars) if bars else None

    def _base(self, symbol: str, span_ns: int, first: int, last: int, adjusted: bool) -> list[Bar]:
        """Return the bars that begin within ``[first, last]``, from which others are made; longer ones where the tape has no minutes."""
        span = span_ns if span_ns < MINUTE_NS else max(span_ns, self._market.tape.bar_ns)
        now = self._market.now()
        bars = [bar for bar in self._market.bars(symbol, span, first, now) if bar.start <= last]
        return [self._adjusted(bar) for bar in bars] if adjusted else bars

    def _adjusted(self, bar: Bar) -> Bar:
        """Return a bar in today's shares."""
        ratio, own, today = 1.0, new_york_date(bar.start), new_york_date(self._market.now())
        for action in self._market.tape.actions:
            if action.symbol == bar.symbol and own < action.ex_date <= today:
                ratio *= float(action.ratio)
        if ratio == 1.0:
            return bar
        opened, high, low, close = (round(price / ratio, 6) for price in (bar.open, bar.high, bar.low, bar.close))
        return Bar(bar.symbol, bar.start, bar.ts, opened, high, low, close, bar.volume * ratio)


def window(start: int, multiplier: int, span: str) -> int:
    """Return the beginning of the window that holds a time: of UTC up to hours, of New York's days from days on."""
    length = LENGTHS.get(span)
    if length is not None:
        return start // (length * multiplier) * (length * multiplier)
    day = new_york_date(start)
    if span == "day":
        first = date.fromordinal(day.toordinal() // multiplier * multiplier) if multiplier > 1 else day
    elif span == "week":
        sunday = day.toordinal() - day.isoweekday() % 7
        first = date.fromordinal(sunday // (7 * multiplier) * 7 * multiplier)
    else:
        months = {"month": 1, "quarter": 3, "year": 12}[span] * multiplier
        number = (day.year * 12 + day.month - 1) // months * months
        first = date(number // 12, number % 12 + 1, 1)
    return new_york_midnight(first)


def joined(bars: Iterable[Bar]) -> Bar:
    """Return the one bar that several make."""
    parts = list(bars)
    return Bar(
        parts[0].symbol, parts[0].start, parts[-1].ts, parts[0].open, max(bar.high for bar in parts),
        min(bar.low for bar in parts), parts[-1].close, sum(bar.volume for bar in parts),
    )  # fmt: skip


def row(ts: int, bar: Bar) -> rest.Row:
    """Return a bar as REST gives it."""
    return {
        "v": whole(bar.volume), "vw": average_price(bar), "o": bar.open, "c": bar.close, "h": bar.high, "l": bar.low,
        "t": ts // MS_NS, "n": transactions(bar),
    }  # fmt: skip


def _stock(symbol: str) -> bool:
    return type(instrument(symbol)) is not Option
