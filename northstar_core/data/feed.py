"""What the desk asks of a market data feed, and what a feed tells of itself.

A feed hands over lists of events: market events, and what happened to it. Bars of a symbol and length come strictly in order and each
once; numbers that changed afterwards, and bars that turned up after later ones, come as ``BarRevised``. Prints of a symbol do not go
back in time. A quote that no decision may be based on is not handed over: ``QuoteRefused`` says so when it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Protocol

import msgspec

from northstar_core.model.market import Bar, Halt, Quote, Trade
from northstar_core.model.world import AlertRaised, BarRevised, FeedDown, FeedUp, FrameUnread, QuoteRefused

FeedEvent = Bar | Quote | Trade | Halt | FeedUp | FeedDown | BarRevised | QuoteRefused | FrameUnread | AlertRaised
Emit = Callable[[list[FeedEvent]], None]


class Latency:
    """How long something took, as a histogram: within 12.5 % from a nanosecond to hours, in a few hundred numbers."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def note(self, ns: int) -> None:
        """Count one duration; a negative one (clocks differ) counts as none."""
        ns = max(ns, 0)
        shift = max(ns.bit_length() - 4, 0)
        bucket = shift << 4 | ns >> shift
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1

    def percentile(self, share: float) -> int:
        """Return the duration, ns, that this share (0.99) of all stays within; 0 before the first."""
        left = share * self.count
        for bucket in sorted(self._counts, key=_upper):
            left -= self._counts[bucket]
            if left <= 0:
                return _upper(bucket)
        return 0

    def __str__(self) -> str:
        """Median, 99th and 99.9th percentile in milliseconds."""
        return " ".join(f"p{100 * p:g} {self.percentile(p) / 1e6:.3f} ms" for p in (0.5, 0.99, 0.999)) + f" of {self.count}"


def _upper(bucket: int) -> int:
    shift, top = bucket >> 4, bucket & 15
    return (top + 1 << shift) - 1


class FeedStats(msgspec.Struct):
    """Counters since the start, by stage; ``latency`` in desk time for what comes from outside, wall time for our own work."""

    frames: int = 0  #: received
    bytes: int = 0
    messages: int = 0  #: read from frames
    events: int = 0  #: handed over
    unread: int = 0  #: frames or messages that could not be understood
    reconnects: int = 0
    gap_fills: int = 0  #: questions for missing bars
    filled: int = 0  #: bars that only these brought
    revised: int = 0
    requests: int = 0  #: over REST, pages and repetitions included
    dropped: dict[str, int] = {}  #: not handed over, by reason
    latency: dict[str, Latency] = {}  #: "wire": the event's time to arrival; "decode", "handle": of a frame

    def drop(self, reason: str, n: int = 1) -> None:
        """Count what is not handed over."""
        self.dropped[reason] = self.dropped.get(reason, 0) + n

    def took(self, stage: str, ns: int) -> None:
        """Count a duration."""
        latency = self.latency.get(stage)
        if latency is None:
            latency = self.latency[stage] = Latency()
        latency.note(ns)


class Feed(Protocol):
    """A source of live market data."""

    name: str
    stats: FeedStats

    async def start(self) -> None:
        """Begin to connect; does not wait until it is."""
        ...

    async def close(self) -> None:
        """Disconnect and leave nothing running."""
        ...

    def want(
        self, symbols: Iterable[str], *, bars: bool = True, seconds: bool = False, quotes: bool = False, trades: bool = False
    ) -> None:
        """Subscribe, beside what is subscribed; at any time. Bars begin with the one in progress."""
        ...

    async def history(self, symbol: str, n: int, span_ns: int, end: int) -> list[Bar]:
        """Return up to ``n`` of the last complete bars before ``end``, oldest first."""
        ...

    async def chain(self, underlying: str, on: date, days: int, low: float, high: float) -> list[str]:
        """Return the option symbols on an underlying that expire within ``days`` of ``on``, with strikes in ``[low, high]``."""
        ...

    def last_heard(self) -> int:
        """Return the desk time of the last frame, ns UTC; 0 before the first."""
        ...
