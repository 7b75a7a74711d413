"""Routes of the Interactive Brokers twin for session, contracts, portfolio and quotes."""

from __future__ import annotations

from aiohttp import web

from northstar_core.twins.ibkr.contracts import UnknownContractError
from northstar_core.twins.ibkr.gateway import Gateway, Handler, Refusal, body_of, wall_ms

Table = list[tuple[str, str, str, Handler, str]]  # name, methods, path, handler, what it needs


def _answer(body: object) -> web.Response:
    return web.json_response(body)


class Routes:
    """Everything but orders."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._session, self._contracts = gateway, gateway.session, gateway.contracts

    def table(self) -> Table:
        """Return the routes."""
        return [
            ("tickle", "GET|POST", "tickle", self._tickle, ""),
            ("auth.status", "GET|POST", "iserver/auth/status", self._status, "login"),
            ("auth.init", "POST", "iserver/auth/ssodh/init", self._init, ""),
            ("auth.again", "POST", "iserver/reauthenticate", self._again, ""),
            ("auth.validate", "GET", "sso/validate", self._validate, "login"),
            ("logout", "POST", "logout", self._logout, ""),
            ("accounts", "GET", "iserver/accounts", self._accounts, "brokerage"),
            ("portfolio.accounts", "GET", "portfolio/accounts", self._portfolio_accounts, "login"),
            ("stocks", "GET", "trsrv/stocks", self._stocks, "login"),
            ("secdef", "GET", "trsrv/secdef", self._secdef, "login"),
            ("secdef.search", "GET|POST", "iserver/secdef/search", self._search, "brokerage"),
            ("secdef.strikes", "GET", "iserver/secdef/strikes", self._strikes, "brokerage"),
            ("secdef.info", "GET", "iserver/secdef/info", self._info, "brokerage"),
            ("contract.rules", "GET", "iserver/contract/{conid}/info-and-rules", self._rules, "brokerage"),
            ("positions", "GET", "portfolio/{account}/positions/{page:\\d+}", self._positions, "portfolio"),
            ("position", "GET", "portfolio/{account}/position/{conid}", self._position, "portfolio"),
            ("positions.fresh", "GET", "portfolio2/{account}/positions", self._fresh, "portfolio"),
            ("positions.invalidate", "POST", "portfolio/{account}/positions/invalidate", self._invalidate, "portfolio"),
            ("ledger", "GET", "portfolio/{account}/ledger", self._ledger, "portfolio"),
            ("summary", "GET", "portfolio/{account}/summary", self._summary, "portfolio"),
            ("pnl", "GET", "iserver/account/pnl/partitioned", self._pnl, "brokerage"),
            ("snapshot", "GET", "iserver/marketdata/snapshot", self._snapshot, "orders"),
        ]

    # ── session ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tickle(self, request: web.Request) -> web.Response:
        if not self._session.connected:
            raise Refusal(401, "not authenticated")
        return _answer(self._session.tickle(wall_ms()))

    async def _status(self, request: web.Request) -> web.Response:
        return _answer(self._session.status)

    async def _init(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        if self._session.competing and body.get("compete") is not True:
            return _answer(self._session.status)
        if not self._session.authenticated:
            self._gateway.login()
        return _answer(self._session.status)

    async def _again(self, request: web.Request) -> web.Response:
        if not self._session.authenticated:
            self._gateway.login()
        return _answer({"message": "triggered"})

    async def _validate(self, request: web.Request) -> web.Response:
        return _answer({"USER_NAME": self._session.user, "RESULT": True, "EXPIRES": 600_000, "IS_PAPER": True})

    async def _logout(self, request: web.Request) -> web.Response:
        self._session.logout()
        self._gateway.streams.say_status()
        return _answer({"status": True})

    async def _accounts(self, request: web.Request) -> web.Response:
        self._session.accounts_seen = True
        return _answer(self._session.accounts())

    async def _portfolio_accounts(self, request: web.Request) -> web.Response:
        self._session.portfolio_seen = True
        return _answer([self._session.portfolio_account()])

    # ── contracts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _symbol(self, conid: str) -> str:
        try:
            return self._contracts.symbol(conid)
        except UnknownContractError as error:
            raise Refusal(500, str(error)) from None

    async def _stocks(self, request: web.Request) -> web.Response:
        symbols = [one for one in request.query.get("symbols", "").split(",") if one]
        return _answer(self._contracts.stocks(symbols))

    async def _secdef(self, request: web.Request) -> web.Response:
        conids = [one for one in request.query.get("conids", "").split(",") if one]
        return _answer({"secdef": [self._contracts.secdef(self._symbol(conid)) for conid in conids]})

    async def _search(self, request: web.Request) -> web.Response:
        given = await body_of(request) if request.method == "POST" else dict(request.query)
        symbol = str(given.get("symbol", ""))
        if not self._contracts.lists(symbol):
            raise Refusal(400, "No symbol found")
        self._session.searched.add(symbol)
        return _answer(self._contracts.search(symbol))

    async def _strikes(self, request: web.Request) -> web.Response:
        symbol, month = self._symbol(request.query.get("conid", "")), request.query.get("month", "")
        if request.query.get("sectype", "").upper() != "OPT":
            raise Refusal(400, "Bad Request: sectype must be OPT")
        if symbol not in self._session.searched:
            return _answer({"call": [], "put": []})  # as the service does when search was left out
        self._session.months.add((symbol, month))
        return _answer(self._contracts.strikes(symbol, month))

    async def _info(self, request: web.Request) -> web.Response:
        query = request.query
        symbol, month = self._symbol(query.get("conid", "")), query.get("month", "")
        if (symbol, month) not in self._session.months:
            raise Refusal(500, "Details currently unavailable. Please try again later.")
        rows = self._contracts.info(symbol, month, query.get("strike", ""), query.get("right", "").upper())
        if not rows:
            raise Refusal(400, "no contracts retrieved")
        return _answer(rows)

    async def _rules(self, request: web.Request) -> web.Response:
        symbol = self._symbol(request.match_info["conid"])
        return _answer(self._contracts.info_and_rules(symbol, self._gateway.account.mark(symbol)))

    # ── portfolio ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _positions(self, request: web.Request) -> web.Response:
        return _answer(self._gateway.portfolio.page(int(request.match_info["page"])))

    async def _position(self, request: web.Request) -> web.Response:
        conid = request.match_info["conid"]
        return _answer(self._gateway.portfolio.of(int(conid)) if conid.isdigit() else [])

    async def _fresh(self, request: web.Request) -> web.Response:
        return _answer(self._gateway.portfolio.fresh())

    async def _invalidate(self, request: web.Request) -> web.Response:
        self._gateway.portfolio.invalidate()
        return _answer({"message": "success"})

    async def _ledger(self, request: web.Request) -> web.Response:
        return _answer(self._gateway.portfolio.ledger())

    async def _summary(self, request: web.Request) -> web.Response:
        return _answer(self._gateway.portfolio.summary())

    async def _pnl(self, request: web.Request) -> web.Response:
        return _answer({"upnl": self._gateway.portfolio.pnl()})

    # ── quotes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _snapshot(self, request: web.Request) -> web.Response:
        """The first call for a contract only opens the line; values come with the second."""
        fields = [one for one in request.query.get("fields", "").split(",") if one]
        rows = []
        for text in request.query.get("conids", "").split(","):
            symbol = self._symbol(text)
            conid = int(text.partition("@")[0])
            first = conid not in self._session.quoted
            self._session.quoted.add(conid)
            rows.append(self._gateway.quotes.snapshot(conid, symbol, () if first else fields))
        return _answer(rows)
