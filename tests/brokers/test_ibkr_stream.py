"""Interactive Brokers' stream and sessions on a bad day, executions that are told badly, and restarts: books equal the broker's."""

from __future__ import annotations

from decimal import Decimal

import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.model.execution import AccountActivity, ActivityKind
from northstar_core.model.order import OrderStatus, PlaceOrder, Side
from tests.brokers.ibkr_desk import BrokerDown, BrokerUp, Desk, ExternalOrder, FrameUnread, at_desk
from tests.twins.ibkr_room import CALL, HIGHER, OPEN

# ── the stream ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["duplicate", "delay", "reorder", "junk"])
@pytest.mark.parametrize("topic", ["sor", "str"])
def test_frames_repeated_late_out_of_order_or_broken_change_nothing(topic: str, fault: str) -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault(f"stream.{topic}", fault, times=0, delay_s=0.05)
        orders = [await desk.place(n, limit=limit) for n, limit in ((1, "600.05"), (2, "590.00"), (3, "600.05"))]
        await desk.cancel(orders[1])
        await desk.agrees()
        assert bool(desk.of(FrameUnread)) is (fault == "junk")

    at_desk(scene)


@pytest.mark.parametrize("topic", ["sor", "str", "*"])
def test_frames_that_never_come_are_made_up_for_by_asking(topic: str) -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault(f"stream.{topic}", "drop", times=0)
        first = await desk.place(1)
        rests = await desk.place(2, limit="599.00")
        desk.room.step(31)
        await desk.until_state(first, OrderStatus.FILLED)
        await desk.until_state(rests, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene)


def test_partial_fills_are_booked_one_by_one_and_the_rest_is_cancelled() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("account.submit", "partial", part=0.4)
        order = await desk.place(1, limit="600.05")
        await desk.until_state(order, OrderStatus.PARTIALLY_FILLED)
        await desk.cancel(order)
        await desk.until_state(order, OrderStatus.CANCELED)
        await desk.agrees()
        assert desk.filled[order] == 4
        assert desk.kinds(order) == ["NEW", "TRADE", "CANCELED"]

    at_desk(scene)


def test_the_end_of_an_order_waits_for_the_executions_it_counts() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("account.submit", "partial", part=0.4)
        desk.room.fault("stream.str", "drop", times=0)
        order = await desk.place(1, limit="600.05")
        await desk.cancel(order)
        await desk.until_state(order, OrderStatus.CANCELED)
        assert desk.kinds(order) == ["NEW", "TRADE", "CANCELED"]
        await desk.agrees()

    at_desk(scene)


def test_a_disconnect_is_told_and_what_happened_meanwhile_is_read_anew() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        desk.room.fault("connect", "503", times=2)
        async with desk.room.http.post(desk.room.served.url("ibkr") + "/_twin/disconnect"):
            pass
        await desk.until(lambda: desk.of(BrokerDown))
        desk.room.step(31)
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)
        assert desk.status[order] is OrderStatus.FILLED
        await desk.agrees()

    at_desk(scene)


@pytest.mark.parametrize("do", ["lose", "rollover"])
def test_a_session_that_ends_is_opened_anew(do: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        await desk.room.steer(do)
        desk.room.step(31)
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene)


def test_a_stream_that_only_beats_its_heart_is_noticed_and_replaced() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        desk.room.fault("stream.sor", "deaf")
        desk.room.step(31)
        await desk.until(lambda: "tells nothing" in "".join(claim.reason for claim in desk.of(BrokerDown)))
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)
        assert desk.status[order] is OrderStatus.FILLED
        await desk.until_state(await desk.place(2), OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene, tickle_s=600.0)


def test_a_stream_that_does_not_answer_at_all_is_replaced() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("stream.sor", "mute")
        order = await desk.place(1)
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene, quiet_s=4.0, answer_s=0.4, twin={"heartbeat_s": 1.0})


