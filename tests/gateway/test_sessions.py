"""A session from its beginning to its end, over a real socket: what a strategy is told, in which order, and when its orders leave."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.model import events as e
from northstar_core.model.market import Bar, Quote
from northstar_core.model.order import Side
from northstar_core.model.world import BarsGiven, SessionBegan
from northstar_core.store.postgres import Database
from tests.gateway.room import MINUTE, NOON, Room, grant, play


def test_a_session_begins_with_its_welcome_its_bars_and_its_start(database: Database) -> None:
    async def scene(room: Room) -> None:
        room.feed.before = [Bar("SPY", NOON - n * MINUTE, NOON - (n - 1) * MINUTE, 1, 1, 1, float(n), 5) for n in range(9, 0, -1)]
        raw = await room.enter(warm_up=4)
        welcome = raw.welcome
        assert welcome is not None
        assert (welcome.strategy, welcome.account, welcome.broker, welcome.simulated, welcome.n) == ("trend", "paper-1", "paper", True, 0)
        assert (welcome.session, welcome.cash, welcome.bar_ns) == ("20260601", Decimal(50_000), MINUTE)
        assert [bar.close for bar in raw.bars] == [4.0, 3.0, 2.0, 1.0]
        [(seq, started)] = raw.given
        assert isinstance(started, e.StrategyStarted)
        log = dict(await room.log())
        assert log[seq] == started
        assert [bar.close for given in await room.logged(BarsGiven) for bar in given.bars] == [4.0, 3.0, 2.0, 1.0]
        [began] = await room.logged(SessionBegan)
        assert (began.author, began.session) == ("trend", "20260601")

    play(database, scene)


def test_what_a_session_is_given_is_the_log_in_its_order(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter(quotes=True)
        for n in range(3):
            room.feed.give(room.bar(n, 100.0 + n), room.quote(100 + n))
            await room.filled(raw, raw.place())
        log = dict(await room.log())
        assert [seq for seq, _ in raw.given] == sorted(seq for seq, _ in raw.given)
        assert all(log[seq] == event for seq, event in raw.given)
        kinds = [type(event) for _, event in raw.given]
        assert (kinds.count(Quote), kinds.count(Bar), kinds.count(e.OrderFilled)) == (3, 3, 3)

    play(database, scene)


def test_a_broker_hears_of_an_order_only_when_its_record_is_durable(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        async with room.held():
            order = raw.place()
            await room.until(lambda: room.status(order) == "PENDING_NEW")
            async with await room.database_reader() as reader:
                assert not await reader.order_events((await reader.run(room.settings.desk.name)).stream, order)
            room.price(101.0)
            raw.beat()
            await room.quiet()
            assert room.broker().calls == []
            assert len(raw.given) == 1
        await room.filled(raw, order)
        assert room.broker().calls == [("submit", order)]

    play(database, scene)


def test_cancels_and_replaces_wait_for_their_record_too(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="95")
        await raw.hear(e.OrderAccepted)
        async with room.held():
            raw.replace(order, limit_price=Decimal(96))
            await room.until(lambda: room.status(order) == "PENDING_REPLACE")
            raw.cancel(order)
            await room.until(lambda: room.status(order) == "PENDING_CANCEL")
            await room.quiet()
            assert room.broker().calls == [("submit", order)]
        await raw.hear(e.OrderCanceled)
        assert room.broker().calls == [("submit", order), ("replace", order), ("cancel", order)]

    play(database, scene)


def test_a_denial_reaches_the_strategy_with_its_reason_and_numbers(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        raw.place(qty=90_000)
        _, denied = await raw.hear(e.OrderDenied)
        assert (denied.reason, denied.symbol, denied.passes_at) == ("ORDER_VALUE_CAP", "SPY", 3960), denied
        assert "500000" in denied.detail
        assert room.broker().calls == []

    play(database, scene)


def test_orders_of_one_strategy_are_told_to_it_alone(database: Database) -> None:
    async def scene(room: Room) -> None:
        one, other = await room.enter("trend"), await room.enter("carry")
        room.price()
        order = one.place()
        await room.filled(one, order)
        mine = other.place(Side.SELL)
        await room.filled(other, mine)
        assert {event.order_id for _, event in other.given if hasattr(event, "order_id")} == {mine}
        assert {event.order_id for _, event in one.given if hasattr(event, "order_id")} == {order}

    play(database, scene, grants=grant("trend") + grant("carry"))


def test_a_session_that_leaves_is_over_and_another_may_begin(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        raw.leave()
        await room.fact(e.StrategyStopped)
        again = await room.enter()
        room.price()
        await room.filled(again, again.place())
        raw.drop()
        await room.quiet()
        assert list(room.gateway.doorman.guests) == ["trend"]
        await room.filled(again, again.place())

    play(database, scene)
