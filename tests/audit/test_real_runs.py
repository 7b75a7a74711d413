"""The auditor over real runs: a strategy that does everything at random, the whole order path, the simulated broker."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from northstar_core.audit.chain import columns_of
from northstar_core.audit.tape_rows import TapeRows
from northstar_core.audit.verify import Row, verify
from northstar_core.audit.why import why
from northstar_core.audit.why_not import why_not
from northstar_core.model import events as e
from northstar_core.model.instrument import combo, instrument
from northstar_core.model.journal import Journal, chain
from northstar_core.model.limit_sets import default_limits
from northstar_core.model.order import Side, TimeInForce
from northstar_core.model.tape import BarTable, CorporateAction, Session, Source, Tape
from northstar_core.research.backtest import Backtest
from northstar_core.sim.latency import Latency
from northstar_core.sim.model import SimModel
from northstar_core.strategy.base import Params, Strategy
from northstar_core.strategy.context import Context

MINUTE = 60_000_000_000
FIRST = 1_699_972_200_000_000_000  # 2023-11-14 09:30 in New York
EQUITIES = ("QQQ", "SPY")
OPTIONS = ("SPY", "SPY231117C00100000", "SPY231117C00105000", "SPY231117P00095000")
LATE = SimModel(latency=Latency(entry_ns=90 * 10**9, response_ns=90 * 10**9))
ACTIONS = (
    CorporateAction(symbol="SPY", ex_date=date(2023, 11, 15), dividend=Decimal("0.5")),
    CorporateAction(symbol="QQQ", ex_date=date(2023, 11, 16), ratio=Decimal(2)),
)


class Restless(Strategy):
    """Orders, brackets, replaces, cancels, flattens and says why not, all at random from a seed."""

    class Params(Params):
        symbols: list[str]
        seed: int = 0

    @property
    def strategy_id(self) -> str:
        return f"restless{self.params.seed}"

    def on_start(self, ctx: Context) -> None:
        self.draw = random.Random(self.params.seed)

    def on_bar(self, ctx: Context, bar) -> None:
        draw = self.draw
        if draw.random() > 0.25:
            return
        traded = instrument(bar.symbol)
        options = [instrument(symbol) for symbol in self.params.symbols if len(symbol) > 10]
        qty = draw.choice([1, 2, 5, 10, 30]) if traded in options else draw.choice([1, 5, 10, 50, 100, 400])
        side = draw.choice([Side.BUY, Side.SELL])
        near = traded.round_price(bar.close * (1 + draw.uniform(-0.004, 0.004)))
        working = ctx.working(bar.symbol)
        what = draw.randrange(12)
        if what < 3:
            ctx.signal(bar.symbol, "whim", draw.random(), close=bar.close)
            ctx.order(bar.symbol, side, qty)
        elif what < 5:
            ctx.order(bar.symbol, side, qty, limit_price=near, tif=draw.choice([TimeInForce.DAY, TimeInForce.GTC]))
        elif what == 5:
            ctx.order(bar.symbol, side, qty, stop_price=near)
        elif what == 6:
            away = Decimal("0.30") * side.sign
            ctx.bracket(bar.symbol, side, qty, take_profit=near + away, stop_loss=max(near - away, Decimal("0.01")))
        elif what == 7:
            ctx.cancel_all(bar.symbol)
        elif what == 8 and working:
            ctx.replace(draw.choice(working), qty=draw.choice([5, 20, 60, 200]))
        elif what == 9:
            ctx.flatten(bar.symbol)
        elif what == 10:
            ctx.no_signal(bar.symbol, draw.choice(["calm", "tired"]), close=bar.close)
        elif len(options) > 1:
            first, second = draw.sample(options, 2)
            ctx.order(combo((first, 1), (second, -1)), side, draw.choice([1, 2, 3]))


def tape(symbols: tuple[str, ...], seed: int, minutes: int = 800) -> Tape:
    """Minute bars over a few sessions; options priced at intrinsic value and a little more."""
    draw = np.random.default_rng(seed)
    days = (minutes + 389) // 390
    sessions, starts = [], []
    for day in range(days):
        opens = FIRST + day * 86_400 * 10**9
        sessions.append(Session(date(2023, 11, 14) + timedelta(day), opens, opens + 390 * MINUTE))
        starts += [opens + minute * MINUTE for minute in range(390)]
    start = np.array(starts[:minutes], dtype=np.int64)
    closes = {}
    for symbol in symbols:
        if len(symbol) <= 10:
            closes[symbol] = np.round(100 * np.exp(np.cumsum(draw.normal(0, 0.0008, minutes))), 2)
        else:
            strike, sign = int(symbol[-8:]) / 1000, 1 if "C0" in symbol else -1
            closes[symbol] = np.round(
                np.maximum(sign * (closes["SPY"] - strike), 0) + 1.5 + 0.2 * draw.random(minutes), 2
            )
    names, k = tuple(sorted(symbols)), len(symbols)
    close = np.column_stack([closes[name] for name in names])
    opens_at = np.vstack([close[:1], close[:-1]])
    begin = np.repeat(start, k)
    bars = BarTable(
        symbols=names, code=np.tile(np.arange(k, dtype=np.int32), minutes), start=begin, ts=begin + MINUTE,
        open=opens_at.ravel(), high=np.maximum(opens_at, close).ravel(), low=np.minimum(opens_at, close).ravel(),
        close=close.ravel(), volume=np.full(minutes * k, 1e6),
    )  # fmt: skip
    source = Source(name="walk", layout="synthetic", sha256="0" * 64, rows=minutes * k)
    return Tape(bars=bars, sessions=tuple(sessions), sources=(source,), bar_ns=MINUTE)


@dataclass
class World:
    """What a run is made of."""

    symbols: tuple[str, ...] = EQUITIES
    strategies: int = 1
    model: SimModel = field(default_factory=SimModel)
    actions: tuple[CorporateAction, ...] = ()

    def run(self, seed: int) -> Backtest:
        played = msgspec.structs.replace(tape(self.symbols, seed), actions=self.actions)
        limits = default_limits(Decimal(100_000))
        limits = msgspec.structs.replace(
            limits, strategy=msgspec.structs.replace(limits.strategy, allow_uncovered=True)
        )
        strategies = [Restless(symbols=list(self.symbols), seed=seed * 10 + n) for n in range(self.strategies)]
        backtest = Backtest(strategies, played, model=self.model, limits=limits)
        for _ in backtest.steps():
            pass
        return backtest


def rows_of(journal: Journal) -> list[Row]:
    """The rows an event store would hold of a journal."""
    lines = journal.lines()
    return [
        Row(record.seq, 0, record.ts, record.cause, *columns_of(record.event), text.split(b" ", 4)[4], link)
        for record, text, link in zip(journal.records, lines, chain(lines), strict=True)
    ]


WORLDS = {
    "equities": World(),
    "slow broker": World(model=LATE),
    "dividend and split": World(actions=ACTIONS),
    "two strategies": World(strategies=2, actions=ACTIONS),
    "options": World(symbols=OPTIONS),
    "options, two strategies, slow broker": World(symbols=OPTIONS, strategies=2, model=LATE),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("world", [pytest.param(w, id=name) for name, w in WORLDS.items()])
def test_a_real_run_holds_every_invariant(world: World, seed: int) -> None:
    backtest = world.run(seed)
    journal = backtest.journal
    digest = TapeRows(backtest.tape, backtest.tape.symbols).digest
    report = verify(rows_of(journal), head=(journal.seq, journal.head), tape_digest=digest)
    assert report.exit_code == 0, "\n".join(report.lines())
    assert report["R1"].checked > 100
    assert report["P3"].checked > 100


def test_every_order_of_a_real_run_has_its_chain() -> None:
    backtest = WORLDS["equities"].run(4)
    lines = backtest.journal.lines()
    intents = [record for record in backtest.journal.records if type(record.event).__name__ == "PlaceOrder"]
    for record in intents[:40]:
        found = why(lines, record.event.order_id, tape=backtest.tape)
        assert found.outcome in ("submitted", "denied")
        assert found.steps[0].what in ("tick", "fill", "accepted", "start", "canceled")
        refused = [check for check in found.checks if check.outcome == "refused"]
        assert len(refused) == (found.outcome == "denied"), found.lines()
        assert all(not check.headroom.startswith("-") for check in found.checks if check.outcome == "passed"), (
            found.lines()
        )


def test_every_minute_of_a_real_run_has_an_answer() -> None:
    backtest = WORLDS["equities"].run(5)
    lines = backtest.journal.lines()
    said: set[str] = set()
    for minute in range(1, 390, 3):
        ts = FIRST + minute * MINUTE
        answer = why_not(lines, "restless50", "SPY", ts, tape=backtest.tape)
        said.add(answer.kind)
        placed = [
            record.seq
            for record in backtest.journal.records
            if isinstance(record.event, e.OrderSubmitted)
            and record.event.order.symbol == "SPY"
            and record.event.ts == ts
        ]
        assert (answer.kind == "order placed") == bool(placed), (minute, answer)
    assert {"order placed", "no signal"} <= said
