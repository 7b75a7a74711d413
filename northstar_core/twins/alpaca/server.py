"""A twin of Alpaca's trading API: REST v2 and the stream of trade updates on one port, over plain http and ws.

Follows what Alpaca documents and what was seen of it in production; the market behind it is the one that is played.
Errors are ``{"code", "message", …}`` with Alpaca's codes. Nothing of the account outlives the process.

Places for faults: ``orders.post``, ``orders.patch``, ``orders.delete``, ``orders.delete_all``, ``orders.list``,
``orders.get``, ``orders.by_client_id``, ``account``, ``positions``, ``position``, ``position.delete``,
``positions.delete``, ``activities``, ``activities.type``, ``clock``, ``calendar``, ``assets``, ``asset``,
``contracts``, ``contract``; ``stream`` and ``stream.<event>``; ``account.submit``, ``account.fill``.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from northstar_core.twins.account import Holding, TwinAccount
from northstar_core.twins.alpaca import pages
from northstar_core.twins.alpaca.checks import (
    NOT_ALLOWED,
    NOT_FOUND,
    TIMES_IN_FORCE,
    Refusal,
    bad,
    decimal,
    one_of,
    parse_order,
)
from northstar_core.twins.alpaca.desk import Desk
from northstar_core.twins.alpaca.order import asset_id, number
from northstar_core.twins.alpaca.stream import Stream, soon
from northstar_core.twins.control import FAULT, Control
from northstar_core.twins.faults import Faults
from northstar_core.twins.market import TwinMarket

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CODES = {401: 40110000, 404: NOT_FOUND, 429: 42910000, 500: 50010000, 503: 50310000, 504: 50410000}
ACK_S = 0.002  #: a request takes effect this long after it was answered, wall seconds
MINUTE_S = 60


def app(
    market: TwinMarket, account: TwinAccount, faults: Faults, *, key: str = "KEY", secret: str = "SECRET",
    binary: bool = True, replaced_qty: str = "whole", leg_events: bool = False, rate: int | None = None,
    multiplier: int = 2, ack_s: float = ACK_S,
) -> web.Application:  # fmt: skip
    """Return the server of one account.

    Parameters
    ----------
    key, secret
        What opens it.
    binary
        Frames of the stream are binary, as on paper; otherwise text, as live.
    replaced_qty, leg_events, multiplier
        See ``alpaca_desk.Desk``.
    rate
        Requests a minute; None: no limit.
    ack_s
        How long after its answer a request takes effect, wall seconds.
    """
    desk = Desk(account, soon(ack_s), replaced_qty=replaced_qty, leg_events=leg_events, multiplier=multiplier)
    server = _Server(market, account, desk, (key, secret), rate)
    control = Control(faults, server.state, server.error)
    made = web.Application(middlewares=[server.refusals])
    control.install(made)
    made.middlewares.append(server.door)
    stream = Stream(desk, control, key, secret, binary=binary)
    made.router.add_get("/stream", stream.handle)
    server.add_routes(made)
    return made


class _Server:
    """The routes."""

    def __init__(
        self, market: TwinMarket, account: TwinAccount, desk: Desk, credentials: tuple[str, str], rate: int | None
    ) -> None:
        self._market, self._account, self._desk = market, account, desk
        self._credentials, self._rate = credentials, rate
        self._created = market.now()
        self._recent: deque[float] = deque()  # when requests of the last minute came

    def add_routes(self, made: web.Application) -> None:
        """Add every route with its name, which is its place for faults."""
        for method, path, handler, name in (
            ("POST", "/v2/orders", self.post_order, "orders.post"),
            ("GET", "/v2/orders", self.get_orders, "orders.list"),
            ("DELETE", "/v2/orders", self.delete_orders, "orders.delete_all"),
            ("GET", "/v2/orders:by_client_order_id", self.get_by_client_id, "orders.by_client_id"),
            ("GET", "/v2/orders/{id}", self.get_order, "orders.get"),
            ("PATCH", "/v2/orders/{id}", self.patch_order, "orders.patch"),
            ("DELETE", "/v2/orders/{id}", self.delete_order, "orders.delete"),
            ("GET", "/v2/account", self.get_account, "account"),
            ("GET", "/v2/account/activities", self.get_activities, "activities"),
            ("GET", "/v2/account/activities/{type}", self.get_activities, "activities.type"),
            ("GET", "/v2/positions", self.get_positions, "positions"),
            ("DELETE", "/v2/positions", self.delete_positions, "positions.delete"),
            ("GET", "/v2/positions/{symbol}", self.get_position, "position"),
            ("DELETE", "/v2/positions/{symbol}", self.delete_position, "position.delete"),
            ("GET", "/v2/clock", self.get_clock, "clock"),
            ("GET", "/v2/calendar", self.get_calendar, "calendar"),
            ("GET", "/v2/assets", self.get_assets, "assets"),
            ("GET", "/v2/assets/{symbol}", self.get_asset, "asset"),
            ("GET", "/v2/options/contracts", self.get_contracts, "contracts"),
            ("GET", "/v2/options/contracts/{symbol}", self.get_contract, "contract"),
        ):
            made.router.add_route(method, path, handler, name=name)

    # ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def error(self, status: int, text: str) -> web.Response:
        """Return an error with Alpaca's code for it."""
        return web.json_response({"code": CODES.get(status, status * 100_000), "message": text}, status=status)

    @property
    def refusals(self) -> Any:
        """The outermost layer: refusals become answers, counted requests get their headers."""

        @web.middleware
        async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refusal as refusal:
                return web.json_response(refusal.body, status=refusal.status)
            except web.HTTPNotFound:
                return self.error(404, "endpoint not found.")

        return refusals

    @property
    def door(self) -> Any:
        """The innermost layer: who asks, how often."""

        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith("/v2/"):
                return await handler(request)
            headers = request.headers
            if (headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")) != self._credentials:
                return web.json_response({"message": "unauthorized."}, status=401)
            limits = self._count()
            if limits is not None and limits["X-RateLimit-Remaining"] == "-1":
                limits["X-RateLimit-Remaining"] = "0"
                answer: web.StreamResponse = self.error(429, "too many requests.")
            else:
                fault = request.get(FAULT)
                if fault is not None and fault.do == "refuse":
                    raise Refusal(403, NOT_ALLOWED, fault.text or "request is not permitted")
                try:
                    answer = await handler(request)
                except Refusal as refusal:
                    answer = web.json_response(refusal.body, status=refusal.status)
            answer.headers.update(limits or {})
            return answer

        return door

    def _count(self) -> dict[str, str] | None:
        """Count a request; return the headers that say what is left of this minute, -1 left where it is one too many."""
        if self._rate is None:
            return None
        now = time.time()
        while self._recent and self._recent[0] <= now - MINUTE_S:
            self._recent.popleft()
        left = self._rate - len(self._recent) - 1
        if left >= 0:
            self._recent.append(now)
        first = self._recent[0] if self._recent else now
        return {
            "X-RateLimit-Limit": str(self._rate),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(int(first) + MINUTE_S),
        }

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def post_order(self, request: web.Request) -> web.Response:
        """Place an order."""
        asked = parse_order(await body_of(request), self._market)
        return web.json_response(self._desk.place(asked, at_once=_early(request)).page())

    async def get_orders(self, request: web.Request) -> web.Response:
        """List orders."""
        return web.json_response(pages.orders_page(self._desk, request.query))

    async def get_order(self, request: web.Request) -> web.Response:
        """Show an order."""
        order = self._desk.find(request.match_info["id"])
        nested = pages.flag(request.query, "nested") or order.order_class == "mleg"
        return web.json_response(order.page(nested=nested))

    async def get_by_client_id(self, request: web.Request) -> web.Response:
        """Show an order by the client's id."""
        order = self._desk.find_by_client_id(request.query.get("client_order_id", ""))
        return web.json_response(order.page())

    async def patch_order(self, request: web.Request) -> web.Response:
        """Ask to replace an order."""
        order = self._desk.find(request.match_info["id"])
        body = await body_of(request)
        if not isinstance(body, dict):
            raise Refusal(400, 40010000, "request body format is invalid")
        terms: dict[str, Any] = {
            name: value for name in ("qty", "limit_price", "stop_price", "trail")
            if (value := decimal(body, name)) is not None
        }  # fmt: skip
        if body.get("time_in_force"):
            terms["time_in_force"] = one_of(body, "time_in_force", TIMES_IN_FORCE)
        if body.get("client_order_id"):
            terms["client_order_id"] = str(body["client_order_id"])
        if not terms:
            raise bad("at least one of qty, time_in_force, limit_price, stop_price, trail, client_order_id is required")
        return web.json_response(self._desk.replace(order, terms, at_once=_early(request)).page())

    async def delete_order(self, request: web.Request) -> web.Response:
        """Ask to cancel an order."""
        self._desk.cancel(self._desk.find(request.match_info["id"]), at_once=_early(request))
        return web.Response(status=204)

    async def delete_orders(self, request: web.Request) -> web.Response:
        """Ask to cancel every open order."""
        return web.json_response(self._cancel_all(), status=207)

    def _cancel_all(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for root in tuple(self._desk.live.values()):
            # Of orders that cancel each other one is enough; the exits of an entry go with it.
            for order in [root] if root.open else [leg for leg in root.legs if leg.open][:1]:
                try:
                    self._desk.cancel(order)
                    rows.append({"id": order.id, "status": 200})
                except Refusal as refusal:
                    rows.append({"id": order.id, "status": refusal.status, "body": refusal.body})
        return rows

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_account(self, request: web.Request) -> web.Response:
        """Show the account."""
        return web.json_response(self._desk.money.account_page(self._created))

    async def get_activities(self, request: web.Request) -> web.Response:
        """List fills and other activities."""
        kinds = request.match_info.get("type") or request.query.get("activity_types") or ""
        wanted = set(filter(None, kinds.split(",")))
        return web.json_response(pages.activities_page(self._desk, request.query, wanted))

    async def get_positions(self, request: web.Request) -> web.Response:
        """List positions."""
        held = sorted(self._account.holdings.values(), key=lambda holding: holding.symbol)
        return web.json_response([self._desk.money.position_page(holding) for holding in held])

    async def get_position(self, request: web.Request) -> web.Response:
        """Show a position."""
        return web.json_response(self._desk.money.position_page(self._holding(request)))

    def _holding(self, request: web.Request) -> Holding:
        key = request.match_info["symbol"]
        for holding in self._account.holdings.values():
            if key in (holding.symbol, asset_id(holding.symbol)):
                return holding
        raise Refusal(404, NOT_FOUND, "position does not exist")

    async def delete_position(self, request: web.Request) -> web.Response:
        """Close a position, or part of it, at the market."""
        holding = self._holding(request)
        qty, percentage = decimal(dict(request.query), "qty"), decimal(dict(request.query), "percentage")
        if percentage is not None:
            qty = round(abs(holding.qty) * percentage / 100, 9)
        return web.json_response(self._close(holding.symbol, qty))

    async def delete_positions(self, request: web.Request) -> web.Response:
        """Close every position at the market."""
        if pages.flag(request.query, "cancel_orders"):
            self._cancel_all()
        rows = []
        for symbol in sorted(self._account.holdings):
            try:
                rows.append({"symbol": symbol, "status": 200, "body": self._close(symbol, None)})
            except Refusal as refusal:
                rows.append({"symbol": symbol, "status": refusal.status, "body": refusal.body})
        return web.json_response(rows, status=207)

    def _close(self, symbol: str, qty: Decimal | None) -> dict[str, Any]:
        held = self._account.position(symbol)
        body = {
            "symbol": symbol,
            "qty": number(abs(held) if qty is None else qty),
            "side": "sell" if held > 0 else "buy",
            "type": "market",
            "time_in_force": "day",
        }
        return self._desk.place(parse_order(body, self._market)).page()

    # ── the market ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_clock(self, request: web.Request) -> web.Response:
        """Show the market's clock."""
        return web.json_response(pages.clock_page(self._market))

    async def get_calendar(self, request: web.Request) -> web.Response:
        """List sessions."""
        return web.json_response(pages.calendar_page(self._market, request.query))

    async def get_assets(self, request: web.Request) -> web.Response:
        """List stocks."""
        return web.json_response(pages.assets_page(self._market, request.query))

    async def get_asset(self, request: web.Request) -> web.Response:
        """Show a stock."""
        return web.json_response(pages.asset_page(self._market, request.match_info["symbol"]))

    async def get_contracts(self, request: web.Request) -> web.Response:
        """List option contracts."""
        return web.json_response(pages.contracts_page(self._market, request.query))

    async def get_contract(self, request: web.Request) -> web.Response:
        """Show an option contract."""
        return web.json_response(pages.contract_page(self._market, request.match_info["symbol"]))

    def state(self) -> dict[str, Any]:
        """Return the truth, for ``/_twin/state``."""
        return {
            "cash": number(self._account.cash),
            "positions": {symbol: number(holding.qty) for symbol, holding in sorted(self._account.holdings.items())},
            "orders": [order.page() for order in self._desk.orders.values() if order.parent is None],
            "executions": [
                {
                    "order_id": row["order_id"], "symbol": row["symbol"], "side": row["side"], "qty": row["qty"],
                    "price": row["price"], "cum_qty": row["cum_qty"],
                }
                for row in self._desk.booked
            ],
        }  # fmt: skip


def _early(request: web.Request) -> bool:
    """Tell whether what a request does is to happen before its answer."""
    fault = request.get(FAULT)
    return fault is not None and fault.do == "early"


async def body_of(request: web.Request) -> Any:
    """Return the JSON of a request."""
    try:
        return json.loads(await request.read())
    except ValueError:
        raise Refusal(400, 40010000, "request body format is invalid") from None
