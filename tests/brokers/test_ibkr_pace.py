"""Interactive Brokers' published limits are kept, also while everything is asked for, and by a desk whose clock runs fast."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.brokers.http import Bucket, Use
from northstar_core.brokers.ibkr.link import A_SECOND, AT_ONCE, KEPT
from northstar_core.gateway.clock import ScaledClock
from northstar_core.model.order import OrderStatus
from northstar_core.model.world import BrokerDown
from northstar_core.twins.ibkr.server import MODEL
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import serve
from tests.brokers.ibkr_desk import Desk
from tests.twins.ibkr_room import OPEN, SECOND, Room, tape


class FinerClock(ScaledClock):
    """A fast desk's clock whose waits may be short."""

    FLOOR_S = 0.02


@pytest.mark.parametrize(("speed", "kind"), [(20.0, FinerClock), (600.0, ScaledClock)])
def test_a_gateway_that_shuts_out_who_asks_too_often_never_has_to(speed: float, kind: type[ScaledClock]) -> None:
    async def play() -> None:
        market = TwinMarket(tape(), start=OPEN + SECOND, speed=speed)
        more: dict[str, Any] = {"model": MODEL, "limits": True}
        async with serve(market, ibkr=0, options={"ibkr": more}) as served, aiohttp.ClientSession() as http:
            assert served.market.clock.wall is not None
            clock = kind(served.market.clock.desk, served.market.clock.wall, speed)
            desk = Desk(Room(served, http), clock=clock, paced=True, poll_s=5.0, check_s=10.0, tickle_s=30.0)
            await desk.broker.start()
            orders = [await desk.place(n, qty=1, limit=limit) for n, limit in ((1, "640.00"), (2, "580.00"), (3, "580.00"))]
            await desk.cancel(orders[1])
            await desk.until_state(orders[1], OrderStatus.CANCELED)
            assert await desk.broker.find(orders[2]) is Evidence.FOUND
            await desk.broker.snapshot()
            for _ in range(2):
                await desk.broker.care.check()
            assert await desk.broker.find(orders[0]) is Evidence.FOUND
            await desk.until_state(orders[0], OrderStatus.FILLED)
            assert not desk.of(BrokerDown)
            await desk.broker.close()

    asyncio.run(asyncio.wait_for(play(), 60))


def test_orders_sent_at_once_wait_for_their_turn_and_a_cancel_does_not() -> None:
    async def play() -> None:
        market = TwinMarket(tape(), start=OPEN + SECOND, speed=10.0)
        async with serve(market, ibkr=0, options={"ibkr": {"model": MODEL, "limits": True}}) as served, aiohttp.ClientSession() as http:
            assert served.market.clock.wall is not None
            clock = FinerClock(served.market.clock.desk, served.market.clock.wall, 10.0)
            desk = Desk(Room(served, http), clock=clock, paced=True, symbols=["SPY"])
            await desk.broker.start()
            first = await desk.place(100, limit="580.00")
            sending = [asyncio.create_task(desk.place(n, qty=1, limit="580.00")) for n in range(1, 21)]
            await desk.cancel(first)
            assert not all(task.done() for task in sending)
            await asyncio.gather(*sending)
            await desk.until(lambda: set(desk.status.values()) == {OrderStatus.NEW, OrderStatus.CANCELED})
            assert len(desk.broker.book.lives.by_broker) == 21
            await desk.broker.close()

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_share_of_the_limit_is_kept_for_cancels() -> None:
    bucket, now = Bucket(A_SECOND, AT_ONCE, KEPT), time.time_ns()
    sent = sum(1 for _ in range(AT_ONCE) if bucket.take(Use.ORDER, now) == 0)
    assert sent == AT_ONCE - 1
    assert bucket.take(Use.CANCEL, now) == 0
    assert AT_ONCE + A_SECOND <= 10
