"""A client of the gateway that speaks the session protocol, frame by frame, and nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from northstar_core.model.market import Bar
from northstar_core.model.order import CancelOrder, OrderType, PlaceOrder, ReplaceOrder, Side
from northstar_core.model.wire import (
    HEADER,
    Answer,
    Ask,
    Batch,
    Beat,
    Hello,
    History,
    Keep,
    Leave,
    Refused,
    Request,
    Welcome,
    downwards,
    frame,
)  # fmt: skip

D = Decimal
DEADLINE_S = 8.0


class Raw:
    """A client that speaks the protocol and nothing more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.n = 0
        self.given: list[tuple[int, Any]] = []  #: events, in the order in which they came
        self._heard = 0  #: how many of these ``hear`` has gone through
        self.welcome: Welcome | None = None
        self.bars: list[Bar] = []
        self.count = 0  #: of orders

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    def send(self, message: Any) -> None:
        """Send a message as a frame."""
        self.write(frame(message))

    def next(self) -> int:
        self.n += 1
        return self.n

    async def read(self) -> Any:
        """Return the next message; None where the gateway has closed."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                size = int.from_bytes(await self.reader.readexactly(HEADER), "big")
                return downwards(await self.reader.readexactly(size))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def hear(self, kind: type | None = None, what: Callable[[Any], object] = lambda event: True) -> tuple[int, Any]:
        """Go on through what came until there is an event of a kind, and return it with its number."""
        while True:
            while self._heard < len(self.given):
                seq, event = self.given[self._heard]
                self._heard += 1
                if (kind is None or type(event) is kind) and what(event):
                    return seq, event
            message = await self.read()
            assert isinstance(message, Batch), message
            self.given += message.events

    def forget(self) -> None:
        """Let what came so far be forgotten."""
        self.given.clear()
        self._heard = 0

    async def refusal(self) -> Refused:
        """Read until the gateway refuses and closes."""
        while True:
            message = await self.read()
            assert message is not None, "closed without a word"
            if isinstance(message, Refused):
                assert await self.read() is None
                return message

    async def enter(self, token: str, strategy: str = "trend", **more: Any) -> Welcome:
        """Begin a session and take in what it begins with."""
        self.send(Hello(token=token, strategy=strategy, **{"symbols": ("SPY",), **more}))
        message = await self.read()
        assert isinstance(message, Welcome), message
        self.welcome = message
        while not message.resumed:
            history = await self.read()
            assert isinstance(history, History)
            self.bars += history.bars
            if history.last:
                break
        return message

    def ask(self, message: Any) -> None:
        """Ask for something."""
        self.send(Ask(self.next(), message))

    def order(self, side: Side = Side.BUY, qty: Any = 10, limit: Any = None, **more: Any) -> PlaceOrder:
        """Return the session's next order."""
        assert self.welcome is not None
        place = self.welcome
        self.count = max(self.count, place.n) + 1
        given = {
            "ts": 1, "order_id": f"{place.strategy}-{place.session}-{self.count}", "strategy": place.strategy, "account": place.account,
            "symbol": "SPY", "side": side, "qty": D(qty), "basis_seq": self.given[-1][0] if self.given else place.seq,
        }  # fmt: skip
        if limit is not None:
            given |= {"order_type": OrderType.LIMIT, "limit_price": D(limit)}
        return PlaceOrder(**(given | more))

    def place(self, *args: Any, **more: Any) -> str:
        """Ask for the session's next order; returns its id."""
        order = self.order(*args, **more)
        self.ask(order)
        return order.order_id

    def cancel(self, order_id: str, **more: Any) -> None:
        assert self.welcome is not None
        basis = self.given[-1][0] if self.given else self.welcome.seq
        self.ask(CancelOrder(1, order_id, self.welcome.strategy, self.welcome.account, **{"basis_seq": basis, **more}))

    def replace(self, order_id: str, **terms: Any) -> None:
        assert self.welcome is not None
        basis = self.given[-1][0] if self.given else self.welcome.seq
        self.ask(ReplaceOrder(1, order_id, self.welcome.strategy, self.welcome.account, **{"basis_seq": basis, **terms}))

    def beat(self, seq: int = 0) -> None:
        self.send(Beat(self.next(), seq))

    def keep(self, state: bytes) -> None:
        self.send(Keep(self.next(), state))

    def leave(self, outcome: str = "completed", error: str = "") -> None:
        self.send(Leave(self.next(), outcome, error))

    async def request(self, what: str, **args: Any) -> Answer:
        """Ask a question and return the answer."""
        n = self.next()
        self.send(Request(n, what, args))
        while True:
            message = await self.read()
            if isinstance(message, Answer):
                assert message.n == n
                return message
            assert isinstance(message, Batch), message
            self.given += message.events

    def drop(self) -> None:
        """Be gone without a word."""
        self.writer.transport.abort()
