"""A room whose account trades at Alpaca's twin, over its real wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from northstar_core.store.postgres import Database
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import Served, serve
from tests.gateway.room import MINUTE, OPEN, SECOND, Room, RoomClock, grant, room
from tests.twins.ibkr_room import tape


class Twin:
    """Alpaca's twin, and the account of the room that trades there."""

    def __init__(self, served: Served) -> None:
        self.served, self.faults, self.account = served, served.faults["alpaca"], served.accounts["alpaca"]

    def fault(self, at: str, do: str, **more: Any) -> None:
        """Let something go wrong."""
        self.faults.add([Fault(at=at, do=do, **more)])

    def table(self, name: str = "alpaca-1", **more: Any) -> str:
        """The account's table in a configuration."""
        options = {"url": self.served.url("alpaca"), "requests_per_minute": 0, "mute_s": 6000.0, "read_s": 60.0}
        told = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        lines = "".join(f"{key} = {value!r}\n" for key, value in more.items())
        return (
            f"[accounts.{name}]\nbroker = 'alpaca'\nlimits = 'wide'\n{lines}options = {{ {told} }}\n"
            "secrets = { key = 'env:ROOM_KEY', secret = 'env:ROOM_SECRET' }\n"
        )

    async def state(self) -> Any:
        return await self.call("GET", "/_twin/state")

    async def disconnect(self, name: str = "alpaca") -> None:
        """Cut a twin's streams."""
        await self.call("POST", "/_twin/disconnect", name=name)

    async def call(self, method: str, path: str, body: Any = None, name: str = "alpaca") -> Any:
        """Ask the twin as anybody may."""
        headers = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}
        url = self.served.url(name) + path
        async with aiohttp.ClientSession(headers=headers) as http, http.request(method, url, json=body) as found:
            assert found.status < 300, await found.text()
            return await found.json() if found.content_type == "application/json" else None


def play_at_alpaca(
    database: Database, scene: Callable[[Room, Twin], Awaitable[None]], *, speed: float = 20.0, grants: str = "", **more: Any
) -> None:
    """Play a scene in a room whose one account, ``alpaca-1``, trades at Alpaca's twin: SPY at 600, five seconds after the open."""

    async def run() -> None:
        market = TwinMarket(tape(), start=OPEN - MINUTE)
        async with asyncio.timeout(60), serve(market, alpaca=0, play=False) as served:
            market.step(OPEN + 5 * SECOND)
            twin = Twin(served)
            given = grants or grant(account="alpaca-1") + grant("manual", "alpaca-1")
            clock = RoomClock(OPEN + 5 * SECOND, speed)
            async with room(database, accounts=twin.table(), grants=given, clock=clock, **more) as here:
                here.price(600.01)
                await scene(here, twin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOM_KEY", "KEY")
        patch.setenv("ROOM_SECRET", "SECRET")
        asyncio.run(run())