@pytest.mark.parametrize("how", ["refuse", "drop"])
def test_orders_are_polled_where_they_cannot_be_subscribed(how: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        await desk.until(lambda: order in desk.status and desk.status[order] is OrderStatus.NEW)
        desk.room.step(31)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()
        rests = await desk.place(2, limit="590.00")
        await desk.cancel(rests)
        await desk.until_state(rests, OrderStatus.CANCELED)

    async def refused(desk: Desk) -> None:
        desk.room.fault("subscribe.sor", how, times=0)
        await desk.broker.start()
        await scene(desk)
        if how == "refuse":
            assert "cannot be subscribed" in desk.alerts

    at_desk(refused, up=False)


def test_another_login_takes_the_session_and_is_not_fought() -> None:
    async def scene(desk: Desk) -> None:
        await desk.room.steer("compete")
        await desk.until(lambda: any("has the brokerage session" in claim.reason for claim in desk.of(BrokerDown)))
        assert (await desk.room.state())["requests"].get("auth.init", 0) == 0

    at_desk(scene)


def test_another_login_is_thrown_out_where_the_account_says_so() -> None:
    async def scene(desk: Desk) -> None:
        await desk.room.steer("compete")
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)

    at_desk(scene, compete="always")


@pytest.mark.parametrize("fault", ["503", "401", "drop", "junk"])
def test_reading_that_fails_for_a_while_loses_nothing(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        for route in ("orders.get", "trades", "orders.status", "tickle"):
            desk.room.fault(route, fault, times=2)
        async with desk.room.http.post(desk.room.served.url("ibkr") + "/_twin/disconnect"):
            pass
        desk.room.step(31)
        await desk.until(lambda: len(desk.of(BrokerUp)) == 2)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene)


# ── executions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commission_that_comes_late_is_a_fee_of_its_own() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1)
        await desk.until_state(order, OrderStatus.FILLED)
        assert not desk.of(AccountActivity)
        await desk.until(lambda: desk.of(AccountActivity))
        await desk.agrees()

    at_desk(scene, twin={"commission_s": 0.2})


def test_a_corrected_execution_is_put_right_without_touching_the_fill() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("execution", "correction", delay_s=0.1)
        order = await desk.place(1)
        await desk.until(lambda: [a for a in desk.of(AccountActivity) if a.kind is ActivityKind.EXTERNAL])
        await desk.agrees()
        assert desk.kinds(order) == ["NEW", "TRADE"]
        (change,) = [a for a in desk.of(AccountActivity) if a.kind is ActivityKind.EXTERNAL]
        assert (change.qty, change.cash, change.strategy) == (0, Decimal("0.1"), "spy")
        assert "corrected" in desk.alerts

    at_desk(scene)


def test_orders_and_fills_of_others_are_shown_and_booked_as_external() -> None:
    async def scene(desk: Desk) -> None:
        await desk.place(1)
        (answer,) = await desk.room.order(price=600.05, quantity=7)
        await desk.until(lambda: [a for a in desk.of(AccountActivity) if a.kind is ActivityKind.EXTERNAL])
        await desk.agrees_with_others()
        external = desk.of(ExternalOrder)[-1]
        assert (external.broker_id, external.symbol, external.side, external.qty) == (answer["order_id"], "SPY", Side.BUY, 7)
        assert desk.positions == {"SPY": Decimal(17)}
        assert {a.strategy for a in desk.of(AccountActivity) if a.kind is ActivityKind.EXTERNAL} == {"external"}

    at_desk(scene)


def test_an_option_traded_by_phone_is_named_by_asking() -> None:
    async def scene(desk: Desk) -> None:
        ticket = PlaceOrder(OPEN, "phone-1", "", "DU1234567", CALL, Side.BUY, Decimal(2))
        desk.room.account.submit(ticket)
        await desk.until(lambda: desk.positions.get(CALL) == 2)
        assert (await desk.broker.snapshot()).positions[0].symbol == CALL

    at_desk(scene)


