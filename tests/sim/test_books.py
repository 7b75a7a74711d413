"""Whatever is asked of it and whatever the market does, the broker's books add up."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal, FloatOperation, localcontext
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.model.instrument import Instrument, instrument
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import PlaceOrder, Side, TimeInForce
from northstar_core.model.tape import CorporateAction
from northstar_core.sim.broker import SimBroker, Update
from northstar_core.sim.costs import AllOf, per_share_and_contract
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import Latency
from northstar_core.sim.model import LifecyclePolicy, SimModel
from northstar_core.sim.regulatory import RegulatoryFees
from northstar_core.sim.slippage import BpsSlippage, ImpactSlippage, TickSlippage
from tests.sim.worlds import MINUTE, D, order

ZERO = Decimal(0)
LOW, HIGH = "SPY230105C00100000", "SPY230105C00105000"
SYMBOLS = ["SPY", "SPY", LOW, HIGH, f"1*{LOW},-1*{HIGH}"]
BASE = {"SPY": 100.0, LOW: 4.0, HIGH: 2.0}
DAY0 = date(2023, 1, 2)
ENDED = {ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED}


class Ledger:
    """Books kept from nothing but what the broker says."""

    def __init__(self, b: SimBroker) -> None:
        self.b = b
        self.cash = D(1_000_000)
        self.positions: dict[str, Decimal] = defaultdict(Decimal)
        self.orders: dict[str, PlaceOrder] = {}
        self.filled: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.arrived: dict[str, int] = {}
        self.ended: set[str] = set()
        self.seen: set[str] = set()

    def hear(self, updates: list[Update] | list[ExecutionReport]) -> None:
        for u in updates:
            if isinstance(u, AccountActivity):
                assert u.record_id not in self.seen
                self.seen.add(u.record_id)
                self.cash += u.cash
                self.positions[u.symbol] += u.qty
            elif u.exec_type is ExecType.NEW:
                self.arrived[u.order_id] = u.ts
            elif u.exec_type is ExecType.TRADE:
                self._trade(u)
            elif u.exec_type in ENDED:
                assert u.order_id not in self.ended, "an order ends once"
                self.ended.add(u.order_id)

    def _trade(self, fill: ExecutionReport) -> None:
        o = self.orders[fill.order_id]
        assert fill.exec_id not in self.seen
        self.seen.add(fill.exec_id)
        assert fill.order_id not in self.ended, "nothing fills after its end"
        assert fill.qty > 0 and fill.price > 0 and fill.fees >= 0
        assert fill.ts >= self.arrived[fill.order_id], "nothing fills before it has arrived"
        assert fill.side is not None
        traded = instrument(fill.symbol)
        leg = next(leg for leg in instrument(o.symbol).legs if leg.instrument.symbol == fill.symbol)
        self.filled[fill.order_id, fill.symbol] += fill.qty
        assert self.filled[fill.order_id, fill.symbol] <= o.qty * abs(leg.ratio), "never more than ordered"
        if o.limit_price is not None and "*" not in o.symbol:
            assert fill.price <= o.limit_price if o.side is Side.BUY else fill.price >= o.limit_price
        before = self.positions[fill.symbol]
        signed = fill.qty * fill.side.sign
        if o.reduce_only:
            assert before * signed < 0 and abs(before + signed) < abs(before) + 0, "reduce-only reduces"
        self.cash -= signed * fill.price * traded.multiplier + fill.fees
        self.positions[fill.symbol] += signed

    def check(self) -> None:
        snapshot = self.b.snapshot(0)
        assert snapshot.cash == self.cash
        assert {p.symbol: p.qty for p in snapshot.positions} == {s: q for s, q in self.positions.items() if q}
        for o in snapshot.orders:
            assert o.leaves_qty > 0
        assert bool(self.b.working) == bool(snapshot.orders)


def _prices(traded: Instrument, base: float, draw: Any) -> tuple[float, float, float, float]:
    cents = st.integers(-300, 300) if base > 50 else st.integers(-150, 150)
    o, c = (round(base + draw(cents) / 100, 2) for _ in range(2))
    high = round(max(o, c) + draw(st.integers(0, 100)) / 100, 2)
    low = round(max(min(o, c) - draw(st.integers(0, 100)) / 100, 0.01), 2)
    return o, high, low, c


def _order(draw: Any, known: list[str], traded: dict[str, str]) -> PlaceOrder:
    symbol = draw(st.sampled_from(SYMBOLS))
    base = BASE.get(symbol, 2.0)
    price = st.integers(int(base * 100) - 150, int(base * 100) + 150).map(lambda c: str(max(c, 1) / 100))
    shape = draw(st.sampled_from(["market", "limit", "stop", "stop-limit"]))
    tifs = (
        list(TimeInForce)
        if symbol == "SPY" and "stop" not in shape
        else [TimeInForce.GTC, TimeInForce.DAY, TimeInForce.IOC]
    )
    parent = draw(st.sampled_from(["", "", *known[-2:]])) if known else ""
    return order(
        draw(st.sampled_from(Side)),
        str(draw(st.integers(1, 40))),
        symbol=traded[parent] if parent else symbol,
        limit=draw(price) if "limit" in shape else None,
        stop=draw(price) if "stop" in shape else None,
        tif=draw(st.sampled_from(tifs)),
        reduce_only=draw(st.integers(0, 6)) == 6,
        parent=parent,
        order_id=f"s-1-{len(traded) + 1}",
    )


models = st.builds(
    SimModel,
    fill_at=st.sampled_from(FillAt),
    touch=st.booleans(),
    volume_share=st.sampled_from([None, D("0.1"), D(1)]),
    costs=st.sampled_from([None, AllOf((per_share_and_contract(), RegulatoryFees()))]),
    slippage=st.sampled_from([None, BpsSlippage(D(7)), TickSlippage(2), ImpactSlippage(0.01)]),
    latency=st.sampled_from(
        [Latency(), Latency(entry_ns=MINUTE // 2), Latency(entry_ns=MINUTE, response_ns=3 * MINUTE)]
    ),
    lifecycle=st.sampled_from([LifecyclePolicy(), LifecyclePolicy(early_assignment=True)]),
)
ACTIONS = (
    CorporateAction(symbol="SPY", ex_date=DAY0 + timedelta(days=1), dividend=D("0.37")),
    CorporateAction(symbol="SPY", ex_date=DAY0 + timedelta(days=1), ratio=D(2)),
    CorporateAction(symbol="SPY", ex_date=DAY0 + timedelta(days=3), ratio=D("0.3")),
)


@settings(max_examples=150, deadline=None)
@given(st.data(), models, st.sampled_from([None, frozenset({LOW, HIGH})]))
def test_books_always_balance_exactly(data: st.DataObject, model: SimModel, ticks: frozenset[str] | None) -> None:
    draw = data.draw
    last: dict[str, Any] = {}
    prices = {s: p for s, p in BASE.items()}
    b = SimBroker("main", D(1_000_000), model, ACTIONS, ticks=ticks, prices=prices.get)
    ledger = Ledger(b)
    traded: dict[str, str] = {}
    ts = 0
    with localcontext() as context:
        context.traps[FloatOperation] = True
        for day in range(5):
            label = (DAY0 + timedelta(days=day)).isoformat()
            ledger.hear(b.on_session_open(ts, label))
            for _ in range(draw(st.integers(1, 6))):
                start, ts = ts, ts + MINUTE
                for _ in range(draw(st.integers(0, 3))):
                    o = _order(draw, list(traded), traded)
                    traded[o.order_id] = o.symbol
                    ledger.orders[o.order_id] = o
                    ledger.hear(b.submit(o, start, last))
                if traded and draw(st.integers(0, 5)) == 5:
                    ledger.hear(b.cancel(draw(st.sampled_from(list(traded))), start))
                if b.next_due <= ts:
                    ledger.hear(b.advance(ts))
                symbols = draw(st.sets(st.sampled_from(list(BASE)), min_size=1))
                bars = []
                for symbol in sorted(symbols):
                    o_, h, low, c = _prices(instrument(symbol), BASE[symbol], draw)
                    volume = float(draw(st.sampled_from([5000, 90, 7, 0])))
                    prices[symbol] = c
                    if not draw(st.booleans()):
                        last[symbol] = Bar(symbol, start, ts, o_, h, low, c, volume)
                        bars.append(last[symbol])
                    else:
                        q = last[symbol] = Quote(symbol, ts, low, h, volume, volume)
                        ledger.hear(b.on_quote(q))
                        ledger.hear(b.on_trade(Trade(symbol, ts, c, volume)))
                if bars:
                    ledger.hear(b.on_bars(bars))
                if not model.latency.response_ns:
                    ledger.check()
            ledger.hear(b.on_session_close(ts, label))
            ts += 100 * MINUTE
        ledger.hear(b.advance(ts))
        ledger.check()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_same_calls_give_the_same_reports(data: st.DataObject) -> None:
    model = data.draw(models)
    brokers = [SimBroker("main", D(1_000_000), model, ACTIONS) for _ in range(2)]
    heard: list[list[Any]] = [[], []]
    traded: dict[str, str] = {}
    for n in range(8):
        o = _order(data.draw, list(traded), traded)
        traded[o.order_id] = o.symbol
        prices = _prices(instrument("SPY"), 100.0, data.draw)
        for out, b in zip(heard, brokers, strict=True):
            out += b.submit(o, n * MINUTE)
            if b.next_due <= (n + 1) * MINUTE:
                out += b.advance((n + 1) * MINUTE)
            out += b.on_bars([Bar("SPY", n * MINUTE, (n + 1) * MINUTE, *prices, 500.0)])
    assert heard[0] == heard[1] and brokers[0].snapshot(0) == brokers[1].snapshot(0)
