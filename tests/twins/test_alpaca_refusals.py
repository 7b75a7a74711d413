"""What the Alpaca twin refuses, with which status, code and words."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.twins.alpaca_room import C100, C105, CLOSE, HOUR, OPEN, P95, room

BAD, NOT_ALLOWED, UNPROCESSABLE = (422, 40010001), (403, 40310000), (422, 42210000)
LEGS = [{"symbol": C100, "ratio_qty": "1", "side": "buy"}, {"symbol": C105, "ratio_qty": "1", "side": "sell"}]
SPREAD = {"symbol": None, "side": None, "order_class": "mleg", "type": "limit", "limit_price": "1.30", "legs": LEGS}
LIMIT = {"type": "limit", "limit_price": "99"}
BRACKET = {"order_class": "bracket", "take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}


@pytest.mark.parametrize(
    ("order", "answer", "words"),
    [
        ({"type": None}, BAD, "type is required"),
        ({"type": "guess"}, BAD, "invalid type"),
        ({"time_in_force": "soon"}, BAD, "invalid time_in_force"),
        ({"side": None}, BAD, "side is required"),
        ({"symbol": None}, BAD, "symbol is required"),
        ({"symbol": "NOPE"}, UNPROCESSABLE, 'asset "NOPE" not found'),
        ({"qty": None}, BAD, "qty or notional is required"),
        ({"notional": "100"}, BAD, "only one of qty or notional"),
        ({"qty": "0"}, BAD, "qty must be > 0"),
        ({"qty": "ten"}, BAD, "qty is invalid"),
        ({"qty": "NaN"}, BAD, "qty is invalid"),
        ({"qty": "0.5", "time_in_force": "gtc"}, UNPROCESSABLE, "fractional orders must be DAY"),
        ({"type": "limit"}, BAD, "require limit price"),
        ({"limit_price": "99"}, BAD, "must not have limit price"),
        ({"type": "stop"}, BAD, "require stop price"),
        ({"type": "trailing_stop"}, BAD, "one of trail_price or trail_percent"),
        ({"type": "limit", "limit_price": "-1"}, BAD, "limit_price must be > 0"),
        ({"type": "limit", "limit_price": "99.005"}, UNPROCESSABLE, "sub-penny"),
        ({"type": "limit", "limit_price": "0.12345"}, UNPROCESSABLE, "sub-penny"),
        ({"extended_hours": True}, UNPROCESSABLE, "extended hours order must be DAY or GTC limit orders"),
        ({**LIMIT, "extended_hours": True, "time_in_force": "ioc"}, UNPROCESSABLE, "extended hours order"),
        ({"time_in_force": "opg"}, UNPROCESSABLE, "opg orders are not accepted"),
        ({"client_order_id": "x" * 129}, BAD, "no more than 128"),
        ({"position_intent": "sell_to_open"}, BAD, "position_intent does not match side"),
        ({**BRACKET, "time_in_force": "ioc"}, UNPROCESSABLE, "must be DAY or GTC"),
        ({**BRACKET, "stop_loss": {"stop_price": "120"}}, UNPROCESSABLE, "beyond stop_loss"),
        ({**BRACKET, "stop_loss": None}, UNPROCESSABLE, "bracket orders require"),
        ({"order_class": "oto"}, UNPROCESSABLE, "oto orders require one of"),
        ({"take_profit": {"limit_price": "110"}}, UNPROCESSABLE, "need order_class"),
        ({"qty": "2500"}, NOT_ALLOWED, "insufficient buying power"),
        ({"side": "sell", "qty": "2500"}, NOT_ALLOWED, "insufficient buying power"),
        ({"symbol": P95, "time_in_force": "gtc"}, UNPROCESSABLE, "order_time_in_force"),
        ({"symbol": P95, "qty": "1.5"}, UNPROCESSABLE, "whole quantity"),
        ({"symbol": P95, "type": "stop", "stop_price": "1"}, UNPROCESSABLE, "invalid order type"),
        ({"symbol": P95, "qty": "1000"}, NOT_ALLOWED, "insufficient buying power"),
        ({"symbol": P95, "side": "sell", "qty": "20"}, NOT_ALLOWED, "insufficient buying power"),
        ({"symbol": C100, "side": "sell", "qty": "1"}, NOT_ALLOWED, "uncovered"),
        ({**SPREAD, "symbol": "SPY"}, BAD, "mleg orders take symbol and side on their legs"),
        ({**SPREAD, "legs": LEGS[:1]}, BAD, "two to four legs"),
        ({**SPREAD, "legs": [LEGS[0], LEGS[0]]}, BAD, "different symbols"),
        ({**SPREAD, "legs": [{**leg, "ratio_qty": "2"} for leg in LEGS]}, UNPROCESSABLE, "relatively prime"),
        ({**SPREAD, "legs": [{**LEGS[0], "ratio_qty": "0.5"}, LEGS[1]]}, BAD, "ratio_qty"),
        ({**SPREAD, "time_in_force": "gtc"}, UNPROCESSABLE, "mleg orders must be DAY"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_words(
    order: dict[str, Any], answer: tuple[int, int], words: str
) -> None:
    async def act() -> None:
        async with room() as twin:
            status, body = await twin.post(**order)
            assert (status, body["code"]) == answer
            assert words in body["message"]
            assert (await twin.state())["orders"] == []

    asyncio.run(act())


def test_a_refusal_for_money_says_how_much_there_is_and_open_orders_count() -> None:
    async def act() -> None:
        async with room() as twin:
            await twin.placed(type="limit", limit_price="90", qty="2000")
            status, body = await twin.post(qty="300")
            assert (status, body["buying_power"], body["cost_basis"]) == (403, "20000", "30003")
            _, account = await twin.send("GET", "/v2/account")
            assert (account["buying_power"], account["cash"]) == ("20000", "100000")

    asyncio.run(act())


def test_more_than_is_held_and_free_is_not_sold() -> None:
    async def act() -> None:
        async with room() as twin:
            await twin.placed()
            await twin.placed(side="sell", qty="6", type="limit", limit_price="120")
            status, body = await twin.post(side="sell", qty="5")
            assert (status, body["code"], body["available"], body["held_for_orders"]) == (403, 40310000, "4", "6")
            assert "insufficient qty available" in body["message"]

    asyncio.run(act())


def test_orders_that_might_trade_with_each_other_are_refused_unless_complex() -> None:
    async def act() -> None:
        async with room() as twin:
            first = await twin.placed(type="limit", limit_price="95", qty="5")
            status, body = await twin.post(side="sell", qty="5")
            assert (status, body["existing_order_id"]) == (403, first["id"])
            assert "potential wash trade detected" in body["message"]
            assert (await twin.post(side="sell", qty="5", type="limit", limit_price="96"))[0] == 200
            assert (await twin.post(side="sell", qty="5", type="limit", limit_price="95"))[0] == 403
            exits = {"take_profit": {"limit_price": "80"}, "stop_loss": {"stop_price": "130"}}
            assert (await twin.post(side="sell", qty="5", order_class="bracket", **exits))[0] == 200

    asyncio.run(act())


def test_auctions_take_orders_for_the_next_day_in_the_evening_and_fill_them_at_the_open() -> None:
    async def act() -> None:
        async with room(start=CLOSE - HOUR // 12) as twin:
            status, body = await twin.post(time_in_force="cls")
            assert (status, body["code"]) == (422, 42210000)
            twin.market.step(CLOSE + 3 * HOUR + HOUR // 60)
            order = await twin.placed(time_in_force="opg")
            assert order["status"] == "accepted"
            twin.market.step(OPEN + 24 * HOUR)
            assert (await twin.order(order["id"]))["filled_avg_price"] == "100.01"

    asyncio.run(act())


@pytest.mark.parametrize("headers", [{}, {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "wrong"}])
def test_wrong_keys_are_unauthorized(headers: dict[str, str]) -> None:
    async def act() -> None:
        async with room() as twin, aiohttp.ClientSession(headers=headers) as http:
            async with http.get(twin.url + "/v2/account") as answer:
                assert (answer.status, await answer.json()) == (401, {"message": "unauthorized."})

    asyncio.run(act())


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_no_order_is_a_bad_request(body: bytes) -> None:
    async def act() -> None:
        async with room() as twin, twin.http.post(twin.url + "/v2/orders", data=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, 40010000)

    asyncio.run(act())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "at least one of"),
        ({"qty": "1.5"}, "whole number"),
        ({"limit_price": "95.001"}, "sub-penny"),
        ({"stop_price": "95"}, "limit orders have no stop_price"),
        ({"trail": "1"}, "limit orders have no trail"),
        ({"time_in_force": "opg"}, "time_in_force cannot be replaced"),
        ({"client_order_id": "mine"}, "must be unique"),
    ],
)
def test_a_replacement_that_cannot_be_is_refused_and_the_order_works_on(change: dict[str, str], words: str) -> None:
    async def act() -> None:
        async with room() as twin:
            order = await twin.placed(type="limit", limit_price="95", client_order_id="mine")
            status, body = await twin.send("PATCH", f"/v2/orders/{order['id']}", change)
            assert status == 422
            assert words in body["message"]
            assert (await twin.order(order["id"]))["status"] == "new"

    asyncio.run(act())


def test_over_the_rate_a_request_is_refused_and_says_until_when() -> None:
    async def act() -> None:
        async with room(rate=3) as twin:
            left = []
            for _ in range(4):
                async with twin.http.get(twin.url + "/v2/clock") as answer:
                    left.append((answer.status, answer.headers["X-RateLimit-Remaining"]))
                    assert answer.headers["X-RateLimit-Limit"] == "3"
                    assert int(answer.headers["X-RateLimit-Reset"]) > 0
            assert left == [(200, "2"), (200, "1"), (200, "0"), (429, "0")]

    asyncio.run(act())
