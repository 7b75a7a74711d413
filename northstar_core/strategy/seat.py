"""A strategy fed from the desk's log, event by numbered event: in its kernel while it happens, and in a replay afterwards."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from decimal import Decimal, FloatOperation, localcontext
from typing import Any, Protocol

import msgspec

from northstar_core.model import events as e
from northstar_core.model.account import Position
from northstar_core.model.instrument import instrument
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import Held, OpenSession, StopRequested, Works
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.host import StrategyHost, Ticket

KEPT = 5_000  #: bars of a symbol kept for ``ctx.history``


class Place(Protocol):
    """Where a session stands as it begins; ``model.wire.Welcome`` and ``model.world.SessionBegan`` say it."""

    strategy: str
    account: str
    session: str
    n: int
    cash: Decimal
    held: tuple[Held, ...]
    works: tuple[Works, ...]
    opened: OpenSession | None
    state: dict[str, Any]


class Listener(Protocol):
    """Hears what the strategy hears."""

    def market(self, event: MarketEvent) -> None:
        """A market event."""

    def heard(self, seq: int, event: Any) -> None:
        """Any other event, with its number."""

    def note(self, seq: int, event: Any) -> None:
        """What the strategy asked for, after it had seen the log up to ``seq``."""


class FedSeat:
    """Hosts a strategy whose events come with the desk's numbers."""

    def __init__(self, strategy: Strategy, place: Any, seq: int, listener: Listener | None = None) -> None:
        self.strategy, self.place, self.listener = strategy, place, listener
        self.seq = seq
        self.resumed_at = 0  #: last number handled when a dropped connection came back
        self.asked: list[Any] = []
        self.stopping: StopRequested | None = None
        self.marks: dict[str, MarketEvent] = {}
        self.bars: dict[str, deque[Bar]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._before: list[Bar] = []
        self._state = msgspec.json.encode(place.state, order="sorted") if place.state else b""
        self.host = host = StrategyHost(
            strategy, account=place.account, session=place.session, marks=self.marks, seq=lambda: self.seq, cash=place.cash,
            strategy_id=place.strategy,
        )  # fmt: skip
        host.n = place.n
        host.history = lambda symbol, n: list(self.bars[symbol])[-n:] if n > 0 else []
        if place.opened is not None:
            host.session = e.SessionOpened(place.opened.ts, place.opened.label, place.opened.close)
        host.ctx.state.update(place.state)
        for held in place.held:
            position = host.positions[held.symbol] = Position(held.symbol, instrument(held.symbol).multiplier)
            for qty, price in held.lots:
                position.shift(qty, price)
        for works in place.works:
            ticket = Ticket(works.order, works.qty, works.filled_qty, works.status)
            host.tickets[ticket.order_id] = host.working[ticket.order_id] = ticket

    def before(self, bars: Iterable[Bar]) -> None:
        """Take bars from before the session, oldest first; they are shown when it starts."""
        self._before.extend(bars)

    def take(self, events: Iterable[tuple[int, Any]]) -> list[Any]:
        """Give the strategy events, one by one, and return what it asks for, in order.

        Raises
        ------
        StrategyError
            If the author's code raises; carries the event. ``asked`` holds what it had asked for before.
        """
        self.asked = []
        with localcontext() as context:
            context.traps[FloatOperation] = True
            for seq, event in events:
                if seq <= self.resumed_at:
                    continue  # given again after a dropped connection
                self.seq = seq
                self._give(seq, event)
        return self.asked

    def changed_state(self) -> bytes | None:
        """Return the strategy's ``ctx.state`` as JSON where it has changed since it was last asked for.

        Raises
        ------
        StrategyError
            If it holds what JSON cannot.
        """
        state = self.host.ctx.state
        if not state and not self._state:
            return None
        try:
            now = msgspec.json.encode(state, order="sorted")
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise self.host.failed(self.host.ctx.event, TypeError(f"ctx.state: {error}; keep what JSON can hold")) from None
        if now == self._state:
            return None
        self._state = now
        return now

    def state(self) -> bytes | None:
        """Return the strategy's ``ctx.state`` as it was last asked for; None where there never was any."""
        return self._state or None

    @property
    def quiet(self) -> bool:
        """Whether nothing of the strategy works any more."""
        return not self.host.working and not self.host.closing

    def _give(self, seq: int, event: Any) -> None:
        kind, listener = type(event), self.listener
        if kind is Bar or kind is Quote or kind is Trade:
            if kind is not Trade or event.forms_price:
                self.marks[event.symbol] = event
            if kind is Bar:
                self.bars[event.symbol].append(event)
            if listener is not None:
                listener.market(event)
        elif listener is not None:
            listener.heard(seq, event)
        if kind is StopRequested:
            self.stopping = event
            self._deliver(e.StrategyStopped(event.ts, self.host.strategy_id, event.reason))
            return
        self._deliver(event)
        if kind is e.StrategyStarted:
            self._warm_up()

    def _deliver(self, event: Any) -> None:
        host = self.host
        try:
            host.deliver(event)
        finally:
            if host.outbox:
                self.asked.extend(host.outbox)
                if self.listener is not None:
                    for message in host.outbox:
                        self.listener.note(self.seq, message)
                host.outbox.clear()

    def _warm_up(self) -> None:
        """Show the strategy the bars from before; it sees them as any, and what it asks for meanwhile goes nowhere."""
        host, n = self.host, self.host.n
        for bar in self._before:
            self.bars[bar.symbol].append(bar)
            self.marks[bar.symbol] = bar
            host.deliver(bar)
            for message in host.outbox:
                if type(message) is PlaceOrder:  # not what it would cancel or change: that works on
                    host.tickets.pop(message.order_id, None)
                    host.working.pop(message.order_id, None)
            host.outbox.clear()
        host.n = n
        host.closing.clear()
        host.reasons.clear()
        host.signals.clear()
        self._before.clear()
