"""The bars of one symbol and length, from the stream and from REST, put into one sequence: in order, each once.

Rules.

- A bar that begins at or after the end of the last one is next. A window without trades has no bar.
- A bar that begins before that was there already: equal, it is a repetition and dropped; different, it is a revision. One that was never
  there comes too late to be handed over as a bar, and is told as a revision too, so that what is stored is complete.
- Of the past, ``KEPT_NS`` before the newest bar are remembered; a bar from before is dropped.
- Between two bars a window may be missing because nothing traded, or because the stream lost it. The stream tells each day's volume so
  far: if that has grown between them by more than the bar's own, something is missing. Without it any missing window is suspected.
"""

from __future__ import annotations

from math import isfinite

from northstar_core.model.market import Bar

KEPT_NS = 30 * 60 * 10**9
NEXT, REPEATED, REVISED, LATE, BEFORE, TOO_OLD = "next", "repeated", "revised", "late", "before the start", "too old"


class BarSequence:
    """Bars of ``symbol`` of one length that begin at ``since`` or later.

    ``next`` is where the next bar may begin, at the earliest: the end of the last one.
    """

    def __init__(self, symbol: str, span_ns: int, since: int) -> None:
        self.symbol, self.span_ns, self.since = symbol, span_ns, since // span_ns * span_ns
        self.next = self.since
        self.checked = self.since  #: windows that begin before this were asked for: what they lack does not exist
        self._day_volume: float | None = None
        self._seen: dict[int, Bar] = {}  # by start; oldest first but for late ones

    def take(self, bar: Bar, day_volume: float | None = None) -> str:
        """Take a bar; return what it is: ``NEXT``, ``REPEATED``, ``REVISED``, ``LATE``, ``BEFORE`` or ``TOO_OLD``.

        ``day_volume`` is what the stream said beside it; bars from REST have none.
        """
        if bar.start >= self.next:
            if day_volume is not None or self._day_volume is not None:
                self._day_volume = day_volume if day_volume is not None else (self._day_volume or 0.0) + bar.volume
            self.next = bar.ts
            self._remember(bar)
            return NEXT
        if bar.start < self.since:
            return BEFORE
        known = self._seen.get(bar.start)
        if known == bar:
            return REPEATED
        if bar.start < self.next - KEPT_NS:
            return TOO_OLD
        if day_volume is not None and self._day_volume is not None:
            self._day_volume = max(self._day_volume, day_volume)  # late prints: the day has grown with the bar
        self._seen[bar.start] = bar
        return LATE if known is None else REVISED

    def lacks(self, bar: Bar, day_volume: float | None) -> bool:
        """Tell whether something seems to be missing between the last bar and this one."""
        if bar.start <= max(self.next, self.checked):
            return False
        if day_volume is None or self._day_volume is None:
            return True
        before = day_volume - bar.volume
        missed = before - self._day_volume if before >= self._day_volume else before  # less than before: another day
        return missed > max(0.5, 1e-9 * day_volume)

    def _remember(self, bar: Bar) -> None:
        self._seen[bar.start] = bar
        while self._seen:
            oldest = next(iter(self._seen))
            if oldest >= bar.ts - KEPT_NS:
                return
            del self._seen[oldest]


def wrong(bar: Bar, span_ns: int) -> str:
    """Return what is wrong with a bar; empty if nothing is."""
    if bar.ts - bar.start != span_ns or bar.start % span_ns:
        return f"begins at {bar.start} and ends at {bar.ts}: not {span_ns // 10**9} s"
    if not all(isfinite(price) and price > 0 for price in (bar.open, bar.high, bar.low, bar.close)):
        return "a price is not above zero"
    if not (bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high):
        return "open or close outside of high and low"
    if not (isfinite(bar.volume) and bar.volume >= 0):
        return f"volume {bar.volume}"
    return ""
