"""Houses for the contract: a broker, the twin or market behind it, and the desk's real engine folding what the broker claims."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec

from northstar_core.brokers.base import Broker, Claim, Wiring
from northstar_core.brokers.plugins import make_broker
from northstar_core.engine.engine import Engine
from northstar_core.engine.oms import Order
from northstar_core.gateway.clock import ScaledClock
from northstar_core.model import events as e
from northstar_core.model.account import Grant, Verdict
from northstar_core.model.execution import AccountActivity, BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.limit_sets import default_limits
from northstar_core.model.market import Quote
from northstar_core.model.order import OrderStatus, OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.model.world import BrokerUp
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import Served, serve
from tests.twins.ibkr_room import CLOSE, OPEN, QUOTES, SECOND, tape

ZERO = Decimal(0)
CASH = Decimal(100_000)
ACCOUNT, STRATEGY = "live-1", "trend"
DEADLINE_S = 10.0
NOTHING = Verdict(0.0, 0, 0, ZERO, ZERO, (), 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0)

#: each broker's places for faults
PLACES = {
    "alpaca": {"order": "orders.post", "cancel": "orders.delete", "replace": "orders.patch", "find": "orders.by_client_id"},
    "ibkr": {"order": "orders.post", "cancel": "orders.delete", "replace": "orders.modify", "find": "orders.get"},
}


class QuickClock(ScaledClock):
    """Desk time from the market's open, many times as fast as the wall's; waits may be short."""

    FLOOR_S = 0.02

    def __init__(self) -> None:
        super().__init__(OPEN, time.time(), 20.0)


class House:
    """A broker's contract is kept or broken here."""

    kind = ""

    def __init__(self) -> None:
        self.clock: Any = QuickClock()
        self.engine = Engine()
        self.claims: list[Claim] = []
        self.facts: list[Any] = []
        self.broker: Broker
        self.count = 0
        self._changed = asyncio.Event()
        limits = default_limits(CASH, daily=False)
        self.engine.restore([e.AccountOpened(ts=OPEN, account=ACCOUNT, broker=self.kind, cash=CASH)])
        for what in (
            e.SetLimits(ts=OPEN, scope=f"account:{ACCOUNT}", name="t", who="t", account_limits=limits.account),
            e.SetLimits(ts=OPEN, scope=f"strategy:{STRATEGY}", name="t", who="t", strategy_limits=limits.strategy),
            Grant(ts=OPEN, strategy=STRATEGY, account=ACCOUNT),
        ):
            self.engine.handle(what)

    def wiring(self, **options: Any) -> Wiring:
        return Wiring(
            account=ACCOUNT, clock=self.clock, emit=self.emit, order_of=self.order_of, options=options, secrets=self.secrets(),
            reads={"executions": OPEN},
        )  # fmt: skip

    def secrets(self) -> dict[str, str]:
        return {}

    def order_of(self, order_id: str) -> PlaceOrder | None:
        found = self.engine.state.blotter.orders.get(order_id)
        return None if found is None else found.intent

    def emit(self, claim: Claim) -> None:
        self.claims.append(claim)
        self._changed.set()
        if isinstance(claim, ExecutionReport | AccountActivity):
            self.facts += self.engine.handle(claim)

    # ── requests, written down before they are made ───────────────────────────────────────────────────────────────────

    def order(
        self, side: str = "BUY", qty: int = 10, limit: str = "", stop: str = "", *, symbol: str = "SPY",
        tif: TimeInForce = TimeInForce.DAY, parent: str = "", reduce_only: bool = False,
    ) -> PlaceOrder:  # fmt: skip
        """Write an order down, as the desk does before it is sent."""
        self.count += 1
        kinds = {(0, 0): OrderType.MARKET, (1, 0): OrderType.LIMIT, (0, 1): OrderType.STOP, (1, 1): OrderType.STOP_LIMIT}
        order = PlaceOrder(
            self.clock.now(), f"{STRATEGY}-20260601abc-{self.count}", STRATEGY, ACCOUNT, symbol, Side(side), Decimal(qty),
            kinds[bool(limit), bool(stop)], Decimal(limit) if limit else None, Decimal(stop) if stop else None, tif, reduce_only, parent,
        )  # fmt: skip
        self.engine.restore([e.OrderSubmitted(order.ts, order, NOTHING)])
        return order

    async def place(self, side: str = "BUY", qty: int = 10, limit: str = "", stop: str = "", **more: Any) -> str:
        order = self.order(side, qty, limit, stop, **more)
        await self.broker.submit(order)
        return order.order_id

    async def cancel(self, order_id: str) -> None:
        self.engine.restore([e.CancelSubmitted(self.clock.now(), order_id, STRATEGY, ACCOUNT, self[order_id].intent.symbol)])
        await self.broker.cancel(order_id)

    async def replace(self, order_id: str, qty: int, limit: str = "", stop: str = "") -> None:
        terms = Decimal(qty), Decimal(limit) if limit else None, Decimal(stop) if stop else None
        fact = e.ReplaceSubmitted(self.clock.now(), order_id, STRATEGY, ACCOUNT, self[order_id].intent.symbol, *terms, NOTHING)
        self.engine.restore([fact])
        await self.broker.replace(order_id, *terms)

    # ── what became of it ─────────────────────────────────────────────────────────────────────────────────────────────

    def __getitem__(self, order_id: str) -> Order:
        return self.engine.state.blotter.orders[order_id]

    def kinds(self, order_id: str) -> list[ExecType]:
        return [c.exec_type for c in self.claims if isinstance(c, ExecutionReport) and c.order_id == order_id]

    def of(self, kind: type) -> list[Any]:
        return [claim for claim in self.claims if isinstance(claim, kind)]

    async def until(self, what: Callable[[], object], why: str = "") -> None:
        """Wait until something is so, at most some seconds."""
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"{why} {list(self.engine.state.blotter.orders.values())} {self.claims[-15:]}")
            await self.stir()

    async def stir(self) -> None:
        """Wait for a claim, or a moment."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await self._changed.wait()

    async def until_status(self, order_id: str, *wanted: OrderStatus) -> None:
        await self.until(lambda: self[order_id].status in wanted, f"{order_id} {wanted}")

    # ── the other side ────────────────────────────────────────────────────────────────────────────────────────────────

    async def step(self, seconds: float) -> None:
        """Play the market up to so many seconds after the open."""
        raise NotImplementedError

    def truth(self) -> BrokerSnapshot:
        """The other side's own books."""
        raise NotImplementedError

    def executions(self) -> int:
        """How many executions of our orders the other side counts."""
        raise NotImplementedError

    async def agrees(self) -> None:
        """Wait until books, snapshot and the other side's books are one: cash, positions, open orders, executions."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            truth, snapshot = self.truth(), await self.broker.snapshot()
            breaks = [f for f in self.engine.handle(snapshot) if isinstance(f, e.BreakFound)]
            fills = sum(1 for f in self.facts if isinstance(f, e.OrderFilled))
            same = (snapshot.cash, snapshot.positions) == (truth.cash, truth.positions)
            if not breaks and same and fills == self.executions() and not any(isinstance(f, e.BreakFound) for f in self.facts):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{breaks}\n{snapshot}\n{truth}\n{fills} fills, {self.executions()} there\n{self.claims[-20:]}")
            await self.stir()


class TwinHouse(House):
    """A house whose broker speaks to a twin over sockets."""

    def __init__(self, served: Served, http: aiohttp.ClientSession) -> None:
        super().__init__()
        self.served, self.http = served, http
        self.account = served.accounts[self.kind]

    def fault(self, what: str, do: str, **more: Any) -> None:
        self.served.faults[self.kind].add([Fault(at=PLACES[self.kind].get(what, what), do=do, **more)])

    def heal(self) -> None:
        self.served.faults[self.kind].clear()

    async def step(self, seconds: float) -> None:
        self.served.market.step(OPEN + int(seconds * SECOND))
        await asyncio.sleep(0)

    def truth(self) -> BrokerSnapshot:
        return self.account.snapshot()

    def executions(self) -> int:
        return len(self.account.executions) - self.external

    external = 0  #: executions of others

    async def state(self) -> Any:
        async with self.http.get(self.served.url(self.kind) + "/_twin/state") as answer:
            return await answer.json()

    async def disconnect(self) -> None:
        async with self.http.post(self.served.url(self.kind) + "/_twin/disconnect") as answer:
            assert answer.status == 200


class AlpacaHouse(TwinHouse):
    """Alpaca's adapter and twin."""

    kind = "alpaca"

    def secrets(self) -> dict[str, str]:
        return {"key": "KEY", "secret": "SECRET"}

    def make(self, **options: Any) -> Broker:
        given = {"url": self.served.url("alpaca"), "mute_s": 6.0, "requests_per_minute": 0, "read_s": 20.0, **options}
        return make_broker("alpaca", self.wiring(**given))

    async def trade_elsewhere(self) -> None:
        """Somebody else buys seven shares."""
        body = {"symbol": "SPY", "qty": "7", "side": "buy", "type": "market", "time_in_force": "day"}
        headers = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}
        async with self.http.post(self.served.url("alpaca") + "/v2/orders", json=body, headers=headers) as answer:
            assert answer.status == 200
        self.external += 1


