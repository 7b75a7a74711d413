"""How scenes with Alpaca's twin are played, and what the gateway does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from northstar_core.model.order import OrderStatus
from tests.brokers.house import AlpacaHouse, house

Scene = Callable[[AlpacaHouse], Awaitable[None]]
S = OrderStatus


def play(scene: Scene, *, orders: int | None = None, **more: Any) -> None:
    """Play a scene; at its end books and server agree, and the server has so many of our orders (default: as many as we sent)."""

    async def run() -> None:
        async with asyncio.timeout(60), house("alpaca", **more) as h:
            await scene(h)
            await h.agrees()
            state = await h.state()
            ours = [row for row in state["orders"] if row["client_order_id"].startswith("ns-") and not row["replaces"]]
            assert len(ours) == len({row["client_order_id"] for row in ours}) == (h.count if orders is None else orders)

    asyncio.run(run())


async def resolved(h: AlpacaHouse, order_id: str) -> None:
    """Do what the gateway does about an order out of sight: ask until there is evidence."""
    for _ in range(200):
        if h[order_id].status is not S.UNKNOWN:
            return
        await h.broker.find(order_id)
        await h.stir()
    raise AssertionError(f"{order_id} stayed unknown: {h.claims[-10:]}")


async def caught_up(h: AlpacaHouse, order_id: str, status: OrderStatus) -> None:
    """Compare with the broker from time to time, as the gateway does, until an order has a status."""
    for _ in range(200):
        if h[order_id].status is status:
            return
        await h.broker.snapshot()
        await h.stir()
    raise AssertionError(f"{h[order_id]} never {status}: {h.claims[-10:]}")
