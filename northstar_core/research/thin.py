"""Long series made short enough to draw: what the eye would see stays, the rest is left out.

A figure of a million bars must not be a million points: the report of a year of minutes is as light as that of a day.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from northstar_core.model.tape import BarTable, Float64, Int64

DAY_MS = 86_400_000.0
MINUTE_MS = 60_000.0

#: Lengths a candle may have, in minutes; whole days from 1440 on.
LENGTHS = (1, 2, 3, 5, 10, 15, 30, 60, 120, 240, 1440, 7 * 1440, 28 * 1440, 91 * 1440, 364 * 1440)


class Candles(NamedTuple):
    """Candles of one symbol: where each begins (ns UTC), and its prices; each of shape (n,)."""

    start: Int64
    open: Float64
    high: Float64
    low: Float64
    close: Float64
    minutes: float  #: the length of one; 0 where they are the bars as they were


def extremes(*series: Float64, most: int) -> Int64:
    """Return increasing indices, at most about ``most``, that keep the ends, highs and lows of series of equal length.

    The series are cut into equal parts, and of each part its first, highest and lowest point in each series are kept: a
    one-minute spike in a year of minutes stays.
    """
    n = len(series[0])
    if n <= most:
        return np.arange(n)
    parts = max(most // (2 * len(series) + 1), 1)
    edges = np.linspace(0, n, parts + 1).astype(np.int64)[:-1]
    kept = [edges, np.array([n - 1])]
    for values in series:
        for ufunc in (np.maximum, np.minimum):
            reached = np.repeat(ufunc.reduceat(values, edges), np.diff(np.append(edges, n)))
            hits = np.flatnonzero(values == reached)
            # of equal points in one part the first will do
            _, first = np.unique(np.searchsorted(edges, hits, side="right"), return_index=True)
            kept.append(hits[first])
    return np.unique(np.concatenate(kept))


def candles(bars: BarTable, rows: Int64, wall_ms: Float64, most: int) -> Candles:
    """Return the bars in these rows as at most ``most`` candles of the shortest length that suffices.

    ``wall_ms`` are the opening times of these rows on the exchange's clock, in ms, so that candles begin with the day's
    first bar and none spans two days unless it spans whole ones.
    """
    start, low, high = bars.start[rows], bars.low[rows], bars.high[rows]
    opened, closed = bars.open[rows], bars.close[rows]
    if len(rows) <= most:
        return Candles(start, opened, high, low, closed, 0)
    day = np.floor(wall_ms / DAY_MS)
    time_of_day = wall_ms - day * DAY_MS
    first = float(time_of_day.min())
    for minutes in LENGTHS:
        if minutes < 1440:
            key = day * 1440 + np.floor((time_of_day - first) / MINUTE_MS / minutes)
        else:
            key = np.floor((day + 3) / (minutes // 1440))  # day 0 was a Thursday: weeks begin on Monday
        edges = np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1])
        if len(edges) <= most:
            break
    last = np.append(edges[1:], len(rows)) - 1
    return Candles(
        start[edges],
        opened[edges],
        np.maximum.reduceat(high, edges),
        np.minimum.reduceat(low, edges),
        closed[last],
        minutes,
    )
