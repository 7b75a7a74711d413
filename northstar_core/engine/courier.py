"""Carries messages between strategies, the engine and brokers, and writes each down before anybody acts on it.

The one order of things in every driver: a message is numbered and written down; the engine decides; its facts are numbered and
written down; then strategies are told and brokers are asked. A backtest and the gateway differ in whom ``tell`` and ``send`` reach,
and in when: at once in a backtest, once the record is durable in the gateway.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Protocol

from northstar_core.engine.engine import Engine
from northstar_core.model import events as e
from northstar_core.model.execution import AccountActivity, ExecutionReport
from northstar_core.model.order import PlaceOrder


class Log(Protocol):
    """Numbers events and keeps them; ``model.journal.Journal`` is one."""

    @property
    def seq(self) -> int:
        """The last number given."""

    def append(self, event: e.Event, ts: int, cause: int = 0) -> int:
        """Write an event down and return its number."""

    def extend(self, events: Sequence[e.Event], ts: int, cause: int) -> int:
        """Write down what follows from one cause at one time, and return the number of the first."""


class Host(Protocol):
    """A strategy, here or behind a socket. What it asks for gathers in ``outbox``, or comes later by itself."""

    strategy_id: str
    outbox: list[Any]

    def deliver(self, event: Any) -> None:
        """Give the strategy an event."""


class Courier:
    """Carries messages; decides nothing."""

    engine: Engine
    journal: Any  #: a Log
    hosts: dict[str, Any]  #: Host by strategy

    def __init__(self, engine: Engine, journal: Log) -> None:
        self.engine, self.journal = engine, journal
        self.hosts = {}
        self.now = 0
        self.fills = 0
        self._submits: dict[str, int] = {}  #: order id to the seq of the last thing sent about it
        self._signals: dict[str, dict[int, int]] = {}  #: seq of a strategy's signals by their number
        self._agenda: list[tuple[int, int, Any, int]] = []
        self._agenda_n = 0

    def tell(self, host: Any, fact: Any, seq: int) -> None:
        """Give a strategy a fact of its own; ``seq`` is the fact's number."""
        host.deliver(fact)

    def send(self, fact: Any) -> Sequence[ExecutionReport | AccountActivity]:
        """Ask a broker for what a fact commands; returns what it answers at once."""
        raise NotImplementedError

    # ── carrying ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self, host: Any) -> None:
        """Carry what a strategy asked for to the engine, what the engine decided to the broker, and the answers back."""
        outbox, ask = host.outbox, self.ask
        while outbox:
            asked: list[Any] = outbox[:]
            outbox.clear()
            for message in asked:
                ask(message, self.journal.seq)

    def ask(self, message: Any, basis: int) -> int:
        """Carry one message of a strategy, which had seen the log up to ``basis``; returns its number.

        What it follows from is what the message says it has seen. One that was asked for in the strategy's name says nothing; it
        follows from ``basis``.
        """
        append, kind = self.journal.append, type(message)
        if kind is PlaceOrder:
            signals = self._signals.get(message.strategy, {})
            seq: int = append(message, message.ts, signals.get(message.signal, message.basis_seq or basis))
            self.facts(self.engine.handle(message), message.ts, seq)
        elif kind is e.Signal:
            seq = append(message, message.ts, message.basis_seq)
            self._signals.setdefault(message.strategy, {})[message.n] = seq
        elif kind is e.SetTimer:
            fired = e.TimerFired(max(message.at, message.ts), message.strategy, message.name)
            seq = append(message, message.ts, basis)
            self.schedule(message.at, fired, seq)
        else:
            seq = append(message, message.ts, message.basis_seq or basis)
            if kind is not e.NoSignal:
                self.facts(self.engine.handle(message), message.ts, seq)
        return seq

    def facts(self, facts: Sequence[Any], ts: int, cause: int) -> None:
        """Write down what the engine made of something that happened at ``ts``; then act on it: tell the strategy, then the broker."""
        if not facts:
            return
        seq, hosts = self.journal.extend(facts, ts, cause), self.hosts
        for fact in facts:
            kind = type(fact)
            if kind is e.OrderSubmitted:
                host = hosts.get(fact.order.strategy)
            elif kind is e.OrderFilled:
                host = hosts.get(fact.strategy)
                self.fills += 1
            else:
                host = hosts.get(getattr(fact, "strategy", ""))
            if host is not None:
                self.tell(host, fact, seq)
            if kind is e.OrderSubmitted:
                self._submits[fact.order.order_id] = seq
                self.reports(self.send(fact))
            elif kind is e.CancelSubmitted or kind is e.ReplaceSubmitted:
                self._submits[fact.order_id] = seq
                self.reports(self.send(fact))
            if host is not None and host.outbox:
                self.drain(host)
            seq += 1

    def reports(self, reports: Sequence[ExecutionReport | AccountActivity]) -> None:
        """Write down what a broker says, and what follows from it."""
        append, handle, submits = self.journal.append, self.engine.handle, self._submits
        for report in reports:
            cause = submits.get(report.order_id, 0) if type(report) is ExecutionReport else 0
            seq = append(report, report.ts, cause)
            self.facts(handle(report), report.ts, seq)

    def enter(self, event: Any) -> int:
        """Write an input down and let the engine take it, before anybody listens; returns its number."""
        seq: int = self.journal.append(event, event.ts)
        for fact in self.engine.handle(event):
            self.journal.append(fact, fact.ts, seq)
        return seq

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def schedule(self, ts: int, what: e.Clock, cause: int = 0) -> None:
        """Put a session's open or close, or a timer, on the agenda."""
        self._agenda_n += 1
        heapq.heappush(self._agenda, (ts, self._agenda_n, what, cause))

    def fire(self) -> None:
        """Let the first thing on the agenda happen."""
        _, _, what, cause = heapq.heappop(self._agenda)
        if isinstance(what, e.TimerFired):
            seq = self.journal.append(what, what.ts, cause)
            targets = [host] if (host := self.hosts.get(what.strategy)) is not None else []
        else:
            seq = self.session(what)
            targets = list(self.hosts.values())
        for host in targets:
            self.tell(host, what, seq)
            if host.outbox:
                self.drain(host)

    def session(self, what: e.SessionOpened | e.SessionClosed) -> int:
        """A session opens or closes, for the engine; returns its number. Drivers add their brokers."""
        seq: int = self.journal.append(what, what.ts, 0)
        self.engine.observe(what)
        return seq
