"""The auditor's own fold: what the log says about cash, positions, orders, limits and sessions, up to any place of it.

It takes every event as it stands, also a wrong one: whether the event was allowed is for the checks. Memory is bound
to open orders and positions; an order that ended leaves a few bytes of index and a record in a temporary file, for
late fills and repeated ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from northstar_core.audit.books import ZERO, Book, Legs
from northstar_core.audit.ids import Shelf
from northstar_core.audit.orders import FORCED, TRIGGERS, Family, Order, Terms, content, filled_after
from northstar_core.model import events as e
from northstar_core.model.account import AccountLimits, StrategyLimits
from northstar_core.model.errors import DataError
from northstar_core.model.execution import BrokerSnapshot, ExecutionReport
from northstar_core.model.instrument import Equity, instrument
from northstar_core.model.journal import plain
from northstar_core.model.order import (
    TERMINAL,
    CancelOrder,
    PlaceOrder,
    ReplaceOrder,
    Side,
    Trigger,
    next_status,
)

LATE_REPORTS = 4096


class Account:
    """Cash, the account's own lines, and its strategies' lines, each folded for itself."""

    __slots__ = ("book", "broker", "cash", "strategies")

    def __init__(self, broker: str, cash: Decimal) -> None:
        self.broker, self.cash = broker, cash
        self.book = Book()
        self.strategies: dict[str, Book] = {}

    def of(self, strategy: str) -> Book:
        """Return a strategy's book."""
        found = self.strategies.get(strategy)
        if found is None:
            found = self.strategies[strategy] = Book()
        return found


