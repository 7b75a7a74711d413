"""The backtest: a loop over a tape that carries messages between strategies, the engine and a simulated broker.

It decides nothing. Per bar it moves time on, asks whether an order works, notes the price and calls the strategy; everything else
happens only when something happens. Order of things at one instant: what was due before it (timers, sessions, broker answers); the
opens and ranges of the bars that close at it, for the orders that work; then each bar, in the order of the tape, to its strategies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, FloatOperation, localcontext
from typing import Any

import msgspec

from northstar_core.engine.courier import Courier
from northstar_core.engine.engine import Engine
from northstar_core.engine.portfolio import mark_price
from northstar_core.engine.risk import Rule
from northstar_core.model import events as e
from northstar_core.model.account import Grant
from northstar_core.model.errors import ParameterError, StrategyError
from northstar_core.model.events import OrderSubmitted
from northstar_core.model.execution import AccountActivity, ExecutionReport
from northstar_core.model.journal import Journal
from northstar_core.model.limit_sets import LimitSet, default_limits
from northstar_core.model.market import Bar, MarketEvent, Quote
from northstar_core.model.tape import Tape
from northstar_core.research.feed import BLOCK, Chunk, Feed
from northstar_core.research.plugins import Simulator
from northstar_core.research.result import Result
from northstar_core.research.wanted import listens, wanted
from northstar_core.sim.broker import SimBroker
from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import NEVER
from northstar_core.sim.model import SimModel
from northstar_core.sim.ticks import tick_symbols
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.host import StrategyHost

ACCOUNT = "main"


class Progress(msgspec.Struct, frozen=True):
    """How far a run is."""

    rows: int  #: consumed
    total: int
    ts: int  #: time reached, ns UTC
    orders: int
    fills: int


class Backtest(Courier):
    """One run: strategies, a tape, an engine, a broker, a journal.

    Parameters
    ----------
    strategies
        One or more; each gets the bars of its ``symbols`` and of options on them.
    tape
        What happens.
    cash
        Opening cash of the account, in dollars. Each strategy's bankroll is all of it.
    limits
        Limit set of every strategy and of the account; by default ``default_limits``.
    model
        How the simulated broker behaves.
    rules
        Plugged-in risk rules, asked before the built-in checks.
    simulator
        What makes the simulated broker; by default ``SimBroker``.
    code
        Names of pieces of code and their sha256, for the record.
    """

    def __init__(
        self,
        strategies: Strategy | Sequence[Strategy],
        tape: Tape,
        *,
        cash: Decimal = Decimal(100_000),
        limits: LimitSet | None = None,
        model: SimModel | None = None,
        rules: tuple[Rule, ...] = (),
        simulator: Callable[..., Simulator] | None = None,
        code: Mapping[str, str] | None = None,
    ) -> None:
        strategies = [strategies] if isinstance(strategies, Strategy) else list(strategies)
        ids = [strategy.strategy_id for strategy in strategies]
        if not ids or len(set(ids)) < len(ids):
            raise ParameterError(f"strategies {ids}: give one or more with different names")
        self.strategies = strategies
        self.model = model or SimModel()
        self.tape = wanted(tape, strategies, fills_on_ticks=self.model.fill_at is FillAt.QUOTE)
        self.feed = Feed(self.tape)
        self.cash = cash
        self.limits = limits or default_limits(cash, daily=tape.daily)
        self.code = dict(code or {})
        super().__init__(Engine(rules), Journal())
        ticks = tick_symbols(self.tape, self.model.fill_at)
        self.broker: Simulator = (simulator or SimBroker)(
            ACCOUNT, cash, self.model, self.tape.actions, ticks=ticks, prices=self._price, closed=bool(tape.sessions)
        )
        self._last: Any = self.engine.state.marks if ticks or self.model.fill_at is not FillAt.NEXT_OPEN else None
        self.outcome, self.detail = "running", ""
        self.seconds = 0.0
        self._read = 0  #: rows already declared by a TapeRead
        marks = self.engine.state.marks
        session = self._session_label()
        for strategy in strategies:
            host = StrategyHost(
                strategy, account=ACCOUNT, session=session, marks=marks, seq=self.journal.last, cash=cash
            )
            host.history = lambda symbol, n: self.feed.history(symbol, n, self.journal.ticks)
            self.hosts[strategy.strategy_id] = host
        self._listeners = {
            symbol: [host for host in self.hosts.values() if listens(host.strategy, symbol)] for symbol in self.tape.symbols
        }

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Result:
        """Run to the end and return the result.

        Raises
        ------
        StrategyError
            If a strategy raises; what was done until then is in ``journal`` and in the error's ``result``.
        """
        for progress in self.steps():
            if on_progress is not None:
                on_progress(progress)
        return self.result()

    def steps(self) -> Generator[Progress]:
        """Run a chunk of the tape at a time; between chunks a caller may show how far it is."""
        started = time.perf_counter()
        try:
            with localcontext() as context:
                context.traps[FloatOperation] = True
                self._open()
            for chunk in self.feed.chunks():
                with localcontext() as context:
                    context.traps[FloatOperation] = True
                    self._play(chunk)
                yield self.progress()
            with localcontext() as context:
                context.traps[FloatOperation] = True
                self._close("completed")
        except StrategyError as error:
            self._close("failed", str(error))
            raise
        except (KeyboardInterrupt, GeneratorExit):
            self._close("stopped", "interrupted")
            raise
        finally:
            self.seconds = time.perf_counter() - started

    def progress(self) -> Progress:
        """Return how far the run is."""
        return Progress(self.journal.ticks, self.feed.rows, self.now, len(self.engine.state.blotter.orders), self.fills)

    def result(self) -> Result:
        """Return what the run left, finished or not."""
        return Result(
            journal=self.journal, tape=self.tape, cash=self.cash, strategies=self.strategies, limits=self.limits,
            assumptions=self.model.assumptions(), outcome=self.outcome, detail=self.detail, seconds=self.seconds,
        )  # fmt: skip

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _play(self, chunk: Chunk) -> None:
        hosts = list(self.hosts.values())
        if chunk.bars is not None and len(hosts) == 1 and not hosts[0].warming:
            self._play_bars(chunk.bars, chunk.first, hosts[0])
        else:
            self._play_events(chunk.events(), chunk.first)
        if self.journal.ticks // BLOCK > chunk.first // BLOCK:
            self._declare()

    def _play_bars(self, bars: list[Bar], first: int, host: StrategyHost) -> None:
        """Every row is a bar and every bar goes to one warm strategy: the loop that has to be fast."""
        journal, marks, working = self.journal, self.engine.state.marks, self.broker.working
        ctx, outbox, on_bar = host.ctx, host.outbox, host.strategy.on_bar
        now, due = self.now, self._due()
        bar = None
        try:
            for n, bar in enumerate(bars, first + 1):
                ts = bar.ts
                if ts != now:
                    if due < ts:
                        self._advance(ts)
                        due = self._due()
                    if working:
                        self._match(bars, n - first - 1)
                        due = self._due()
                    self.now = host.clock = now = ts
                marks[bar.symbol] = bar
                journal.ticks = n
                ctx.event = bar
                on_bar(ctx, bar)
                if outbox:
                    self.drain(host)
                    due = self._due()
        except StrategyError:
            raise
        except Exception as error:
            if ctx.event is bar and _raised_in(error, on_bar):
                raise host.failed(bar, error) from error
            raise

    def _play_events(self, events: list[MarketEvent], first: int) -> None:
        """Any mix of bars, quotes and trades, any number of strategies, warming or not."""
        journal, engine, broker = self.journal, self.engine, self.broker
        listeners = self._listeners
        for n, event in enumerate(events, first + 1):
            ts, kind = event.ts, type(event)
            if ts != self.now:
                if self._due() < ts:
                    self._advance(ts)
                if broker.working:
                    self._match(events, n - first - 1)
                self.now = ts
            engine.observe(event)
            journal.ticks = n
            if broker.working and kind is not Bar:
                self.reports(broker.on_quote(event) if kind is Quote else broker.on_trade(event))  # type: ignore[arg-type]
            for host in listeners[event.symbol]:
                host.deliver(event)
                if host.outbox:
                    self.drain(host)

    def _match(self, events: Sequence[MarketEvent], at: int) -> None:
        """Let the broker fill what works on the bars that close at the instant of ``events[at]``."""
        working, ts = self.broker.working, events[at].ts
        bars: list[Bar] = []
        for k in range(at, len(events)):
            event = events[k]
            if event.ts != ts:
                break
            if type(event) is Bar and event.symbol in working:
                bars.append(event)
        if bars:
            self.reports(self.broker.on_bars(bars))

    def _price(self, symbol: str) -> float | None:
        """The latest price of a symbol, for the broker's expiries and corporate actions."""
        event = self.engine.state.marks.get(symbol)
        return mark_price(event) if event is not None else None

    # ── carrying messages ─────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, fact: Any) -> Sequence[ExecutionReport | AccountActivity]:
        """Ask the simulated broker."""
        kind = type(fact)
        if kind is OrderSubmitted:
            return self.broker.submit(fact.order, fact.ts, self._last)
        if kind is e.CancelSubmitted:
            return self.broker.cancel(fact.order_id, fact.ts)
        return self.broker.replace(fact.order_id, fact.qty, fact.limit_price, fact.stop_price, fact.ts)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _due(self) -> int:
        """When something other than the tape happens next."""
        agenda, broker = self._agenda, self.broker.next_due
        return broker if not agenda or broker < agenda[0][0] else agenda[0][0]

    def _advance(self, until: int) -> None:
        """Let everything happen that is due before ``until``."""
        while (due := self._due()) < until:
            self.now = max(self.now, due)
            if self.broker.next_due <= due:
                self.reports(self.broker.advance(due))
                continue
            self.fire()

    def session(self, what: e.SessionOpened | e.SessionClosed) -> int:
        """A session opens or closes: for the engine, then for the broker, who may expire orders and adjust positions."""
        seq = super().session(what)
        if isinstance(what, e.SessionOpened):
            self.reports(self.broker.on_session_open(what.ts, what.label))
        else:
            self.reports(self.broker.on_session_close(what.ts, what.label))
            self._declare()
            self._snapshot(what.ts)
        return seq

    # ── beginning and end ─────────────────────────────────────────────────────────────────────────────────────────────

    def _session_label(self) -> str:
        """The date of the first session: in every id, the same in every mode."""
        if self.tape.sessions:
            return f"{self.tape.sessions[0].label:%Y%m%d}"
        first = self.feed.first_ts
        return datetime.fromtimestamp(first // 10**9, UTC).strftime("%Y%m%d")

    def _open(self) -> None:
        """Enter everything that may change a decision, then start the strategies."""
        tape, limits = self.tape, self.limits
        ts = min([self.feed.first_ts, *(s.open for s in tape.sessions[:1])])
        self.now = ts
        self.journal.append(
            e.RunStarted(
                ts=ts,
                strategies={s.strategy_id: msgspec.to_builtins(s.params) for s in self.strategies},
                code=self.code,
                data=tuple(e.DataManifest(name=s.name, layout=s.layout, sha256=s.sha256, rows=s.rows) for s in tape.sources),
                symbols=tape.symbols,
                assumptions=self.model.assumptions(),
            ),
            ts,
        )
        self.enter(e.AccountOpened(ts=ts, account=ACCOUNT, broker="simulated", cash=self.cash))
        scope = f"account:{ACCOUNT}"
        self.enter(e.SetLimits(ts=ts, scope=scope, name=limits.name, who="researcher", account_limits=limits.account))
        for host in self.hosts.values():
            scope = f"strategy:{host.strategy_id}"
            self.enter(e.SetLimits(ts=ts, scope=scope, name=limits.name, who="researcher", strategy_limits=limits.strategy))
            self.enter(Grant(ts=ts, strategy=host.strategy_id, account=ACCOUNT, symbols=tuple(host.strategy.symbols)))
        for session in tape.sessions:
            label = session.label.isoformat()
            self.schedule(session.open, e.SessionOpened(session.open, label, session.close))
            self.schedule(session.close, e.SessionClosed(session.close, label))
        for host in self.hosts.values():
            started = e.StrategyStarted(ts, host.strategy_id, ACCOUNT, self._session_label(), host.strategy.warm_up)
            self.journal.append(started, ts)
            host.deliver(started)
            self.drain(host)

    def _declare(self) -> None:
        """Declare which rows were consumed since the last time."""
        ticks = self.journal.ticks
        if ticks > self._read:
            digest = self.feed.digest(self._read, ticks)
            read = e.TapeRead(ts=self.now, table=self.feed.table, first_row=self._read, rows=ticks - self._read, digest=digest)
            self.journal.append(read, self.now)
            self._read = ticks

    def _snapshot(self, ts: int) -> None:
        """Put the books on the record."""
        self.journal.append(self.engine.snapshot(ts), ts, self.journal.seq)

    def _close(self, outcome: str, detail: str = "") -> None:
        """Stop the strategies, compare the books with the broker's, and end the journal."""
        if self.outcome != "running":
            return
        self.outcome, self.detail = outcome, detail
        if outcome == "completed":
            self._advance(self._last_close() + 1)
        for host in self.hosts.values():
            stopped = e.StrategyStopped(self.now, host.strategy_id, outcome)
            self.journal.append(stopped, self.now)
            if outcome == "completed":
                host.deliver(stopped)
                self.drain(host)
        self._declare()
        while self.broker.next_due < NEVER:  # what is still on the wire arrives after the last row
            self.reports(self.broker.advance(self.broker.next_due))
        snapshot = self.broker.snapshot(self.now)
        seq = self.journal.append(snapshot, self.now)
        for fact in self.engine.handle(snapshot):
            self.journal.append(fact, self.now, seq)
        self._snapshot(self.now)
        self.journal.append(e.RunFinished(ts=self.now, outcome=outcome, detail=detail), self.now)

    def _last_close(self) -> int:
        """The close of the session the tape ends in; where the tape ends outside of one, its last time."""
        return max([self.now, *(s.close for s in self.tape.sessions if s.open <= self.now <= s.close)])


def _raised_in(error: BaseException, handler: Callable[..., Any]) -> bool:
    """Whether an exception came through a strategy's handler."""
    code, tb = getattr(handler, "__code__", None), error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code is code:
            return True
        tb = tb.tb_next
    return False
