"""The Interactive Brokers twin: a Client Portal gateway on one port, REST and stream, over a simulated account.

``app(market, account, faults)`` is the whole; ``northstar_core.twins.serve`` starts it. Orders take the recorded path:
questions, an integer id, rows that say only what has changed, executions told twice. Beside ``/_twin/faults`` and the
other controls that every twin has, ``POST /_twin/session`` loses the session, logs in elsewhere, rolls over or logs out.

Places of faults beside the routes' names: ``stream.sor`` (``str``, ``smd``, ``ntf``, …; "deaf" leaves heartbeats only),
``subscribe.sor`` ("refuse", "drop"), ``order.cancel``, ``order.modify``, ``execution`` ("correction"), and on any route
"401" and "expire"; at ``orders.post`` and ``orders.modify`` "question" asks for nothing (``text``: other ids).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.model.errors import SettingsError
from northstar_core.sim.costs import per_share_and_contract
from northstar_core.sim.fills import FillAt
from northstar_core.sim.model import SimModel
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.control import Control
from northstar_core.twins.faults import Faults
from northstar_core.twins.ibkr.contracts import Contracts
from northstar_core.twins.ibkr.gateway import Gateway, Handler, Options
from northstar_core.twins.ibkr.orders import OrderRoutes
from northstar_core.twins.ibkr.routes import Routes
from northstar_core.twins.ibkr.session import BrokerageSession
from northstar_core.twins.ibkr.stream import Streams
from northstar_core.twins.market import TwinMarket

BASE = "/v1/api"
#: The account's rules where none are given: at quotes, with this broker's commissions.
MODEL = SimModel(
    fill_at=FillAt.QUOTE, volume_share=Decimal(1), extended_hours=True, costs=per_share_and_contract()
)


def app(market: TwinMarket, account: TwinAccount, faults: Faults, **options: Any) -> web.Application:
    """Return the twin as an application.

    Parameters
    ----------
    market
        What it quotes.
    account
        What its orders trade in; its name is the account's id. Make it with ``MODEL`` to have commissions.
    faults
        What goes wrong.
    options
        See ``Options``.

    Raises
    ------
    SettingsError
        If an option is unknown or of the wrong kind.
    """
    unknown = set(options) - set(Options.__struct_fields__)
    if unknown:
        known = ", ".join(Options.__struct_fields__)
        raise SettingsError(f"ibkr twin: unknown option {', '.join(sorted(unknown))}; there are {known}")
    try:
        chosen = msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        raise SettingsError(f"ibkr twin: {error}") from None
    contracts = Contracts(lambda: market.symbols)
    session = BrokerageSession(account.name, seed=chosen.seed)
    control = Control(faults, lambda: gateway.state(), lambda status, text: gateway.error(status, text))
    streams = Streams(market, session, contracts, control, heartbeat_s=chosen.heartbeat_s, lives_s=chosen.lives_s)
    gateway = Gateway(market, account, faults, contracts, session, streams, chosen)
    made = web.Application()
    control.install(made)
    made.router.add_post("/_twin/session", gateway.steer)
    made.router.add_get(f"{BASE}/ws", streams.connect, name="connect")
    routes, orders = Routes(gateway), OrderRoutes(gateway)
    for name, method, path, handler, need in [*routes.table(), *orders.table()]:
        _add(made, name, method, path, gateway.guarded(name, handler, need))

    async def beating(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(streams.run())
        yield
        task.cancel()
        gateway.stop()
        with suppress(asyncio.CancelledError):
            await task

    made.cleanup_ctx.append(beating)
    return made


def _add(made: web.Application, name: str, method: str, path: str, handler: Handler) -> None:
    """Add a route for each of its methods; a slash at its end makes no difference."""
    resource = made.router.add_resource(f"{BASE}/{path}{{slash:/?}}", name=name)
    for one in method.split("|"):
        resource.add_route(one, handler)
