"""nautilus_trader 1: bars as four ticks each; a market order sent from on_bar meets the book the bar left, its close.

Its bar matching has no fill at the next open (a latency model delays an order past the whole next bar), so it is held
to the reference of its own rule. Compiled indicators, no logging, no analysis.
"""

from __future__ import annotations

from decimal import Decimal

import nautilus_trader
from common import FAST, QTY, SLOW, Case, Clock, Fill, load, report, settle
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common.config import LoggingConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("XNAS")


class Watched:
    """One symbol's indicators and state."""

    def __init__(self, instrument_id: InstrumentId) -> None:
        self.instrument_id = instrument_id
        self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
        self.above: bool | None = None


class Cross(Strategy):  # type: ignore[misc]
    def __init__(self, bar_types: list[BarType], trade: bool) -> None:
        super().__init__()
        self.watched = {bar_type: Watched(bar_type.instrument_id) for bar_type in bar_types}
        self.trade, self.seen, self.qty = trade, 0, Quantity.from_int(QTY)

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
    price = {cents: Price(Decimal(cents) / 100, 2) for cents in sorted({c for column in columns[:4] for c in column})}
    lots = {volume: Quantity.from_int(volume) for volume in set(columns[4])}
    return [
        Bar(bar_type, price[o], price[h], price[low], price[c], lots[v], ts, ts)
        for o, h, low, c, v, ts in zip(*columns, case.ts.tolist(), strict=True)
    ]


def main() -> None:
    case, clock = load(), Clock()
    config = BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
    engine = BacktestEngine(config=config)
    engine.add_venue(VENUE, OmsType.NETTING, AccountType.CASH, [Money(1_000_000_000, USD)], base_currency=USD)
    bar_types = []
    for symbol in range(case.symbols):
        instrument_id = InstrumentId(Symbol(f"S{symbol}"), VENUE)
        cent, lot = Price.from_str("0.01"), Quantity.from_int(1)
        engine.add_instrument(Equity(instrument_id, instrument_id.symbol, USD, 2, cent, lot, 0, 0))
        bar_types.append(BarType.from_str(f"{instrument_id}-1-MINUTE-LAST-EXTERNAL"))
        engine.add_data(bars(case, symbol, bar_types[-1]), sort=False)
    engine.sort_data()
    strategy = Cross(bar_types, case.trade)
    engine.add_strategy(strategy)
    settle()
    with clock.run():
        engine.run()

    bar_of = {ts: bar for bar, ts in enumerate(case.ts.tolist())}
    orders = engine.cache.orders()
    fills = []
    for order in orders:
        for event in order.events:
            if type(event).__name__ == "OrderFilled":
                symbol = int(event.instrument_id.symbol.value[1:])
                side = "buy" if event.order_side == OrderSide.BUY else "sell"
                fills.append(Fill(bar_of[event.ts_event], symbol, side, float(event.last_px), float(event.last_qty)))
    version = nautilus_trader.__version__
    name = f"nautilus_trader {version}"
    report(name, version, "this_close", bars=strategy.seen, orders=len(orders), fills=fills, clock=clock)


if __name__ == "__main__":
    main()
