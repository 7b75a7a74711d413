"""Alpaca's orders as they live: what the exchange reports about them, in Alpaca's statuses, events and activities."""

from __future__ import annotations

import datetime as dt
from bisect import insort
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.sim.exchange import Update
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.alpaca.checks import NOT_FOUND, Refusal
from northstar_core.twins.alpaca.groups import closed, siblings
from northstar_core.twins.alpaca.order import NEW_YORK, AlpacaOrder, at_new_york, made_id, number, zulu
from northstar_core.twins.alpaca.watch import Watch

ZERO = Decimal(0)
ENDS = {ExecType.CANCELED: "canceled", ExecType.EXPIRED: "expired", ExecType.REJECTED: "rejected"}
STAMPS = {"canceled": "canceled_at", "expired": "expired_at", "rejected": "failed_at"}
UNTOUCHED = ("pending_cancel", "pending_replace")  # a partial fill does not end the wait for something else

Event = dict[str, Any]


class Book:
    """Orders of one account and what is said about them; ``Desk`` takes the requests.

    Parameters
    ----------
    account
        Where they are matched.
    leg_events
        Legs of a combo have events of their own, after the parent's.
    """

    def __init__(self, account: TwinAccount, *, leg_events: bool = False) -> None:
        self.account, self.market = account, account.market
        self.orders: dict[str, AlpacaOrder] = {}  #: by id, oldest first; legs and exits have entries of their own
        self.live: dict[str, AlpacaOrder] = {}  #: those that belong to no other, while anything may become of them
        self.fills: list[tuple[str, Event]] = []  #: rows of ``activities/FILL`` with their ids, sorted by them
        self.booked: list[Event] = []  #: the same rows in the order in which they happened
        self.activities: list[AccountActivity] = []
        self.watch = Watch(account)
        self._leg_events = leg_events
        self._by_client: dict[str, AlpacaOrder] = {}
        self._by_sim: dict[str, AlpacaOrder] = {}
        self._filled: dict[str, Decimal] = {}  # what an order at the account has filled, under whatever names here
        self._silent: set[str] = set()  # orders at the account that end because others take their place
        self._listeners: list[Callable[[Event], None]] = []
        self._said = 0
        account.on_update(self._on_update)
        self.market.on_session(lambda ts, session, opens: self._route() if opens else None)

    def listen(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call with the data of every event; return what stops it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def find(self, order_id: str) -> AlpacaOrder:
        """Return an order by its id, or refuse."""
        order = self.orders.get(order_id)
        if order is None:
            raise Refusal(404, NOT_FOUND, f"order not found for {order_id}")
        return order

    def find_by_client_id(self, client_order_id: str) -> AlpacaOrder:
        """Return an order by the client's id, or refuse."""
        order = self._by_client.get(client_order_id)
        if order is None:
            raise Refusal(404, NOT_FOUND, f"order not found for {client_order_id}")
        return order

    def keep(self, order: AlpacaOrder) -> None:
        """Enter an order and those that belong to it."""
        for own in (order, *order.legs):
            self.orders[own.id] = self._by_client[own.client_order_id] = own
        if order.parent is None:
            self.live[order.id] = order

    # ── reports ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_update(self, update: Update) -> None:
        if isinstance(update, AccountActivity):
            self.activities.append(update)
            return
        order = self._by_sim.get(update.order_id)
        if order is None:
            return
        if update.exec_type is ExecType.NEW:
            self._arrived(order)
        elif update.exec_type is ExecType.TRADE:
            if order.order_class == "mleg":
                self._fill_leg(order, update)
            else:
                self._fill(order, update)
        elif update.exec_type in ENDS:
            if update.order_id in self._silent:
                self._silent.discard(update.order_id)
            else:
                self._end(order, ENDS[update.exec_type])

    def _arrived(self, order: AlpacaOrder) -> None:
        """An order is at the exchange: new, or accepted until the exchange opens."""
        if order.status not in ("pending_new", "held"):
            return
        if self.market.sessions and not order.extended_hours and self.market.session_at(self.market.now()) is None:
            self._set(order, "accepted")
            self._say("accepted", order, executed=False)
        else:
            self._become_new(order)

    def _become_new(self, order: AlpacaOrder) -> None:
        self._set(order, "new")
        self._say("new", order)

    def _route(self) -> None:
        """At the open: orders that waited for it are new now."""
        for root in tuple(self.live.values()):
            for order in (root, *root.legs) if root.order_class != "mleg" else (root,):
                if order.status == "accepted":
                    self._become_new(order)

    def _fill(self, order: AlpacaOrder, report: ExecutionReport) -> None:
        order.filled_qty += report.qty
        order.filled_value += report.qty * report.price
        self._filled[report.order_id] = self._filled.get(report.order_id, ZERO) + report.qty
        done = order.leaves <= 0
        self._filled_status(order, done)
        self._note_fill(order, report, done)
        self._say_fill(order, report.qty, report.price, report.symbol, report.exec_id)
        exits = order.order_class in ("bracket", "oto") and order.parent is None
        if exits and done:
            for leg in order.legs:
                leg.qty = self._filled[report.order_id]
                self._submit(leg)
        for other in siblings(order):
            if done:
                self._drop(other)
            else:
                self._shrink(other, report.qty)
        self._forget(order)

    def _fill_leg(self, order: AlpacaOrder, report: ExecutionReport) -> None:
        """Book one leg's fill; when every leg has filled as much, the whole has."""
        leg = next(leg for leg in order.legs if leg.symbol == report.symbol)
        leg.filled_qty += report.qty
        leg.filled_value += report.qty * report.price
        self._filled_status(leg, leg.filled_qty >= (leg.qty or ZERO))
        self._note_fill(leg, report, leg.filled_qty >= (leg.qty or ZERO))
        units = min(own.filled_qty / (own.ratio_qty or Decimal(1)) for own in order.legs)
        qty = units - order.filled_qty
        net = ZERO
        for own in order.legs:
            net += own.filled_value if own.side == "buy" else -own.filled_value
        if qty > 0 and all(own.filled_qty == units * (own.ratio_qty or Decimal(1)) for own in order.legs):
            price = (net - order.filled_value) / qty
            order.filled_qty, order.filled_value = units, net
            self._filled[report.order_id] = self._filled.get(report.order_id, ZERO) + qty
            self._filled_status(order, units >= (order.qty or ZERO))
            self._say_fill(order, qty, round(price, 6), "", f"{order.id}-{units}")
            self._forget(order)
        if self._leg_events:
            self._say_fill(leg, report.qty, report.price, report.symbol, report.exec_id)

    def _filled_status(self, order: AlpacaOrder, done: bool) -> None:
        if done:
            order.filled_at = self.market.now()
            self._set(order, "filled")
        elif order.status not in UNTOUCHED:
            self._set(order, "partially_filled")

    def _shrink(self, other: AlpacaOrder, qty: Decimal) -> None:
        """Take from an order what its sibling has filled."""
        other.qty = (other.qty or ZERO) - qty
        if other.sim:
            self.account.replace(other.sim, qty=self._filled.get(other.sim, ZERO) + other.leaves)
        self._say("restated", other, executed=False)

    def _end(self, order: AlpacaOrder, how: str) -> None:
        """An order ends without having filled wholly; with it those that waited for it or shared its fate."""
        if not order.open:
            return
        setattr(order, STAMPS[how], self.market.now())
        for own in (order, *order.legs) if order.order_class == "mleg" else (order,):
            self._set(own, how)
        self._say(how, order)
        if order.order_class != "mleg":
            for other in siblings(order) if order.order_class == "oco" or order.parent is not None else order.legs:
                self._drop(other)
        self._forget(order)

    def _drop(self, order: AlpacaOrder) -> None:
        """Cancel an order wherever it is."""
        if not order.open:
            return
        if order.sim and not self.watch.drop(order):
            self.account.cancel(order.sim)
        else:
            self._end(order, "canceled")

    def _forget(self, order: AlpacaOrder) -> None:
        if closed(order):
            self.live.pop((order.parent or order).id, None)

    def _set(self, order: AlpacaOrder, status: str) -> None:
        order.status, order.updated_at = status, self.market.now()
        if order.order_class == "mleg" and status in ("new", "accepted"):
            for leg in order.legs:
                leg.status = status

    def _submit(self, order: AlpacaOrder) -> None:
        raise NotImplementedError

    # ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, event: str, order: AlpacaOrder, *, executed: bool = True, **more: Any) -> None:
        """Tell listeners; ``executed`` events have an execution id, whether or not anything was executed."""
        self._said += 1
        now = self.market.now()
        data: Event = {
            "event": event,
            "timestamp": at_new_york(now),
            "order": order.page(),
            "event_id": f"01{now // 10**6:011d}{self._said:013d}",
        }
        if executed and "execution_id" not in more:
            more["execution_id"] = made_id("event", self.account.name, self._said)
        for callback in tuple(self._listeners):
            callback({**data, **more})

    def _say_fill(self, order: AlpacaOrder, qty: Decimal, price: Decimal, symbol: str, exec_id: str) -> None:
        more: Event = {"price": number(price), "qty": number(qty), "execution_id": made_id("execution", exec_id)}
        if symbol:
            more["position_qty"] = number(self.account.position(symbol))
        self._say("partial_fill" if order.open else "fill", order, **more)

    def _note_fill(self, order: AlpacaOrder, report: ExecutionReport, done: bool) -> None:
        """Enter a row of ``activities/FILL``; rows of one millisecond come in no order that means anything."""
        sells_short = order.side == "sell" and self.account.position(order.symbol) < 0
        row_id = activity_id(report.ts, report.exec_id)
        row: Event = {
            "id": row_id,
            "account_id": made_id("account", self.account.name),
            "activity_type": "FILL",
            "transaction_time": zulu(report.ts),
            "type": "fill" if done else "partial_fill",
            "price": number(report.price),
            "qty": number(report.qty),
            "side": "sell_short" if sells_short else order.side,
            "symbol": order.symbol,
            "leaves_qty": number((order.qty or ZERO) - order.filled_qty),
            "order_id": order.id,
            "cum_qty": number(order.filled_qty),
            "order_status": "filled" if done else "partially_filled",
        }
        self.booked.append(row)
        insort(self.fills, (row_id, row), key=lambda entry: entry[0])


def activity_id(ts: int, key: str) -> str:
    """Return the id of an activity: New York's time to the millisecond, and a UUID."""
    local = dt.datetime.fromtimestamp(ts // 10**9, NEW_YORK)
    return f"{local:%Y%m%d%H%M%S}{ts % 10**9 // 10**6:03d}::{made_id('activity', key)}"
