"""Market status, holidays and the conditions table over REST."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from northstar_core.twins.market import HOUR_NS, TwinMarket
from northstar_core.twins.massive import rest
from northstar_core.twins.massive.messages import NEW_YORK, SECOND_NS, new_york_date, new_york_midnight

EXCHANGES = ("NYSE", "NASDAQ")
FULL_CLOSE_HOUR = 16

#: Conditions of US stock prints: id, name, and what a print with it moves: high and low, open and close, volume.
CONDITIONS = (
    (0, "Regular Sale", "HOV"), (1, "Acquisition", "HOV"), (2, "Average Price Trade", "V"), (3, "Automatic Execution", "HOV"),
    (4, "Bunched Trade", "HOV"), (5, "Bunched Sold Trade", "HV"), (7, "Cash Sale", "V"), (8, "Closing Prints", "HOV"),
    (9, "Cross Trade", "HOV"), (10, "Derivatively Priced", "HV"), (11, "Distribution", "HOV"), (12, "Form T", "V"),
    (13, "Extended Trading Hours (Sold Out of Sequence)", "V"), (14, "Intermarket Sweep", "HOV"),
    (15, "Market Center Official Close", ""), (16, "Market Center Official Open", ""), (20, "Next Day", "V"),
    (21, "Price Variation Trade", "V"), (22, "Prior Reference Price", "HV"), (23, "Rule 155 Trade (AMEX)", "HOV"),
    (25, "Opening Prints", "HOV"), (27, "Stopped Stock (Regular Trade)", "HOV"), (28, "Re-Opening Prints", "HOV"),
    (29, "Seller", "V"), (30, "Sold Last", "HOV"), (33, "Sold (out of Sequence)", "HV"), (34, "Split Trade", "HOV"),
    (36, "Yellow Flag Regular Trade", "HOV"), (37, "Odd Lot Trade", "V"),
    (38, "Corrected Consolidated Close (per listing market)", "HO"), (41, "Trade Thru Exempt", "HOV"),
    (52, "Contingent Trade", "V"), (53, "Qualified Contingent Trade (QCT)", "V"),
)  # fmt: skip


class Reference:
    """The routes ``/v1/marketstatus`` and ``/v3/reference/conditions``."""

    def __init__(self, market: TwinMarket) -> None:
        self._market = market

    def routes(self) -> list[web.RouteDef]:
        """Return them; a route's name is its place for faults."""
        return [
            web.get("/v1/marketstatus/now", self.now, name="status"),
            web.get("/v1/marketstatus/upcoming", self.upcoming, name="holidays"),
            web.get("/v3/reference/conditions", self.conditions, name="conditions"),
        ]

    async def now(self, request: web.Request) -> web.Response:
        """Whether the market is open, by the sessions of the tape."""
        now = self._market.now()
        today = next((s for s in self._market.sessions if s.label == new_york_date(now)), None)
        early = today is not None and new_york_midnight(today.label) + 4 * HOUR_NS <= now < today.open
        after = today is not None and today.close <= now < today.close + 4 * HOUR_NS
        state = "open" if self._market.session_at(now) is not None else "extended-hours" if early or after else "closed"
        body = {
            "afterHours": after, "currencies": {"crypto": "open", "fx": "open"}, "earlyHours": early,
            "exchanges": {"nasdaq": state, "nyse": state, "otc": state}, "market": state,
            "serverTime": datetime.fromtimestamp(now // SECOND_NS, NEW_YORK).isoformat(),
        }  # fmt: skip
        return rest.answer(body)

    async def upcoming(self, request: web.Request) -> web.Response:
        """Weekdays without a session and half days, as far as the tape's sessions reach."""
        found: list[dict[str, Any]] = []
        sessions = {session.label: session for session in self._market.sessions}
        day = new_york_date(self._market.now())
        while sessions and day <= max(sessions):
            session = sessions.get(day)
            if session is None and day.isoweekday() <= 5 and day > min(sessions):
                found += [{"date": day.isoformat(), "exchange": name, "name": "Holiday", "status": "closed"} for name in EXCHANGES]
            elif session is not None:
                opens, closes = (datetime.fromtimestamp(ts // SECOND_NS, NEW_YORK) for ts in (session.open, session.close))
                if closes.hour < FULL_CLOSE_HOUR:
                    found += [
                        {
                            "date": day.isoformat(), "exchange": name, "name": "Early close", "status": "early-close",
                            "open": opens.isoformat(), "close": closes.isoformat(),
                        } for name in EXCHANGES
                    ]  # fmt: skip
            day += timedelta(days=1)
        return web.json_response(found)

    async def conditions(self, request: web.Request) -> web.Response:
        """The conditions of stock prints and what they move."""
        request = rest.resumed(request)
        limit = rest.limit_of(request, 10, 1000)
        rows = [_condition(*entry) for entry in CONDITIONS]
        rows = [row for row in rows if rest.wanted(request, "id", row["id"]) and rest.wanted(request, "asset_class", "stocks")]
        if not any(value not in ("trade",) for name, value in request.query.items() if name == "data_type"):
            part, more = rest.page(request, rows, limit)
            return rest.ok(list(part), count=len(part), **more)
        return rest.ok([], count=0)


def _condition(number: int, name: str, moves: str) -> rest.Row:
    rules = {"updates_high_low": "H" in moves, "updates_open_close": "O" in moves, "updates_volume": "V" in moves}
    return {
        "id": number, "name": name, "asset_class": "stocks", "type": "sale_condition", "data_types": ["trade"],
        "update_rules": {"consolidated": rules, "market_center": rules}, "sip_mapping": {},
    }  # fmt: skip
