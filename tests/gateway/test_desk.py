"""Between the decision and the broker: what stops an order on its way, what cancels one that works, and who may write at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from northstar_core.gateway.gateway import socket_path
from northstar_core.gateway.observe import preflight
from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.errors import StoreError
from northstar_core.model.market import Quote
from northstar_core.model.order import PlaceOrder, Side
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp, FeedDown, FeedUp
from northstar_core.store.desk import DeskWriter
from northstar_core.store.postgres import Database
from tests.gateway.room import Recorder, Room, grant, play


def kill(room: Room, scope: str = "desk") -> None:
    room.gateway.desk.operate(
        e.SetTradingState(ts=room.clock.now(), scope=scope, state=TradingState.KILLED, who="ann", reason="a test")
    )


@pytest.mark.parametrize("scope", ["desk", "account:paper-1", "strategy:trend"])
def test_a_kill_between_decision_and_dispatch_stops_the_order(database: Database, scope: str) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        async with room.held():
            order = raw.place()
            await room.until_status(order, "PENDING_NEW")
            kill(room, scope)
        _, rejected = await raw.hear(e.OrderRejected)
        assert rejected.reason == "not sent: killed after it was decided"
        raw.place()
        _, denied = await raw.hear(e.OrderDenied)
        assert denied.reason == "TRADING_HALTED"
        assert room.broker().calls == []
        assert room.gateway.desk.engine.state.blotter.orders[order].reserved == 0

    play(database, scene)


def test_a_kill_stops_a_replace_on_its_way_and_lets_cancels_through(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="95")
        await raw.hear(e.OrderAccepted)
        async with room.held():
            raw.replace(order, qty=Decimal(500))
            await room.until_status(order, "PENDING_REPLACE")
            kill(room)
        _, refused = await raw.hear(e.RequestRejected)
        assert (refused.request, refused.reason) == ("replace", "not sent: killed after it was decided")
        raw.cancel(order)
        await raw.hear(e.OrderCanceled)
        assert room.broker().calls == [("submit", order), ("cancel", order)]

    play(database, scene)


def test_what_cannot_be_sent_because_the_broker_is_down_comes_back_at_once_as_not_sent(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="95")
        await raw.hear(e.OrderAccepted)
        link = room.gateway.links["paper-1"]
        link.heard(BrokerDown(room.clock.now(), "paper-1", "maintenance"))
        raw.place()
        _, rejected = await raw.hear(e.OrderRejected)
        assert rejected.reason == "not sent: broker of paper-1 is down: maintenance"
        raw.cancel(order)
        _, refused = await raw.hear(e.RequestRejected)
        assert refused.request == "cancel" and room.status(order) == "NEW"
        link.heard(BrokerUp(room.clock.now(), "paper-1"))
        await room.up()
        raw.cancel(order)
        await raw.hear(e.OrderCanceled)
        assert room.broker().calls == [("submit", order), ("cancel", order)]

    play(database, scene)


def test_one_trade_at_a_time_lets_exits_through_and_no_second_entry(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        resting = raw.place(limit="90")
        await raw.hear(e.OrderAccepted)
        raw.place()
        _, denied = await raw.hear(e.OrderDenied)
        assert denied.reason == "RULE_BLOCKED" and resting in denied.detail
        raw.cancel(resting)
        await raw.hear(e.OrderCanceled)
        await room.filled(raw, raw.place(qty=10))
        raw.place(symbol="QQQ")
        _, denied = await raw.hear(e.OrderDenied)
        assert "SPY is open" in denied.detail
        raw.place(Side.SELL, qty=11)
        await raw.hear(e.OrderDenied)
        await room.filled(raw, raw.place(Side.SELL, qty=10))
        await room.filled(raw, raw.place(Side.SELL, qty=5))

    play(database, scene, grants=grant(one_trade=True))


def test_an_order_that_grows_too_old_is_cancelled_and_a_young_one_is_not(database: Database) -> None:
    async def scene(room: Room) -> None:
        old = await room.enter("trend")
        young = await room.enter("carry")
        room.price()
        order, other = old.place(limit="90"), young.place(limit="90")
        _, canceled = await old.hear(e.OrderCanceled)
        assert canceled.order_id == order
        [asked] = await room.logged(e.CancelSubmitted)
        submitted = next(f for f in room.of(e.OrderSubmitted) if f.order.order_id == order)
        assert asked.ts - submitted.ts >= 2e9
        assert room.status(other) == "NEW"

    play(database, scene, grants=grant(max_order_age_s=2.0) + grant("carry", max_order_age_s=3600.0))


def test_a_price_whose_clock_is_a_little_ahead_of_ours_is_no_stale_one(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        ahead = room.clock.now() + 800_000_000
        room.feed.give(Quote("SPY", ahead, 99.99, 100.01, 100.0, 100.0))
        fill = await room.filled(raw, raw.place())
        [submitted] = room.of(e.OrderSubmitted)
        assert submitted.ts >= ahead and fill.qty == 10
        room.feed.give(Quote("QQQ", room.clock.now() + 10**12, 99.99, 100.01, 100.0, 100.0))  # a clock gone wrong is not followed
        raw.place(symbol="QQQ")
        _, denied = await raw.hear(e.OrderDenied)
        assert denied.reason == "PRICE_STALE"

    play(database, scene)


def test_a_time_that_a_kernel_makes_up_is_not_believed(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        raw.ask(raw.order(ts=room.clock.now() + 300 * 10**9))
        await raw.hear(e.OrderFilled)
        [submitted] = room.of(e.OrderSubmitted)
        assert submitted.ts <= room.clock.now()

    play(database, scene)


def test_what_cannot_be_written_down_takes_no_number(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        with pytest.raises(TypeError):
            room.gateway.desk.note(AlertRaised(room.clock.now(), "info", "test", object()))  # type: ignore[arg-type]
        room.price()
        await room.filled(raw, raw.place())
        assert not room.gateway.stopping.is_set()

    play(database, scene)


def test_a_broker_that_fails_as_it_is_asked_leaves_its_order_unknown_and_the_others_alone(database: Database) -> None:
    class Failing(Recorder):
        def submit(self, order: PlaceOrder) -> Any:  # type: ignore[override]
            if order.qty == 13:
                raise RuntimeError("out of luck")
            return super().submit(order)

    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        raw.place(qty=13)
        other = raw.place(qty=5)
        _, unknown = await raw.hear(e.OrderUnknown)
        assert unknown.reason == "RuntimeError: out of luck"
        await room.filled(raw, other)
        assert not room.gateway.stopping.is_set()

    play(database, scene, make={"paper-1": Failing})


# ── who may write ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_gateway_on_the_desk_is_refused_and_the_first_goes_on(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        first, second = room.gateway, room.new()
        with pytest.raises(StoreError, match="another gateway is running"):
            await second.start()
        await second.close()
        assert socket_path(room.home).exists()
        room.gateway = first
        room.price()
        await room.filled(raw, raw.place())
        assert (await room.enter("manual")).welcome is not None

    play(database, scene)


def test_a_gateway_that_was_replaced_sends_nothing_more(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        first = raw.place(limit="95")
        await raw.hear(e.OrderAccepted)
        old = room.gateway
        new = await DeskWriter.begin(room.database, room.settings.desk.name, take_over=True)
        assert new.epoch == old.writer.epoch + 1
        raw.place()
        raw.cancel(first)
        await room.until(old.stopping.is_set)
        assert room.broker().calls == [("submit", first)]
        assert old.writer.failed is not None and "replaced" in str(old.writer.failed)
        await new.close()

    play(database, scene)


def test_a_session_that_closes_is_on_the_agenda_once_however_often_one_looks(database: Database) -> None:
    async def scene(room: Room) -> None:
        gateway, desk = room.gateway, room.gateway.desk
        closes = desk.engine.state.session_close
        assert closes
        for later in range(3):
            gateway._schedule_sessions(closes + 1 + later)
        due = [what for _, _, what, _ in desk._agenda if isinstance(what, e.SessionClosed) and what.ts == closes]
        assert len(due) == 1

    play(database, scene)


def test_a_feed_that_is_down_is_not_called_connected(database: Database) -> None:
    async def scene(room: Room) -> None:
        async def connected() -> bool:
            verdict = await preflight(room.gateway)
            return next(check.passed for check in verdict.checks if check.name == "connected" and check.scope.startswith("feed:"))

        now = room.clock.now()
        room.price()
        room.feed.give(FeedUp(now, room.feed.name))
        assert await connected()
        room.feed.give(FeedDown(now, room.feed.name, "cut"))
        assert not await connected()

    play(database, scene)
