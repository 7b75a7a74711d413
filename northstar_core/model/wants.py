"""What a strategy in session hears of the market: one rule, for the gateway that gives it and for the replay that gives it again."""

from __future__ import annotations

from collections.abc import Iterable

from northstar_core.model.instrument import Option, instrument
from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade


class Wants:
    """A strategy's appetite.

    Parameters
    ----------
    symbols
        What it decides on; with neither these nor underlyings, everything.
    options_on
        Underlyings whose options' quotes it wants too.
    quotes, trades
        Whether it listens to quotes and prints of its own symbols.
    bar_ns
        Length of the bars it gets.
    """

    def __init__(self, symbols: Iterable[str], options_on: Iterable[str], *, quotes: bool, trades: bool, bar_ns: int) -> None:
        self.symbols, self.underlyings = frozenset(symbols), frozenset(options_on)
        self.quotes, self.trades, self.bar_ns = quotes, trades, bar_ns
        self.last_bar: dict[str, int] = {}  #: start of the last bar given, by symbol: none is given twice or late

    def listens(self, symbol: str) -> bool:
        """Whether it wants anything of a symbol."""
        if symbol in self.symbols or not (self.symbols or self.underlyings):
            return True
        if self.underlyings and len(symbol) > 15:
            found = instrument(symbol)
            return isinstance(found, Option) and found.underlying in self.underlyings
        return False

    def hears(self, event: MarketEvent) -> bool:
        """Whether it gets an event of a symbol it listens to; a bar that it takes counts as given."""
        if type(event) is Bar:
            if event.ts - event.start != self.bar_ns or event.start <= self.last_bar.get(event.symbol, -1):
                return False
            self.last_bar[event.symbol] = event.start
            return True
        if type(event) is Quote:
            return self.quotes or event.symbol not in self.symbols  # a chain is priced by its quotes
        return type(event) is Halt or (type(event) is Trade and self.trades)
