"""A hand-made market and clients of the Alpaca twin, for its tests."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import aiohttp
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from northstar_core.model.tape import BarTable, QuoteTable, Session, Tape, TradeTable
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import Served, serve

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the vendor's stream runs on a deprecated client
    from alpaca.common.exceptions import APIError
    from alpaca.trading import requests as ask
    from alpaca.trading.client import TradingClient
    from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, TimeInForce
    from alpaca.trading.stream import TradingStream

__all__ = ["APIError", "OrderClass", "OrderSide", "OrderStatus", "TimeInForce", "TradingStream", "ask"]

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
OPEN = int(datetime(2024, 1, 2, 14, 30, tzinfo=UTC).timestamp()) * SECOND
CLOSE = OPEN + 6 * HOUR + HOUR // 2
C100, C105, P95 = "SPY240105C00100000", "SPY240105C00105000", "SPY240105P00095000"
#: (seconds after the first open, symbol, bid, ask, size shown)
QUOTES = [
    (0, "SPY", 99.99, 100.01, 300.0),
    (0, "QQQ", 49.99, 50.01, 5000.0),
    (0, C100, 2.00, 2.10, 20.0),
    (0, C105, 0.80, 0.90, 20.0),
    (0, P95, 1.00, 1.10, 20.0),
    (10, "SPY", 99.99, 100.01, 200.0),
    (20, "SPY", 100.99, 101.01, 1000.0),
    (30, "SPY", 98.99, 99.01, 1000.0),
    (40, "SPY", 104.99, 105.01, 1000.0),
    (60, "SPY", 99.99, 100.01, 5000.0),
    (7 * 3600, "SPY", 97.99, 98.01, 5000.0),  # half an hour after the close
    (86400, "SPY", 99.99, 100.01, 5000.0),
    (86400, C100, 2.00, 2.10, 20.0),
]
TRADES = [(20, 101.0), (30, 99.0), (40, 105.0), (50, 103.0), (55, 101.9)]


def tape() -> Tape:
    """Two sessions of two stocks and three options, in a few quotes and prints, and a bar of the session before."""
    rows = sorted(QUOTES, key=lambda row: (row[0], row[1]))
    symbols = tuple(sorted({row[1] for row in rows}))
    size = np.array([row[4] for row in rows])
    quotes = QuoteTable(
        symbols=symbols,
        code=np.array([symbols.index(row[1]) for row in rows], np.int32),
        ts=np.array([OPEN + row[0] * SECOND for row in rows], np.int64),
        bid=np.array([row[2] for row in rows]),
        ask=np.array([row[3] for row in rows]),
        bid_size=size,
        ask_size=size,
    )
    trades = TradeTable(
        symbols=("SPY",),
        code=np.zeros(len(TRADES), np.int32),
        ts=np.array([OPEN + row[0] * SECOND for row in TRADES], np.int64),
        price=np.array([row[1] for row in TRADES]),
        size=np.full(len(TRADES), 1000.0),
        forms_price=np.full(len(TRADES), True),
    )
    friday = OPEN - 4 * DAY
    one = np.full(1, 98.0)
    ends = np.array([friday + 60 * SECOND], np.int64)
    bars = BarTable(
        symbols=("SPY",), code=np.zeros(1, np.int32), start=np.array([friday], np.int64), ts=ends, open=one, high=one,
        low=one, close=one, volume=one,
    )  # fmt: skip
    sessions = (
        Session(date(2023, 12, 29), friday, friday + CLOSE - OPEN),
        Session(date(2024, 1, 2), OPEN, CLOSE),
        Session(date(2024, 1, 3), OPEN + DAY, CLOSE + DAY),
    )
    return Tape(quotes=quotes, trades=trades, bars=bars, sessions=sessions, bar_ns=60 * SECOND)


class Room:
    """A twin that is up, and its clients."""

    def __init__(self, served: Served, http: aiohttp.ClientSession) -> None:
        self.served, self.http = served, http
        self.market = served.market
        self.account = served.accounts["alpaca"]
        self.url = served.url("alpaca")
        self.sdk = TradingClient("KEY", "SECRET", paper=True, url_override=self.url)

    async def ask(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Call the vendor's client, which blocks, in a thread."""
        return await asyncio.to_thread(call, *args, **more)

    async def send(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        """Send a raw request; return status and body."""
        async with self.http.request(method, self.url + path, json=body, params=query) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def post(self, **order: Any) -> tuple[int, Any]:
        """Place an order: by default to buy 10 SPY at the market, for the day."""
        body = {"symbol": "SPY", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **order}
        return await self.send("POST", "/v2/orders", {name: value for name, value in body.items() if value is not None})

    async def order(self, order_id: str, *statuses: str) -> Any:
        """Return an order as soon as it has one of these statuses (none: as it is)."""
        async with asyncio.timeout(10):
            while True:
                _, order = await self.send("GET", f"/v2/orders/{order_id}", nested="true")
                if not statuses or order["status"] in statuses:
                    return order

    async def placed(self, **order: Any) -> Any:
        """Place an order and return it when it has reached the exchange."""
        status, answer = await self.post(**order)
        assert status == 200, answer
        return await self.order(answer["id"], "new", "accepted", "partially_filled", "filled", "rejected", "canceled")

    def play(self, seconds: float) -> None:
        """Play until so many seconds after the first open."""
        self.market.step(OPEN + int(seconds * SECOND))

    async def state(self) -> Any:
        """Return what the twin says is so."""
        return (await self.send("GET", "/_twin/state"))[1]

    async def fault(self, at: str, do: str, **more: Any) -> None:
        """Let something go wrong from now on."""
        status, answer = await self.send("POST", "/_twin/faults", [{"at": at, "do": do, **more}])
        assert status == 200, answer

    @asynccontextmanager
    async def stream(self, **more: Any) -> AsyncIterator[Stream]:
        """Open the stream and listen to trade updates."""
        async with connect(self.url.replace("http", "ws") + "/stream", **more) as socket:
            stream = Stream(socket)
            await stream.send({"action": "auth", "key": "KEY", "secret": "SECRET"})
            assert (await stream.next())["data"]["status"] == "authorized"
            await stream.send({"action": "listen", "data": {"streams": ["trade_updates"]}})
            assert (await stream.next())["data"]["streams"] == ["trade_updates"]
            yield stream


class Stream:
    """The stream as a client sees it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: Any) -> None:
        """Send a message as JSON."""
        await self.socket.send(json.dumps(message))

    async def next(self) -> Any:
        """Return the next message."""
        async with asyncio.timeout(10):
            return json.loads(await self.socket.recv())

    async def events(self, *last: str) -> list[Any]:
        """Return the data of events up to the first of one of these kinds."""
        out: list[Any] = []
        while not out or out[-1]["event"] not in last:
            out.append((await self.next())["data"])
        return out

    async def names(self, *last: str) -> list[str]:
        """Return the names of events up to the first of one of these kinds."""
        return [event["event"] for event in await self.events(*last)]


@asynccontextmanager
async def room(*faults: Fault, start: int = OPEN, **options: Any) -> AsyncIterator[Room]:
    """Serve a twin of Alpaca in the hand-made market, which stands just after its open."""
    market = TwinMarket(tape(), start=start - 1, fine=False)
    headers = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}
    async with (
        serve(market, alpaca=0, faults={"alpaca": list(faults)}, options={"alpaca": options}, play=False) as served,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        market.step(start)
        yield Room(served, http)
