"""A hand-made market and clients of the Interactive Brokers twin, for its tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import aiohttp
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from northstar_core.model.tape import QuoteTable, Session, Tape, TradeTable
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import Served, serve

SECOND = 10**9
OPEN = int(datetime(2026, 6, 1, 13, 30, tzinfo=UTC).timestamp()) * SECOND
CLOSE = OPEN + 6 * 3600 * SECOND
ACCOUNT = "DU1234567"
SPY = 756733
CALL, PUT, HIGHER = "SPY260619C00600000", "SPY260619P00600000", "SPY260619C00610000"
#: (seconds after the open, symbol, bid, ask, size)
QUOTES = [
    (0, "SPY", 600.00, 600.02, 300.0),
    (0, CALL, 10.00, 10.10, 50.0),
    (0, PUT, 9.00, 9.10, 50.0),
    (0, HIGHER, 6.00, 6.10, 50.0),
    (10, "SPY", 600.10, 600.12, 40.0),
    (20, "SPY", 600.10, 600.12, 5000.0),
    (30, "SPY", 598.00, 598.02, 5000.0),
    (40, "SPY", 605.00, 605.02, 5000.0),
]


def tape() -> Tape:
    """One session of a stock and three options on it, in a few quotes."""
    rows = sorted(QUOTES, key=lambda row: (row[0], row[1]))
    symbols = tuple(sorted({row[1] for row in rows}))
    quotes = QuoteTable(
        symbols=symbols,
        code=np.array([symbols.index(row[1]) for row in rows], np.int32),
        ts=np.array([OPEN + row[0] * SECOND for row in rows], np.int64),
        bid=np.array([row[2] for row in rows]),
        ask=np.array([row[3] for row in rows]),
        bid_size=np.array([row[4] for row in rows]),
        ask_size=np.array([row[4] for row in rows]),
    )
    trades = TradeTable(
        symbols=("SPY",),
        code=np.zeros(1, np.int32),
        ts=np.array([OPEN + SECOND], np.int64),
        price=np.array([600.01]),
        size=np.array([1200.0]),
        forms_price=np.array([True]),
    )
    return Tape(quotes=quotes, trades=trades, sessions=(Session(date(2026, 6, 1), OPEN, CLOSE),))


class Room:
    """A twin that is up, a client of its REST side, and what it takes to open its stream."""

    def __init__(self, served: Served, http: aiohttp.ClientSession) -> None:
        self.served, self.http = served, http
        self.base = served.url("ibkr") + "/v1/api/"
        self.account = served.accounts["ibkr"]

    def step(self, seconds: float) -> None:
        """Play up to so many seconds after the open."""
        self.served.market.step(OPEN + int(seconds * SECOND))

    def fault(self, at: str, do: str, **more: Any) -> None:
        """Let something go wrong."""
        self.served.faults["ibkr"].add([Fault(at=at, do=do, **more)])

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of a request."""
        async with self.http.request(method, self.base + path, json=body) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        """Return the body of a GET that succeeds."""
        status, body = await self.call("GET", path)
        assert status == 200, body
        return body

    async def post(self, path: str, body: Any = None) -> Any:
        """Return the body of a POST that succeeds."""
        status, answer = await self.call("POST", path, body)
        assert status == 200, answer
        return answer

    async def order(self, **fields: Any) -> Any:
        """Place an order; a limit of one share of SPY unless said otherwise."""
        return await self.post(f"iserver/account/{ACCOUNT}/orders", {"orders": [ticket(**fields)]})

    async def live(self) -> list[Any]:
        """Return live orders, the second time if the first is empty."""
        for _ in range(2):
            body = await self.get("iserver/account/orders")
            if body["snapshot"]:
                break
        rows: list[Any] = body["orders"]
        return rows

    async def steer(self, do: str) -> None:
        """Change the session from behind."""
        async with self.http.post(self.served.url("ibkr") + "/_twin/session", json={"do": do}) as answer:
            assert answer.status == 200

    async def state(self) -> Any:
        """Return what the twin says of itself."""
        async with self.http.get(self.served.url("ibkr") + "/_twin/state") as answer:
            return await answer.json()

    @asynccontextmanager
    async def stream(self, *requests: str) -> AsyncIterator[Stream]:
        """Open the stream with the cookie, read its greeting, and ask for something."""
        session = (await self.post("tickle"))["session"]
        cookie = "api=" + json.dumps({"session": session})
        url = self.served.url("ibkr", "ws") + "/v1/api/ws"
        async with connect(url, additional_headers={"Cookie": cookie}, proxy=None) as socket:
            stream = Stream(socket)
            for _ in range(3):
                await stream.next()
            for request in requests:
                await socket.send(request)
            yield stream


class Stream:
    """A socket that is read frame by frame, never waiting longer than a few seconds."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def next(self, *topics: str) -> Any:
        """Return the next frame, of one of these topics if any are given; heartbeats are passed over."""
        async with asyncio.timeout(5):
            while True:
                frame = json.loads(await self.socket.recv())
                if ("hb" not in frame or "hb" in topics) and (
                    not topics or frame.get("topic", "").split("+")[0] in topics or "hb" in topics
                ):
                    return frame

    async def rows(self, topic: str, count: int) -> list[Any]:
        """Return the rows of the next frames of a topic until there are so many."""
        found: list[Any] = []
        while len(found) < count:
            found += (await self.next(topic))["args"]
        return found

    async def quiet(self) -> None:
        """Make sure that everything sent so far has been answered: the next answer is to this question."""
        await self.socket.send("tic")
        frame = await self.next()
        assert frame["topic"] == "tic", frame
        for _ in range(3):
            assert (await self.next())["topic"] == "tic"


def ticket(**fields: Any) -> dict[str, Any]:
    """An order as a client writes it."""
    order = {"conid": SPY, "side": "BUY", "orderType": "LMT", "quantity": 1, "price": 600.00, "tif": "DAY", **fields}
    return {name: value for name, value in order.items() if value is not None}


def in_room(
    scene: Callable[[Room], Awaitable[None]], *, at: float = 5, accounts: bool = True, **options: Any
) -> None:
    """Play a scene: a twin is up ``at`` seconds after the open, with the lists of accounts asked for."""

    async def play() -> None:
        market = TwinMarket(tape(), start=OPEN - 60 * SECOND)
        async with serve(market, ibkr=0, options={"ibkr": options}, play=False) as served:
            market.step(OPEN + int(at * SECOND))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
                room = Room(served, http)
                if accounts:
                    await room.get("iserver/accounts")
                    await room.get("portfolio/accounts")
                await scene(room)

    asyncio.run(asyncio.wait_for(play(), 30))
