"""What a market event looks like on the Massive stream: one JSON object a message, times in milliseconds.

A minute or second aggregate also tells of its day: volume so far, average price so far, official open. They count from the
first bar of the New York day, whoever listened to it; what nobody subscribed to is asked of the market when somebody does.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.twins.market import MINUTE_NS, TwinMarket

NEW_YORK = ZoneInfo("America/New_York")
SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
DAY_MS = 86_400_000
EXCHANGES = (11, 12, 4)  # NYSE Arca, Nasdaq, FINRA's reporting facilities
SOLD_OUT_OF_SEQUENCE = 33
VOLUME_ONLY = 2  # an average price trade


@lru_cache(maxsize=65536)
def ticker_of(symbol: str) -> str:
    """Return a symbol as Massive writes it: options begin with ``O:``."""
    try:
        return f"O:{symbol}" if type(instrument(symbol)) is Option else symbol
    except DataError:
        return symbol


def symbol_of(ticker: str) -> str:
    """Return the symbol of a ticker of any cluster."""
    return ticker[2:] if ticker[1:2] == ":" else ticker


def new_york_date(ts: int) -> date:
    """Return the date in New York at a time, ns UTC."""
    return datetime.fromtimestamp(ts // SECOND_NS, NEW_YORK).date()


def new_york_midnight(day: date) -> int:
    """Return when a day begins in New York, ns UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()) * SECOND_NS


def whole(value: float) -> int | float:
    """Return a number as JSON writes it shortest: 100, not 100.0."""
    return int(value) if value == int(value) else value


def transactions(bar: Bar) -> int:
    """Return how many prints a bar is said to be made of."""
    return max(1, round(bar.volume / 120))


def average_price(bar: Bar) -> float:
    """Return what is given as a bar's volume-weighted average price."""
    return round((bar.open + bar.high + bar.low + bar.close) / 4, 4)


class _Day(msgspec.Struct):
    """One ticker's day so far, as seen through bars of one length."""

    label: date
    volume: float = 0.0
    value: float = 0.0
    open: float | None = None  #: the first regular bar's
    era: int = -1  #: subscriptions were such when it was last counted


class Messages:
    """Writes events down; knows each ticker's day and numbers its prints.

    Parameters
    ----------
    quote_lot
        Shares in one unit of a stock quote's size.
    """

    def __init__(self, market: TwinMarket, quote_lot: int = 100) -> None:
        self._market, self._quote_lot = market, quote_lot
        self._days: dict[tuple[str, int], _Day] = {}
        self._numbers: dict[tuple[str, bool], tuple[int, int]] = {}
        self.era = 0  #: goes up whenever subscriptions change: then bars may have gone by unseen

    def trade(self, trade: Trade, *, late: bool = False) -> dict[str, Any]:
        """Return a print; ``late`` marks it as reported out of sequence."""
        ticker, ms = ticker_of(trade.symbol), trade.ts // MS_NS
        row = {"ev": "T", "sym": ticker, "x": EXCHANGES[ms % 3], "p": trade.price, "s": int(trade.size)}
        if trade.size != int(trade.size):
            row["ds"] = repr(trade.size)
        conditions = ([VOLUME_ONLY] if not trade.forms_price else []) + ([SOLD_OUT_OF_SEQUENCE] if late else [])
        if conditions:
            row["c"] = conditions
        row |= {"t": ms, "q": self._number(trade.symbol, ms, True)}
        if ticker == trade.symbol:
            row |= {"i": str(row["q"]), "z": 3}
            if row["x"] == 4:
                row |= {"trfi": 202, "trft": ms}
        return row

    def quote(self, quote: Quote) -> dict[str, Any]:
        """Return a quote; a side that is not given has price 0."""
        ticker, ms = ticker_of(quote.symbol), quote.ts // MS_NS
        lot = self._quote_lot if ticker == quote.symbol else 1
        row = {
            "ev": "Q", "sym": ticker, "bx": 11, "bp": whole(quote.bid), "bs": whole(quote.bid_size / lot), "ax": 12,
            "ap": whole(quote.ask), "as": whole(quote.ask_size / lot), "c": 0, "t": ms,
            "q": self._number(quote.symbol, ms, False),
        }  # fmt: skip
        return row | {"i": [604], "z": 3} if ticker == quote.symbol else row

    def aggregate(self, bar: Bar) -> dict[str, Any]:
        """Return a minute's or a second's bar, and its day so far."""
        day = self._day(bar)
        day.volume += bar.volume
        day.value += average_price(bar) * bar.volume
        row = {
            "ev": "AM" if bar.ts - bar.start == MINUTE_NS else "A", "sym": ticker_of(bar.symbol), "v": int(bar.volume),
            "av": int(day.volume), "vw": average_price(bar), "o": bar.open, "c": bar.close, "h": bar.high, "l": bar.low,
            "a": round(day.value / day.volume, 4) if day.volume else bar.close,
            "z": int(bar.volume / transactions(bar)), "s": bar.start // MS_NS, "e": bar.ts // MS_NS,
        }  # fmt: skip
        if day.open is not None:
            row["op"] = day.open
        if bar.volume != int(bar.volume) or day.volume != int(day.volume):
            row |= {"dv": repr(bar.volume), "dav": repr(day.volume)}
        return row

    def limits(self, bar: Bar) -> dict[str, Any]:
        """Return the limit-up, limit-down bands around a bar's close."""
        return {
            "ev": "LULD", "T": bar.symbol, "h": round(bar.close * 1.05, 2), "l": round(bar.close * 0.95, 2), "i": [0],
            "z": 3, "t": bar.ts // MS_NS, "q": bar.ts // MS_NS % DAY_MS,
        }  # fmt: skip

    def value(self, trade: Trade) -> dict[str, Any]:
        """Return an index's value."""
        return {"ev": "V", "val": trade.price, "T": f"I:{trade.symbol}", "t": trade.ts // MS_NS}

    def _number(self, symbol: str, ms: int, prints: bool) -> int:
        """Return a number that grows during the day and leaves holes."""
        last, count = self._numbers.get((symbol, prints), (0, 0))
        count = count + 1 if last == ms else 0
        self._numbers[symbol, prints] = ms, count
        return ms % DAY_MS * 100 + min(count, 99)

    def _day(self, bar: Bar) -> _Day:
        span = bar.ts - bar.start
        label = new_york_date(bar.start)
        day = self._days.get((bar.symbol, span))
        if day is None or day.label != label or day.era != self.era:
            begin = new_york_midnight(label)
            earlier = self._market.bars(bar.symbol, MINUTE_NS, begin, bar.start)
            if span < MINUTE_NS:  # the seconds of the minute that has not ended
                earlier += self._market.bars(bar.symbol, span, earlier[-1].ts if earlier else begin, bar.start)
            day = self._days[bar.symbol, span] = _Day(label, era=self.era)
            for other in earlier:
                day.volume += other.volume
                day.value += average_price(other) * other.volume
                self._open(day, other)
        self._open(day, bar)
        return day

    def _open(self, day: _Day, bar: Bar) -> None:
        if day.open is None and (not self._market.sessions or self._market.session_at(bar.start) is not None):
            day.open = bar.open
