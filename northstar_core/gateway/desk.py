"""The desk: one engine, its log, the strategies in session and the accounts, wired for whoever drives it. No sockets here.

Inputs come in by the methods ``market``, ``claim``, ``ask`` and ``operate``; each is numbered, decided and written down before the
call returns. What follows leaves through ``outgoing`` once it is durable: facts and market events to sessions, orders to brokers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from northstar_core.engine.courier import Courier
from northstar_core.engine.engine import Engine
from northstar_core.engine.reconcile import UNASSIGNED, compare
from northstar_core.engine.risk import Rule
from northstar_core.gateway.log import DeskLog, Store
from northstar_core.gateway.outgoing import Outgoing
from northstar_core.gateway.routes import Entry, Routes
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.execution import AccountActivity, ActivityKind, BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.model.order import CancelOrder, OrderStatus, PlaceOrder, ReplaceOrder
from northstar_core.model.tick_digest import TABLE, TickDigest
from northstar_core.model.wire import item
from northstar_core.model.world import AlertRaised

log = logging.getLogger("northstar.gateway")

#: How many ticks at most lie between two declarations of what was consumed.
DECLARE = 5_000

#: How far market events may be ahead of the desk's clock and still count as now, ns: clocks differ.
AHEAD = 1_000_000_000

TICKS = frozenset({Bar, Quote, Trade, Halt})

Claim = Any  #: what a broker says, see brokers.base


class Seat(Protocol):
    """A strategy in session, as the desk sees it."""

    strategy_id: str
    account: str
    outbox: list[Any]

    def queue(self, seq: int, event: Any, data: bytes) -> None:
        """Take an event with its number, encoded."""

    def queue_ticks(self, entries: list[Entry]) -> None:
        """Take market events; the list is others' too."""

    def listens(self, symbol: str) -> bool:
        """Whether it wants anything of a symbol."""

    def hears(self, event: MarketEvent) -> bool:
        """Whether it wants a market event of a symbol it listens to; of quotes and prints, all of a symbol or none."""


class Dispatch(Protocol):
    """Sends to an account's broker."""

    def act(self, fact: Any) -> None:
        """Do what a fact commands: an order, a cancel, a replace."""

    def refusal(self, fact: Any) -> str:
        """Why it may not be sent now; empty if it may."""