class IbkrHouse(TwinHouse):
    """Interactive Brokers' adapter and twin."""

    kind = "ibkr"

    def make(self, **options: Any) -> Broker:
        given = {
            "account_id": "DU1234567", "url": self.served.url("ibkr") + "/v1/api", "paced": False, "poll_s": 2.0, "check_s": 8.0,
            "tickle_s": 5.0, "quiet_s": 30.0, "answer_s": 10.0, "backoff_s": 1.0, "conids": {}, **options,
        }  # fmt: skip
        return make_broker("ibkr", self.wiring(**given))

    async def trade_elsewhere(self) -> None:
        """Somebody else buys seven shares."""
        order = {"conid": 756733, "side": "BUY", "orderType": "MKT", "quantity": 7, "tif": "DAY"}
        url = self.served.url("ibkr") + "/v1/api/iserver/account/DU1234567/orders"
        async with self.http.post(url, json={"orders": [order]}) as answer:
            assert answer.status == 200
        self.external += 1


class PaperHouse(House):
    """The paper broker: no wire, and the market is handed to it."""

    kind = "paper"

    def __init__(self) -> None:
        super().__init__()
        self.at = -1.0
        self.clock = SteppedClock()

    def make(self, **options: Any) -> Broker:
        return make_broker("paper", self.wiring(cash=CASH, model={"volume_share": 1.0}, **options))

    async def step(self, seconds: float) -> None:
        broker: Any = self.broker
        if self.at < 0:
            self.clock.ts = OPEN
            broker.on_session(e.SessionOpened(OPEN, "2026-06-01", CLOSE))
        for at, symbol, bid, ask, size in sorted(QUOTES):
            if self.at < at <= seconds:
                self.clock.ts = max(self.clock.ts, OPEN + at * SECOND)
                broker.on_market([Quote(symbol, OPEN + at * SECOND, bid, ask, size, size)])
        self.at = max(self.at, seconds)
        self.clock.ts = max(self.clock.ts, OPEN + int(seconds * SECOND))

    def truth(self) -> BrokerSnapshot:
        broker: Any = self.broker
        return broker.exchange.snapshot(self.clock.now())

    def executions(self) -> int:
        return len({c.exec_id for c in self.of(ExecutionReport) if c.exec_type is ExecType.TRADE})


