"""Quotes and prints of one symbol as they may be acted on: in order, each once, and none that no decision may be based on.

Quotes. One that is older than the last (by its time, then by its number) is superseded: dropped. One that repeats the last is dropped.
Refused, which is told when it begins and again only after a good quote:

- *stale*: older than ``stale_ns`` when it arrives;
- *crossed*: the bid above the ask (a locked market, bid equal to ask, is lawful and passes);
- *empty*: neither side given (a side without a quote has price 0);
- *absurd*: a price or size that is negative or no number; of a stock, a spread above a quarter of the middle, or a middle further than
  half away from the last print of the past hour; of an option, an ask above five times the bid and five dollars over it.

Prints. One with the number, exchange and id of an earlier one is a repetition: dropped. One that comes after a younger one, or says that
it was sold out of sequence, is a *late print*: it counts for volume and forms no price, and is handed over at the time of the youngest,
when it became known, so that time does not go back. Later than ``LATE_NS`` it is dropped.
"""

from __future__ import annotations

from math import inf

from northstar_core.model.market import Quote, Trade
from northstar_core.model.world import QuoteRefused

LATE_NS = 15 * 60 * 10**9
PRINT_KEPT_NS = 3600 * 10**9  #: prints older than this say nothing about a quote
PRINTS_KEPT = 512  #: ids remembered, to know a repetition
WIDE_STOCK, FAR_STOCK = 0.25, 0.5
WIDE_OPTION, WIDE_OPTION_DOLLARS = 5.0, 5.0


class TickGuard:
    """One symbol's quotes and prints."""

    def __init__(self, symbol: str, *, option: bool, stale_ns: int) -> None:
        self.symbol, self._option, self._stale_ns = symbol, option, stale_ns
        self._quote_t, self._quote_q = 0, -1
        self._refused = ""  # the reason that stands
        self._print_t, self._print_q = 0, -1
        self._price, self._price_t = 0.0, 0
        self._prints: dict[tuple[int, int, str | int], None] = {}

    def quote(
        self, t: int, q: int, bid: float, ask: float, bid_size: float, ask_size: float, now: int
    ) -> Quote | QuoteRefused | str:
        """Return a quote, its refusal when that begins, or why it is dropped."""
        if t < self._quote_t or (t == self._quote_t and q <= self._quote_q):
            return "quote repeated" if t == self._quote_t and q == self._quote_q else "quote superseded"
        self._quote_t, self._quote_q = t, q if q else -1
        reason = self._reason(t, bid, ask, bid_size, ask_size, now)
        if not reason:
            self._refused = ""
            return Quote(self.symbol, t, bid, ask, bid_size, ask_size)
        if reason == self._refused:
            return f"quote {reason}"
        self._refused = reason
        return QuoteRefused(now, self.symbol, reason, bid, ask)

    def _reason(self, t: int, bid: float, ask: float, bid_size: float, ask_size: float, now: int) -> str:
        if not (0 <= bid < inf and 0 <= ask < inf and 0 <= bid_size < inf and 0 <= ask_size < inf):
            return "absurd"
        if now - t > self._stale_ns:
            return "stale"
        if not bid or not ask:
            return "" if bid or ask else "empty"
        if bid > ask:
            return "crossed"
        if self._option:
            return "absurd" if ask > WIDE_OPTION * bid and ask - bid > WIDE_OPTION_DOLLARS else ""
        middle = (bid + ask) / 2
        if ask - bid > WIDE_STOCK * middle:
            return "absurd"
        if self._price and t - self._price_t < PRINT_KEPT_NS and abs(middle - self._price) > FAR_STOCK * self._price:
            return "absurd"
        return ""

    def trade(
        self, t: int, q: int, exchange: int, number: str | int, price: float, size: float, forms_price: bool, now: int
    ) -> Trade | str:
        """Return a print, or why it is dropped."""
        if not (0 < price < inf and 0 <= size < inf):
            return "print absurd"
        key = (q or t, exchange, number)
        if key in self._prints:
            return "print repeated"
        self._prints[key] = None
        if len(self._prints) > PRINTS_KEPT:
            del self._prints[next(iter(self._prints))]
        if t < self._print_t or (t == self._print_t and q < self._print_q):
            if self._print_t - t > LATE_NS:
                return "print too late"
            return Trade(self.symbol, self._print_t, price, size, False)
        self._print_t, self._print_q = t, q
        if forms_price:
            self._price, self._price_t = price, t
        return Trade(self.symbol, t, price, size, forms_price)
