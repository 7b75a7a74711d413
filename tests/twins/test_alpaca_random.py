"""Hundreds of orders of every kind, drawn at random, with faults: whatever happens, the twin's books add up."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from decimal import Decimal
from functools import cache
from typing import Any

import aiohttp
import pytest

from northstar_core.data.synthetic import synthesize
from northstar_core.model.tape import Tape
from northstar_core.twins.faults import Fault
from northstar_core.twins.market import HOUR_NS, TwinMarket
from northstar_core.twins.serve import serve

SECOND = 10**9
ENDED = ("filled", "canceled", "expired", "replaced", "rejected")
FAULTS = [
    Fault(at="account.submit", do="partial", times=0, share=0.2, part=0.3),
    Fault(at="account.submit", do="reject", times=0, share=0.03),
    Fault(at="account.fill", do="split", times=0, share=0.2),
]
HEADERS = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}


@cache
def tape() -> Tape:
    return synthesize(symbols=("ALFA", "BETA"), days=1, strikes=2, expiries=1)


def drawn_order(draw: random.Random, market: TwinMarket, options: list[str]) -> dict[str, Any]:
    symbol, side = draw.choice(["ALFA", "BETA"]), draw.choice(["buy", "sell"])
    state = market.last(symbol)
    price = state.price if state is not None else 140.0
    above, below = f"{price * 1.003:.2f}", f"{price * 0.997:.2f}"
    target, stop = (above, below) if side == "buy" else (below, above)
    near = f"{price * (1 + draw.uniform(-0.004, 0.004)):.2f}"
    exits = {"take_profit": {"limit_price": target}, "stop_loss": {"stop_price": stop}}
    counter = {"take_profit": {"limit_price": stop}, "stop_loss": {"stop_price": target}}
    first, second = draw.sample(options, 2)
    legs = [{"symbol": first, "ratio_qty": 1, "side": "buy"}, {"symbol": second, "ratio_qty": 1, "side": "sell"}]
    spread = {"symbol": None, "side": None, "order_class": "mleg", "legs": legs, "qty": draw.randint(1, 5)}
    kinds: list[dict[str, Any]] = [
        {"type": "market"},
        {"type": "limit", "limit_price": near, "time_in_force": draw.choice(["day", "gtc", "ioc", "fok", "cls"])},
        {"type": "stop", "stop_price": near},
        {"type": "stop_limit", "stop_price": near, "limit_price": near},
        {"type": "trailing_stop", "trail_percent": "0.2"},
        {"type": "market", "order_class": "bracket", **exits},
        {"type": "limit", "limit_price": near, "order_class": "oco", **counter},
        {"type": "market", "qty": None, "notional": draw.randint(1, 3000)},
        {"type": "market", **spread},
        {"type": "limit", "limit_price": f"{draw.uniform(-3, 3):.2f}", **spread},
        {"type": "market", "symbol": first, "qty": draw.randint(1, 5)},
    ]
    order = {"symbol": symbol, "side": side, "qty": draw.randint(1, 300), "time_in_force": "day", **draw.choice(kinds)}
    return {name: value for name, value in order.items() if value is not None}


@pytest.mark.parametrize(("seed", "reading"), [(1, "whole"), (2, "remaining")])
def test_cash_positions_orders_and_activities_agree_whatever_happens(seed: int, reading: str) -> None:
    draw = random.Random(seed)

    async def act() -> None:
        session = tape().sessions[0]
        market = TwinMarket(tape(), start=session.open - 60 * SECOND)
        options = [option.symbol for option in market.chain("ALFA")]
        settings = {"alpaca": {"replaced_qty": reading, "ack_s": 0.0}}
        async with (
            serve(market, alpaca=0, play=False, faults={"alpaca": FAULTS}, seed=seed, options=settings) as served,
            aiohttp.ClientSession(headers=HEADERS) as http,
        ):

            async def send(method: str, path: str, body: Any = None, **query: str) -> Any:
                async with http.request(method, served.url("alpaca") + path, json=body, params=query) as answer:
                    assert answer.status < 500, await answer.text()
                    return await answer.json() if answer.status != 204 else None

            for _ in range(150):
                market.step(market.played + draw.choice([0, SECOND // 7, 20 * SECOND, 200 * SECOND]))
                await send("POST", "/v2/orders", drawn_order(draw, market, options))
                pending = await send("GET", "/v2/orders", limit="500")
                for order in draw.sample(pending, min(len(pending), draw.randint(0, 2))):
                    if draw.random() < 0.5:
                        await send("DELETE", f"/v2/orders/{order['id']}")
                    else:
                        change = {"qty": draw.randint(1, 300)} if draw.random() < 0.8 else {"time_in_force": "gtc"}
                        await send("PATCH", f"/v2/orders/{order['id']}", change)
                await send("GET", "/v2/account")
            market.step(session.close + 5 * HOUR_NS)
            state = await send("GET", "/_twin/state")
            orders = await send("GET", "/v2/orders", status="all", limit="500", nested="true")
            rows = page = await send("GET", "/v2/account/activities/FILL", direction="asc")
            while len(page) == 100:
                token = page[-1]["id"]
                page = await send("GET", "/v2/account/activities/FILL", direction="asc", page_token=token)
                rows = rows + page

        cash, held, filled = Decimal(100_000), defaultdict(Decimal), defaultdict(Decimal)
        for row in rows:
            qty = Decimal(row["qty"]) * (1 if row["side"] == "buy" else -1)
            cash -= qty * Decimal(row["price"]) * (100 if row["symbol"] in options else 1)
            held[row["symbol"]] += qty
            filled[row["order_id"]] += abs(qty)
        for activity in served.accounts["alpaca"].activities:
            cash += activity.cash
            held[activity.symbol] += activity.qty
        assert cash == Decimal(state["cash"])
        assert {s: q for s, q in held.items() if q} == {s: Decimal(q) for s, q in state["positions"].items()}
        assert len(rows) == len({row["id"] for row in rows}) > 50
        for root in orders:
            for order in (root, *(root["legs"] or [])):
                assert order["status"] in ENDED or order["time_in_force"] == "gtc", order
                if order["symbol"]:
                    assert Decimal(order["filled_qty"]) == filled[order["id"]], order
                    assert order["qty"] is None or filled[order["id"]] <= Decimal(order["qty"]), order
                if order["qty"] is not None:
                    assert (order["status"] == "filled") is (order["filled_qty"] == order["qty"]), order

    asyncio.run(act())