# ── restarts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_restart_everything_is_claimed_again_and_nothing_is_booked_twice() -> None:
    async def scene(desk: Desk) -> None:
        await desk.place(1)
        rests = await desk.place(2, limit="590.00")
        combo = await desk.place(3, qty=1, limit="4.20", symbol=f"1*{CALL},-1*{HIGHER}")
        await desk.until_state(combo, OrderStatus.FILLED)
        await desk.agrees()
        await desk.restart()
        await desk.agrees()
        assert await desk.broker.find(rests) is Evidence.FOUND
        await desk.replace(rests, 12, "591.00")
        await desk.until(lambda: desk.kinds(rests)[-1] == "REPLACED")
        await desk.cancel(rests)
        await desk.until_state(rests, OrderStatus.CANCELED)
        await desk.agrees()

    at_desk(scene)


def test_an_exit_that_was_held_when_the_adapter_stopped_is_taken_up_when_it_is_looked_for() -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="599.00")
        stop = await desk.place(2, "SELL", 10, stop="590.00", parent=entry)
        await desk.restart()
        assert await desk.broker.find(stop) is Evidence.FOUND
        desk.room.step(31)
        await desk.until_state(entry, OrderStatus.FILLED)
        await desk.until(lambda: len(desk.broker.book.lives.by_broker) == 2)
        await desk.agrees()

    at_desk(scene)


def test_exits_whose_entry_filled_while_nobody_listened_are_sent_after_the_restart() -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="599.00")
        target = await desk.place(2, "SELL", 10, limit="604.00", parent=entry)
        stop = await desk.place(3, "SELL", 10, stop="590.00", parent=entry)
        await desk.broker.close()
        desk.room.step(31)
        await desk.restart()
        await desk.until(lambda: len(desk.broker.book.lives.by_broker) == 3)
        await desk.restart()
        desk.room.step(45)
        await desk.until_state(target, OrderStatus.FILLED)
        await desk.until_state(stop, OrderStatus.CANCELED)
        await desk.agrees()
        assert (await desk.room.state())["requests"]["orders.post"] == 3

    at_desk(scene)


def test_a_replace_that_was_under_way_at_a_restart_is_settled_after_it() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        other = await desk.place(2, limit="590.00")
        desk.room.fault("orders.modify", "lost_response")
        desk.room.fault("orders.modify", "drop")
        desk.room.fault("stream.*", "drop", times=0)
        await desk.replace(order, 20, "591.00")
        await desk.replace(other, 20, "591.00")
        await desk.restart()
        await desk.until(lambda: desk.kinds(order)[-1] == "REPLACED")
        await desk.until(lambda: desk.kinds(other)[-1] == "REPLACE_REJECTED")
        await desk.agrees()

    at_desk(scene, poll_s=600.0)


@pytest.mark.parametrize("fault", ["503", "drop", "refuse"])
def test_an_exit_whose_sibling_filled_is_cancelled_though_the_cancel_fails_at_first(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="600.05")
        target = await desk.place(2, "SELL", 10, limit="604.00", parent=entry)
        stop = await desk.place(3, "SELL", 10, stop="590.00", parent=entry)
        await desk.until(lambda: len(desk.broker.book.lives.by_broker) == 3)
        desk.room.fault("orders.delete", fault)
        desk.room.step(45)
        await desk.until_state(target, OrderStatus.FILLED)
        await desk.until_state(stop, OrderStatus.CANCELED)
        await desk.agrees()

    at_desk(scene)


def test_an_exit_that_fills_in_part_leaves_the_other_for_the_rest() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("account.submit", "partial", part=0.4, after=2)  # after the entry and the stop
        entry = await desk.place(1, limit="600.05")
        target = await desk.place(2, "SELL", 10, limit="599.50", parent=entry)
        stop = await desk.place(3, "SELL", 10, stop="598.50", parent=entry)
        await desk.until(lambda: desk.broker.book.lives.lives[stop].reduced)
        desk.room.step(15)
        await desk.until_state(target, OrderStatus.FILLED)
        await desk.until_state(stop, OrderStatus.CANCELED)
        await desk.agrees()
        assert desk.positions == {}

    at_desk(scene)
