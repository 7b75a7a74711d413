"""The engine: one input in, the facts that follow out, in order. No I/O, no clock, no randomness.

``handle`` decides (reads only), then applies what it decided (the only writer of the books). ``restore`` applies without deciding:
a restart folds the facts and stands where it stood. Two kinds of state are kept apart: the books come from facts, the marks from
market events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from northstar_core.engine import reconcile
from northstar_core.engine.limits import Caps
from northstar_core.engine.oms import Order
from northstar_core.engine.risk import Rule, assess
from northstar_core.engine.state import State
from northstar_core.model import events as e
from northstar_core.model.account import Grant
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.errors import ProtocolError
from northstar_core.model.execution import AccountActivity, ActivityKind, BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.journal import books_digest, plain
from northstar_core.model.market import Bar, Halt, Quote, Trade
from northstar_core.model.order import (
    TERMINAL,
    TRANSITIONS,
    CancelOrder,
    OrderStatus,
    PlaceOrder,
    ReplaceOrder,
    Trigger,
)

ZERO, BILLION = Decimal(0), Decimal(10**9)
Facts = list[e.Fact]

#: What a report that is no fill does to an order.
TRIGGERS = {
    ExecType.NEW: Trigger.ACCEPT,
    ExecType.CANCELED: Trigger.CANCEL,
    ExecType.REPLACED: Trigger.REPLACE,
    ExecType.REJECTED: Trigger.REJECT,
    ExecType.EXPIRED: Trigger.EXPIRE,
    ExecType.CANCEL_REJECTED: Trigger.REQUEST_REJECT,
    ExecType.REPLACE_REJECTED: Trigger.REQUEST_REJECT,
    ExecType.UNKNOWN: Trigger.LOSE_SIGHT,
}

#: What a fact that only moves an order along its life does to it.
MOVES: dict[type, Trigger] = {
    e.OrderAccepted: Trigger.ACCEPT,
    e.OrderRejected: Trigger.REJECT,
    e.OrderCanceled: Trigger.CANCEL,
    e.OrderExpired: Trigger.EXPIRE,
    e.OrderUnknown: Trigger.LOSE_SIGHT,
    e.CancelSubmitted: Trigger.CANCEL_REQUEST,
}


class Engine:
    """Decides what follows from each input, and keeps the books that its facts write."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.state = State()
        self.rules = rules
        self._deciders: dict[type, Callable[[Any], Facts]] = {
            PlaceOrder: self._place,
            ReplaceOrder: self._replace,
            CancelOrder: self._cancel,
            ExecutionReport: self._report,
            AccountActivity: self._activity,
            BrokerSnapshot: self._snapshot,
            Grant: lambda x: [e.GrantChanged(x.ts, x.strategy, x.account, x.symbols)],
            e.SetLimits: lambda x: [
                e.LimitsChanged(
                    ts=x.ts, scope=x.scope, name=x.name, who=x.who, strategy_limits=x.strategy_limits,
                    account_limits=x.account_limits,
                )
            ],
            e.SetTradingState: lambda x: [
                e.TradingStateChanged(ts=x.ts, scope=x.scope, state=x.state, who=x.who, reason=x.reason)
            ],
        }
        self._appliers: dict[type, Callable[[Any], None]] = {
            e.OrderDenied: self._apply_denied,
            e.OrderSubmitted: self._apply_submitted,
            e.OrderFilled: self._apply_filled,
            **dict.fromkeys(MOVES, self._apply_moved),
            e.RequestRejected: self._apply_request_rejected,
            e.ReplaceSubmitted: self._apply_replace_submitted,
            e.OrderReplaced: self._apply_replaced,
            e.PositionAdjusted: self._apply_adjusted,
            e.GrantChanged: self._apply_grant,
            e.LimitsChanged: self._apply_limits,
            e.TradingStateChanged: self._apply_trading_state,
        }

    # ── the contract ──────────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, event: e.Input) -> Facts:
        """Decide what follows from one input, apply it, and return it in order: facts of the same time as the input.

        Raises
        ------
        ProtocolError
            For a message the engine does not know.
        """
        decide = self._deciders.get(type(event))
        if decide is None:
            self.observe(event)
            return []
        facts = decide(event)
        for fact in facts:
            apply = self._appliers.get(type(fact))
            if apply is not None:
                apply(fact)
        return facts

    def restore(self, facts: Iterable[e.Event]) -> None:
        """Apply facts without deciding; events that write nothing are passed over."""
        for fact in facts:
            apply = self._appliers.get(type(fact))
            if apply is not None:
                apply(fact)
            elif type(fact) in (e.AccountOpened, e.SessionOpened, e.SessionClosed, Halt):
                self.observe(fact)  # type: ignore[arg-type]

    def observe(self, event: e.Input) -> None:
        """Take note of what only informs decisions: prices, sessions, halts, an account's opening."""
        kind = type(event)
        state = self.state
        if kind is Bar or kind is Quote:
            state.marks[event.symbol] = event  # type: ignore[union-attr,assignment]
        elif isinstance(event, Trade):
            if event.forms_price:
                state.marks[event.symbol] = event
        elif isinstance(event, e.SessionOpened):
            state.session_open, state.session_close, state.today = event.ts, event.close, event.label
        elif isinstance(event, e.SessionClosed):
            state.session_open = state.session_close = 0
        elif isinstance(event, Halt):
            (state.halted.add if event.halted else state.halted.discard)(event.symbol)
        elif isinstance(event, e.AccountOpened):
            state.portfolio.open(event.account, event.cash)
        elif not isinstance(event, e.TimerFired | e.SetTimer):
            raise ProtocolError(f"the engine knows no {kind.__name__}: {event!r}")

    def books(self) -> e.Books:
        """Return the books in their canonical form."""
        accounts = self.state.portfolio.accounts
        holdings = sorted(
            (account.account, strategy, line.symbol, plain(line.qty))
            for account in accounts.values()
            for strategy, book in account.strategies.items()
            for line in book.lines.values()
            if line.qty
        )
        working = sorted(self.state.blotter.working.values(), key=lambda order: order.order_id)
        return e.Books(
            {name: plain(accounts[name].cash) for name in sorted(accounts)},
            tuple(e.Holding(*row) for row in holdings),
            tuple(e.Working(o.order_id, o.status, plain(o.cum_qty), plain(o.leaves_qty)) for o in working),
        )

    def snapshot(self, ts: int) -> e.SnapshotTaken:
        """Return the books as a fact, with their digest."""
        books = self.books()
        return e.SnapshotTaken(ts, books, books_digest(books))

    # ── decisions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _place(self, intent: PlaceOrder) -> Facts:
        order, verdict, denial = assess(intent, self.state, self.rules)
        if denial is not None:
            return [_denied(intent, intent.symbol, denial, verdict)]
        assert verdict is not None
        return [e.OrderSubmitted(intent.ts, order, verdict)]

    def _cancel(self, intent: CancelOrder) -> Facts:
        order = self.state.blotter.orders.get(intent.order_id)
        if order is None or order.intent.strategy != intent.strategy:
            return [_denied(intent, "", Denial(DenialReason.ORDER_UNKNOWN, f"order_id={intent.order_id}"))]
        if order.status in TERMINAL or order.status is OrderStatus.PENDING_CANCEL:
            return [_denied(intent, order.intent.symbol, Denial(DenialReason.ORDER_NOT_WORKING, f"status={order.status}"))]
        return [e.CancelSubmitted(intent.ts, intent.order_id, intent.strategy, order.intent.account, order.intent.symbol)]

    def _replace(self, intent: ReplaceOrder) -> Facts:
        order = self.state.blotter.orders.get(intent.order_id)
        if order is None or order.intent.strategy != intent.strategy:
            return [_denied(intent, "", Denial(DenialReason.ORDER_UNKNOWN, f"order_id={intent.order_id}"))]
        symbol = order.intent.symbol
        if order.status not in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED) or order.pending is not None:
            return [_denied(intent, symbol, Denial(DenialReason.ORDER_NOT_WORKING, f"status={order.status}"))]
        qty = intent.qty if intent.qty is not None else order.qty
        limit = intent.limit_price if intent.limit_price is not None else order.limit_price
        stop = intent.stop_price if intent.stop_price is not None else order.stop_price
        if not (qty.is_finite() and order.cum_qty < qty < BILLION):
            return [_denied(intent, symbol, Denial(DenialReason.ORDER_FIELDS_INVALID, f"qty={qty} filled={order.cum_qty}"))]
        # Judged as if it were a new order of the new size beside the books without the old one.
        blotter, reserved, strategy = self.state.blotter, order.reserved, order.intent.strategy
        account = self.state.portfolio.accounts[order.intent.account]
        trial = PlaceOrder(
            intent.ts, f"{intent.order_id}#replace", strategy, order.intent.account, symbol, order.side, qty - order.cum_qty,
            order.intent.order_type, limit, stop, order.intent.tif, order.intent.reduce_only, order.intent.parent,
            basis_seq=intent.basis_seq,
        )  # fmt: skip
        working = blotter.working
        blotter.working = {order_id: other for order_id, other in working.items() if other is not order}
        account.reserve(strategy, order, ZERO)
        try:
            judged, verdict, denial = assess(trial, self.state, self.rules)
        finally:
            blotter.working = working
            account.reserve(strategy, order, reserved)
        if denial is not None:
            return [_denied(intent, symbol, denial, verdict)]
        return [
            e.ReplaceSubmitted(
                intent.ts, intent.order_id, strategy, order.intent.account, symbol, judged.qty + order.cum_qty,
                judged.limit_price, judged.stop_price, verdict,
            )
        ]

    def _report(self, report: ExecutionReport) -> Facts:
        order = self.state.blotter.orders.get(report.order_id)
        if order is None:
            return [_break(report, "", "report", "no such order")]
        kind = report.exec_type
        if kind is ExecType.TRADE:
            return self._trade(report, order)
        if (order.status, TRIGGERS[kind]) not in TRANSITIONS:
            # Repeats and overtaken messages are everyday; they change nothing and are on the record as the input they are.
            return []
        intent = order.intent
        head = (report.ts, intent.order_id, intent.strategy, intent.account, intent.symbol)
        if kind is ExecType.NEW:
            return [e.OrderAccepted(*head)]
        if kind is ExecType.CANCELED:
            return [e.OrderCanceled(*head, order.cum_qty, report.text)]
        if kind is ExecType.EXPIRED:
            return [e.OrderExpired(*head, order.cum_qty, report.text)]
        if kind is ExecType.REJECTED:
            return [e.OrderRejected(*head, report.text)]
        if kind is ExecType.UNKNOWN:
            return [e.OrderUnknown(*head, report.text)]
        if kind is ExecType.REPLACED:
            return self._replaced(report, order)
        is_cancel = kind is ExecType.CANCEL_REJECTED
        asked = order.status is OrderStatus.PENDING_CANCEL if is_cancel else order.pending is not None
        if not asked and order.status is not OrderStatus.UNKNOWN:
            return []
        return [e.RequestRejected(*head, "cancel" if is_cancel else "replace", report.text)]

    def _replaced(self, report: ExecutionReport, order: Order) -> Facts:
        intent, terms = order.intent, order.pending or (order.qty, order.limit_price, order.stop_price)
        if order.pending is None and order.status is not OrderStatus.UNKNOWN:
            return []
        if not terms[0] > order.cum_qty:
            return [_break(report, intent.account, "report", f"replaced to {terms[0]}, {order.cum_qty} have filled")]
        return [e.OrderReplaced(report.ts, intent.order_id, intent.strategy, intent.account, intent.symbol, *terms)]

    def _trade(self, report: ExecutionReport, order: Order) -> Facts:
        blotter = self.state.blotter
        if (order.intent.account, report.exec_id) in blotter.exec_ids:
            return []
        if not (report.exec_id and report.qty.is_finite() and report.price.is_finite() and report.fees.is_finite()):
            return [_break(report, order.intent.account, "report", "an execution without an id or with a number that is none")]
        intent = order.intent
        symbol = report.symbol or intent.symbol
        if symbol == intent.symbol:
            side, booked, most = intent.side, order.cum_qty, order.qty
        else:
            leg = next((leg for leg in order.instrument.legs if leg.instrument.symbol == symbol), None)
            if leg is None:
                return [_break(report, intent.account, "report", f"fill of {symbol} for an order of {intent.symbol}")]
            side = intent.side if leg.ratio > 0 else intent.side.opposite
            booked, most = (order.leg_fills or {}).get(symbol, ZERO), order.qty * abs(leg.ratio)
        if not (report.qty > 0 and booked + report.qty <= most and (report.side is side or report.side is None)):
            return [_break(report, intent.account, "report", f"{report.side} {report.qty} {symbol} over the {order.qty} ordered")]
        cum = blotter.cum_after(order, symbol, report.qty)
        return [
            e.OrderFilled(
                report.ts, intent.order_id, intent.strategy, intent.account, symbol, side, report.qty, report.price, report.fees,
                report.exec_id, cum, order.qty - cum, order.status in TERMINAL,
            )
        ]

    def _activity(self, activity: AccountActivity) -> Facts:
        if (activity.account, activity.record_id) in self.state.blotter.exec_ids:
            return []
        account = self.state.portfolio.accounts.get(activity.account)
        if account is None:
            return [e.BreakFound(activity.ts, activity.account, "report", activity.record_id, "no such account", activity.text)]
        a = activity
        return [
            e.PositionAdjusted(a.ts, strategy, a.account, a.symbol, a.kind, a.record_id, qty, cash, a.price, a.text)
            for strategy, qty, cash in reconcile.shares(a, account, self.state.adjusted.get(a.text, {}))
        ]

    def _snapshot(self, snapshot: BrokerSnapshot) -> Facts:
        breaks = reconcile.compare(self.state, snapshot)
        return [*breaks, e.ReconcileCompleted(snapshot.ts, snapshot.account, len(breaks))]

    # ── books ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply_denied(self, fact: e.OrderDenied) -> None:
        blotter = self.state.blotter
        if fact.symbol and fact.order_id not in blotter.orders:  # without a symbol: of a cancel or replace of no order
            blotter.denied.add(fact.order_id)

    def _apply_submitted(self, fact: e.OrderSubmitted) -> None:
        state, intent = self.state, fact.order
        order = state.blotter.submit(intent)
        seat = state.seat(intent.strategy, intent.account)
        seat.rate.times.append(fact.ts)
        seat.account_rate.times.append(fact.ts)
        if intent.parent:
            self._reserve_family(intent.parent)
        else:
            state.portfolio.accounts[intent.account].reserve(intent.strategy, order, intent.qty)

    def _apply_moved(self, fact: Any) -> None:
        blotter = self.state.blotter
        order = blotter.orders[fact.order_id]
        blotter.move(order, MOVES[type(fact)])
        if order.status in TERMINAL:
            self._weigh(order)

    def _apply_filled(self, fact: e.OrderFilled) -> None:
        blotter, account = self.state.blotter, self.state.portfolio.accounts[fact.account]
        order = blotter.orders[fact.order_id]
        blotter.fill(order, fact)
        blotter.move(order, Trigger.PARTIAL_FILL if fact.leaves_qty else Trigger.LAST_FILL)
        if order.intent.parent or fact.order_id in blotter.children:
            account.trade(fact, order, order.reserved)
            self._weigh(order)
        else:
            account.trade(fact, order, ZERO if order.status in TERMINAL else order.authorised_qty - order.cum_qty)

    def _apply_replace_submitted(self, fact: e.ReplaceSubmitted) -> None:
        order = self.state.blotter.orders[fact.order_id]
        order.pending = (fact.qty, fact.limit_price, fact.stop_price)
        self.state.blotter.move(order, Trigger.REPLACE_REQUEST)
        self._weigh(order)

    def _apply_replaced(self, fact: e.OrderReplaced) -> None:
        order = self.state.blotter.orders[fact.order_id]
        order.qty, order.limit_price, order.stop_price = fact.qty, fact.limit_price, fact.stop_price
        order.pending = None
        self.state.blotter.move(order, Trigger.REPLACE)
        self._weigh(order)

    def _apply_request_rejected(self, fact: e.RequestRejected) -> None:
        order = self.state.blotter.orders[fact.order_id]
        if fact.request == "replace":  # a refused cancel says nothing of a replace that is still on its way
            order.pending = None
        self.state.blotter.move(order, Trigger.REQUEST_REJECT)
        self._weigh(order)

    def _apply_adjusted(self, fact: e.PositionAdjusted) -> None:
        self.state.blotter.exec_ids.add((fact.account, fact.record_id))
        account = self.state.portfolio.accounts[fact.account]
        account.adjust(
            fact.strategy, fact.symbol, fact.qty, fact.cash, fact.price, split=fact.kind is ActivityKind.SPLIT
        )
        self.state.adjusted.setdefault(fact.record_id, {})[fact.strategy] = fact.qty

    def _apply_grant(self, fact: e.GrantChanged) -> None:
        self.state.grants[fact.strategy, fact.account] = fact
        self.state.seats.clear()

    def _apply_limits(self, fact: e.LimitsChanged) -> None:
        limits = fact.strategy_limits if fact.strategy_limits is not None else fact.account_limits
        assert limits is not None
        self.state.caps[fact.scope] = Caps(fact.name, limits)
        self.state.seats.clear()

    def _apply_trading_state(self, fact: e.TradingStateChanged) -> None:
        self.state.states[fact.scope] = fact.state

    def _weigh(self, order: Order) -> None:
        """Bring what is reserved for an order up to date after its life moved on."""
        intent = order.intent
        if intent.parent or intent.order_id in self.state.blotter.children:
            self._reserve_family(intent.parent or intent.order_id)
            if intent.parent:
                return
        wanted = ZERO
        if order.status not in TERMINAL:
            wanted = order.authorised_qty - order.cum_qty
        self.state.portfolio.accounts[intent.account].reserve(intent.strategy, order, wanted)

    def _reserve_family(self, parent: str) -> None:
        """Count one exit of a bracket, the larger, and none before its entry has filled."""
        blotter = self.state.blotter
        entry = blotter.orders[parent]
        working = [child for child in blotter.children[parent] if child.working]
        counted = max(working, key=lambda child: child.at_most, default=None) if entry.cum_qty else None
        for child in blotter.children[parent]:
            wanted = min(child.at_most, entry.cum_qty) if child is counted else ZERO
            self.state.portfolio.accounts[child.intent.account].reserve(child.intent.strategy, child, wanted)


def _denied(intent: Any, symbol: str, denial: Denial, verdict: Any = None) -> e.OrderDenied:
    return e.OrderDenied(
        intent.ts, intent.order_id, intent.strategy, intent.account, symbol, denial.reason, denial.detail, denial.passes_at, verdict
    )


def _break(report: ExecutionReport, account: str, what: str, ours: str) -> e.BreakFound:
    theirs = f"{report.exec_type} {report.qty} {report.symbol} {report.text}".strip()
    return e.BreakFound(report.ts, account, what, report.order_id, ours, theirs)
