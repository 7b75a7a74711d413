"""Bars made of trades, quotes or smaller bars, the same in a backtest and live.

A bar covers ``[start, ts)``: what happens at ``ts`` belongs to the next one. Its bounds are the anchor (the session's
open) plus whole spans, so they depend on the calendar and not on when data came. It is closed by time: by the first
input of a later bar, or by ``advance``, which a driver calls with the time of every event, so that a bar of a quiet
symbol does not wait for its next trade. The same inputs and the same ``advance`` calls give the same bars at the same
times.
"""

from __future__ import annotations

from northstar_core.model.errors import DataError, ParameterError
from northstar_core.model.market import Bar, Quote, Trade

_NO_BARS: tuple[Bar, ...] = ()


class BarBuilder:
    """Builds the bars of one symbol from one kind of input.

    Trades: those that form a price make open, high, low and close; all of them make volume. Quotes: the mid of
    two-sided ones, volume 0. Bars: smaller ones, each of which must lie within one bar of ours.

    A span without a price gives no bar (volume without a price is dropped with it). Within the open bar, open and close
    are the earliest and the latest price by time, by arrival where times are equal; so an input a little out of order
    does not move them. An input for a bar that is already closed, or for a time before one that is, is late: it is
    dropped and counted in ``late``. So is a smaller bar that overlaps the one before.

    Parameters
    ----------
    symbol
        The symbol of the inputs and of the bars.
    span_ns
        Length of a bar.
    anchor
        Time from which spans are counted, ns UTC; usually the session's open. Earlier times have bars too, on the same
        grid.
    close
        Time that no bar spans, usually the session's close: the bar that would is cut there, and a short one follows.
    """

    __slots__ = (
        "_bars_only", "_close_price", "_end", "_first", "_high", "_last", "_low", "_open", "_start", "_volume",
        "anchor", "close", "late", "span_ns", "symbol", "unpriced",
    )  # fmt: skip

    def __init__(self, symbol: str, span_ns: int, anchor: int, close: int | None = None) -> None:
        if span_ns <= 0:
            raise ParameterError(f"{symbol}: bars must span at least 1 ns, got span_ns={span_ns}")
        self.symbol, self.span_ns = symbol, span_ns
        self.late = 0  #: inputs dropped because their bar was closed
        self.unpriced = 0  #: one-sided or empty quotes, and trades that do not form a price
        self._bars_only: bool | None = None
        self._volume = 0.0
        self._first = self._last = -1  # no price yet
        self._open = self._high = self._low = self._close_price = 0.0
        self._set_session(anchor, close)
        self._start = self._end = -(2**63)  # the first input or advance finds its bar

    def start_session(self, anchor: int, close: int | None = None) -> tuple[Bar, ...]:
        """Close the open bar, if any, and count spans from a new anchor.

        Raises
        ------
        ParameterError
            If the anchor lies before what has already been closed.
        """
        if anchor < self._start:
            raise ParameterError(f"{self.symbol}: a session cannot start at {anchor}, before its bar of {self._start}")
        closed = self._closed()
        if self._end > anchor:  # a last bar that would reach into the new session ends where that begins
            closed = tuple(Bar(b.symbol, b.start, anchor, b.open, b.high, b.low, b.close, b.volume) for b in closed)
        self._set_session(anchor, close)
        self._start = self._end = anchor
        return closed

    def add(self, event: Bar | Quote | Trade) -> tuple[Bar, ...]:
        """Take an input and return the bars it closed: none, one, or (of bars) two.

        Raises
        ------
        DataError
            If the input is of another symbol, is a bar after trades or quotes (or the reverse), or is a bar that does
            not lie within one of ours.
        """
        if event.symbol != self.symbol:
            raise DataError(f"{event.symbol}: given to the bar builder of {self.symbol} at ts={event.ts}")
        is_bar = isinstance(event, Bar)
        if is_bar is not self._bars_only:
            if self._bars_only is not None:
                raise DataError(
                    f"{self.symbol}: a {type(event).__name__} at ts={event.ts} in a builder fed with other inputs; "
                    "use one builder for each kind"
                )
            self._bars_only = is_bar
        if isinstance(event, Bar):
            return self._add_bar(event)
        ts = event.ts
        if ts < self._start:
            self.late += 1
            return _NO_BARS
        closed = self._turn(ts) if ts >= self._end else _NO_BARS
        if isinstance(event, Trade):
            self._volume += event.size
            if event.forms_price:
                self._price(ts, event.price)
            else:
                self.unpriced += 1
        elif event.bid > 0 and event.ask > 0:
            self._price(ts, (event.bid + event.ask) / 2)
        else:
            self.unpriced += 1
        return closed

    def advance(self, ts: int) -> tuple[Bar, ...]:
        """Take note that it is ``ts`` and return the bar that this closes, if any."""
        return self._turn(ts) if ts >= self._end else _NO_BARS

    @property
    def partial(self) -> Bar | None:
        """The open bar as it stands, or None where it has no price yet; its ``ts`` lies ahead."""
        if self._first < 0:
            return None
        return Bar(
            self.symbol, self._start, self._end, self._open, self._high, self._low, self._close_price, self._volume
        )

    def _set_session(self, anchor: int, close: int | None) -> None:
        if close is not None and close <= anchor:
            raise ParameterError(f"{self.symbol}: a session must close after it opens, got {anchor} to {close}")
        self.anchor, self.close = anchor, close

    def _bounds(self, ts: int) -> tuple[int, int]:
        """The bar that ``ts`` falls in."""
        start = self.anchor + (ts - self.anchor) // self.span_ns * self.span_ns
        end, close = start + self.span_ns, self.close
        if close is not None and start < close < end:
            return (start, close) if ts < close else (close, end)
        return start, end

    def _turn(self, ts: int) -> tuple[Bar, ...]:
        """Close the open bar and open that of ``ts``."""
        closed = self._closed()
        self._start, self._end = self._bounds(ts)
        return closed

    def _closed(self) -> tuple[Bar, ...]:
        bar = self.partial
        self._first = self._last = -1
        self._volume = 0.0
        return _NO_BARS if bar is None else (bar,)

    def _price(self, ts: int, price: float) -> None:
        if self._first < 0:
            self._first = self._last = ts
            self._open = self._high = self._low = self._close_price = price
            return
        if price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        if ts >= self._last:
            self._last, self._close_price = ts, price
        elif ts < self._first:
            self._first, self._open = ts, price

    def _add_bar(self, bar: Bar) -> tuple[Bar, ...]:
        # ``_last`` holds the close of the last smaller bar, so an equal start is the next one
        if bar.start < self._start or bar.start < self._last:
            self.late += 1
            return _NO_BARS
        start, end = (self._start, self._end) if bar.start < self._end else self._bounds(bar.start)
        if bar.ts > end:
            raise DataError(
                f"{self.symbol}: the bar of {bar.start} to {bar.ts} does not lie within one of {start} to {end}; "
                "spans must be multiples of the input's, from the same anchor"
            )
        closed = self._turn(bar.start) if bar.start >= self._end else _NO_BARS
        if self._first < 0:
            self._first = bar.start
            self._open, self._high, self._low = bar.open, bar.high, bar.low
        else:
            self._high, self._low = max(self._high, bar.high), min(self._low, bar.low)
        self._close_price, self._last = bar.close, bar.ts
        self._volume += bar.volume
        # a smaller bar is known when it closes: with the one that reaches our end, ours is complete
        return closed + self._turn(bar.ts) if bar.ts == self._end else closed
