"""The order book of the Interactive Brokers twin: from a ticket to the rows, executions and notices it leads to.

No sockets here: rows go to ``publish``, which the stream side provides. The path of an order's status is the recorded
one: Inactive, a row that says nothing, PendingSubmit, PreSubmitted, Submitted; then partial rows with what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.model.order import OrderType, PlaceOrder, TimeInForce
from northstar_core.sim.exchange import Update
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.faults import Faults
from northstar_core.twins.ibkr.contracts import Contracts
from northstar_core.twins.ibkr.executions import DAY_NS, Executions, Later, Publish
from northstar_core.twins.ibkr.rows import (
    CCP,
    TwinOrder,
    key_part,
    order_row,
    order_text,
    price_text,
    progress,
    status_part,
    status_row,
)  # fmt: skip
from northstar_core.twins.ibkr.tickets import Ticket, TicketError

Row = dict[str, Any]
FIRST_ID = 912_091_175
REMEMBERED_NS = DAY_NS  #: a client's own id may not come again this long
MOST_ROWS = 1000


class OrderBook:
    """Orders and executions of one account, as the service keeps and tells them.

    Parameters
    ----------
    account
        What orders trade in.
    contracts
        Conids.
    faults
        Asked at ``order.cancel`` and ``order.modify``: "delay" lets it take effect ``delay_s`` later, "reject" refuses
        it with a notice, "drop" forgets it.
    executions
        Where fills go.
    shortfall
        Returns why the account cannot carry an order.
    publish
        Takes (topic, rows): ``sor`` or ``ntf``.
    later
        Calls back after so many wall seconds.
    """

    def __init__(
        self,
        account: TwinAccount,
        contracts: Contracts,
        faults: Faults,
        executions: Executions,
        shortfall: Callable[[Ticket], str],
        publish: Publish,
        later: Later,
    ) -> None:
        self.account, self.contracts, self.executions = account, contracts, executions
        self._faults, self._shortfall, self._publish, self._later = faults, shortfall, publish, later
        self.orders: dict[int, TwinOrder] = {}
        self._keys: dict[str, int] = {}  # id in the account to order id
        self._coids: dict[str, tuple[int, int]] = {}  # client's id to (order id, when)
        self._next_id = FIRST_ID
        self._notices = 0
        account.on_update(self._on_update)
        account.market.on_session(lambda ts, session, opens: self._on_session(ts, opens))

    # ── placing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def refusal(self, tickets: Sequence[Ticket]) -> str:
        """Return why the service does not even take these orders, or nothing."""
        now, seen = self.account.market.now(), set()
        for ticket in tickets:
            if ticket.coid:
                known = self._coids.get(ticket.coid)
                if ticket.coid in seen or (known is not None and now - known[1] < REMEMBERED_NS):
                    return f"Order couldn't be submitted: Local order ID={ticket.coid} is already registered."
                seen.add(ticket.coid)
            if ticket.parent and ticket.parent not in seen and self._parent(ticket.parent) is None:
                return f"Parent order {ticket.parent} is not found"
            if not ticket.parent and (short := self._shortfall(ticket)):
                return short
        return ""

    def place(self, tickets: Sequence[Ticket]) -> Row | list[Row]:
        """Take orders; answer each with its id and status. A bracket's children follow their entry."""
        refusal = self.refusal(tickets)
        if refusal:
            return {"error": refusal, "action": "order_submit_error"}
        group = f"oco-{self._next_id}" if len(tickets) > 1 and all(ticket.single_group for ticket in tickets) else ""
        return [self._answer(self._take(ticket, group), ticket) for ticket in tickets]

    def _take(self, ticket: Ticket, group: str) -> TwinOrder:
        now = self.account.market.now()
        parent = self._parent(ticket.parent) if ticket.parent else None
        order = TwinOrder(self._next_id, f"ib-{self._next_id}", ticket, now, now, group=group)
        self._next_id += 1
        self.orders[order.order_id] = order
        if ticket.coid:
            self._coids[ticket.coid] = (order.order_id, now)
        if parent is not None:
            order.parent, order.group = parent.order_id, str(parent.order_id)
        self._keys[order.key] = order.order_id
        self._tell_new(order)
        place = PlaceOrder(
            now, order.key, "", self.account.name, ticket.symbol, ticket.side, ticket.qty, ticket.order_type, ticket.limit_price,
            ticket.stop_price, ticket.tif, parent=parent.key if parent is not None else "",
        )  # fmt: skip
        self.account.submit(place, extended=ticket.outside_rth)
        return order

    def _tell_new(self, order: TwinOrder) -> None:
        self._row(order, order_row(order, self.account.name, self.contracts, stream=True))
        nothing = {
            "conidex": self.contracts.conidex(order.ticket.symbol), "conid": self.contracts.conid(order.ticket.symbol),
            "isEventTrading": "0",
        }  # fmt: skip
        self._row(order, nothing)
        self._status(order, "PendingSubmit", ccp=False)

    def _answer(self, order: TwinOrder, ticket: Ticket) -> Row:
        row: Row = {"order_id": str(order.order_id)}
        if ticket.coid:
            row["local_order_id"] = ticket.coid
        return {**row, "order_status": order.status, "encrypt_message": "1"}

    def _parent(self, name: str) -> TwinOrder | None:
        if name in self._coids:
            return self.orders[self._coids[name][0]]
        return self.orders.get(int(name)) if name.isdigit() else None

    # ── changing and cancelling ───────────────────────────────────────────────────────────────────────────────────────

    def modify(self, order_id: int, ticket: Ticket) -> Row | list[Row]:
        """Give an order other terms; it keeps its id. ``quantity`` is the new total."""
        order = self.working(order_id)
        was = order.ticket
        if (was.symbol, was.side, was.order_type) != (ticket.symbol, ticket.side, ticket.order_type):
            raise TicketError("Contract, side and order type of a working order can not be modified")
        fault = self._faults.hit("order.modify", "delay", "reject", "drop")
        kind = fault.do if fault is not None else ""
        if kind == "reject":
            self.notice(order, "Order modification is rejected")
        elif kind == "delay":
            assert fault is not None
            self._later(fault.delay_s, lambda: self._change(order, ticket, late=True))
        elif kind != "drop":
            refused = self._change(order, ticket)
            if refused:
                raise TicketError(refused)
        return [self._answer(order, ticket)]

    def _change(self, order: TwinOrder, ticket: Ticket, *, late: bool = False) -> str:
        if order.over:
            return ""
        reports = self.account.replace(
            order.key, qty=ticket.qty, limit_price=ticket.limit_price, stop_price=ticket.stop_price
        )
        for report in reports:
            if isinstance(report, ExecutionReport) and report.exec_type is ExecType.REPLACE_REJECTED:
                if late:
                    self.notice(order, report.text)
                return report.text
        now = self.account.market.now()
        order.ticket = msgspec.structs.replace(
            order.ticket, qty=ticket.qty, limit_price=ticket.limit_price, stop_price=ticket.stop_price, tif=ticket.tif
        )
        order.touched = now
        if not order.over:
            self._row(order, {**progress(order), **self._prices(order), "orderDesc": order_text(order.ticket)})
            self._status(order, self._resting(order))
        return ""

    def _prices(self, order: TwinOrder) -> Row:
        ticket = order.ticket
        price = ticket.stop_price if ticket.order_type is OrderType.STOP else ticket.limit_price
        return {"price": "" if price is None else price_text(price)}

    def cancel(self, order_id: int) -> Row:
        """Take a cancel request: an intent, whose answer says only that it was taken. -1 cancels everything."""
        orders = [o for o in self.orders.values() if not o.over] if order_id == -1 else [self.working(order_id)]
        for order in orders:
            order.touched = self.account.market.now()
            order.status = "PendingCancel"
            self._row(order, order_row(order, self.account.name, self.contracts, stream=True))
            fault = self._faults.hit("order.cancel", "delay", "reject", "drop")
            kind = fault.do if fault is not None else ""
            if kind == "reject":
                self.notice(order, "Order cancellation is rejected")
                self._status(order, self._resting(order))
            elif kind == "delay":
                assert fault is not None
                self._later(fault.delay_s, partial(self._do_cancel, order))
            elif kind != "drop":
                self._do_cancel(order)
        return {"msg": "Request was submitted", "order_id": order_id, "conid": -1, "account": None}

    def _do_cancel(self, order: TwinOrder) -> None:
        if not order.over:
            self.account.cancel(order.key)

    def working(self, order_id: int) -> TwinOrder:
        """Return an order that can still be changed.

        Raises
        ------
        TicketError
            If there is none, or it has ended.
        """
        order = self.orders.get(order_id)
        if order is None:
            raise TicketError(f"OrderID {order_id} doesn't exist")
        if order.over:
            raise TicketError(f"OrderID {order_id} can not be changed or cancelled, state: {order.status}")
        return order

    # ── what comes back ───────────────────────────────────────────────────────────────────────────────────────────────

    def _on_update(self, update: Update) -> None:
        if isinstance(update, AccountActivity):
            return
        order = self.orders.get(self._keys.get(update.order_id, 0)) or self._adopt(update)
        kind = update.exec_type
        if kind is ExecType.TRADE:
            self._on_fill(order, update)
        elif order is None:
            return
        elif kind is ExecType.NEW:
            self._status(order, "PreSubmitted", ccp=False)
            if self._resting(order) == "Submitted":
                self._status(order, "Submitted")
        elif kind in (ExecType.CANCELED, ExecType.EXPIRED, ExecType.REJECTED):
            order.over, order.text, order.touched = True, update.text, update.ts
            self._status(order, "Inactive" if kind is ExecType.REJECTED else "Cancelled")
            if update.text:
                self.notice(order, update.text)
        elif kind is ExecType.CANCEL_REJECTED:
            self._status(order, self._resting(order))

    def _adopt(self, report: ExecutionReport) -> TwinOrder | None:
        """Show an order that came into the account by another way: by phone, from another program.

        One that filled at once is known by its fills alone.
        """
        working = (w.order for queue in self.account.broker.working.values() for w in queue)
        found = next((order for order in working if order.order_id == report.order_id), None)
        if found is not None:
            ticket = Ticket(
                found.symbol, found.side, found.qty, found.order_type, found.tif, found.limit_price, found.stop_price
            )
        elif report.exec_type is ExecType.TRADE and report.side is not None:
            ticket = Ticket(report.symbol, report.side, report.qty, OrderType.MARKET, TimeInForce.DAY)
        else:
            return None
        order = TwinOrder(self._next_id, report.order_id, ticket, report.ts, report.ts)
        self._next_id += 1
        self.orders[order.order_id] = order
        self._keys[order.key] = order.order_id
        self._tell_new(order)
        return order

    def _on_fill(self, order: TwinOrder | None, report: ExecutionReport) -> None:
        if order is not None:
            if order.filled == order.ticket.qty:  # known by its fills alone, and here is another
                order.ticket = msgspec.structs.replace(order.ticket, qty=order.ticket.qty + report.qty)
            order.traded(report.symbol, report.qty, report.price, report.ts)
            if order.filled == order.ticket.qty:
                order.over = True
                order.status = order.ccp = "Filled"
                done = {"orderDesc": order_text(order.ticket, done=True)}
                self._row(order, {**progress(order), **done, **status_part(order)})
            else:
                self._row(order, progress(order))
        self.executions.add(order, report)
        if order is not None and order.group.startswith("oco-"):
            for other in tuple(self.orders.values()):
                if other.group == order.group and other is not order and not other.over:
                    self._do_cancel(other)

    def _on_session(self, ts: int, opens: bool) -> None:
        """Orders that waited for the open are at the exchange now."""
        for order in tuple(self.orders.values()) if opens else ():
            if not order.over and order.status == "PreSubmitted" and self._resting(order) == "Submitted":
                self._status(order, "Submitted")

    def _resting(self, order: TwinOrder) -> str:
        """Return where an order rests that nothing has happened to: at the exchange, or held by the service."""
        ticket, market = order.ticket, self.account.market
        held = ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
        if order.parent and (entry := self.orders.get(order.parent)) is not None:
            held = held or not entry.filled
        closed = bool(market.sessions) and market.session_at(market.now()) is None
        return "PreSubmitted" if held or (closed and not ticket.outside_rth) else "Submitted"

    def _status(self, order: TwinOrder, status: str, *, ccp: bool = True) -> None:
        order.status = status
        if ccp:
            order.ccp = "Rejected" if order.over and status == "Inactive" else CCP[status]
        self._row(order, status_part(order, ccp=ccp))

    def _row(self, order: TwinOrder, part: Row) -> None:
        self._publish("sor", [{**key_part(order, self.account.name), **part}])

    def notice(self, order: TwinOrder, why: str) -> None:
        """Say in words what happened to an order."""
        self._notices += 1
        words = f"{order_text(order.ticket)} (order {order.order_id}): {why}"
        self._publish("ntf", [{"id": f"n{self._notices}", "title": "Order message", "text": words, "url": ""}])

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self, *, stream: bool = False) -> list[Row]:
        """Return live orders, the newest first; today's finished ones are among them."""
        newest = sorted(self.orders.values(), key=lambda order: -order.order_id)[:MOST_ROWS]
        return [order_row(order, self.account.name, self.contracts, stream=stream) for order in newest]

    def status(self, order_id: int) -> Row | None:
        """Return one order as ``order/status`` shows it."""
        order = self.orders.get(order_id)
        return None if order is None else status_row(order, self.account.name, self.contracts)
