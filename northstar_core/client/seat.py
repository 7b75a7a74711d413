"""A strategy in a live session: batches of events in, messages for the gateway out. No sockets here."""

from __future__ import annotations

from collections import defaultdict, deque
from decimal import FloatOperation, localcontext
from typing import Any

from northstar_core.client.heard import Heard
from northstar_core.model import events as e
from northstar_core.model.account import Position
from northstar_core.model.instrument import instrument
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.wire import Batch, History, Welcome
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.host import StrategyHost, Ticket

KEPT = 5_000  #: bars of a symbol kept for ``ctx.history``


class LiveSeat:
    """Hosts a strategy whose events come from a gateway."""

    def __init__(self, strategy: Strategy, welcome: Welcome, heard: Heard) -> None:
        self.strategy, self.welcome, self.heard = strategy, welcome, heard
        self.seq = welcome.seq
        self.resumed_at = 0  #: last number handled when a dropped connection came back
        self.marks: dict[str, MarketEvent] = {}
        self.bars: dict[str, deque[Bar]] = defaultdict(lambda: deque(maxlen=KEPT))
        self.host = host = StrategyHost(
            strategy, account=welcome.account, session=welcome.session, marks=self.marks, seq=lambda: self.seq, cash=welcome.cash,
            strategy_id=welcome.strategy,
        )  # fmt: skip
        host.n = welcome.n
        host.history = self.history
        host.session = welcome.opened
        for held in welcome.held:
            position = host.positions[held.symbol] = Position(held.symbol, instrument(held.symbol).multiplier)
            for qty, price in held.lots:
                position.shift(qty, price)
        for works in welcome.works:
            ticket = Ticket(works.order, works.qty, works.filled_qty, works.status)
            host.tickets[ticket.order_id] = host.working[ticket.order_id] = ticket
        self.asked: list[Any] = []
        self._before: list[Bar] = []  #: from before the session
        self.ready = False  #: whether they have all come

    def history(self, symbol: str, n: int) -> list[Bar]:
        """Return up to ``n`` bars of a symbol that have closed, oldest first."""
        return list(self.bars[symbol])[-n:]

    def before(self, history: History) -> None:
        """Take bars from before the session."""
        self._before.extend(history.bars)
        self.ready = history.last

    def take(self, batch: Batch) -> list[Any]:
        """Give the strategy a batch, event by event, and return what it asks for, in order.

        Raises
        ------
        StrategyError
            If the author's code raises; carries the event. ``asked`` holds what it had asked for before.
        """
        self.asked = []
        with localcontext() as context:
            context.traps[FloatOperation] = True
            for seq, event in batch.events:
                if seq <= self.resumed_at:
                    continue  # given again after a dropped connection
                self.seq = seq
                self._give(seq, event)
        return self.asked

    def _give(self, seq: int, event: Any) -> None:
        kind = type(event)
        if kind is Bar or kind is Quote or (kind is Trade and event.forms_price):
            self.marks[event.symbol] = event
        if kind is Bar:
            self.bars[event.symbol].append(event)
        if isinstance(event, Bar | Quote | Trade):
            self.heard.market(event)
        else:
            self.heard.heard(seq, event)
        if kind is e.StrategyStarted:
            self.deliver(event)
            self._warm_up()
        else:
            self.deliver(event)

    def deliver(self, event: Any) -> None:
        """Give the strategy an event and collect what it asks for."""
        host = self.host
        try:
            host.deliver(event)
        finally:
            for message in host.outbox:
                self.asked.append(message)
                self.heard.note(self.seq, message)
            host.outbox.clear()

    def _warm_up(self) -> None:
        """Show the strategy the bars from before; it sees them as any, and what it asks for meanwhile goes nowhere."""
        host, n = self.host, self.host.n
        for bar in self._before:
            self.bars[bar.symbol].append(bar)
            self.marks[bar.symbol] = bar
            host.deliver(bar)
            for message in host.outbox:
                if (order_id := getattr(message, "order_id", "")) in host.tickets:
                    host.tickets.pop(order_id, None)
                    host.working.pop(order_id, None)
            host.outbox.clear()
        host.n = n
        host.reasons.clear()
        self._before.clear()

    def stop(self, ts: int, reason: str) -> list[Any]:
        """Let the strategy end its session: ``on_stop``."""
        self.asked = []
        with localcontext() as context:
            context.traps[FloatOperation] = True
            self.deliver(e.StrategyStopped(max(ts, self.host.clock), self.host.strategy_id, reason))
        return self.asked

    @property
    def quiet(self) -> bool:
        """Whether nothing of the strategy works any more."""
        return not self.host.working and not self.host.closing

