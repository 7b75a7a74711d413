"""backtrader: market orders at the next open; its fastest way (everything preloaded, indicators computed at once)."""

from __future__ import annotations

from typing import Any

import backtrader as bt
import numpy as np
from common import FAST, QTY, SLOW, Case, Clock, Fill, load, report, settle

EPOCH = np.datetime64("1970-01-01", "ns").astype("datetime64[us]").astype(object).toordinal()
DAY_NS = 86_400_000_000_000


class Columns(bt.feed.DataBase):  # type: ignore[misc]
    """A feed over the case's columns; times become matplotlib-style day numbers, as backtrader wants them."""

    params = (("rows", None),)

    def start(self) -> None:
        super().start()
        self.at = iter(self.p.rows)

    def _load(self) -> bool:
        row = next(self.at, None)
        if row is None:
            return False
        lines = self.lines
        lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = row
        lines.openinterest[0] = 0.0
        return True


class Cross(bt.Strategy):  # type: ignore[misc]
    params = (("trade", True),)

    def __init__(self) -> None:
        self.watched = [
            [data, bt.indicators.SMA(data.close, period=FAST), bt.indicators.SMA(data.close, period=SLOW), None]
            for data in self.datas
        ]
        self.seen = 0

    def next(self) -> None:
        self.seen += 1
        for watched in self.watched:
            data, fast, slow, above = watched
            now = fast[0] > slow[0]
            if above is not None and now != above and self.p.trade:
                if now:
                    self.buy(data=data, size=QTY)
                elif self.getposition(data).size:
                    self.sell(data=data, size=QTY)
            watched[3] = now


def rows(case: Case, symbol: int) -> list[Any]:
    days = EPOCH + case.ts / DAY_NS
    prices = [getattr(case, name)[symbol] / 100 for name in ("open", "high", "low", "close")]
    return list(zip(*(column.tolist() for column in (days, *prices, case.volume[symbol].astype(float))), strict=True))


def main() -> None:
    case, clock = load(), Clock()
    cerebro = bt.Cerebro(stdstats=False, preload=True, runonce=True)
    cerebro.broker.set_cash(1_000_000_000)
    feeds = [Columns(rows=rows(case, symbol)) for symbol in range(case.symbols)]
    for feed in feeds:
        feed.preload = clock.without(feed.preload)  # loading is not the engine's run
        cerebro.adddata(feed)
    cerebro.addstrategy(Cross, trade=case.trade)
    settle()
    with clock.run():
        (played,) = cerebro.run()

    bar_of = {day: bar for bar, day in enumerate(feeds[0].datetime.array)}
    symbol_of = {id(feed): symbol for symbol, feed in enumerate(feeds)}  # == of feeds would make another indicator
    fills = []
    for order in cerebro.broker.orders:
        symbol = symbol_of[id(order.data)]
        for bit in order.executed.exbits:
            side = "buy" if bit.size > 0 else "sell"
            fills.append(Fill(bar_of[bit.dt], symbol, side, bit.price, abs(bit.size)))
    assert played.seen == case.bars - SLOW + 1, played.seen
    orders = len(cerebro.broker.orders)
    bars = case.bars * case.symbols
    report("backtrader", bt.__version__, "next_open", bars=bars, orders=orders, fills=fills, clock=clock)


if __name__ == "__main__":
    main()
