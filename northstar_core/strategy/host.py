"""The strategy's side of the wall: events in, intents out. Pure; the same in a backtest, in a kernel and in a replay."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, FloatOperation
from typing import Any

import msgspec

from northstar_core.model import events as e
from northstar_core.model.account import Position
from northstar_core.model.denial import SENTENCES
from northstar_core.model.errors import StrategyError
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument
from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.model.order import TERMINAL, OrderStatus, PlaceOrder, Side
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.context import Context
from northstar_core.strategy.records import finite

ZERO = Decimal(0)
Outgoing = e.Intent | e.Decision


class Ticket(msgspec.Struct, eq=False, gc=False):
    """An own order as its strategy sees it; follows the order's life."""

    order: PlaceOrder
    qty: Decimal
    filled_qty: Decimal = ZERO
    status: OrderStatus | None = None  #: None until it is submitted
    denied: str = ""  #: the reason, where it was

    order_id = property(lambda self: self.order.order_id)
    symbol = property(lambda self: self.order.symbol)
    parent = property(lambda self: self.order.parent)

    @property
    def side(self) -> Side:
        """Which way it trades."""
        return self.order.side

    @property
    def is_working(self) -> bool:
        """Whether it may still fill; true from the moment it is asked for."""
        return not self.denied and self.status not in TERMINAL

    @property
    def leaves_qty(self) -> Decimal:
        """What may still fill."""
        return self.qty - self.filled_qty if self.is_working else ZERO

    def __repr__(self) -> str:
        """Side, quantity, symbol and where it stands."""
        where = f"denied: {self.denied}" if self.denied else f"{self.status or 'asked for'}, {self.filled_qty} filled"
        return f"<{self.order.order_id} {self.order.side} {self.qty} {self.order.symbol}: {where}>"


