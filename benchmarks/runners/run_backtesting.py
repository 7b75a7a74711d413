"""backtesting.py: one symbol a backtest, market orders at the next open; several symbols are several backtests."""

from __future__ import annotations

import warnings

import backtesting
import pandas as pd
from backtesting import Backtest, Strategy
from backtesting import backtesting as inner
from common import FAST, QTY, SLOW, Case, Clock, Fill, load, report, settle


def sma(values: object, length: int) -> pd.Series:
    return pd.Series(values).rolling(length).mean()


def strategy(trade: bool) -> type[Strategy]:
    class Cross(Strategy):  # type: ignore[misc]
        seen = 0
        sent = 0

        def init(self) -> None:
            self.fast = self.I(sma, self.data.Close, FAST)
            self.slow = self.I(sma, self.data.Close, SLOW)
            self.above: bool | None = None

        def next(self) -> None:
            self.seen += 1
            if self.above is None:  # its first call comes a bar after the longest average has its first value
                self.above = bool(self.fast[-2] > self.slow[-2])
            now = bool(self.fast[-1] > self.slow[-1])
            if now != self.above and trade:
                if now:
                    self.buy(size=QTY)
                    self.sent += 1
                elif self.position.size:
                    self.position.close()
                    self.sent += 1
            self.above = now

    return Cross


def frame(case: Case, symbol: int) -> pd.DataFrame:
    prices = {name.title(): getattr(case, name)[symbol] / 100 for name in ("open", "high", "low", "close")}
    return pd.DataFrame({**prices, "Volume": case.volume[symbol].astype(float)}, index=pd.to_datetime(case.ts))


def main() -> None:
    case, clock = load(), Clock()
    warnings.filterwarnings("ignore", "Some trades remain open")  # they are read below
    inner.compute_stats = clock.without(inner.compute_stats)  # the tear sheet of its run() is not the engine's run
    frames = [frame(case, symbol) for symbol in range(case.symbols)]
    tests = [Backtest(bars, strategy(case.trade), cash=10_000_000, commission=0) for bars in frames]
    settle()
    with clock.run():
        results = [test.run() for test in tests]

    fills, sent = [], 0
    for symbol, result in enumerate(results):
        played = result._strategy
        assert played.seen == case.bars - SLOW, played.seen
        sent += played.sent
        for trade in (*played.closed_trades, *played.trades):
            fills.append(Fill(trade.entry_bar, symbol, "buy", trade.entry_price, trade.size))
            if trade.exit_bar is not None:
                fills.append(Fill(trade.exit_bar, symbol, "sell", trade.exit_price, trade.size))
    bars = case.bars * case.symbols
    report("backtesting.py", backtesting.__version__, "next_open", bars=bars, orders=sent, fills=fills, clock=clock)


if __name__ == "__main__":
    main()
