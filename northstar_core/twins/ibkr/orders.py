"""Order routes of the Interactive Brokers twin: place, answer questions, modify, cancel, look up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from aiohttp import web

from northstar_core.model.instrument import Combo, exact
from northstar_core.model.order import Side
from northstar_core.sim.costs import NOTHING
from northstar_core.twins.ibkr.gateway import Gateway, Refusal, Row, body_of, refused
from northstar_core.twins.ibkr.questions import Outcome
from northstar_core.twins.ibkr.routes import Table
from northstar_core.twins.ibkr.rows import short_text
from northstar_core.twins.ibkr.tickets import Ticket, TicketError, missing_fields, read_ticket

ZERO = Decimal(0)
FAR = Decimal("0.03")  #: a limit this far off the market is asked about
FOR_NOTHING = "o10331"


class OrderRoutes:
    """Orders over REST."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._session = gateway, gateway.session

    def table(self) -> Table:
        """Return the routes."""
        order = "iserver/account/{account}/order/{order_id}"
        return [
            ("orders.post", "POST", "iserver/account/{account}/orders", self._place, "orders"),
            ("orders.whatif", "POST", "iserver/account/{account}/orders/whatif", self._whatif, "orders"),
            ("orders.modify", "POST", order, self._modify, "orders"),
            ("orders.delete", "DELETE", order, self._cancel, "orders"),
            ("reply", "POST", "iserver/reply/{reply_id}", self._reply, "orders"),
            ("suppress", "POST", "iserver/questions/suppress", self._suppress, "brokerage"),
            ("suppress.reset", "POST", "iserver/questions/suppress/reset", self._reset, "brokerage"),
            ("orders.get", "GET", "iserver/account/orders", self._live, "orders"),
            ("orders.status", "GET", "iserver/account/order/status/{order_id}", self._status, "orders"),
            ("trades", "GET", "iserver/account/trades", self._trades, "orders"),
        ]

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _place(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        self._session.questions.drop()
        if why := refused(request):
            return web.json_response({"error": why, "action": "order_submit_error"})
        try:
            tickets = self._tickets(body)
        except TicketError as error:
            return web.json_response({"error": str(error), "action": "order_submit_error"})
        book = self._gateway.book
        if why := book.refusal(tickets):
            return web.json_response({"error": why, "action": "order_submit_error"})
        return self._ask("orders.post", tickets, lambda: book.place(tickets))

    async def _modify(self, request: web.Request) -> web.Response:
        raw = await body_of(request)
        self._session.questions.drop()
        order_id = self._order_id(request)
        try:
            self._gateway.book.working(order_id)
            if missing := missing_fields(raw):
                raise TicketError(f"Missing order parameter {', '.join(missing)}: a modification repeats the whole order")
            ticket = read_ticket(raw, self._gateway.contracts, self._session.account)
            if why := refused(request):
                raise TicketError(why)
        except TicketError as error:
            return self._said_no(error)

        def change() -> Outcome:
            try:
                return self._gateway.book.modify(order_id, ticket)
            except TicketError as error:
                return {"error": str(error)}

        return self._ask("orders.modify", [ticket], change)

    def _ask(self, place: str, tickets: Sequence[Ticket], go: Callable[[], Outcome]) -> web.Response:
        ids = [*self._gateway.options.questions]
        fault = self._gateway.faults.hit(place, "question")
        if fault is not None:
            ids += (fault.text or FOR_NOTHING).split(",")
        if self._gateway.options.natural:
            ids += [one for one in self._natural(tickets) if one not in ids]
        return web.json_response(self._session.questions.ask(ids, short_text(tickets[0]), go))

    async def _reply(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        outcome = self._session.questions.reply(request.match_info["reply_id"], body.get("confirmed") is True)
        if outcome is None:
            raise Refusal(503, f"reply id {request.match_info['reply_id']} not found")
        return web.json_response(outcome)

    async def _cancel(self, request: web.Request) -> web.Response:
        self._session.questions.drop()
        if why := refused(request):
            return self._said_no(TicketError(why))
        try:
            return web.json_response(self._gateway.book.cancel(self._order_id(request)))
        except TicketError as error:
            return self._said_no(error)

    async def _whatif(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        self._session.questions.drop()
        try:
            tickets = self._tickets(body)
        except TicketError as error:
            raise Refusal(500, str(error)) from None
        return web.json_response(self._gateway.portfolio.whatif(tickets[0], self._commission(tickets[0])))

    async def _suppress(self, request: web.Request) -> web.Response:
        ids = (await body_of(request)).get("messageIds")
        if not isinstance(ids, list):
            raise Refusal(400, "Bad Request: messageIds is not a list")
        if why := self._session.questions.suppress([str(one) for one in ids]):
            raise Refusal(400, why)
        return web.json_response({"status": "submitted"})

    async def _reset(self, request: web.Request) -> web.Response:
        self._session.questions.suppressed.clear()
        return web.json_response({"status": "submitted"})

    # ── looking up ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _live(self, request: web.Request) -> web.Response:
        """The first call, and one with ``force``, answers nothing; a filter turns the order stream off."""
        session, query = self._session, request.query
        forced = query.get("force", "").lower() == "true"
        if forced:
            session.filtered = False
        filters = {one.strip().lower().replace("_", "") for one in query.get("filters", "").split(",") if one.strip()}
        if filters:
            session.filtered = True
        if forced or not session.orders_primed:
            session.orders_primed = True
            return web.json_response({"orders": [], "snapshot": False})
        rows = self._gateway.book.rows()
        wanted = filters - {"sortbytime"}
        if wanted:
            rows = [row for row in rows if row["status"].lower() in wanted]
        return web.json_response({"orders": rows, "snapshot": True})

    async def _status(self, request: web.Request) -> web.Response:
        order_id = self._order_id(request)
        row = self._gateway.book.status(order_id)
        if row is None:
            raise Refusal(503, f"Order {order_id} is not found")
        return web.json_response(row)

    async def _trades(self, request: web.Request) -> web.Response:
        days = request.query.get("days") or "1"
        if not days.isdigit() or not 1 <= int(days) <= 7:
            raise Refusal(400, f"Bad Request: days {days} is not 1 to 7")
        return web.json_response(self._gateway.executions.rows(int(days)))

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _said_no(self, error: TicketError) -> web.Response:
        return self._gateway.error(400, str(error))

    @staticmethod
    def _order_id(request: web.Request) -> int:
        text = request.match_info["order_id"]
        try:
            return int(text)
        except ValueError:
            raise Refusal(400, f"OrderID {text} doesn't exist") from None

    def _tickets(self, body: Row) -> list[Ticket]:
        raw = body.get("orders")
        if not isinstance(raw, list) or not raw:
            raise TicketError("Invalid order: orders is not a list with an order in it")
        tickets = [read_ticket(one, self._gateway.contracts, self._session.account) for one in raw]
        if len(tickets) > 1 and not all(t.single_group for t in tickets) and not all(t.parent for t in tickets[1:]):
            raise TicketError("Several orders in one request are a bracket or a group; send others one by one")
        return tickets

    def _natural(self, tickets: Sequence[Ticket]) -> list[str]:
        """Return what the service would ask by itself."""
        ids = []
        for ticket in tickets:
            if isinstance(ticket.instrument, Combo):
                continue
            state = self._gateway.market.last(ticket.symbol)
            if state is None or not state.price:
                ids.append("o354")
            elif ticket.limit_price is not None:
                price = exact(state.price)
                if abs(ticket.limit_price - price) > FAR * price:
                    ids.append("o163")
        return list(dict.fromkeys(ids))

    def _commission(self, ticket: Ticket) -> Decimal:
        """Return what filling a whole order would cost."""
        costs, total = self._gateway.account.broker.model.costs, ZERO
        if costs is None:
            return ZERO
        for leg in ticket.instrument.legs:
            price = self._gateway.account.mark(leg.instrument.symbol) or ticket.limit_price or ZERO
            buys = (ticket.side is Side.BUY) is (leg.ratio > 0)
            qty = ticket.qty * abs(leg.ratio)
            total += costs.fee(leg.instrument, buys, qty, price, self._gateway.market.now(), NOTHING)
        return total
