"""A desk at Interactive Brokers while everything goes wrong at random: when it is over, books equal the broker's, one order an intent."""

from __future__ import annotations

import asyncio
import random

import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.model.order import TERMINAL, OrderStatus
from northstar_core.model.order_ids import client_order_id
from tests.brokers.ibkr_desk import Desk, at_desk

ANSWERS = ("lost_response", "504", "504_lost", "503", "500", "junk", "drop")
PLACES = [
    *((place, do) for place in ("orders.post", "orders.delete", "orders.modify", "reply") for do in ANSWERS),
    *((place, do) for place in ("orders.get", "orders.status", "trades", "tickle", "connect") for do in ("503", "drop", "junk")),
    *((f"stream.{topic}", do) for topic in ("sor", "str", "ntf") for do in ("drop", "duplicate", "delay", "reorder", "junk")),
    ("stream.sor", "disconnect"), ("account.submit", "partial"), ("account.fill", "split"), ("order.cancel", "reject"),
    ("order.modify", "reject"), ("order.modify", "delay"), ("order.cancel", "delay"),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_passes_and_the_books_are_the_broker_s(seed: int) -> None:
    async def scene(desk: Desk) -> None:
        draws = random.Random(seed)
        for place, do in PLACES:
            desk.room.fault(place, do, times=0, share=0.06, delay_s=0.05)

        async def one(n: int) -> None:
            limit = draws.choice(["", "600.20", "599.00", "590.00"])
            order = await desk.place(n, draws.choice(["BUY", "SELL"]), draws.randint(1, 9), limit)
            if limit and draws.random() < 0.4 and desk.status[order] is OrderStatus.NEW:
                await desk.replace(order, 12, "598.00")
            if limit and draws.random() < 0.5 and desk.status[order] not in (*TERMINAL, OrderStatus.UNKNOWN):
                await desk.cancel(order)

        for wave in range(5):
            await asyncio.gather(*(one(5 * wave + k) for k in range(5)))
            desk.room.step(8 + 6 * wave)
            if draws.random() < 0.5:
                await desk.room.steer(draws.choice(["lose", "rollover"]))
        async with desk.room.http.delete(desk.room.served.url("ibkr") + "/_twin/faults"):
            pass
        await desk.until(lambda: desk.broker.up)
        for order_id in desk.orders:
            while desk.status[order_id] is OrderStatus.UNKNOWN and await desk.broker.find(order_id) is Evidence.SILENT:
                await desk.stir()
        state = await desk.room.state()
        refs = [row["order_ref"] for row in state["orders"]]
        assert len(refs) == len(set(refs))
        for order_id in desk.orders:
            if client_order_id(order_id) not in refs and desk.status[order_id] is OrderStatus.UNKNOWN:
                assert await desk.broker.find(order_id) is Evidence.ABSENT
                desk.status[order_id] = OrderStatus.REJECTED  # a person resolves it: it is nowhere
        await desk.agrees()

    at_desk(scene, twin={"questions": ("o354",)}, check_s=4.0)
