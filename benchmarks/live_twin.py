"""Alpaca's twin in a process of its own, which notes when each order arrived and when it was answered.

``python -m benchmarks.live_twin`` prints one JSON line when it is up: its port, its clock, and the price of the one symbol it trades.
``GET /_bench/orders`` returns ``{client order id: [arrived, answered]}``, ns of ``time.time_ns``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from northstar_core.data.synthetic import synthesize
from northstar_core.twins.account import MODEL, TwinAccount
from northstar_core.twins.alpaca import server as alpaca
from northstar_core.twins.faults import Faults
from northstar_core.twins.market import TwinMarket

SYMBOL = "ALFA"
CASH = Decimal(1_000_000_000)
LEAD_NS = 30 * 60 * 10**9  #: the session has been open so long as the benchmark begins


class Named(msgspec.Struct):
    """All that is read of an order here."""

    client_order_id: str = ""


class Stamps:
    """Notes, outside of everything the twin does, when an order's request came and when it was answered."""

    def __init__(self) -> None:
        self.orders: dict[str, list[int]] = {}
        self._read = msgspec.json.Decoder(Named).decode

    @property
    def middleware(self) -> Any:
        """The outermost layer."""

        @web.middleware
        async def stamped(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.method != "POST" or request.path != "/v2/orders":
                answer: web.StreamResponse = await handler(request)
                return answer
            arrived = time.time_ns()
            answer = await handler(request)
            self.orders[self._read(await request.read()).client_order_id] = [arrived, time.time_ns()]
            return answer

        return stamped

    async def get(self, request: web.Request) -> web.Response:
        """Return what was noted."""
        return web.Response(body=msgspec.json.encode(self.orders), content_type="application/json")


async def main() -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tape = synthesize(symbols=(SYMBOL,), days=2, options_on=None)
    market = TwinMarket(tape, start=tape.sessions[1].open + LEAD_NS)
    faults = Faults()
    app = alpaca.app(market, TwinAccount(market, "PA1234567", CASH, MODEL, faults), faults)
    stamps = Stamps()
    app.middlewares.insert(0, stamps.middleware)
    app.router.add_get("/_bench/orders", stamps.get)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    playing = asyncio.create_task(market.run())
    market.clock.start()
    seen = market.last(SYMBOL)
    assert seen is not None
    clock = {"desk": market.clock.desk, "wall": market.clock.wall}
    print(json.dumps({"port": runner.addresses[0][1], "clock": clock, "price": round(seen.price, 2)}), flush=True)
    await stop.wait()
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
