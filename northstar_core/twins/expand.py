"""What may have happened within a bar: prints, quotes and second bars that add up to exactly that bar.

A tape of minutes says where a price went within a minute, not how. For a stream of prints and quotes somebody has to say it:
here a path is drawn that opens, peaks, bottoms and closes where the bar says, on whole ticks, at most once or twice a second, with
sizes that are whole shares and sum to the bar's volume to the last digit. The same bar always gives the same path: it is drawn
from the seed, the symbol and the bar's start alone.

Times are whole milliseconds, because that is what a market data stream sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from northstar_core.model.market import Bar, MarketEvent, Quote, Trade

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
FEWEST = 4  #: prints of a bar: it has to open, peak, bottom and close


class Expansion(NamedTuple):
    """One bar in detail; every list is in order of time."""

    trades: list[Trade]
    quotes: list[Quote]
    seconds: list[Bar]

    def events(self) -> list[MarketEvent]:
        """All of it in the order in which it became known; of one instant, what closed first, then quotes, then prints."""
        ranked: list[tuple[int, int, MarketEvent]] = [(bar.ts, 0, bar) for bar in self.seconds]
        ranked += [(quote.ts, 1, quote) for quote in self.quotes]
        ranked += [(trade.ts, 2, trade) for trade in self.trades]
        ranked.sort(key=lambda entry: entry[:2])
        return [event for _, _, event in ranked]


def expand(bar: Bar, seed: int = 0) -> list[MarketEvent]:
    """Return what may have happened within a bar, in the order in which it became known (see ``detail``)."""
    return detail(bar, seed).events()


def detail(bar: Bar, seed: int = 0, *, quotes: bool = True) -> Expansion:
    """Return prints, quotes and second bars whose sum is ``bar``: its open, high, low, close and volume, exactly.

    Parameters
    ----------
    bar
        A bar of whole seconds, ``low <= open, close <= high``. A volume of zero has a path and no prints.
    seed
        Another seed, another path.
    quotes
        Whether to quote as well: one a second, one tick wide (two from 100 dollars, three from 300), around the last price.
    """
    draw = _draws(crc32(bar.symbol.encode()) << 32 ^ bar.start // MS_NS ^ seed * 0x9E3779B97F4A7C15)
    length = max(1, (bar.ts - bar.start) // SECOND_NS)
    times = _times(bar, length, draw)
    prices = _prices(bar, len(times), draw)
    sizes = _sizes(bar.volume, len(times), draw)
    trades = [Trade(bar.symbol, ts, price, size) for ts, price, size in zip(times, prices, sizes, strict=True)]
    seconds = _seconds(bar, trades)
    quoted = _quotes(bar, length, trades, draw) if quotes else []
    return Expansion([trade for trade in trades if trade.size > 0], quoted, seconds)


def tick_of(price: float) -> float:
    """Return the price increment of a share: a cent, or a hundredth of one below a dollar."""
    return 0.01 if price >= 1 else 0.0001


def _draws(seed: int) -> Iterator[int]:
    """Yield 32 random bits at a time (splitmix64: Steele, Lea and Flood, 2014)."""
    state = seed & 0xFFFFFFFFFFFFFFFF
    while True:
        state = (state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        z ^= z >> 31
        yield z >> 32
        yield z & 0xFFFFFFFF


def _times(bar: Bar, length: int, draw: Iterator[int]) -> list[int]:
    """Return when the prints happen: as many as the shares allow, in about four of five seconds, never two in a millisecond."""
    slots = [second * 1000 + 100 + next(draw) % 800 for second in range(length) if next(draw) % 5 or second in (0, length - 1)]
    slots += [slot + 37 for slot in slots if next(draw) % 4 == 0]  # some seconds have a second print
    slots.sort()
    wanted = max(FEWEST, min(len(slots), int(bar.volume)))
    while len(slots) > wanted:
        del slots[next(draw) % len(slots)]
    extra = 1
    while len(slots) < FEWEST:  # a bar of one or two seconds
        slots.append(slots[0] + extra)
        extra += 1
    return [bar.start + ms * MS_NS for ms in sorted(slots)]


def _prices(bar: Bar, n: int, draw: Iterator[int]) -> list[float]:
    """Return a path of ``n`` prices through the bar's four, on whole ticks in between."""
    tick = tick_of(bar.low)
    scale = round(1 / tick)
    bottom, top = -int(-bar.low * scale // 1), int(bar.high * scale // 1)  # the ticks within the bar; there may be none
    inner = n - 2
    high_at, low_at = 1 + next(draw) % inner, 1 + next(draw) % inner
    if high_at == low_at:
        low_at = high_at + 1 if high_at < inner else high_at - 1
    anchors = sorted([(0, bar.open), (high_at, bar.high), (low_at, bar.low), (n - 1, bar.close)])
    path: list[float] = []
    for (begin, first), (end, last) in pairwise(anchors):
        path.append(first)
        for at in range(begin + 1, end):
            straight = first + (last - first) * (at - begin) / (end - begin)
            ticks = round(straight * scale) + (next(draw) % 5 - 2)
            path.append(max(bottom, min(top, ticks)) / scale if bottom <= top else first)
    path.append(bar.close)
    # a tick written as a float may lie a hair outside a bar whose prices are not on ticks
    return [max(bar.low, min(bar.high, price)) for price in path]


def _sizes(volume: float, n: int, draw: Iterator[int]) -> list[float]:
    """Return ``n`` sizes that sum to the volume exactly, added up in order; quarters where there are too few whole shares."""
    if volume < n:
        return [volume / FEWEST] * FEWEST if n == FEWEST else [1.0] * (n - 1) + [volume - (n - 1)]
    weights = [1 + next(draw) % 16 for _ in range(n)]
    total, whole = sum(weights), int(volume)
    sizes = [1 + (whole - n) * weight // total for weight in weights]
    sizes[n // 2] += whole - sum(sizes)
    result = [float(size) for size in sizes]
    result[-1] += volume - whole  # a part of a share comes last, so that no sum on the way is rounded
    return result


def _seconds(bar: Bar, trades: list[Trade]) -> list[Bar]:
    result: list[Bar] = []
    at = 0
    while at < len(trades):
        start = trades[at].ts // SECOND_NS * SECOND_NS
        end = at
        while end < len(trades) and trades[end].ts < start + SECOND_NS:
            end += 1
        prices = [trade.price for trade in trades[at:end]]
        volume = sum(trade.size for trade in trades[at:end])
        result.append(
            Bar(bar.symbol, start, start + SECOND_NS, prices[0], max(prices), min(prices), prices[-1], float(volume))
        )
        at = end
    return result


def _quotes(bar: Bar, length: int, trades: list[Trade], draw: Iterator[int]) -> list[Quote]:
    """Return one quote a second, before its first print, which then happens at the bid or at the ask."""
    result: list[Quote] = []
    at, last = 0, bar.open
    for second in range(length):
        start = bar.start + second * SECOND_NS
        while at < len(trades) and trades[at].ts < start:
            at += 1
        if at < len(trades) and trades[at].ts < start + SECOND_NS:
            last = trades[at].price
        bits = next(draw)
        scale = round(1 / tick_of(last))
        price = round(last * scale)
        wide = (1 if last < 100 else 2 if last < 300 else 3) if scale == 100 else 1
        bid = price if bits & 1 else price - wide
        bid = max(bid, 1)
        sizes = 100.0 * (1 + (bits >> 1) % 9), 100.0 * (1 + (bits >> 5) % 9)
        result.append(Quote(bar.symbol, start + (bits >> 9) % 90 * MS_NS, bid / scale, (bid + wide) / scale, *sizes))
    return result
