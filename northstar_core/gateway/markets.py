"""Market data as the desk gets it: which feed serves whom, what is subscribed, bars from before, and the latest bars for tables."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from northstar_core.data.feed import Feed
from northstar_core.model.market import Bar
from northstar_core.model.ports import Clock
from northstar_core.model.world import FeedDown, FeedUp

KEPT = 1_000  #: bars of a symbol and span kept for tables and warm-up
CHAIN_DAYS = 45  #: options that expire within so many days are wanted …
CHAIN_WIDTH = 0.12  #: … with strikes within this part of the underlying's price
HISTORY_S = 30.0

_NEW_YORK = ZoneInfo("America/New_York")


class Markets:
    """The desk's feeds, and what is known of the market beside the marks."""

    def __init__(self, clock: Clock, bar_ns: int) -> None:
        self.clock, self.bar_ns = clock, bar_ns
        self.feeds: dict[str, Feed] = {}
        self.down: dict[str, str] = {}  #: by feed: why it is not connected; empty where it is
        self._bars: dict[tuple[str, int], deque[Bar]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, events: Sequence[Any]) -> None:
        """Take note of what a feed brought."""
        for event in events:
            kind = type(event)
            if kind is Bar:
                self._bars[event.symbol, event.ts - event.start].append(event)
            elif kind is FeedUp:
                self.down[event.feed] = ""
            elif kind is FeedDown:
                self.down[event.feed] = event.reason

    def bars(self, symbol: str, n: int, span_ns: int | None = None) -> list[Bar]:
        """Return the latest bars of a symbol that came over the feed, oldest first."""
        return list(self._bars.get((symbol, span_ns or self.bar_ns), ()))[-n:]

    def feed_of(self, name: str) -> Feed | None:
        """Return a feed by its name; the only one where the name is empty."""
        if name:
            return self.feeds.get(name)
        return next(iter(self.feeds.values()), None)

    def want(self, feed: Feed, symbols: Sequence[str], *, quotes: bool = True, trades: bool = False) -> None:
        """Subscribe symbols: their bars, and quotes, which price orders."""
        if symbols:
            feed.want(symbols, bars=True, seconds=self.bar_ns == 10**9, quotes=quotes, trades=trades)

    async def want_chain(self, feed: Feed, underlying: str, price: float | None) -> list[str]:
        """Subscribe an underlying's near options around a price; returns them."""
        today = datetime.fromtimestamp(self.clock.now() / 1e9, _NEW_YORK).date()
        if price is None:
            latest = await self.history(feed, underlying, 1)
            price = latest[-1].close if latest else None
        low, high = (0.0, 1e9) if price is None else (price * (1 - CHAIN_WIDTH), price * (1 + CHAIN_WIDTH))
        options = await feed.chain(underlying, today, CHAIN_DAYS, low, high)
        if options:
            feed.want(options, bars=False, quotes=True)
        return options

    async def history(self, feed: Feed | None, symbol: str, n: int, span_ns: int | None = None) -> list[Bar]:
        """Return up to ``n`` complete bars of a symbol before now, oldest first: over the feed's REST, else what came over the feed."""
        if feed is None:
            return self.bars(symbol, n, span_ns)
        async with asyncio.timeout(HISTORY_S):
            return await feed.history(symbol, n, span_ns or self.bar_ns, self.clock.now())
