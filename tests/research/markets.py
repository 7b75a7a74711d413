"""Small markets for the tests: bars, quotes and sessions in a few words, and strategies that do as they are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from northstar_core.audit.tape_rows import TapeRows
from northstar_core.audit.verify import verify
from northstar_core.model import events as e
from northstar_core.model.account import SessionRule
from northstar_core.model.instrument import instrument
from northstar_core.model.limit_sets import LimitSet, default_limits
from northstar_core.model.tape import BarTable, CorporateAction, QuoteTable, Session, Source, Tape
from northstar_core.research.backtest import Backtest
from northstar_core.sim.model import SimModel
from northstar_core.strategy.base import Params, Strategy
from northstar_core.strategy.context import Context
from tests.engine.desks import rows_of

D = Decimal
SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
FIRST = 1_699_972_200 * SECOND  # 2023-11-14 09:30 in New York
FREE = SimModel(costs=None, slippage=None, volume_share=None)

Rows = dict[str, list[tuple[float, float]]]


def session(day: int = 0, minutes: int = 390) -> Session:
    """The n-th trading day from 2023-11-14 on; five follow each other without a weekend."""
    opens = FIRST + day * DAY
    return Session(date(2023, 11, 14) + timedelta(day), opens, opens + minutes * MINUTE)


def bars(rows: Rows, *, start: int = FIRST, length: int = MINUTE, starts: list[int] | None = None) -> BarTable:
    """One bar a minute of each symbol, given as (open, close); None of a symbol leaves its bar out."""
    names = tuple(sorted(rows))
    out = []
    for n in range(max(map(len, rows.values()))):
        at = starts[n] if starts is not None else start + n * length
        for code, name in enumerate(names):
            if n < len(rows[name]) and rows[name][n] is not None:
                opened, closed = rows[name][n]
                out.append((code, at, at + length, opened, max(opened, closed), min(opened, closed), closed, 10_000.0))
    columns = list(zip(*out, strict=True))
    code, begin, ts = (np.array(columns[k], dtype=d) for k, d in ((0, np.int32), (1, np.int64), (2, np.int64)))
    floats = [np.array(column, dtype=float) for column in columns[3:]]
    return BarTable(
        symbols=names, code=code, start=begin, ts=ts, open=floats[0], high=floats[1], low=floats[2], close=floats[3],
        volume=floats[4],
    )  # fmt: skip


def quotes(symbol: str, rows: list[tuple[int, float, float]]) -> QuoteTable:
    """Quotes as (ts, bid, ask)."""
    ts, bid, ask = zip(*rows, strict=True)
    size = np.full(len(rows), 500.0)
    return QuoteTable(
        symbols=(symbol,), code=np.zeros(len(rows), dtype=np.int32), ts=np.array(ts, dtype=np.int64),
        bid=np.array(bid, dtype=float), ask=np.array(ask, dtype=float), bid_size=size, ask_size=size,
    )  # fmt: skip


def market(
    rows: Rows | BarTable, *, days: int = 1, minutes: int = 390, actions: tuple[CorporateAction, ...] = (), **more: Any
) -> Tape:
    """A tape of minute bars."""
    table = rows if isinstance(rows, BarTable) else bars(rows)
    source = Source(name="small", layout="ohlcv", sha256="0" * 64, rows=len(table))
    sessions = tuple(session(day, minutes) for day in range(days))
    given = {"bar_ns": MINUTE, "sessions": sessions, "sources": (source,), "actions": actions, **more}
    return Tape(bars=table, **given)


class Told(Strategy):
    """Does what a function says at each of its events."""

    class Params(Params):
        symbols: tuple[str, ...] = ()
        warm_up: int = 0
        label: str = "told"

    def __init__(self, act: Callable[[Context, Any], None] = lambda ctx, event: None, **params: Any) -> None:
        super().__init__(**params)
        self.act = act
        self.seen: list[Any] = []

    @property
    def strategy_id(self) -> str:
        return str(self.params.label)

    @property
    def warm_up(self) -> int:
        return int(self.params.warm_up)

    def _do(self, ctx: Context, event: Any) -> None:
        self.seen.append(event)
        self.act(ctx, event)

    def on_start(self, ctx: Context) -> None:
        self.act(ctx, ctx.event)

    on_session_open = on_bar = on_quote = on_trade = on_fill = on_position = on_timer = on_session_close = _do


def at(n: int, act: Callable[[Context], Any], symbol: str = "SPY") -> Callable[[Context, Any], None]:
    """Do something when the n-th bar of a symbol has closed, counted from 0."""
    counted = [0]

    def on_event(ctx: Context, event: Any) -> None:
        if type(event).__name__ == "Bar" and event.symbol == symbol:
            counted[0] += 1
            if counted[0] == n + 1:
                act(ctx)

    return on_event


def limits_for(*, account: dict[str, Any] | None = None, **strategy: Any) -> LimitSet:
    """The default limits with some changed."""
    base = default_limits(D(100_000))
    return msgspec.structs.replace(
        base,
        strategy=msgspec.structs.replace(base.strategy, **strategy),
        account=msgspec.structs.replace(base.account, **(account or {})),
    )


QUEUE = limits_for(session=SessionRule.QUEUE)


def run(strategies: Any, tape: Tape, *, model: SimModel = FREE, **more: Any) -> Backtest:
    """Run to the end, and let the auditor look at what was written down."""
    test = Backtest(strategies, tape, model=model, **more)
    for _ in test.steps():
        pass
    audited(test)
    return test


def audited(test: Backtest) -> None:
    """The auditor finds nothing; cash is the opening cash and every flow since; the broker's books are the engine's."""
    journal = test.journal
    digest = TapeRows(test.tape, test.tape.symbols).digest
    report = verify(rows_of(journal), head=(journal.seq, journal.head), tape_digest=digest)
    assert report.exit_code == 0, "\n".join(report.lines())
    cash = test.cash
    for event in (record.event for record in journal.records):
        if isinstance(event, e.OrderFilled):
            value = event.qty * event.side.sign * event.price * instrument(event.symbol).multiplier
            cash -= value + event.fees
        elif isinstance(event, e.PositionAdjusted):
            cash += event.cash
    assert test.engine.state.portfolio.accounts["main"].cash == cash == test.broker.books.cash
    (reconciled,) = of(test, e.ReconcileCompleted)
    assert reconciled.breaks == 0


def of(test: Backtest, *kinds: type) -> list[Any]:
    """The events of these kinds, in order."""
    return [record.event for record in test.journal.records if isinstance(record.event, kinds)]


def fills(test: Backtest) -> list[tuple[str, str, str, str, int]]:
    """(symbol, side, quantity, price, minutes after the first open) of each fill."""
    return [
        (f.symbol, str(f.side), str(f.qty), str(f.price), (f.ts - FIRST) // MINUTE) for f in of(test, e.OrderFilled)
    ]


def denials(test: Backtest) -> list[str]:
    """The reasons of each denial."""
    return [str(event.reason) for event in of(test, e.OrderDenied)]
