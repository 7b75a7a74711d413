"""What every engine must have done: the same strategy in whole cents, in plain Python, with no engine.

The strategy. After 30 bars of a symbol its state is whether SMA 10 is above SMA 30. Where that changes from below to
above, buy 100 shares; where it changes from above to below and 100 shares are held, sell them. An order is decided at a
bar's close; what differs between engines, and is theirs to choose, is the fill rule:

``next_open``    at the open of the symbol's next bar; an order at the last bar is not filled
``this_close``   at the close of the bar that decided it
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data import FAST, QTY, SLOW

RULES = ("next_open", "this_close")


class Expected(NamedTuple):
    """Orders sent and fills, one line each: symbol, bar, side, price in cents, quantity."""

    orders: int
    fills: list[str]


def fill_line(symbol: int, bar: int, side: str, cents: int, qty: int = QTY) -> str:
    """Return one fill as the runners write it."""
    return f"{symbol} {bar} {side} {cents} {qty}"


def expected(case: Path, rule: str, *, trade: bool) -> Expected:
    """Return what an engine with this fill rule does on this case."""
    opens, closes = (np.load(case / f"{name}.npy").tolist() for name in ("open", "close"))
    orders, fills = 0, []
    for symbol, (opened, close) in enumerate(zip(opens, closes, strict=True) if trade else ()):
        fast, slow, above, held = sum(close[SLOW - FAST : SLOW]), sum(close[:SLOW]), None, False
        for bar in range(SLOW - 1, len(close)):
            if bar >= SLOW:
                fast += close[bar] - close[bar - FAST]
                slow += close[bar] - close[bar - SLOW]
            now = fast * SLOW > slow * FAST
            if above is not None and now != above and (now or held):
                orders += 1
                held = now
                side = "buy" if now else "sell"
                if rule == "this_close":
                    fills.append((bar, symbol, side, close[bar]))
                elif bar + 1 < len(close):
                    fills.append((bar + 1, symbol, side, opened[bar + 1]))
            above = now
    return Expected(orders, [fill_line(symbol, bar, side, cents) for bar, symbol, side, cents in sorted(fills)])
