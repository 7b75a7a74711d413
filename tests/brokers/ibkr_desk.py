"""A desk of one account at the Interactive Brokers twin: what the adapter claims, folded the way the books are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import aiohttp

from northstar_core.brokers.base import Claim, Wiring
from northstar_core.brokers.ibkr.broker import IbkrBroker
from northstar_core.engine.oms import Order
from northstar_core.gateway.clock import ScaledClock
from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.model.instrument import instrument
from northstar_core.model.order import (
    TERMINAL,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Side,
    TimeInForce,
    Trigger,
    next_status,
)
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp, ExternalOrder, FrameUnread
from northstar_core.twins.ibkr.server import MODEL
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import serve
from tests.twins.ibkr_room import ACCOUNT, OPEN, SECOND, Room, tape

ZERO = Decimal(0)
DEADLINE_S = 10.0
TRIGGERS = {
    ExecType.NEW: Trigger.ACCEPT,
    ExecType.CANCELED: Trigger.CANCEL,
    ExecType.REJECTED: Trigger.REJECT,
    ExecType.EXPIRED: Trigger.EXPIRE,
    ExecType.CANCEL_REJECTED: Trigger.REQUEST_REJECT,
    ExecType.REPLACE_REJECTED: Trigger.REQUEST_REJECT,
    ExecType.UNKNOWN: Trigger.LOSE_SIGHT,
    ExecType.REPLACED: Trigger.REPLACE,
}


class QuickClock(ScaledClock):
    """Desk time from the market's open, many times as fast as the wall's; waits may be short."""

    FLOOR_S = 0.02

    def __init__(self) -> None:
        super().__init__(OPEN, time.time(), 10.0)


class Desk:
    """Orders, their states by the published table, positions and cash, as claims make them."""

    def __init__(self, room: Room, clock: ScaledClock | None = None, **options: Any) -> None:
        self.room = room
        self.orders: dict[str, PlaceOrder] = {}
        self.claims: list[Claim] = []
        self.status: dict[str, OrderStatus] = {}
        self.filled: dict[str, Decimal] = {}
        self.booked: dict[str, Claim] = {}
        self.terms: dict[str, Any] = {}  # of orders that were replaced
        self.asked: dict[str, Any] = {}  # of replaces without an answer
        self.positions: dict[str, Decimal] = {}
        self.cash = Decimal(100_000)
        self._changed = asyncio.Event()
        self._options = {
            "account_id": ACCOUNT, "url": room.served.url("ibkr") + "/v1/api", "paced": False, "poll_s": 2.0, "check_s": 8.0,
            "tickle_s": 5.0, "quiet_s": 30.0, "answer_s": 10.0, "backoff_s": 1.0, "conids": {}, **options,
        }  # fmt: skip
        self.clock = clock or QuickClock()
        self.broker = self.adapter()

    def adapter(self) -> IbkrBroker:
        """Another adapter, as after a restart."""
        return IbkrBroker(
            Wiring(
                account="live-1", clock=self.clock, emit=self.emit, order_of=self.orders.get, options=self._options,
                reads={"executions": OPEN},
            )
        )  # fmt: skip

    async def restart(self) -> None:
        """Stop the adapter and start another, which is told what the books say of orders."""
        await self.broker.close()
        self.broker = self.adapter()
        kept = []
        for order_id, order in self.orders.items():
            terms = self.terms.get(order_id, (order.qty, order.limit_price, order.stop_price))
            pending = self.asked.get(order_id)
            kept.append(Order(order, instrument(order.symbol), *terms, self.status[order_id], pending=pending))
        self.broker.restore(None, kept, {("live-1", record) for record in self.booked})
        await self.broker.start()

    # ── books ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def emit(self, claim: Claim) -> None:
        self.claims.append(claim)
        if isinstance(claim, ExecutionReport):
            self._report(claim)
        elif isinstance(claim, AccountActivity) and claim.record_id not in self.booked:
            self.booked[claim.record_id] = claim
            self.cash += claim.cash
            self._hold(claim.symbol, claim.qty)
        self._changed.set()

    def _report(self, claim: ExecutionReport) -> None:
        order = self.orders[claim.order_id]
        if claim.exec_type is ExecType.TRADE:
            if claim.exec_id in self.booked:
                return
            self.booked[claim.exec_id] = claim
            found = instrument(claim.symbol)
            signed = claim.qty if claim.side is Side.BUY else -claim.qty
            self.cash -= signed * claim.price * found.multiplier + claim.fees
            self._hold(claim.symbol, signed)
            legs = instrument(order.symbol).legs
            done = [
                sum((c.qty for c in self.booked.values() if isinstance(c, ExecutionReport) and c.order_id == order.order_id
                     and c.symbol == leg.instrument.symbol), ZERO) / abs(leg.ratio)
                for leg in legs
            ]  # fmt: skip
            self.filled[order.order_id] = min(done)
            last = self.filled[order.order_id] >= self.terms.get(order.order_id, (order.qty,))[0]
            self._move(claim.order_id, Trigger.LAST_FILL if last else Trigger.PARTIAL_FILL)
        else:
            self._move(claim.order_id, TRIGGERS[claim.exec_type])
            if claim.exec_type in (ExecType.REPLACED, ExecType.REPLACE_REJECTED):
                asked = self.asked.pop(claim.order_id, None)
                if claim.exec_type is ExecType.REPLACED and asked is not None:
                    self.terms[claim.order_id] = asked

    def _move(self, order_id: str, trigger: Trigger) -> None:
        after = next_status(self.status[order_id], trigger, partly_filled=self.filled.get(order_id, ZERO) > 0)
        self.status[order_id] = after or self.status[order_id]

    def _hold(self, symbol: str, qty: Decimal) -> None:
        if qty:
            self.positions[symbol] = self.positions.get(symbol, ZERO) + qty
            if not self.positions[symbol]:
                del self.positions[symbol]

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, n: int, side: str = "BUY", qty: int = 10, limit: str = "", stop: str = "", **more: Any) -> PlaceOrder:
        """An order that the desk knows; market unless a price is given."""
        kind = {(0, 0): OrderType.MARKET, (1, 0): OrderType.LIMIT, (0, 1): OrderType.STOP, (1, 1): OrderType.STOP_LIMIT}
        order = PlaceOrder(
            OPEN, f"spy-20260601abc-{n}", "spy", "live-1", more.pop("symbol", "SPY"), Side(side), Decimal(qty),
            kind[bool(limit), bool(stop)], Decimal(limit) if limit else None, Decimal(stop) if stop else None,
            more.pop("tif", TimeInForce.DAY), **more,
        )  # fmt: skip
        self.orders[order.order_id] = order
        self.status[order.order_id] = OrderStatus.PENDING_NEW
        return order

    async def place(self, n: int, side: str = "BUY", qty: int = 10, limit: str = "", stop: str = "", **more: Any) -> str:
        """Send an order; return its id."""
        order = self.order(n, side, qty, limit, stop, **more)
        await self.broker.submit(order)
        return order.order_id

    async def cancel(self, order_id: str) -> None:
        self._move(order_id, Trigger.CANCEL_REQUEST)
        await self.broker.cancel(order_id)

    async def replace(self, order_id: str, qty: int, limit: str = "", stop: str = "") -> None:
        self._move(order_id, Trigger.REPLACE_REQUEST)
        price, trigger = Decimal(limit) if limit else None, Decimal(stop) if stop else None
        self.asked[order_id] = (Decimal(qty), price, trigger)
        await self.broker.replace(order_id, Decimal(qty), price, trigger)

    # ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def until(self, what: Callable[[], object]) -> None:
        """Wait until something is so, at most a few seconds."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not what():
                    await self.stir()
        except TimeoutError:
            raise AssertionError(f"{self.status} {self.claims[-12:]}") from None

    async def stir(self) -> None:
        """Wait for a claim, or a moment."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await self._changed.wait()

    async def until_state(self, order_id: str, status: OrderStatus) -> None:
        await self.until(lambda: self.status[order_id] is status)

    def of(self, kind: type) -> list[Any]:
        return [claim for claim in self.claims if isinstance(claim, kind)]

    def kinds(self, order_id: str) -> list[str]:
        """What was claimed of an order, in order."""
        return [c.exec_type.value for c in self.of(ExecutionReport) if c.order_id == order_id]

    @property
    def alerts(self) -> str:
        return "\n".join(claim.text for claim in self.of(AlertRaised))

    # ── equality ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def agrees_with_others(self) -> None:
        """Wait until positions and cash are the twin's, whoever traded."""
        await self.until(lambda: True)
        snapshot = await self.broker.snapshot()
        await self.until(lambda: snapshot.cash == self.cash)
        assert {held.symbol: held.qty for held in snapshot.positions} == self.positions

    async def agrees(self) -> None:
        """Wait until books and twin are equal: positions, cash, executions, and every order's state."""
        state: Any = {}
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    state = await self.room.state()
                    if self._equal(state):
                        return
                    await self.stir()
        except TimeoutError:
            ours = (self.positions, self.cash, self.status, sorted(self.booked))
            raise AssertionError(f"ours {ours}\ntheirs {state}\n{self.claims[-20:]}") from None

    def _equal(self, state: Any) -> bool:
        trades = [c for c in self.booked.values() if isinstance(c, ExecutionReport)]
        ours = {row["order_ref"]: row for row in state["orders"] if "order_ref" in row}
        theirs = sum(1 for row in state["executions"] if row.get("order_ref"))
        assert len(ours) == len({row["orderId"] for row in state["orders"] if "order_ref" in row})
        return (
            {symbol: Decimal(qty) for symbol, qty in state["positions"].items()} == self.positions
            and Decimal(str(state["cash"])) == self.cash
            and len(trades) == theirs
            and all(self._same(order_id, ours) for order_id in self.orders)
        )

    def _same(self, order_id: str, rows: dict[str, Any]) -> bool:
        from northstar_core.model.order_ids import client_order_id

        row = rows.get(client_order_id(order_id))
        status = self.status[order_id]
        if row is None:
            return status in (OrderStatus.REJECTED, OrderStatus.CANCELED)
        if row["status"] == "Filled":
            return status is OrderStatus.FILLED or (status is OrderStatus.CANCELED and bool(self.orders[order_id].parent))
        if row["status"] == "Cancelled":
            return status is OrderStatus.CANCELED
        if row["status"] == "Inactive":
            return status is OrderStatus.REJECTED
        return status not in TERMINAL and self.filled.get(order_id, ZERO) == Decimal(str(row["filledQuantity"]))


def at_desk(
    scene: Callable[[Desk], Awaitable[None]], *, at: float = 5, up: bool = True, twin: dict[str, Any] | None = None, **options: Any
) -> None:
    """Play a scene at a desk whose broker is up; at its end no connection and no task is left."""

    async def play() -> None:
        market = TwinMarket(tape(), start=OPEN - 60 * SECOND)
        more = {"model": MODEL, **(twin or {})}
        async with serve(market, ibkr=0, options={"ibkr": more}, play=False) as served:
            market.step(OPEN + int(at * SECOND))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
                room = Room(served, http)
                desk = Desk(room, **options)
                try:
                    if up:
                        await desk.broker.start()
                    await scene(desk)
                finally:
                    await desk.broker.close()
                assert not [task for task in asyncio.all_tasks() if "/brokers/ibkr" in str(task.get_coro())]
                async with asyncio.timeout(DEADLINE_S):
                    while (await room.state())["connections"]:
                        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(play(), 60))


__all__ = ["BrokerDown", "BrokerUp", "Desk", "ExternalOrder", "FrameUnread", "at_desk"]
