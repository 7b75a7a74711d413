"""Northstar: the whole order path on, as in any backtest.

Every pre-trade check under a limit set, order states, books, the sha256-chained journal in memory; market orders fill
at the next open. The limits are the default ones of an account of this size, but that orders decided at a session's
last close queue for the next open, as they do in the other engines.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
from common import FAST, QTY, SLOW, Case, Clock, Fill, load, report, settle

from northstar_core.model.account import SessionRule
from northstar_core.model.events import OrderFilled, OrderSubmitted
from northstar_core.model.limit_sets import default_limits
from northstar_core.model.market import Bar
from northstar_core.model.order import Side
from northstar_core.model.tape import BarTable, Session, Source, Tape
from northstar_core.research.backtest import Backtest
from northstar_core.strategy.base import Params, Strategy
from northstar_core.strategy.context import Context
from northstar_core.strategy.indicators import SMA

CASH = Decimal(1_000_000_000)
MINUTE_NS = 60_000_000_000
DAY_NS = 86_400_000_000_000


class Watched:
    """One symbol's indicators and state."""

    __slots__ = ("above", "fast", "slow")

    def __init__(self) -> None:
        self.fast, self.slow = SMA(FAST), SMA(SLOW)
        self.above: bool | None = None


class Cross(Strategy):
    """The work of the benchmark."""

    class Params(Params):
        """What to trade, and whether crosses are traded at all."""

        symbols: list[str]
        trade: bool

    def on_start(self, ctx: Context) -> None:
        self.watched = {symbol: Watched() for symbol in self.params.symbols}
        self.trade, self.seen = self.params.trade, 0

    def on_bar(self, ctx: Context, bar: Bar) -> None:
        self.seen += 1
        watched = self.watched[bar.symbol]
        fast, slow = watched.fast.update(bar.close), watched.slow.update(bar.close)
        if not watched.slow.ready:
            return
        now = fast > slow
        if watched.above is not None and now != watched.above and self.trade:
            if now:
                ctx.buy(bar.symbol, QTY)
            elif ctx.position(bar.symbol):
                ctx.sell(bar.symbol, QTY)
        watched.above = now


def tape(case: Case) -> Tape:
    """Return the case as a tape: by time, then symbol."""
    ts = np.repeat(case.ts, case.symbols)
    prices = {name: getattr(case, name).T.reshape(-1) / 100 for name in ("open", "high", "low", "close")}
    table = BarTable(
        symbols=tuple(f"S{symbol}" for symbol in range(case.symbols)),
        code=np.tile(np.arange(case.symbols, dtype=np.int32), case.bars),
        start=ts - MINUTE_NS,
        ts=ts,
        volume=case.volume.T.reshape(-1).astype(float),
        **prices,
    )
    days = np.unique((case.ts - 1) // DAY_NS)
    labels = days.astype("datetime64[D]").astype(object)
    opens = case.ts[np.searchsorted(case.ts, days * DAY_NS, "right")] - MINUTE_NS
    closes = case.ts[np.searchsorted(case.ts, (days + 1) * DAY_NS, "right") - 1]
    sessions = tuple(Session(*day) for day in zip(labels, opens.tolist(), closes.tolist(), strict=True))
    source = Source(name="generated", layout="synthetic", sha256=table.digest(), rows=len(table))
    return Tape(bars=table, sessions=sessions, sources=(source,), bar_ns=MINUTE_NS)


def main() -> None:
    case, clock = load(), Clock()
    market = tape(case)
    limits = default_limits(CASH)
    queueing = msgspec.structs.replace(limits.strategy, session=SessionRule.QUEUE)
    limits = msgspec.structs.replace(limits, strategy=queueing)
    strategy = Cross(symbols=[f"S{symbol}" for symbol in range(case.symbols)], trade=case.trade)
    settle()
    with clock.run():  # from the columns on: here the objects that the others were given ready-made are made too
        result = Backtest(strategy, market, cash=CASH, limits=limits).run()
        assert result.journal.head  # the chain is made when asked for: every event as its bytes, hashed

    bar_of = {ts: bar for bar, ts in enumerate((case.ts - MINUTE_NS).tolist())}  # a fill's time is its bar's opening
    fills = []
    for fill in result.of(OrderFilled):
        side = "buy" if fill.side is Side.BUY else "sell"
        fills.append(Fill(bar_of[fill.ts], int(fill.symbol[1:]), side, float(fill.price), float(fill.qty)))
    orders = len(result.of(OrderSubmitted))
    report("northstar", "0.1.0", "next_open", bars=strategy.seen, orders=orders, fills=fills, clock=clock)


if __name__ == "__main__":
    main()