class Desk(Courier):
    """Everything the gateway knows and decides.

    Parameters
    ----------
    log
        Where events are numbered.
    store
        Where they become durable.
    now
        The desk's time, ns UTC.
    """

    def __init__(
        self, log: DeskLog, store: Store, now: Callable[[], int], *, rules: tuple[Rule, ...] = (), durable: int = 0
    ) -> None:
        super().__init__(Engine(rules), log)
        self.log, self.store, self.clock = log, store, now
        self.outgoing = Outgoing(durable, lambda error: self.alert("critical", "gateway", f"{type(error).__name__}: {error}"))
        self.dispatchers: dict[str, Dispatch] = {}
        self.papers: list[Callable[[Sequence[MarketEvent]], None]] = []  #: simulated brokers, who fill on what they see
        self.session_listeners: list[Callable[[Any], None]] = []
        self.followers: list[Callable[[int, Any, bytes], None]] = []
        self.on_fact: list[Callable[[int, Any], None]] = []  #: called at once; for what the gateway itself has to do
        self.on_sent: Callable[[int], None] = lambda asked: None  #: called with the time at which an order was asked for that has left
        self._routes = Routes(self.hosts.values)
        self._declared = log.ticks
        self._digest = TickDigest()
        self._latest = 0  #: time of the latest market event

    # ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def market(self, events: Iterable[Any]) -> None:
        """Take what a feed brought: market events, and what it says about itself."""
        run: list[MarketEvent] = []
        for event in events:
            if type(event) in TICKS:
                run.append(event)
            else:
                self._ticks(run)
                run = []
                self.note(event)
        self._ticks(run)
        if self.log.ticks - self._declared >= DECLARE:
            self.declare()
        self.settle()

    def _ticks(self, run: list[MarketEvent]) -> None:
        """Number market events, let them set marks, and show them to strategies in session and to simulated brokers."""
        if not run:
            return
        marks, observe, take, latest = self.engine.state.marks, self.engine.observe, self._routes.take, self._latest
        seq = self.log.read(run)
        self._digest.extend(run)
        for event in run:
            if type(event) is Quote or type(event) is Bar:
                marks[event.symbol] = event
            else:
                observe(event)
            take(seq, event)
            if event.ts > latest:
                latest = event.ts
            if type(event) is Halt:
                self._news(seq, event)
            seq += 1
        self._latest = latest
        for seat, entries in self._routes.given():
            self.outgoing.after(self.log.last_event, seat.queue_ticks, entries)
        for paper in self.papers:
            paper(run)

    def claim(self, event: Claim) -> None:
        """Take what a broker says."""
        if isinstance(event, ExecutionReport | AccountActivity):
            self.reports([event])
        else:
            self.note(event)
        self.settle()

    def asked(self, message: Any, basis: int) -> None:
        """Take what a strategy or a person asks for, judged at the desk's time; whatever time it says is not believed."""
        now = self.clock()
        if now < self._latest <= now + AHEAD:
            now = self._latest  # a price that is ahead of our clock is no stale one
        if isinstance(message, PlaceOrder | ReplaceOrder | CancelOrder):
            message = msgspec.structs.replace(message, ts=now)
        self.ask(message, basis)
        self.settle()

    def operate(self, event: e.Operator) -> int:
        """Take a limit, a grant or a trading state; returns its number."""
        seq: int = self.log.append(event, event.ts)
        self._news(seq, event)
        self.facts(self.engine.handle(event), event.ts, seq)
        self.settle()
        return seq

    def note(self, event: Any, cause: int = 0) -> int:
        """Put on the record what has no bearing on the books; returns its number."""
        seq: int = self.log.append(event, event.ts, cause)
        self._news(seq, event)
        for listener in self.on_fact:
            listener(seq, event)
        return seq

    def alert(self, severity: str, about: str, text: str) -> None:
        """Raise an alert."""
        self.note(AlertRaised(self.clock(), severity, about, text))
        self.settle()

    def settle(self) -> None:
        """Hand what was written down to the store."""
        self.log.hand_over(self.store)

    # ── what follows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, host: Any, fact: Any, seq: int) -> None:
        """Queue a fact for its strategy."""
        self.outgoing.after(seq, host.queue, seq, fact, item(seq, fact))

    def send(self, fact: Any) -> Sequence[Any]:
        """Queue an order, a cancel or a replace for its broker."""
        if isinstance(fact, e.OrderSubmitted):
            account, order_id = fact.order.account, fact.order.order_id
        else:
            account, order_id = fact.account, fact.order_id
        self.outgoing.after(self._submits[order_id], self._dispatch, account, fact)
        return ()

    def facts(self, facts: Sequence[Any], ts: int, cause: int) -> None:
        """As every courier's; followers are told too, and the gateway's own duties."""
        if not facts:
            return
        first = self.log.seq + 1
        super().facts(facts, ts, cause)
        for seq, fact in enumerate(facts, first):
            self._news(seq, fact)
            for listener in self.on_fact:
                listener(seq, fact)

    def _dispatch(self, account: str, fact: Any) -> None:
        """The record is durable: send it, if nothing that happened since forbids it."""
        dispatcher = self.dispatchers.get(account)
        refusal = "the account has no broker" if dispatcher is None else dispatcher.refusal(fact)
        strategy = fact.order.strategy if isinstance(fact, e.OrderSubmitted) else fact.strategy
        if not refusal and not isinstance(fact, e.CancelSubmitted) and self.killed(strategy, account):
            refusal = "killed after it was decided"
        order_id = fact.order.order_id if isinstance(fact, e.OrderSubmitted) else fact.order_id
        if dispatcher is not None and not refusal:
            try:
                dispatcher.act(fact)
            except Exception as error:  # whether anything left, nobody knows
                log.exception("sending %s", order_id)
                self.claim(ExecutionReport(self.clock(), order_id, ExecType.UNKNOWN, text=f"{type(error).__name__}: {error}"))
                return
            if isinstance(fact, e.OrderSubmitted):
                self.on_sent(fact.order.ts)
            return
        is_order, is_cancel = isinstance(fact, e.OrderSubmitted), isinstance(fact, e.CancelSubmitted)
        kind = ExecType.REJECTED if is_order else ExecType.CANCEL_REJECTED if is_cancel else ExecType.REPLACE_REJECTED
        self.claim(ExecutionReport(self.clock(), order_id, kind, text=f"not sent: {refusal}"))

    def killed(self, strategy: str, account: str) -> bool:
        """Whether the kill switch is on for a strategy, its account or the desk."""
        states = self.engine.state.states
        scopes = ("desk", f"account:{account}", f"strategy:{strategy}")
        return any(states.get(scope) is TradingState.KILLED for scope in scopes)

    def _news(self, seq: int, event: Any) -> None:
        if self.followers:
            data = item(seq, event)
            for follower in self.followers:
                self.outgoing.after(seq, follower, seq, event, data)

    # ── sessions and clockwork ────────────────────────────────────────────────────────────────────────────────────────

    def seat(self, seat: Any) -> None:
        """Let a strategy in session hear."""
        self.hosts[seat.strategy_id] = seat
        self._routes.clear()

    def unseat(self, seat: Any) -> None:
        """A strategy hears no more."""
        name = seat.strategy_id
        if self.hosts.get(name) is seat:
            del self.hosts[name]
            self._routes.clear()

    @property
    def next_due(self) -> int:
        """When the next thing on the agenda is due, ns UTC; far away where there is none."""
        return self._agenda[0][0] if self._agenda else 2**62

    def advance(self) -> None:
        """Let happen what is due by now."""
        while self._agenda and self._agenda[0][0] <= self.clock():
            self.fire()
        self.settle()

    def session(self, what: e.SessionOpened | e.SessionClosed) -> int:
        """A session opens or closes: for the engine, simulated brokers and followers."""
        seq = super().session(what)
        self._news(seq, what)
        for listener in self.session_listeners:
            listener(what)
        for told in self.on_fact:
            told(seq, what)
        if isinstance(what, e.SessionClosed):
            self.declare()
            self.take_snapshot()
        return seq

    def declare(self) -> None:
        """Declare which ticks were consumed since the last time."""
        rows = self.log.ticks - self._declared
        if rows:
            ts = self.clock()
            read = e.TapeRead(ts=ts, table=TABLE, first_row=self._declared, rows=rows, digest=self._digest.take())
            self._declared = self.log.ticks
            self.log.append(read, ts)

    def consumed_before(self, declared: int, undeclared: Sequence[MarketEvent]) -> None:
        """Take note, after a restart, of how many ticks were declared and which were consumed since."""
        self._declared = declared
        for tick in undeclared:
            self._digest.add(tick)

    def take_snapshot(self) -> None:
        """Put the books on the record."""
        ts = self.clock()
        self.log.append(self.engine.snapshot(ts), ts, self.log.seq)

    # ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def open_account(self, name: str, broker: str, snapshot: BrokerSnapshot) -> None:
        """Open an account with what its broker says it holds; positions belong to nobody until a person assigns them."""
        if name in self.engine.state.portfolio.accounts:
            return
        opened = e.AccountOpened(ts=snapshot.ts, account=name, broker=broker, cash=snapshot.cash)
        self._news(self.enter(opened), opened)
        for held in snapshot.positions:
            mark = self.engine.state.marks.get(held.symbol)
            price = Decimal(str(mark.price)) if mark is not None and not isinstance(mark, Halt) else Decimal(0)
            self.reports(
                [
                    AccountActivity(
                        snapshot.ts, name, ActivityKind.EXTERNAL, f"opening:{held.symbol}", held.symbol, held.qty,
                        Decimal(0), price, UNASSIGNED, "held before the desk opened",
                    )
                ]
            )  # fmt: skip
        self.settle()

    def differences(self, snapshot: BrokerSnapshot) -> list[e.BreakFound]:
        """How the books differ from a broker's snapshot, without a record of it."""
        return compare(self.engine.state, snapshot)

    def reconcile(self, snapshot: BrokerSnapshot) -> list[Any]:
        """Compare the books with a broker's snapshot, on the record; returns the facts."""
        seq = self.log.append(snapshot, snapshot.ts)
        facts = self.engine.handle(snapshot)
        self.facts(facts, snapshot.ts, seq)
        self.settle()
        return facts

    def working(self, account: str = "", strategy: str = "") -> list[Any]:
        """Orders that may still fill."""
        return [
            order
            for order in self.engine.state.blotter.working.values()
            if (not account or order.intent.account == account) and (not strategy or order.intent.strategy == strategy)
        ]

    def order(self, order_id: str) -> PlaceOrder | None:
        """An order of ours by its id."""
        found = self.engine.state.blotter.orders.get(order_id)
        return None if found is None else found.intent

    def is_unknown(self, order_id: str) -> bool:
        """Whether an order's outcome is unknown."""
        found = self.engine.state.blotter.orders.get(order_id)
        return found is not None and found.status is OrderStatus.UNKNOWN
