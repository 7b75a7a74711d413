"""A generated market that runs by itself, seeded faults, and the books agree with everything that was told."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from northstar_core.data.synthetic import synthesize
from northstar_core.twins.faults import Fault
from northstar_core.twins.ibkr.contracts import derived_conid
from northstar_core.twins.market import TwinMarket
from northstar_core.twins.serve import Served, serve
from tests.twins.ibkr_room import ACCOUNT, Room, ticket

FAULTS = [
    Fault(at="orders.post", do="lost_response", times=0, every=5),
    Fault(at="orders.post", do="503", times=0, every=7),
    Fault(at="orders.delete", do="lost_response", times=0, every=3),
    Fault(at="stream.str", do="duplicate", times=0, share=0.3),
    Fault(at="stream.str", do="reorder", times=0, share=0.3, delay_s=0.02),
    Fault(at="stream.sor", do="drop", times=0, share=0.2),
    Fault(at="account.submit", do="partial", times=0, every=4),
    Fault(at="execution", do="correction", times=0, every=6, delay_s=0.05),
]


async def listen(served: Served, session: str, told: dict[str, Any], ready: asyncio.Event) -> None:
    """Keep the last of each execution, its corrections by their number."""
    cookie = {"Cookie": "api=" + json.dumps({"session": session})}
    async with connect(served.url("ibkr", "ws") + "/v1/api/ws", additional_headers=cookie, proxy=None) as socket:
        await socket.send("sor+{}")
        await socket.send("str+{}")
        async for raw in socket:
            frame = json.loads(raw)
            if frame.get("topic") == "str":
                ready.set()
                for row in frame["args"]:
                    base, version = row["execution_id"].rsplit(".", 1)
                    known = told.get(base)
                    if known is None or (version, "commission" in row) > (known[0], "commission" in known[1]):
                        told[base] = (version, row)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_day_of_faults_what_was_told_is_what_there_is(seed: int) -> None:
    async def play() -> None:
        tape = synthesize(days=1, seed=seed)
        market = TwinMarket(tape, speed=600)
        async with (
            serve(market, ibkr=0, faults={"ibkr": FAULTS}, seed=seed, cash=Decimal(10**7)) as served,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http,
        ):
            room = Room(served, http)
            await room.get("iserver/accounts")
            told: dict[str, Any] = {}
            ready = asyncio.Event()
            session = (await room.post("tickle"))["session"]
            listener = asyncio.create_task(listen(served, session, told, ready))
            await ready.wait()
            option = next(symbol for symbol in tape.symbols if len(symbol) > 12)
            while market.last(option) is None or market.session_at(market.now()) is None:
                await market.clock.sleep(60)
            sent: set[str] = set()
            for n in range(60):
                symbol = ("ALFA", "BETA", option)[n % 3]
                fields = {"orderType": "MKT", "price": None, "quantity": 5 + n % 9, "cOID": f"c{n}", "conid": derived_conid(symbol)}
                try:
                    await room.call("POST", f"iserver/account/{ACCOUNT}/orders", {"orders": [ticket(**fields)]})
                except aiohttp.ClientError:
                    pass  # its fate is found by its id
                sent.add(f"c{n}")
            async with asyncio.timeout(20):
                while not settled(told, await room.state()):
                    await market.clock.sleep(60)
            listener.cancel()
            rows = {row["order_ref"]: row for row in await room.live()}
            assert set(rows) <= sent and 40 <= len(rows) < 60  # some were refused, and only those are missing
            held: dict[int, float] = {}
            cash = Decimal(10**7)
            for _, row in told.values():
                multiplier = 100 if row["sec_type"] == "OPT" else 1
                sign = 1 if row["side"] == "B" else -1
                held[row["conid"]] = held.get(row["conid"], 0) + sign * row["size"]
                cash -= sign * Decimal(str(row["size"])) * Decimal(row["price"]) * multiplier + Decimal(row["commission"])
            assert cash == room.account.cash
            assert held == {derived_conid(s): float(h.qty) for s, h in room.account.holdings.items()}
            assert {row["orderId"]: row["filledQuantity"] for row in rows.values()} == filled(told)

    asyncio.run(asyncio.wait_for(play(), 60))


def settled(told: dict[str, Any], state: Any) -> bool:
    """Tell whether every order has filled and the last word on every execution has come."""
    last = {f"{base}.{version}": row for base, (version, row) in told.items()}
    return (
        all(row["status"] == "Filled" for row in state["orders"])
        and set(last) == {row["execution_id"] for row in state["executions"]}
        and all("commission" in row for row in last.values())
        and all(row["price"] == last[row["execution_id"]]["price"] for row in state["executions"])
        and corrections_done(state)
    )


def corrections_done(state: Any) -> bool:
    """Tell whether as many executions were put right as were told wrong."""
    right = sum(row["execution_id"].endswith(".02") for row in state["executions"])
    return right == state["struck"].count("execution correction")


def filled(told: dict[str, Any]) -> dict[int, float]:
    """What each order has traded, from what was told."""
    out: dict[int, float] = {}
    for _, row in told.values():
        out[row["order_id"]] = out.get(row["order_id"], 0.0) + row["size"]
    return out
