"""What a session heard, kept as a run: so that the cells below a live run show the same tables and figures as below a backtest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from northstar_core.model import events as e
from northstar_core.model.account import AccountLimits, StrategyLimits
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument
from northstar_core.model.journal import Journal, Record
from northstar_core.model.limit_sets import LimitSet
from northstar_core.model.market import Bar, Quote
from northstar_core.model.tape import BarTable, QuoteTable, Session, Source, Tape
from northstar_core.model.wire import Welcome
from northstar_core.research.result import Result
from northstar_core.strategy.base import Strategy

MINUTE_NS = 60 * 10**9


class Heard:
    """The events of a session with the desk's own numbers, its bars, and one quote a symbol and minute."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.bars: list[Bar] = []
        self.quotes: dict[tuple[str, int], Quote] = {}
        self.sessions: dict[str, Session] = {}
        self.cash = Decimal(0)
        self.rehearsed = False
        self.assumptions: dict[str, str] = {}
        self.limits = ""
        self.bar_ns = 0

    def begin(self, welcome: Welcome, strategy: Strategy, code: dict[str, str]) -> None:
        """A session began, or began anew."""
        cost = sum((qty * price * instrument(h.symbol).multiplier for h in welcome.held for qty, price in h.lots), Decimal(0))
        if not self.journal.records:
            self.cash, self.bar_ns, self.limits = welcome.cash + cost, welcome.bar_ns, welcome.limits
            self.rehearsed = welcome.rehearsed
            self.assumptions = {
                "account": welcome.account,
                "broker": f"{welcome.broker}{', simulated' if welcome.simulated else ''}",
                "prices": "played by a twin on this machine" if welcome.rehearsed else "the feed's",
                "clock": "the wall's" if welcome.speed == 1 else f"{welcome.speed:g} times as fast as the wall's",
            }
            self.note(welcome.seq, e.RunStarted(
                ts=welcome.now, strategies={welcome.strategy: msgspec.to_builtins(strategy.params)}, code=code,
                symbols=tuple(strategy.symbols), assumptions=self.assumptions,
            ))  # fmt: skip
            self.note(welcome.seq, e.AccountOpened(
                ts=welcome.now, account=welcome.account, broker=welcome.broker, cash=self.cash
            ))  # fmt: skip
            for held in welcome.held:
                for n, (qty, price) in enumerate(held.lots):
                    self.note(welcome.seq, e.PositionAdjusted(
                        welcome.now, welcome.strategy, welcome.account, held.symbol, ActivityKind.DELIVERY, f"held:{held.symbol}:{n}",
                        qty, -qty * price * instrument(held.symbol).multiplier, price, "held as the session began",
                    ))  # fmt: skip
        if welcome.opened is not None:
            self._session(e.SessionOpened(welcome.opened.ts, welcome.opened.label, welcome.opened.close))

    def note(self, seq: int, event: Any, cause: int = 0) -> None:
        """Keep an event under the desk's number."""
        self.journal.records.append(Record(seq, event.ts, cause, event))

    def market(self, event: Any) -> None:
        """Keep a market event."""
        self.journal.ticks += 1
        if type(event) is Bar:
            self.bars.append(event)
        elif type(event) is Quote:
            self.quotes[event.symbol, event.ts // MINUTE_NS] = event

    def _session(self, opened: e.SessionOpened) -> None:
        self.sessions[opened.label] = Session(date.fromisoformat(opened.label), opened.ts, opened.close)

    def heard(self, seq: int, event: Any) -> None:
        """Keep whatever came."""
        if type(event) is e.SessionOpened:
            self._session(event)
        self.note(seq, event)

    def tape(self) -> Tape:
        """Return the market as the session saw it."""
        bars = sorted(self.bars, key=lambda bar: (bar.ts, bar.symbol))
        quotes = sorted(self.quotes.values(), key=lambda quote: (quote.ts, quote.symbol))
        layout = "synthetic" if self.rehearsed else "live"
        return Tape(
            bars=_bar_table(bars), quotes=_quote_table(quotes) if quotes else None, bar_ns=self.bar_ns,
            sessions=tuple(self.sessions[label] for label in sorted(self.sessions)),
            sources=(Source(name="feed", layout=layout, sha256="", rows=self.journal.ticks),),
        )  # fmt: skip

    def result(self, strategy: Strategy, outcome: str, detail: str, seconds: float) -> Result:
        """Return what the session left so far."""
        return Result(
            journal=self.journal, tape=self.tape(), cash=self.cash, strategies=[strategy],
            limits=LimitSet(name=self.limits, strategy=StrategyLimits(), account=AccountLimits()),
            assumptions=self.assumptions, outcome=outcome, detail=detail, seconds=seconds,
        )  # fmt: skip


def _codes(rows: Sequence[Any]) -> tuple[tuple[str, ...], Any]:
    symbols = tuple(sorted({row.symbol for row in rows}))
    index = {symbol: n for n, symbol in enumerate(symbols)}
    return symbols, np.array([index[row.symbol] for row in rows], np.int32)


def _bar_table(bars: list[Bar]) -> BarTable:
    symbols, code = _codes(bars)
    columns: dict[str, Any] = {
        name: np.array([getattr(bar, name) for bar in bars], np.int64 if name in ("start", "ts") else np.float64)
        for name in BarTable.columns
    }
    return BarTable(symbols=symbols, code=code, **columns)


def _quote_table(quotes: list[Quote]) -> QuoteTable:
    symbols, code = _codes(quotes)
    columns: dict[str, Any] = {
        name: np.array([getattr(quote, name) for quote in quotes], np.int64 if name == "ts" else np.float64)
        for name in QuoteTable.columns
    }
    return QuoteTable(symbols=symbols, code=code, **columns)
