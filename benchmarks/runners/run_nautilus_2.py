"""nautilus_trader 2 (Rust core, Python strategy): same fill rule as version 1, another API.

Indicators and orders are its own compiled ones; no logging, no analysis.
"""

from __future__ import annotations

from common import FAST, QTY, SLOW, Case, Clock, Fill, load, report, settle
from nautilus_trader import __version__
from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import LoggerConfig, LogLevel
from nautilus_trader.execution import FixedFeeModel
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model import (
    AccountType,
    Bar,
    BarType,
    Currency,
    Equity,
    InstrumentId,
    Money,
    OmsType,
    OrderSide,
    Price,
    Quantity,
    Symbol,
    Venue,
)
from nautilus_trader.trading import Strategy, StrategyConfig

VENUE = Venue("XNAS")
USD = Currency.from_str("USD")


class Watched:
    """One symbol's indicators and state."""

    def __init__(self, instrument_id: InstrumentId) -> None:
        self.instrument_id = instrument_id
        self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
        self.above: bool | None = None


class Cross(Strategy):  # type: ignore[misc]
    def __init__(self, config: StrategyConfig) -> None:
        super().__init__(config)
        self.seen, self.qty = 0, Quantity.from_int(QTY)

    def watch(self, bar_types: list[BarType], trade: bool) -> None:
        """Say what to trade; apart from __init__ because the base class takes its configuration alone."""
        self.trade = trade
        self.watched = {bar_type: Watched(bar_type.instrument_id) for bar_type in bar_types}

    def on_start(self) -> None:
        for bar_type, watched in self.watched.items():
            self.register_indicator_for_bars(bar_type, watched.fast)
            self.register_indicator_for_bars(bar_type, watched.slow)
            self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        self.seen += 1
        watched = self.watched[bar.bar_type]
        if not watched.slow.initialized:
            return
        now = watched.fast.value > watched.slow.value
        if watched.above is not None and now != watched.above and self.trade:
            if now:
                self.send(watched, OrderSide.BUY)
            elif self.portfolio.is_net_long(watched.instrument_id):
                self.send(watched, OrderSide.SELL)
        watched.above = now

    def send(self, watched: Watched, side: OrderSide) -> None:
        self.submit_order(self.order_factory.market(watched.instrument_id, side, self.qty))


def bars(case: Case, symbol: int, bar_type: BarType) -> list[Bar]:
    columns = [getattr(case, name)[symbol].tolist() for name in ("open", "high", "low", "close", "volume")]
    price = {cents: Price(cents / 100, 2) for cents in {c for column in columns[:4] for c in column}}
    lots = {volume: Quantity.from_int(volume) for volume in set(columns[4])}
    return [
        Bar(bar_type, price[o], price[h], price[low], price[c], lots[v], ts, ts)
        for o, h, low, c, v, ts in zip(*columns, case.ts.tolist(), strict=True)
    ]


def main() -> None:
    case, clock = load(), Clock()
    silent = LoggerConfig(stdout_level=LogLevel.OFF, bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=silent, bypass_logging=True, run_analysis=False))
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.CASH, [Money(1_000_000_000, USD)],
        base_currency=USD, fee_model=FixedFeeModel(Money(0, USD)),
    )  # fmt: skip
    bar_types = []
    for symbol in range(case.symbols):
        instrument_id = InstrumentId(Symbol(f"S{symbol}"), VENUE)
        engine.add_instrument(Equity(instrument_id, instrument_id.symbol, USD, 2, Price.from_str("0.01"), 0, 0))
        bar_types.append(BarType.from_str(f"{instrument_id}-1-MINUTE-LAST-EXTERNAL"))
        engine.add_data(bars(case, symbol, bar_types[-1]), sort=False)
    engine.sort_data()
    strategy = Cross(StrategyConfig())
    strategy.watch(bar_types, case.trade)
    engine.add_strategy(strategy)
    settle()
    with clock.run():
        engine.run()

    bar_of = {ts: bar for bar, ts in enumerate(case.ts.tolist())}
    orders = engine.cache.orders()
    fills = []
    for order in orders:
        symbol = int(order.instrument_id.symbol.value[1:])
        side = "buy" if order.side == OrderSide.BUY else "sell"
        fills.append(Fill(bar_of[order.ts_last], symbol, side, float(order.avg_px), float(order.filled_qty)))
    name = f"nautilus_trader {__version__}"
    report(name, __version__, "this_close", bars=strategy.seen, orders=len(orders), fills=fills, clock=clock)


if __name__ == "__main__":
    main()