class StrategyHost:
    """Runs one strategy: hands it its events and collects what it asks for in ``outbox``.

    Parameters
    ----------
    strategy
        The author's object.
    account
        Where its orders go.
    session
        In every id it makes; the same session makes the same ids again.
    marks
        Latest market event by symbol, kept by the driver.
    seq
        Returns the number of the last input this strategy has seen.
    cash
        Its bankroll.
    strategy_id
        Its name on the desk, where that is not the author's: a strategy that runs twice has two.
    """

    def __init__(
        self, strategy: Strategy, *, account: str, session: str, marks: dict[str, MarketEvent], seq: Callable[[], int], cash: Decimal,
        strategy_id: str = "",
    ) -> None:
        self.strategy = strategy
        self.strategy_id = strategy_id or strategy.strategy_id
        self.account = account
        self.id_prefix = f"{self.strategy_id}-{session}-"
        self.cash = cash
        self.n = 0
        self.clock = 0  #: latest market event handed over; a report may tell of an earlier instant
        self.closing: dict[str, dict[str, Any]] = {}  #: symbols to close once their orders have ended, with the order's terms
        self.outbox: list[Outgoing] = []
        self.tickets: dict[str, Ticket] = {}
        self.working: dict[str, Ticket] = {}
        self.positions: dict[str, Position] = {}
        self.signals: dict[str, tuple[Any, int]] = {}
        self.reasons: dict[str, str] = {}
        self.session: e.SessionOpened | None = None
        self.history: Callable[[str, int], list[Bar]] = lambda symbol, n: []
        self.probe: Callable[[e.NoSignal], None] | None = None  #: a replay's: sees every reason, also repeated ones
        self.ctx = Context(self, marks, seq)
        self._need = strategy.warm_up
        self._have: dict[str, int] = {}
        self._wants_order = type(strategy).on_order is not Strategy.on_order
        self._wants_fill = type(strategy).on_fill is not Strategy.on_fill
        ctx = self.ctx
        self._handlers: dict[type, Callable[[Any], None]] = {
            Bar: self._bar,
            Quote: self._quote,
            Trade: self._trade,
            Halt: lambda event: None,
            e.GrantChanged: lambda event: None,
            e.OrderSubmitted: self._submitted,
            e.OrderAccepted: self._accepted,
            e.OrderFilled: self._filled,
            e.TimerFired: lambda event: strategy.on_timer(ctx, event),
            e.SessionOpened: self._session_opened,
            e.SessionClosed: lambda event: strategy.on_session_close(ctx, event),
            e.PositionAdjusted: self._adjusted,
            e.StrategyStarted: lambda event: strategy.on_start(ctx),
            e.StrategyStopped: lambda event: strategy.on_stop(ctx),
        }  #: any other event is about an own order

    # ── events in ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: Any) -> list[Outgoing]:
        """Give the strategy one event and return what it asked for."""
        self.deliver(event)
        asked, self.outbox[:] = list(self.outbox), []
        return asked

    def deliver(self, event: Any) -> None:
        """Give the strategy one event; what it asks for gathers in ``outbox``.

        Raises
        ------
        StrategyError
            If the author's code raises; carries the event.
        """
        self.ctx.event = event
        try:
            self._handlers.get(type(event), self._moved)(event)
        except Exception as error:
            raise self.failed(event, error) from error

    def _quote(self, quote: Quote) -> None:
        self.clock = quote.ts
        self.strategy.on_quote(self.ctx, quote)

    def _trade(self, trade: Trade) -> None:
        self.clock = trade.ts
        self.strategy.on_trade(self.ctx, trade)

    def _bar(self, bar: Bar) -> None:
        self.clock = bar.ts
        if self._need:
            self._count(bar.symbol)
        self.strategy.on_bar(self.ctx, bar)

    def _session_opened(self, event: e.SessionOpened) -> None:
        self.session = event
        self.strategy.on_session_open(self.ctx, event)

    def failed(self, event: Any, error: Exception) -> StrategyError:
        """Return an author's exception with the event that caused it."""
        if isinstance(error, StrategyError):
            return error
        if isinstance(error, FloatOperation):  # says nothing by itself
            error = TypeError("a Decimal met a float; write float(a) or Decimal(str(b)) to say which is meant")
        return StrategyError(self.strategy_id, _handler(event), event, error)

    @property
    def warming(self) -> bool:
        """Whether some symbol has not yet had the bars the strategy asked for."""
        return bool(self._need)

    def _count(self, symbol: str) -> None:
        have = self._have.get(symbol, 0) + 1
        self._have[symbol] = have
        if have > self._need and all(n > self._need for n in self._have.values()) and set(self.strategy.symbols) <= self._have.keys():
            self._need = 0  # warm for good: from here on nothing is counted

    # ── intents out ───────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, order: PlaceOrder) -> Ticket:
        """Put an order in the outbox; while its symbol is still warming up, say so instead."""
        ticket = Ticket(order, order.qty)
        if self._need and self._have.get(order.symbol, 0) <= self._need and type(self.ctx.event) is Bar:
            have = self._have.get(order.symbol, 0)
            ticket.denied = "warm-up"
            if self.reasons.get(order.symbol) != "warm-up" or self.probe is not None:
                self.no_signal(order.ts, order.symbol, "warm-up", {"have": float(have), "need": float(self._need)}, order.basis_seq)
            return ticket
        self.tickets[order.order_id] = self.working[order.order_id] = ticket
        self.outbox.append(order)
        return ticket

    def no_signal(self, ts: int, symbol: str, reason: str, inputs: dict[str, float], basis_seq: int) -> None:
        """Record a reason for wanting nothing where it is new; show it to a probe in any case."""
        is_new = self.reasons.get(symbol) != reason
        if is_new:
            self.n += 1
            self.reasons[symbol] = reason
        record = e.NoSignal(ts, self.strategy_id, symbol, self.n, reason, finite(inputs), basis_seq)
        if is_new:
            self.outbox.append(record)
        if self.probe is not None:
            self.probe(record)

    # ── own books ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _position(self, symbol: str) -> Position:
        held = self.positions.get(symbol)
        if held is None:
            held = self.positions[symbol] = Position(symbol, instrument(symbol).multiplier)
        return held

    def _filled(self, fill: e.OrderFilled) -> None:
        self.cash += self._position(fill.symbol).trade(fill.side, fill.qty, fill.price, fill.fees)
        ticket = self.tickets.get(fill.order_id)
        if ticket is not None:
            ticket.filled_qty = fill.cum_qty
            if not fill.late:
                done = not fill.leaves_qty
                if done or ticket.status not in _ASKED:
                    ticket.status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
                if done:
                    self.working.pop(fill.order_id, None)
                    if self.closing:
                        self._close_idle(ticket.symbol)
        if self._wants_fill:
            self.strategy.on_fill(self.ctx, fill)
        if self._wants_order:
            self.strategy.on_order(self.ctx, fill)

    def _adjusted(self, event: e.PositionAdjusted) -> None:
        self.cash += event.cash
        if event.symbol and event.qty:
            self._position(event.symbol).adjust(event.qty, event.price, split=event.kind is ActivityKind.SPLIT)
        self.strategy.on_position(self.ctx, event)

    def _submitted(self, event: e.OrderSubmitted) -> None:
        order = event.order
        ticket = self.tickets.get(order.order_id)
        if ticket is not None:
            ticket.qty, ticket.status = order.qty, OrderStatus.PENDING_NEW
        if self._wants_order:
            self.strategy.on_order(self.ctx, event)

    def _accepted(self, event: e.OrderAccepted) -> None:
        ticket = self.tickets.get(event.order_id)
        if ticket is not None:
            if ticket.status is OrderStatus.PENDING_NEW:
                ticket.status = OrderStatus.NEW
            elif ticket.status is OrderStatus.UNKNOWN:
                ticket.status = OrderStatus.PARTIALLY_FILLED if ticket.filled_qty else OrderStatus.NEW
        if self._wants_order:
            self.strategy.on_order(self.ctx, event)

    def _moved(self, event: Any) -> None:
        ticket = self.tickets.get(event.order_id)
        if ticket is not None:
            self._moved_on(ticket, event)
        if self._wants_order:
            self.strategy.on_order(self.ctx, event)

    def _moved_on(self, ticket: Ticket, event: Any) -> None:
        """The rarer turns of an order's life."""
        kind = type(event)
        if kind is e.OrderDenied:
            if ticket.status is None:
                ticket.denied = f"{event.reason}: {SENTENCES[event.reason]} ({event.detail})"
        elif kind is e.OrderReplaced or kind is e.RequestRejected:
            if kind is e.OrderReplaced:
                ticket.qty = event.qty
            if kind is e.RequestRejected or ticket.status is not OrderStatus.PENDING_CANCEL:
                ticket.status = OrderStatus.PARTIALLY_FILLED if ticket.filled_qty else OrderStatus.NEW
        elif (status := _STATUS.get(kind)) is not None:
            ticket.status = status
        if not ticket.is_working:
            self.working.pop(ticket.order_id, None)
            if self.closing:
                self._close_idle(ticket.symbol)

    def _close_idle(self, symbol: str) -> None:
        """Close a symbol that is being flattened, once none of its orders works any more."""
        if symbol in self.closing and not any(ticket.symbol == symbol for ticket in self.working.values()):
            self.ctx.close(symbol, **self.closing.pop(symbol))


_ASKED = frozenset({OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE})  #: a part that fills answers neither

_STATUS: dict[type, OrderStatus] = {
    e.OrderRejected: OrderStatus.REJECTED,
    e.OrderCanceled: OrderStatus.CANCELED,
    e.OrderExpired: OrderStatus.EXPIRED,
    e.OrderUnknown: OrderStatus.UNKNOWN,
    e.CancelSubmitted: OrderStatus.PENDING_CANCEL,
    e.ReplaceSubmitted: OrderStatus.PENDING_REPLACE,
}

_HANDLERS: dict[type, str] = {
    Bar: "on_bar", Quote: "on_quote", Trade: "on_trade", e.OrderFilled: "on_fill", e.TimerFired: "on_timer",
    e.SessionOpened: "on_session_open", e.SessionClosed: "on_session_close", e.PositionAdjusted: "on_position",
    e.StrategyStarted: "on_start", e.StrategyStopped: "on_stop",
}  # fmt: skip


def _handler(event: Any) -> str:
    return _HANDLERS.get(type(event), "on_order")