class SteppedClock(QuickClock):
    """Desk time that stands until the test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.ts = OPEN

    def now(self) -> int:
        return self.ts


HOUSES: dict[str, type[House]] = {"alpaca": AlpacaHouse, "ibkr": IbkrHouse, "paper": PaperHouse}


@asynccontextmanager
async def house(
    kind: str, *, up: bool = True, at: float = 5, twin: dict[str, Any] | None = None, seed: int = 0, **options: Any
) -> AsyncIterator[Any]:  # fmt: skip
    """Open a house; at its end every connection is closed and every task of the broker's has ended."""
    before = asyncio.all_tasks()
    if kind == "paper":
        paper = PaperHouse()
        paper.broker = paper.make(**options)
        await paper.step(at)
        await paper.broker.start()
        yield paper
        await paper.broker.close()
    else:
        market = TwinMarket(tape(), start=OPEN - 60 * SECOND)
        more = dict(twin or {})
        if kind == "ibkr":
            from northstar_core.twins.ibkr.server import MODEL

            more = {"model": msgspec.structs.replace(MODEL, costs=None), **more}
        ports: dict[str, Any] = {kind: 0}
        async with serve(market, **ports, options={kind: more}, seed=seed, play=False) as served:
            market.step(OPEN + int(at * SECOND))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
                open_house: Any = HOUSES[kind](served, http)  # type: ignore[call-arg]
                open_house.broker = open_house.make(**options)
                try:
                    if up:
                        await open_house.broker.start()
                        assert open_house.of(BrokerUp)
                    yield open_house
                finally:
                    await open_house.broker.close()
                left = [task for task in asyncio.all_tasks() - before if "brokers" in repr(task.get_coro())]
                assert not left, left
                deadline = time.monotonic() + DEADLINE_S
                while (await open_house.state())["connections"]:
                    assert time.monotonic() < deadline, "a stream is still open"
                    await open_house.stir()
    left = [task for task in asyncio.all_tasks() - before if not task.done() and "northstar_core/brokers" in repr(task)]
    assert not left, left
