"""The market of the benchmark: seeded minute bars in whole cents, written as columns that every runner reads.

A case is a folder of ``.npy`` files: ``open high low close volume`` of shape (symbols, bars), prices in cents; ``ts``
of shape (bars,), the closing times in ns UTC, the same for all symbols: 390 minutes a weekday from 14:30 UTC.

Closes revert to 100.00, x[t] = reversion * x[t-1] + noise, which makes SMA 10 cross SMA 30 on about 4 % of the bars
(0.99: 4.1 %; 0.9: 5.6 %; 0.5: 9.6 %). No close ever makes the two averages equal: where one would, it is a cent higher.
So a difference is at least 1/30 of a cent, far above anything that rounding does to sums of floats, and an engine that
trades at another bar than the reference is wrong, not unlucky.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FAST, SLOW, QTY = 10, 30, 100
FIRST_DAY = dt.date(2015, 1, 5)  # a Monday
OPEN_MINUTE, DAY_MINUTES = 14 * 60 + 30, 390
MINUTE_NS = 60_000_000_000


class Size(NamedTuple):
    """How much data a case has."""

    symbols: int
    bars: int


SIZES = {"a": Size(1, 100_000), "b": Size(1, 1_000_000), "c": Size(10, 100_000)}
QUICK = {"a": Size(1, 10_000), "b": Size(1, 30_000), "c": Size(10, 3_000)}


def closing_times(bars: int) -> NDArray[np.int64]:
    """Return when each bar closes: minutes 1 to 390 of as many weekdays as it takes."""
    days = -(-bars // DAY_MINUTES)
    ordinals = FIRST_DAY.toordinal() - dt.date(1970, 1, 1).toordinal() + np.arange(days) // 5 * 7 + np.arange(days) % 5
    minutes = ordinals[:, None] * 1440 + OPEN_MINUTE + 1 + np.arange(DAY_MINUTES)[None, :]
    return (minutes.reshape(-1)[:bars] * MINUTE_NS).astype(np.int64)


def closes(bars: int, rng: np.random.Generator, reversion: float) -> NDArray[np.int64]:
    """Return one symbol's closes in cents, on which the two averages are never equal."""
    fast: deque[int] = deque(maxlen=FAST)
    slow: deque[int] = deque(maxlen=SLOW)
    out, away = [], 0.0
    for noise in rng.normal(0.0, 10.0, bars).tolist():
        away = reversion * away + noise
        close = 10_000 + round(away)
        fast.append(close)
        slow.append(close)
        if len(slow) == SLOW and sum(fast) * SLOW == sum(slow) * FAST:
            close += 1
            fast[-1] = slow[-1] = close
        out.append(close)
    return np.array(out, dtype=np.int64)


def generate(folder: Path, size: Size, *, seed: int = 20260101, reversion: float = 0.99) -> None:
    """Write one case."""
    shape = (size.symbols, size.bars)
    rng = np.random.default_rng(seed)
    close = np.stack([closes(size.bars, rng, reversion) for _ in range(size.symbols)])
    previous = np.concatenate([np.full((size.symbols, 1), 10_000), close[:, :-1]], axis=1)
    opened = previous + rng.integers(-3, 4, shape)
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) + rng.integers(0, 6, shape),
        "low": np.minimum(opened, close) - rng.integers(0, 6, shape),
        "close": close,
        "volume": rng.integers(50, 501, shape) * 100,  # an order is at most a fiftieth of it
        "ts": closing_times(size.bars),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column.astype(np.int64))
