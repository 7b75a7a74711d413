"""Orders of every kind through the vendor's own client, against the Alpaca twin."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.twins.alpaca_room import (
    C100,
    C105,
    CLOSE,
    OPEN,
    P95,
    SECOND,
    APIError,
    OrderClass,
    OrderSide,
    OrderStatus,
    Room,
    TimeInForce,
    ask,
    room,
)

BUY, SELL = OrderSide.BUY, OrderSide.SELL
DAY, GTC = TimeInForce.DAY, TimeInForce.GTC


def market_order(symbol: str = "SPY", qty: float = 10, side: OrderSide = BUY, **more: Any) -> ask.MarketOrderRequest:
    return ask.MarketOrderRequest(symbol=symbol, qty=qty, side=side, time_in_force=DAY, **more)


def limit_order(price: float, qty: float = 10, side: OrderSide = BUY, **more: Any) -> ask.LimitOrderRequest:
    terms = {"symbol": "SPY", "time_in_force": DAY, **more}
    return ask.LimitOrderRequest(qty=qty, side=side, limit_price=price, **terms)


async def submitted(twin: Room, request: Any, *statuses: str) -> Any:
    """Place an order with the vendor's client and return it as the vendor's client shows it then."""
    order = await twin.ask(twin.sdk.submit_order, request)
    await twin.order(str(order.id), *(statuses or ("new", "partially_filled", "filled", "accepted", "rejected")))
    return await twin.ask(twin.sdk.get_order_by_id, order.id)


def test_a_market_order_is_answered_first_and_fills_at_the_ask_then_to_the_cent() -> None:
    async def act() -> None:
        async with room() as twin:
            answer = await twin.ask(twin.sdk.submit_order, market_order(client_order_id="mine-1"))
            assert (answer.status, answer.client_order_id) == (OrderStatus.PENDING_NEW, "mine-1")
            await twin.order(str(answer.id), "filled")
            order = await twin.ask(twin.sdk.get_order_by_client_id, "mine-1")
            assert (order.status, order.filled_qty, order.filled_avg_price) == (OrderStatus.FILLED, "10", "100.01")
            account = await twin.ask(twin.sdk.get_account)
            assert Decimal(account.cash) == 100_000 - Decimal("1000.10")
            position = await twin.ask(twin.sdk.get_open_position, "SPY")
            assert (position.qty, position.avg_entry_price, position.cost_basis) == ("10", "100.01", "1000.1")
            assert (position.lastday_price, position.qty_available) == ("98", "10")

    asyncio.run(act())


def test_an_order_for_more_than_is_shown_fills_in_parts_and_each_is_an_activity() -> None:
    async def act() -> None:
        async with room() as twin:
            order = await submitted(twin, market_order(qty=450), "partially_filled")
            assert order.filled_qty == "300"
            twin.play(10)
            order = await twin.ask(twin.sdk.get_order_by_id, order.id)
            assert (order.status, order.filled_qty) == (OrderStatus.FILLED, "450")
            _, rows = await twin.send("GET", "/v2/account/activities/FILL", direction="asc")
            assert [(r["type"], r["qty"], r["cum_qty"], r["leaves_qty"]) for r in rows] == [
                ("partial_fill", "300", "300", "150"),
                ("fill", "150", "450", "0"),
            ]
            assert rows[0]["id"].startswith("20240102093000000::")  # New York's time
            _, later = await twin.send("GET", "/v2/account/activities", activity_types="FILL", page_size="1")
            _, earlier = await twin.send("GET", "/v2/account/activities/FILL", page_token=later[0]["id"])
            assert [later[0]["cum_qty"], *[r["cum_qty"] for r in earlier]] == ["450", "300"]

    asyncio.run(act())


def test_a_limit_order_waits_for_its_price_and_can_be_canceled_until_then() -> None:
    async def act() -> None:
        async with room() as twin:
            patient = await submitted(twin, limit_order(99.5))
            bold = await submitted(twin, limit_order(98.0))
            await twin.ask(twin.sdk.cancel_order_by_id, bold.id)
            assert (await twin.order(str(bold.id), "canceled"))["canceled_at"]
            twin.play(30)
            filled = await twin.ask(twin.sdk.get_order_by_id, patient.id)
            assert (filled.status, filled.filled_avg_price) == (OrderStatus.FILLED, "99.01")
            with pytest.raises(APIError) as refused:
                await twin.ask(twin.sdk.cancel_order_by_id, patient.id)
            assert (refused.value.status_code, refused.value.code) == (422, 42210000)
            status, body = await twin.send("DELETE", "/v2/orders/00000000-0000-0000-0000-000000000000")
            assert (status, body["code"]) == (404, 40410000)

    asyncio.run(act())


def test_a_replacement_has_an_id_of_its_own_and_the_old_order_names_it() -> None:
    async def act() -> None:
        async with room() as twin:
            old = await submitted(twin, limit_order(99.0))
            change = ask.ReplaceOrderRequest(qty=20, limit_price=99.5, client_order_id="second")
            new = await twin.ask(twin.sdk.replace_order_by_id, old.id, change)
            assert new.id != old.id
            assert (new.replaces, new.qty, new.limit_price, new.client_order_id) == (old.id, "20", "99.5", "second")
            await twin.order(str(old.id), "replaced")
            old = await twin.ask(twin.sdk.get_order_by_id, old.id)
            assert (old.status, old.replaced_by) == (OrderStatus.REPLACED, new.id)
            twin.play(30)
            assert (await twin.order(str(new.id)))["filled_qty"] == "20"
            with pytest.raises(APIError) as refused:
                await twin.ask(twin.sdk.replace_order_by_id, new.id, change)
            assert refused.value.status_code == 422

    asyncio.run(act())


@pytest.mark.parametrize(("reading", "works", "ends_with"), [("whole", "450", 750), ("remaining", "150", 450)])
def test_what_a_replacement_of_a_partly_filled_order_works_depends_on_the_reading(
    reading: str, works: str, ends_with: int
) -> None:
    async def act() -> None:
        async with room(replaced_qty=reading) as twin:
            old = await submitted(twin, limit_order(100.01, 450), "partially_filled")
            new = await twin.ask(twin.sdk.replace_order_by_id, old.id, ask.ReplaceOrderRequest(limit_price=100.02))
            assert (new.qty, new.filled_qty) == (works, "0")
            await twin.order(str(new.id), "new")
            twin.play(60)
            assert (await twin.order(str(new.id)))["status"] == "filled"
            assert (await twin.order(str(old.id)))["filled_qty"] == "300"
            assert (await twin.state())["positions"] == {"SPY": str(ends_with)}

    asyncio.run(act())


def test_a_fill_that_overtakes_a_replace_wins_and_the_replacement_is_rejected() -> None:
    async def act() -> None:
        async with room(ack_s=0.2) as twin, twin.stream() as stream:
            old = await twin.placed(type="limit", limit_price="99.5")
            await stream.events("new")
            _, new = await twin.send("PATCH", f"/v2/orders/{old['id']}", {"limit_price": "98.5"})
            assert (await twin.order(old["id"]))["status"] == "pending_replace"
            twin.play(30)
            assert await stream.names("rejected") == ["pending_replace", "fill", "order_replace_rejected", "rejected"]
            assert (await twin.order(new["id"]))["status"] == "rejected"
            assert (await twin.order(old["id"]))["status"] == "filled"
            assert (await twin.state())["positions"] == {"SPY": "10"}

    asyncio.run(act())


def test_another_time_in_force_keeps_the_order_working() -> None:
    async def act() -> None:
        async with room() as twin:
            old = await submitted(twin, limit_order(95.0))
            new = await twin.ask(twin.sdk.replace_order_by_id, old.id, ask.ReplaceOrderRequest(time_in_force=GTC))
            await twin.order(str(new.id), "new")
            assert (await twin.order(str(old.id)))["status"] == "replaced"
            twin.market.step(CLOSE)
            assert (await twin.order(str(new.id)))["status"] == "new"

    asyncio.run(act())


def test_a_client_order_id_is_taken_once() -> None:
    async def act() -> None:
        async with room() as twin:
            await submitted(twin, limit_order(90.0, client_order_id="once"))
            with pytest.raises(APIError) as refused:
                await twin.ask(twin.sdk.submit_order, limit_order(91.0, client_order_id="once"))
            assert (refused.value.status_code, refused.value.code) == (422, 40010001)
            assert "client_order_id must be unique" in refused.value.message
            assert len((await twin.state())["orders"]) == 1
            status, body = await twin.send("GET", "/v2/orders:by_client_order_id", client_order_id="never")
            assert (status, body["code"]) == (404, 40410000)

    asyncio.run(act())


def bracket(**more: Any) -> ask.MarketOrderRequest:
    return market_order(
        order_class=OrderClass.BRACKET,
        take_profit=ask.TakeProfitRequest(limit_price=104.0),
        stop_loss=ask.StopLossRequest(stop_price=98.0),
        **more,
    )


def test_exits_of_a_bracket_are_held_until_the_entry_has_filled_and_the_first_to_fill_cancels_the_other() -> None:
    async def act() -> None:
        async with room() as twin:
            entry = await twin.ask(twin.sdk.submit_order, bracket(qty=400))
            assert [leg.status for leg in entry.legs] == [OrderStatus.HELD, OrderStatus.HELD]
            half = await twin.order(str(entry.id), "partially_filled")
            assert [leg["status"] for leg in half["legs"]] == ["held", "held"]
            twin.play(10)
            whole = await twin.order(str(entry.id), "filled")
            assert [leg["status"] for leg in whole["legs"]] == ["new", "new"]
            twin.play(40)
            done = await twin.order(str(entry.id))
            assert [(leg["type"], leg["status"]) for leg in done["legs"]] == [("limit", "filled"), ("stop", "canceled")]
            assert (await twin.state())["positions"] == {}

    asyncio.run(act())


def test_a_bracket_canceled_before_it_fills_takes_its_exits_along() -> None:
    async def act() -> None:
        async with room() as twin:
            terms = {"order_class": "bracket", "take_profit": {"limit_price": "104"}, "stop_loss": {"stop_price": "90"}}
            entry = await twin.placed(type="limit", limit_price="95", **terms)
            _, nested = await twin.send("GET", "/v2/orders", nested="true")
            _, flat = await twin.send("GET", "/v2/orders", status="all")
            assert (len(nested), len(nested[0]["legs"]), len(flat)) == (1, 2, 3)
            assert flat[-1]["legs"] is None
            await twin.send("DELETE", f"/v2/orders/{entry['id']}")
            ended = await twin.order(entry["id"], "canceled")
            assert [leg["status"] for leg in ended["legs"]] == ["canceled", "canceled"]

    asyncio.run(act())


def test_one_cancels_other_protects_a_position() -> None:
    async def act() -> None:
        async with room() as twin:
            await submitted(twin, market_order(), "filled")
            exits = limit_order(
                110.0, side=SELL, order_class=OrderClass.OCO, take_profit=ask.TakeProfitRequest(limit_price=110.0),
                stop_loss=ask.StopLossRequest(stop_price=99.5),
            )  # fmt: skip
            order = await submitted(twin, exits)
            assert (await twin.ask(twin.sdk.get_open_position, "SPY")).qty_available == "0"
            twin.play(30)
            ended = await twin.order(str(order.id), "canceled")
            assert [leg["status"] for leg in ended["legs"]] == ["filled"]
            assert (await twin.state())["positions"] == {}

    asyncio.run(act())


def test_one_triggers_other_places_its_stop_after_the_fill() -> None:
    async def act() -> None:
        async with room() as twin:
            request = market_order(order_class=OrderClass.OTO, stop_loss=ask.StopLossRequest(stop_price=99.5))
            order = await submitted(twin, request, "filled")
            assert (await twin.order(str(order.id)))["legs"][0]["status"] == "new"
            twin.play(30)
            assert (await twin.order(str(order.id)))["legs"][0]["filled_avg_price"] == "98.99"

    asyncio.run(act())


def test_a_buy_stop_does_not_pay_more_than_its_room_and_a_stop_limit_no_more_than_its_limit() -> None:
    async def act() -> None:
        async with room() as twin:
            stop = ask.StopOrderRequest(symbol="SPY", qty=10, side=BUY, time_in_force=DAY, stop_price=100.5)
            bounded = ask.StopLimitOrderRequest(
                symbol="SPY", qty=10, side=BUY, time_in_force=DAY, stop_price=100.5, limit_price=100.6
            )
            first, second = await submitted(twin, stop), await submitted(twin, bounded)
            twin.play(20)
            assert (await twin.order(str(first.id)))["filled_avg_price"] == "101.01"
            assert (await twin.order(str(second.id)))["status"] == "new"
            twin.play(30)
            assert (await twin.order(str(second.id)))["filled_avg_price"] == "99.01"

    asyncio.run(act())


def test_a_trailing_stop_follows_the_price_up_and_never_down() -> None:
    async def act() -> None:
        async with room() as twin:
            await submitted(twin, market_order(), "filled")
            trail = ask.TrailingStopOrderRequest(symbol="SPY", qty=10, side=SELL, time_in_force=DAY, trail_price=3.0)
            order = await submitted(twin, trail)
            assert (order.hwm, order.stop_price) == ("100", "97")
            twin.play(50)
            moved = await twin.ask(twin.sdk.get_order_by_id, order.id)
            assert (moved.hwm, moved.stop_price, moved.status) == ("105", "102", OrderStatus.NEW)
            twin.play(60)  # a print at 101.90 triggers it; it trades on the next quote
            assert (await twin.order(str(order.id)))["filled_avg_price"] == "99.99"

    asyncio.run(act())


def test_dollars_buy_parts_of_a_share() -> None:
    async def act() -> None:
        async with room() as twin:
            request = ask.MarketOrderRequest(symbol="SPY", notional=250.0, side=BUY, time_in_force=DAY)
            order = await submitted(twin, request, "filled")
            assert (order.notional, order.qty, order.filled_qty) == ("250", None, "2.499750024")
            assert Decimal((await twin.state())["cash"]) == 100_000 - Decimal("2.499750024") * Decimal("100.01")
            part = await submitted(twin, market_order(qty=0.5, side=SELL), "filled")
            assert part.filled_avg_price == "99.99"
            assert (await twin.ask(twin.sdk.get_open_position, "SPY")).qty == "1.999750024"

    asyncio.run(act())


def vertical(price: float | None = None, qty: int = 2, **more: Any) -> Any:
    legs = [
        ask.OptionLegRequest(symbol=C100, ratio_qty=1, side=BUY),
        ask.OptionLegRequest(symbol=C105, ratio_qty=1, side=SELL),
    ]
    terms = {"qty": qty, "time_in_force": DAY, "order_class": OrderClass.MLEG, "legs": legs, **more}
    return ask.MarketOrderRequest(**terms) if price is None else ask.LimitOrderRequest(limit_price=price, **terms)


def test_a_spread_fills_all_legs_together_and_costs_the_net_price() -> None:
    async def act() -> None:
        async with room() as twin:
            order = await submitted(twin, vertical(1.30), "filled")
            assert (order.filled_qty, order.filled_avg_price, order.symbol) == ("2", "1.3", None)
            assert [(leg.symbol, leg.filled_qty, leg.filled_avg_price) for leg in order.legs] == [
                (C100, "2", "2.1"),
                (C105, "2", "0.8"),
            ]
            assert len({order.id, *(leg.id for leg in order.legs)}) == 3
            state = await twin.state()
            assert state["positions"] == {C100: "2", C105: "-2"}
            assert Decimal(state["cash"]) == 100_000 - Decimal("1.30") * 2 * 100
            _, rows = await twin.send("GET", "/v2/account/activities/FILL")
            assert {(row["symbol"], row["order_id"]) for row in rows} == {
                (leg.symbol, str(leg.id)) for leg in order.legs
            }

    asyncio.run(act())


def test_a_spread_below_the_market_waits_and_its_price_can_be_replaced() -> None:
    async def act() -> None:
        async with room() as twin:
            order = await submitted(twin, vertical(1.00), "new")
            new = await twin.ask(twin.sdk.replace_order_by_id, order.id, ask.ReplaceOrderRequest(limit_price=1.35))
            await twin.order(str(new.id), "new")
            old = await twin.order(str(order.id))
            assert [old["status"], *(leg["status"] for leg in old["legs"])] == ["replaced"] * 3
            twin.play(60)
            assert len((await twin.order(str(new.id)))["legs"]) == 2
            with pytest.raises(APIError) as refused:
                await twin.ask(twin.sdk.cancel_order_by_id, new.legs[0].id)
            assert refused.value.status_code == 422

    asyncio.run(act())


def test_a_credit_is_a_negative_price_and_binds_the_worst_loss() -> None:
    async def act() -> None:
        async with room() as twin:
            legs = [
                {"symbol": C105, "ratio_qty": "1", "side": "buy", "position_intent": "buy_to_open"},
                {"symbol": C100, "ratio_qty": "1", "side": "sell", "position_intent": "sell_to_open"},
            ]
            terms = {"symbol": None, "side": None, "order_class": "mleg", "type": "limit", "legs": legs}
            order = await twin.placed(limit_price="-1.10", qty="3", **terms)
            assert (order["status"], order["filled_avg_price"]) == ("filled", "-1.1")
            state = await twin.state()
            assert Decimal(state["cash"]) == 100_000 + 330
            account = await twin.ask(twin.sdk.get_account)
            assert Decimal(account.options_buying_power) < 100_000 - 1000
            status, body = await twin.post(limit_price="-1.10", qty="3000", **terms)
            assert (status, body["code"]) == (403, 40310000)

    asyncio.run(act())


def test_an_option_trades_alone_and_closes() -> None:
    async def act() -> None:
        async with room() as twin:
            bought = await submitted(twin, market_order(P95, 5), "filled")
            assert (bought.filled_avg_price, bought.position_intent.value) == ("1.1", "buy_to_open")
            order = await twin.ask(twin.sdk.close_position, P95, ask.ClosePositionRequest(qty="5"))
            assert (await twin.order(str(order.id), "filled"))["position_intent"] == "sell_to_close"
            assert Decimal((await twin.state())["cash"]) == 100_000 - 50

    asyncio.run(act())


def test_every_position_closes_at_once_and_every_order_cancels_at_once() -> None:
    async def act() -> None:
        async with room() as twin:
            await submitted(twin, market_order(), "filled")
            await submitted(twin, market_order("QQQ", 20), "filled")
            resting = [await submitted(twin, limit_order(90.0 + n)) for n in range(3)]
            answers = await twin.ask(twin.sdk.cancel_orders)
            assert {str(a.id) for a in answers} == {str(order.id) for order in resting}
            for order in resting:
                await twin.order(str(order.id), "canceled")
            closed = await twin.ask(twin.sdk.close_all_positions)
            assert {row.symbol for row in closed} == {"SPY", "QQQ"}
            for row in closed:
                await twin.order(str(row.body.id), "filled")
            assert await twin.ask(twin.sdk.get_all_positions) == []

    asyncio.run(act())


def test_a_day_order_expires_at_the_close_and_one_till_canceled_lives_on() -> None:
    async def act() -> None:
        async with room() as twin:
            today = await submitted(twin, limit_order(90.0))
            longer = await submitted(twin, limit_order(98.5, time_in_force=GTC))
            twin.market.step(CLOSE)
            assert (await twin.order(str(today.id)))["status"] == "expired"
            twin.play(7 * 3600)  # a quote through its limit, after hours: not for this one
            assert (await twin.order(str(longer.id)))["status"] == "new"

    asyncio.run(act())


def test_an_order_outside_the_session_is_accepted_and_becomes_new_at_the_open() -> None:
    async def act() -> None:
        async with room(start=OPEN - 60 * SECOND) as twin, twin.stream() as stream:
            order = await twin.placed()
            assert order["status"] == "accepted"
            status, body = await twin.send("PATCH", f"/v2/orders/{order['id']}", {"qty": "20"})
            assert (status, body["code"]) == (422, 42210000)
            twin.play(0)
            assert await stream.names("fill") == ["pending_new", "accepted", "new", "fill"]

    asyncio.run(act())


def test_an_extended_hours_order_fills_after_the_close() -> None:
    async def act() -> None:
        async with room(start=CLOSE + 60 * SECOND) as twin:
            order = await submitted(twin, limit_order(98.5, extended_hours=True), "new")
            twin.play(7 * 3600)
            assert (await twin.order(str(order.id)))["filled_avg_price"] == "98.01"
            patient = await submitted(twin, limit_order(90.0, extended_hours=True), "new")
            twin.market.step(CLOSE + 4 * 3600 * SECOND)
            assert (await twin.order(str(patient.id)))["status"] == "expired"

    asyncio.run(act())


def test_immediate_or_cancel_ends_with_what_was_there() -> None:
    async def act() -> None:
        async with room() as twin:
            order = await twin.placed(qty="500", time_in_force="ioc")
            ended = await twin.order(order["id"], "canceled")
            assert ended["filled_qty"] == "300"

    asyncio.run(act())
