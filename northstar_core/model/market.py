"""What is observed: bars, quotes, trades, halts. Prices and sizes are floats, times are int nanoseconds UTC."""

from __future__ import annotations

import msgspec


class Bar(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An OHLCV bar of one symbol over ``[start, ts)``; it is known only at ``ts``, when it has closed."""

    symbol: str
    start: int  #: opening time, ns UTC
    ts: int  #: closing time, ns UTC
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def price(self) -> float:
        """The last price this event shows."""
        return self.close


class Quote(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The best bid and ask of one symbol. A price of 0 means that side is not given."""

    symbol: str
    ts: int
    bid: float
    ask: float
    bid_size: float  #: shares, or contracts for options
    ask_size: float

    @property
    def price(self) -> float:
        """Mid price; the given side where one is missing; 0.0 where both are."""
        if self.bid and self.ask:
            return (self.bid + self.ask) / 2
        return self.bid or self.ask


class Trade(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One print on the tape. ``forms_price`` is false for sale conditions that count for volume only."""

    symbol: str
    ts: int
    price: float
    size: float
    forms_price: bool = True


class Halt(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Trading in a symbol stopped (``halted``) or resumed."""

    symbol: str
    ts: int
    halted: bool
    reason: str = ""


MarketEvent = Bar | Quote | Trade | Halt