class Fold:
    """Everything the log says, up to the last event applied."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.open: dict[str, Order] = {}
        self.ended: Shelf[Terms] = Shelf(Terms)
        self.families: dict[str, Family] = {}
        self.strategy_limits: dict[str, StrategyLimits] = {}
        self.account_limits: dict[str, AccountLimits] = {}
        self.limit_names: dict[str, str] = {}
        self.grants: dict[tuple[str, str], tuple[str, ...]] = {}
        self.session_open = self.session_close = 0
        self.today = ""
        self.snapshots: dict[str, tuple[int, BrokerSnapshot]] = {}  #: the broker's last, by account, with its number
        self.late_reports: dict[int, ExecutionReport] = {}  #: the broker's latest messages about orders that had ended
        self.intents: dict[int, Any] = {}  #: orders, cancels and replaces that wait for their decision, by number
        self.appliers: dict[type, Callable[[Any, int, int], None]] = {
            e.AccountOpened: self._opened,
            e.SessionOpened: self._session_opened,
            e.SessionClosed: self._session_closed,
            e.LimitsChanged: self._limits,
            e.GrantChanged: self._grant,
            BrokerSnapshot: self._snapshot,
            ExecutionReport: self._report,
            PlaceOrder: self._intent,
            CancelOrder: self._intent,
            ReplaceOrder: self._intent,
            e.OrderDenied: self._denied,
            e.OrderSubmitted: self._submitted,
            e.OrderFilled: self._filled,
            e.PositionAdjusted: self._adjusted,
            e.ReplaceSubmitted: self._replace_submitted,
            e.OrderReplaced: self._replaced,
            e.RequestRejected: self._request_rejected,
            **dict.fromkeys(
                (e.OrderAccepted, e.OrderRejected, e.OrderCanceled, e.OrderExpired, e.OrderUnknown, e.CancelSubmitted),
                self._moved,
            ),
        }

    def apply(self, event: e.Event, seq: int, cause: int) -> None:
        """Take one event in."""
        applier = self.appliers.get(type(event))
        if applier is not None:
            applier(event, seq, cause)

    def close(self) -> None:
        """Let go of the temporary file."""
        self.ended.close()

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def account(self, name: str) -> Account:
        """Return an account; one that never opened has no cash."""
        found = self.accounts.get(name)
        if found is None:
            found = self.accounts[name] = Account("", ZERO)
        return found

    def known(self, order_id: str) -> Order | Terms | None:
        """Return an order, open or ended."""
        return self.open.get(order_id) or self.ended.get(order_id)

    def books(self) -> e.Books:
        """Return cash, holdings and working orders in their canonical form."""
        holdings = sorted(
            (name, strategy, symbol, plain(line.qty))
            for name, account in self.accounts.items()
            for strategy, book in account.strategies.items()
            for symbol, line in book.lines.items()
            if line.qty
        )
        return e.Books(
            {name: plain(self.accounts[name].cash) for name in sorted(self.accounts)},
            tuple(e.Holding(*holding) for holding in holdings),
            tuple(
                e.Working(order.id, order.status, plain(order.cum), plain(order.qty - order.cum))
                for _, order in sorted(self.open.items())
            ),
        )

    def working(self, strategy: str) -> Iterator[Order]:
        """Yield a strategy's working orders."""
        return (order for order in self.open.values() if order.strategy == strategy)

    # ── taking in ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _opened(self, event: e.AccountOpened, seq: int, cause: int) -> None:
        self.accounts[event.account] = Account(event.broker, event.cash)

    def _session_opened(self, event: e.SessionOpened, seq: int, cause: int) -> None:
        self.session_open, self.session_close, self.today = event.ts, event.close, event.label

    def _session_closed(self, event: e.SessionClosed, seq: int, cause: int) -> None:
        self.session_open = self.session_close = 0

    def _limits(self, event: e.LimitsChanged, seq: int, cause: int) -> None:
        self.limit_names[event.scope] = event.name
        if event.strategy_limits is not None:
            self.strategy_limits[event.scope] = event.strategy_limits
        if event.account_limits is not None:
            self.account_limits[event.scope] = event.account_limits

    def _grant(self, event: e.GrantChanged, seq: int, cause: int) -> None:
        self.grants[event.strategy, event.account] = event.symbols

    def _snapshot(self, event: BrokerSnapshot, seq: int, cause: int) -> None:
        self.snapshots[event.account] = (seq, event)

    def _report(self, event: ExecutionReport, seq: int, cause: int) -> None:
        order = self.open.get(event.order_id)
        if order is not None:
            order.reports[seq] = event
        elif event.order_id in self.ended:
            self.late_reports[seq] = event
            if len(self.late_reports) > LATE_REPORTS:
                del self.late_reports[next(iter(self.late_reports))]

    def _intent(self, event: Any, seq: int, cause: int) -> None:
        self.intents[seq] = event

    def _denied(self, event: e.OrderDenied, seq: int, cause: int) -> None:
        self.intents.pop(cause, None)

    def _submitted(self, event: e.OrderSubmitted, seq: int, cause: int) -> None:
        intent = self.intents.pop(cause, None)
        order_id = event.order.order_id
        if order_id in self.open or order_id in self.ended:
            return
        try:
            order = Order(event.order, seq, content(intent) if isinstance(intent, PlaceOrder) else None)
        except DataError:
            return
        self.open[order_id] = order
        if order.parent:
            family = self.families.get(order.parent)
            if family is None:
                entry = self.known(order.parent)
                family = self.families[order.parent] = Family(ZERO if entry is None else entry.cum)
            family.children.append(order)
        self.weigh(order)

    def _moved(self, event: Any, seq: int, cause: int) -> None:
        self.intents.pop(cause, None)
        order = self.open.get(event.order_id)
        if order is not None:
            self.move(order, TRIGGERS[type(event)])

    def _replace_submitted(self, event: e.ReplaceSubmitted, seq: int, cause: int) -> None:
        self.intents.pop(cause, None)
        order = self.open.get(event.order_id)
        if order is not None:
            order.pending = event.qty
            order.authorised = max(order.authorised, event.qty)
            self.move(order, Trigger.REPLACE_REQUEST)

    def _replaced(self, event: e.OrderReplaced, seq: int, cause: int) -> None:
        order = self.open.get(event.order_id)
        if order is not None:
            order.qty, order.limit, order.stop, order.pending = event.qty, event.limit_price, event.stop_price, None
            order.authorised = max(event.qty, order.cum)
            self.move(order, Trigger.REPLACE)

    def _request_rejected(self, event: e.RequestRejected, seq: int, cause: int) -> None:
        order = self.open.get(event.order_id)
        if order is not None:
            if event.request == "replace":
                order.pending = None
            self.move(order, Trigger.REQUEST_REJECT)

    def _filled(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        signed = event.qty if event.side is Side.BUY else -event.qty
        try:
            multiplier = instrument(event.symbol).multiplier
        except DataError:
            multiplier = 1
        account = self.account(event.account)
        account.cash -= signed * event.price * multiplier + event.fees
        account.book.shift(event.symbol, signed)
        order = self.open.get(event.order_id)
        ended = None if order is not None else self.ended.get(event.order_id)
        owner = order or ended or event
        # The strategy's side is folded by the order, the account's by the fill: so they can differ, and are compared.
        self.account(owner.account).of(owner.strategy).shift(event.symbol, signed)
        if order is not None:
            cum = filled_after(order.symbol, order.instrument, order.cum, order.leg_fills, event.symbol, event.qty)
            order.leg_fills[event.symbol] = order.leg_fills.get(event.symbol, ZERO) + event.qty
            order.cum = cum
            self.move(order, Trigger.LAST_FILL if cum >= order.qty else Trigger.PARTIAL_FILL)
        elif ended is not None:
            ended.cum = filled_after(
                ended.symbol, instrument(ended.symbol), ended.cum, ended.leg_fills, event.symbol, event.qty
            )
            ended.leg_fills[event.symbol] = ended.leg_fills.get(event.symbol, ZERO) + event.qty
            self.ended.put(event.order_id, ended)
            if event.order_id in self.families:
                self.families[event.order_id].entry_cum = ended.cum
                self._weigh_family(event.order_id)

    def _adjusted(self, event: e.PositionAdjusted, seq: int, cause: int) -> None:
        account = self.account(event.account)
        account.cash += event.cash
        if event.symbol and event.qty:
            account.book.shift(event.symbol, event.qty)
            account.of(event.strategy).shift(event.symbol, event.qty)

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def move(self, order: Order, trigger: Trigger) -> None:
        """Take an order to where a fact puts it, allowed or not."""
        after = next_status(order.status, trigger, partly_filled=order.cum > 0)
        order.status = FORCED[trigger] if after is None else after
        if order.id in self.families:
            self.families[order.id].entry_cum = order.cum
        self.weigh(order)
        if order.status in TERMINAL:
            del self.open[order.id]
            self.ended.put(order.id, order.ended())
            if order.parent:
                self.families[order.parent].children.remove(order)
            for parent in (order.parent, order.id):
                if parent in self.families and not self.families[parent].children and parent not in self.open:
                    del self.families[parent]

    def weigh(self, order: Order) -> None:
        """Bring what is reserved for an order, and for its bracket, up to date."""
        if order.parent:
            self._weigh_family(order.parent)
            return
        if order.id in self.families:
            self._weigh_family(order.id)
        self.reserve(order, order.at_most)

    def _weigh_family(self, parent: str) -> None:
        """Count one exit of a bracket, the larger, never more than was entered; none before its entry fills."""
        family = self.families[parent]
        working = [child for child in family.children if child.working]
        counted = max(working, key=lambda child: child.at_most, default=None) if family.entry_cum else None
        for child in family.children:
            self.reserve(child, min(child.at_most, family.entry_cum) if child is counted else ZERO)

    def reserve(self, order: Order, qty: Decimal) -> None:
        """Set the quantity of an order whose exposure is counted, in its strategy's book and its account's."""
        change = qty - order.reserved
        if not change:
            return
        order.reserved = qty
        account = self.account(order.account)
        for book in (account.book, account.of(order.strategy)):
            options: Legs = {}
            for leg in order.instrument.legs:
                units = change * abs(leg.ratio)
                buying = (order.side is Side.BUY) == (leg.ratio > 0)
                book.shift(leg.instrument.symbol, buys=units if buying else ZERO, sells=ZERO if buying else units)
                if not isinstance(leg.instrument, Equity):
                    options[leg.instrument] = qty * leg.ratio * order.side.sign
            if options and qty:
                book.option_orders[order.id] = options
            else:
                book.option_orders.pop(order.id, None)
