"""The twin of Massive (Polygon.io): a feed over WebSocket by cluster, and REST, of the market that is played.

The vendor's own client works against it with only its address changed: ``feed="127.0.0.1:PORT"``, ``secure=False`` and
``base="http://127.0.0.1:PORT"``. What is before the market's time is history; nothing after it is ever told.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from northstar_core.twins.control import Control
from northstar_core.twins.faults import Faults
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.massive import rest
from northstar_core.twins.massive.aggs import Aggregates
from northstar_core.twins.massive.options import Options
from northstar_core.twins.massive.reference import Reference
from northstar_core.twins.massive.stream import CHANNELS, Stream
from northstar_core.twins.massive.ticks import Ticks


def app(
    market: TwinMarket, faults: Faults, key: str, *, rate_limit: int = 0, quote_lot: int = 100, **stream: Any
) -> web.Application:
    """Return the server, to be run on a port of its own.

    Parameters
    ----------
    rate_limit
        REST requests in a minute of the wall before one is answered 429; 0: no limit.
    quote_lot
        Shares in one unit of a stock quote's size.
    stream
        More of ``massive_stream.Stream``: ``most``, ``auth_timeout_s``, ``second_lag_s``, ``buffer``.
    """
    feed = Stream(market, faults, key, quote_lot=quote_lot, **stream)

    def state() -> dict[str, Any]:
        return {
            "clusters": {name: sum(c.cluster == name for c in feed.connections) for name in CHANNELS},
            "opened": feed.opened,
            "subscriptions": sorted(
                {f"{channel}.{t}" for c in feed.connections for channel, tickers in c.channels.items() for t in tickers}
            ),
        }

    aggregates = Aggregates(market)
    parts = (aggregates, Ticks(market, aggregates, quote_lot), Options(market, aggregates), Reference(market))
    rate = _Rate(rate_limit)

    @web.middleware
    async def guarded(request: web.Request, handler: rest.Handler) -> web.StreamResponse:
        """Refuse strangers and the impatient; answer what cannot be asked with the reason."""
        if request.path.startswith("/_twin/") or request.path.lstrip("/") in CHANNELS:
            return await handler(request)
        if not rest.authorized(request, key):
            return rest.error(401, "Unknown API Key")
        if rate.over():
            return rest.error(429, "You've exceeded the maximum requests per minute.")
        try:
            return await handler(request)
        except rest.BadRequest as problem:
            return rest.error(400, str(problem))
        except web.HTTPNotFound:
            return rest.error(404, "Not found.")

    server = web.Application(middlewares=[guarded])
    control = Control(faults, state, rest.error)
    control.outlets = feed.connections  # type: ignore[assignment]  # they are cut, healed and closed alike
    control.install(server)
    for part in parts:
        server.router.add_routes(part.routes())
    for cluster in CHANNELS:
        server.router.add_get(f"/{cluster}", _door(feed, cluster))

    async def stop(_: web.Application) -> None:
        feed.close()

    server.on_shutdown.append(stop)
    return server


def _door(feed: Stream, cluster: str) -> rest.Handler:
    async def connect(request: web.Request) -> web.StreamResponse:
        return await feed.connect(request, cluster)

    return connect


class _Rate:
    """Requests in a minute."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._since = 0.0
        self._count = 0

    def over(self) -> bool:
        """Count a request; tell whether it is one too many."""
        now = asyncio.get_running_loop().time()
        if now - self._since >= 60:
            self._since, self._count = now, 0
        self._count += 1
        return bool(self._limit) and self._count > self._limit
