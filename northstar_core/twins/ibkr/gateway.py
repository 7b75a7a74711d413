"""The HTTP side of the Interactive Brokers twin: who may ask what, and how it says no.

Every route goes through ``Gateway.guarded``: rates, faults of the session, and the steps a session has to take before it
may ask. Route names are the places of faults: ``orders.post``, ``orders.get``, ``reply``, ``tickle`` and so on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.twins.account import TwinAccount
from northstar_core.twins.control import FAULT
from northstar_core.twins.faults import Faults
from northstar_core.twins.ibkr.book import OrderBook
from northstar_core.twins.ibkr.contracts import Contracts
from northstar_core.twins.ibkr.executions import Executions
from northstar_core.twins.ibkr.portfolio import Portfolio
from northstar_core.twins.ibkr.quotes import Quotes
from northstar_core.twins.ibkr.session import BrokerageSession, Pace
from northstar_core.twins.ibkr.stream import Streams
from northstar_core.twins.market import TwinMarket

Row = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECOND_NS = 10**9


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the twin behaves."""

    questions: tuple[str, ...] = ()  #: asked about every order and modification, in this order
    natural: bool = True  #: ask o163 for a limit 3 % off the market and o354 where there is no price
    soft_errors: bool = False  #: errors come as HTTP 200 with {"error"}
    commission_s: float = 0.0  #: how much later than an execution its commission is known, wall seconds
    leverage: int = 4  #: of shares; 1 = a cash account
    cache_s: float = 5.0  #: age of the paged positions, market seconds
    heartbeat_s: float = 10.0  #: market seconds, but at least 0.2 of the wall's
    lives_s: float = 900.0  #: a market data line that is not asked for again ends after so many market seconds
    idle_s: float | None = None  #: without a request for so many market seconds the session is lost
    limits: bool = False  #: ten requests a second, some endpoints once in five; who exceeds is shut out
    blocked_s: float = 600.0  #: for so long, market seconds
    seed: int = 0  #: of session and question ids


class Refusal(Exception):
    """Ends a request with an error answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Gateway:
    """What the routes share."""

    def __init__(
        self, market: TwinMarket, account: TwinAccount, faults: Faults, contracts: Contracts, session: BrokerageSession,
        streams: Streams, options: Options,
    ) -> None:  # fmt: skip
        self.market, self.account, self.faults, self.contracts = market, account, faults, contracts
        self.session, self.streams, self.options = session, streams, options
        self.quotes = Quotes(market, contracts)
        self.executions = Executions(account, contracts, faults, streams.publish, self.later, options.commission_s)
        self.portfolio = Portfolio(
            account, contracts, lambda: account.cash - self.executions.misstated, leverage=Decimal(options.leverage),
            cache_s=options.cache_s,
        )  # fmt: skip
        self.book = OrderBook(
            account, contracts, faults, self.executions, self.portfolio.shortfall, streams.publish, self.later
        )
        streams.attach(self.book, self.portfolio)
        self._pace = Pace(options.blocked_s) if options.limits else None
        self._asked = market.now()
        self._handles: set[asyncio.TimerHandle] = set()

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def later(self, delay_s: float, call: Callable[[], object]) -> None:
        """Call after so many wall seconds."""

        def run() -> None:
            self._handles.discard(handle)
            call()

        handle = asyncio.get_running_loop().call_later(delay_s, run)
        self._handles.add(handle)

    def stop(self) -> None:
        """Call nothing any more."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()

    # ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def guarded(self, name: str, handler: Handler, need: str) -> Handler:
        """Return a handler that is asked only when it may be.

        ``need``: "" always; "login" the gateway is logged in; "brokerage" with a working brokerage session; "orders" and
        "portfolio" after the respective list of accounts was asked for.
        """

        async def guard(request: web.Request) -> web.StreamResponse:
            try:
                self._check(name, need, request)
                return await handler(request)
            except Refusal as refusal:
                return self.error(refusal.status, str(refusal))

        return guard

    def _check(self, name: str, need: str, request: web.Request) -> None:
        session, now = self.session, self.market.now()
        if self._pace is not None and self._pace.too_fast(name, now / SECOND_NS):
            raise Refusal(429, "Too Many Requests")
        if "User-Agent" not in request.headers:
            raise Refusal(403, "Access Denied")
        fault = self.faults.hit(name, "401", "expire")
        if fault is not None:
            if fault.do == "401":
                raise Refusal(401, fault.text or "not authenticated")
            self.lose()
        idle, self._asked = now - self._asked, now
        if self.options.idle_s is not None and idle > self.options.idle_s * SECOND_NS and session.authenticated:
            self.lose()
        if not need:
            return
        if not session.connected:
            raise Refusal(401, "not authenticated")
        if need != "login" and not session.authenticated:
            raise Refusal(400, "Bad Request: no bridge")
        if (need == "orders" and not session.accounts_seen) or (need == "portfolio" and not session.portfolio_seen):
            raise Refusal(400, "Please query /accounts first")
        named = request.match_info.get("account")
        if named is not None and named != session.account:
            raise Refusal(400, f"Account {named} is not found")

    def lose(self, *, competing: bool = False) -> None:
        """Lose the brokerage session, and say so on the stream."""
        self.session.lose(competing=competing)
        self.streams.say_status()

    def login(self) -> None:
        """Log in again: sockets of the old session hear nothing more."""
        self.session.login()

    def error(self, status: int, text: str) -> web.Response:
        """Return an error as the service words it."""
        if self.options.soft_errors:
            return web.json_response({"error": text})
        return web.json_response({"error": text, "statusCode": status}, status=status)

    async def steer(self, request: web.Request) -> web.Response:
        """Answer ``POST /_twin/session`` {"do": "lose" | "compete" | "rollover" | "logout"}."""
        try:
            do = json.loads(await request.text())["do"]
        except (ValueError, KeyError, TypeError):
            do = None
        if do in ("lose", "compete"):
            self.lose(competing=do == "compete")
        elif do == "rollover":
            self.login()
        elif do == "logout":
            self.session.logout()
            self.streams.say_status()
        else:
            words = 'give {"do": "lose"}, "compete", "rollover" or "logout"'
            return web.json_response({"error": words}, status=400)
        return web.json_response({"session": self.session.id, "authenticated": self.session.authenticated})

    def state(self) -> Row:
        """What ``GET /_twin/state`` shows of this twin."""
        return {
            "orders": self.book.rows(),
            "positions": {symbol: held.qty for symbol, held in sorted(self.account.holdings.items())},
            "cash": self.account.cash,
            "executions": self.executions.rows(7),
            "session": {**self.session.status, "logins": self.session.logins, "id": self.session.id},
            "questions_dropped": self.session.questions.dropped,
        }


async def body_of(request: web.Request) -> Row:
    """Return the JSON object of a request; an empty body is an empty object."""
    text = await request.text()
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except ValueError:
        raise Refusal(400, "Bad Request: not JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Bad Request: not an object")
    return body


def refused(request: web.Request) -> str:
    """Return the reason of a fault that wants this request refused, or nothing."""
    fault = request.get(FAULT)
    return (fault.text or "refused") if fault is not None and fault.do == "refuse" else ""


def wall_ms() -> int:
    """The wall's time in milliseconds."""
    return time.time_ns() // 1_000_000
