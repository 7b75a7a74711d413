"""Answers that go wrong, and whether the order lives all the same: the truth is what the twin's state says."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from northstar_core.model.errors import SettingsError
from northstar_core.twins.faults import Fault, Faults, faults_from_json
from tests.twins.alpaca_room import Room, ask, room


async def status_of(twin: Room) -> int | str:
    """Place an order; return the answer's status, or the name of what came instead."""
    try:
        async with twin.http.post(
            twin.url + "/v2/orders",
            json={
                "symbol": "SPY",
                "qty": 10,
                "side": "buy",
                "type": "market",
                "time_in_force": "day",
                "client_order_id": "one",
            },
        ) as answer:
            await answer.json(content_type="application/json")
            return answer.status
    except aiohttp.ContentTypeError:
        return "junk"
    except aiohttp.ClientError:
        return "no answer"


@pytest.mark.parametrize(
    ("kind", "answer", "lives"),
    [
        ("429", 429, False),
        ("503", 503, False),
        ("504_lost", 504, False),
        ("drop", "no answer", False),
        ("refuse", 403, False),
        ("500", 500, True),
        ("504", 504, True),
        ("lost_response", "no answer", True),
        ("junk", "junk", True),
        ("delay", 200, True),
        ("late", 200, True),
    ],
)
def test_an_answer_goes_wrong_and_the_order_lives_or_not(kind: str, answer: int | str, lives: bool) -> None:
    async def act() -> None:
        async with room(Fault(at="orders.post", do=kind, delay_s=0.05)) as twin:
            assert await status_of(twin) == answer
            status, _ = await twin.send("GET", "/v2/orders:by_client_order_id", client_order_id="one")
            assert status == (200 if lives else 404)
            # The same again, as a careful client does it: only what was not taken is taken now.
            assert await status_of(twin) == (422 if lives else 200)
            await twin.order((await twin.send("GET", "/v2/orders", status="all"))[1][0]["id"], "filled")
            state = await twin.state()
            assert state["positions"] == {"SPY": "10"}
            assert state["requests"]["orders.post"] == 2
            assert state["struck"] == [f"orders.post {kind}"]

    asyncio.run(act())


def test_an_order_that_was_taken_may_be_rejected_afterwards() -> None:
    async def act() -> None:
        async with room() as twin, twin.stream() as stream:
            await twin.fault("account.submit", "reject", text="no locate")
            await twin.post()
            event = (await stream.events("rejected"))[-1]
            assert event["order"]["failed_at"] and event["order"]["status"] == "rejected"
            assert (await twin.state())["positions"] == {}

    asyncio.run(act())


def test_an_order_meets_only_part_of_what_is_shown_and_rests() -> None:
    async def act() -> None:
        async with room(Fault(at="account.submit", do="partial", part=0.3)) as twin:
            order = await twin.placed(qty="100", type="limit", limit_price="100.01")
            assert (order["status"], order["filled_qty"]) == ("partially_filled", "30")
            twin.play(10)
            assert (await twin.order(order["id"]))["status"] == "filled"

    asyncio.run(act())


def test_a_fill_may_come_in_two_executions() -> None:
    async def act() -> None:
        async with room(Fault(at="account.fill", do="split")) as twin, twin.stream() as stream:
            await twin.placed(qty="11")
            assert await stream.names("fill") == ["pending_new", "new", "partial_fill", "fill"]
            assert [row["qty"] for row in (await twin.state())["executions"]] == ["5", "6"]

    asyncio.run(act())


def test_the_vendors_client_gets_through_a_gateway_timeout_by_asking_again() -> None:
    async def act() -> None:
        async with room(Fault(at="orders.post", do="504_lost")) as twin:
            twin.sdk._retry_wait = 0
            request = ask.MarketOrderRequest(
                symbol="SPY", qty=10, side="buy", time_in_force="day", client_order_id="one"
            )
            order = await twin.ask(twin.sdk.submit_order, request)
            assert order.client_order_id == "one"
            assert len((await twin.state())["orders"]) == 1

    asyncio.run(act())


def test_a_lost_cancel_is_carried_out_and_a_lost_replace_too() -> None:
    async def act() -> None:
        async with room() as twin:
            first = await twin.placed(type="limit", limit_price="90")
            second = await twin.placed(type="limit", limit_price="91")
            await twin.fault("orders.delete", "504")
            await twin.fault("orders.patch", "lost_response")
            assert (await twin.send("DELETE", f"/v2/orders/{first['id']}"))[0] == 504
            with pytest.raises(aiohttp.ClientError):
                await twin.send("PATCH", f"/v2/orders/{second['id']}", {"qty": "20"})
            await twin.order(first["id"], "canceled")
            old = await twin.order(second["id"], "replaced")
            assert (await twin.order(old["replaced_by"]))["qty"] == "20"

    asyncio.run(act())


def test_maintenance_lasts_until_it_is_over() -> None:
    async def act() -> None:
        async with room() as twin:
            await twin.fault("*", "503", times=0)
            assert [(await twin.send("GET", path))[0] for path in ("/v2/clock", "/v2/account", "/v2/orders")] == [
                503
            ] * 3
            await twin.send("DELETE", "/_twin/faults")
            assert (await twin.send("GET", "/v2/clock"))[0] == 200

    asyncio.run(act())


@pytest.mark.parametrize(
    "rules", ['[{"at": "x", "do": "explode"}]', '[{"at": "x", "do": "drop", "often": 1}]', "[1]", "{"]
)
def test_a_rule_that_is_none_is_refused_with_what_is_known(rules: str) -> None:
    async def act() -> None:
        async with room() as twin, twin.http.post(twin.url + "/_twin/faults", data=rules) as answer:
            assert answer.status == 400
            assert "/_twin/faults" in (await answer.json())["error"]

    asyncio.run(act())
    with pytest.raises(SettingsError):
        faults_from_json(rules, where="file")


def test_rules_count_passages_of_their_place_alone() -> None:
    faults = Faults(
        [Fault(at="orders", do="503", after=1, times=2, every=2), Fault(at="orders.post", do="429", times=0)]
    )
    struck = [faults.hit(place) for place in ("clock", *["orders.post"] * 7)]
    assert [fault.do if fault else "" for fault in struck] == ["", "429", "429", "503", "429", "503", "429", "429"]


def test_the_same_seed_draws_the_same_faults() -> None:
    def draws(seed: int) -> list[bool]:
        faults = Faults([Fault(at="stream", do="drop", times=0, share=0.3)], seed)
        return [faults.hit("stream.fill") is not None for _ in range(200)]

    assert draws(1) == draws(1) != draws(2)
    assert 30 < sum(draws(1)) < 90
