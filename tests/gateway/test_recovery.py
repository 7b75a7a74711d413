"""A gateway stands where the last one stood, whichever way that one went; and what is on the record verifies and is decided again."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from northstar_core.audit.desk import verify_desk
from northstar_core.model import events as e
from northstar_core.model.order import OrderStatus, Side
from northstar_core.model.wire import Ask
from northstar_core.model.world import AlertRaised, GatewayStarted, SessionBegan
from northstar_core.store.postgres import Database
from tests.gateway.alpaca_room import Twin, play_at_alpaca
from tests.gateway.room import CLOSE, MINUTE, NOON, SECOND, Room, RoomClock, grant, paper, play

HOUR = 60 * MINUTE


async def day(room: Room) -> Any:
    """Something of everything: positions in two accounts, working orders, denials, timers, kept state, a limit of trading."""
    raw, other = await room.enter("trend"), await room.enter("carry", "paper-2")
    room.price()
    room.price(50.0, "QQQ")
    await room.filled(raw, raw.place(qty=10))
    await room.filled(raw, raw.place(Side.SELL, qty=3))
    await room.filled(other, other.place(Side.SELL, qty=7, symbol="QQQ"))
    raw.place(qty=90_000)
    await raw.hear(e.OrderDenied)
    order = raw.place(limit="90")
    await raw.hear(e.OrderAccepted)
    raw.replace(order, qty=Decimal(12), limit_price=Decimal(91))
    await raw.hear(e.OrderReplaced)
    raw.count += 1
    raw.ask(e.Signal(1, "trend", "SPY", raw.count, "why", 1.0, {}, raw.given[-1][0]))
    for name, at in (("soon", NOON + HOUR), ("soon", NOON + HOUR + SECOND), ("late", CLOSE + 1)):
        raw.ask(e.SetTimer(room.clock.now(), "trend", name, at))
    raw.keep(b'{"level": 3}')
    person = await room.operate()
    await person.request("set_state", scope="strategy:carry", state="reducing", who="ann", reason="test")
    await room.quiet()
    return raw


def standing(gateway: Any) -> dict[str, Any]:
    """Every order as it stands."""
    orders = gateway.desk.engine.state.blotter.orders.items()
    return {key: (o.status, o.qty, o.limit_price, o.cum_qty, o.reserved) for key, o in orders}


TWO = {
    "accounts": paper() + paper("paper-2"),
    "grants": grant(on_lost="leave") + grant("carry", "paper-2", on_lost="leave") + grant("manual"),
}


@pytest.mark.parametrize("way", ["stop", "crash"])
def test_books_orders_counters_timers_and_what_was_kept_are_there_again(database: Database, way: str) -> None:
    async def scene(room: Room) -> None:
        await day(room)
        old = room.gateway
        await old.writer.flush()
        books, numbers = old.desk.engine.books(), dict(old.ledger.numbers)
        blotter = standing(old)
        assert not await room.logged(e.TimerFired)
        await (room.stop() if way == "stop" else room.crash())
        room.clock = RoomClock(NOON + HOUR + MINUTE)
        new = await room.start()
        assert new.desk.engine.books() == books
        assert standing(new) == blotter
        assert new.ledger.numbers == numbers == {("trend", "20260601"): 5, ("carry", "20260601"): 1}
        assert new.writer.epoch == old.writer.epoch + 1
        assert new.desk.engine.state.states == old.desk.engine.state.states == {"strategy:carry": "REDUCING"}
        assert new.desk.engine.state.blotter.exec_ids == old.desk.engine.state.blotter.exec_ids
        await room.up("paper-1")
        await room.up("paper-2")
        raw = await room.enter("trend")
        assert raw.welcome is not None
        assert (raw.welcome.n, raw.welcome.state) == (5, {"level": 3})
        assert raw.welcome.cash == Decimal("50000") - Decimal("1000.10") + Decimal("299.97")
        [works] = raw.welcome.works
        assert (works.qty, works.status) == (12, OrderStatus.NEW)
        room.price()
        await room.filled(raw, raw.place(Side.SELL, qty=7, limit="99.50"))
        assert raw.count == 6
        while len(fired := await room.logged(e.TimerFired)) < 2:
            await room.stir()
        assert [t.name for t in fired] == ["soon", "soon"]
        for name in ("paper-1", "paper-2"):
            assert await new.links[name].reconcile() == 0
        [*_, started] = await room.logged(GatewayStarted)
        assert started.epoch == new.writer.epoch
        report = await verify_desk(room.database, room.settings.desk.name)
        assert report.exit_code == 0, report.lines()

    play(database, scene, **TWO)


def test_restarts_without_end_stand_still(database: Database) -> None:
    async def scene(room: Room) -> None:
        await day(room)
        await room.gateway.writer.flush()
        books = room.gateway.desk.engine.books()
        for n in range(4):
            await (room.crash() if n % 2 else room.stop())
            await room.start()
            await room.up("paper-1")
            await room.up("paper-2")
            assert room.gateway.desk.engine.books() == books
        assert not room.of(e.BreakFound) and not room.of(e.OrderUnknown)
        assert len([f for f in await room.logged(e.SetLimits)]) == 5  # entered once: nothing has changed since

    play(database, scene, **TWO)


def test_the_close_that_nobody_saw_is_made_up_for(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place(limit="90")
        await raw.hear(e.OrderAccepted)
        await room.gateway.writer.flush()
        await room.crash()
        room.clock = RoomClock(CLOSE + 30 * MINUTE)
        await room.start()
        closed = await room.fact(e.SessionClosed)
        assert (closed.ts, closed.label) == (CLOSE, "2026-06-01")
        await room.until_status(order, "EXPIRED")
        assert room.gateway.trading_day() == "2026-06-02"

    play(database, scene, grants=grant(on_lost="leave"))


def test_orders_at_alpaca_that_filled_while_the_gateway_was_gone_are_booked(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        raw = await room.enter(account="alpaca-1")
        await room.filled(raw, raw.place())
        order, kept = raw.place(limit="598.50"), raw.place(limit="580")
        await room.until_status(kept, "NEW")
        await room.gateway.writer.flush()
        await room.crash()
        twin.served.market.step(room.clock.now() + 31 * SECOND)  # the price falls to 598
        await room.start()
        await room.up("alpaca-1")
        await room.until_status(order, "FILLED")
        assert room.status(kept) == "NEW"
        assert await room.gateway.links["alpaca-1"].reconcile() == 0
        assert not room.of(e.BreakFound)
        state = await twin.state()
        assert len(state["orders"]) == 3
        fills = [f for f in await room.logged(e.OrderFilled) if f.order_id == order]
        assert sum(f.qty for f in fills) == 10

    play_at_alpaca(database, scene, grants=grant(account="alpaca-1", on_lost="leave"))


def test_a_kernel_that_was_let_in_once_is_counted_from_where_its_ids_stood(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        await room.filled(raw, raw.place())
        person = await room.operate()
        raw.leave()
        await room.fact(e.StrategyStopped)
        told = await person.request("place", account="paper-1", symbol="SPY", side="sell", qty=4, strategy="trend")
        assert told.value["order_id"] == "trend-20260601-2", told
        await room.gateway.writer.flush()
        await room.crash()
        await room.start()
        await room.up()
        again = await room.enter()
        assert again.welcome is not None and again.welcome.n == 2
        [*_, began] = await room.logged(SessionBegan)
        assert began.n == 2

    play(database, scene)


def test_what_a_strategy_asked_for_is_judged_once_though_it_asks_again(database: Database) -> None:
    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.order()
        raw.ask(order)
        await room.filled(raw, order.order_id)
        raw.send(Ask(raw.next(), order))
        _, denied = await raw.hear(e.OrderDenied)
        assert denied.reason in ("ORDER_ID_DUPLICATE", "ORDER_ID_CONFLICT")
        await room.gateway.writer.flush()
        await room.crash()
        await room.start()
        await room.up()
        again = await room.enter()
        again.forget()
        again.ask(order.__class__(**{f: getattr(order, f) for f in order.__struct_fields__} | {"basis_seq": again.welcome.seq}))  # type: ignore[union-attr]
        _, denied = await again.hear(e.OrderDenied)
        assert denied.reason == "ORDER_ID_CONFLICT"
        assert len(await room.logged(e.OrderSubmitted)) == 1
        assert not room.of(AlertRaised, lambda a: a.about == "gateway")

    play(database, scene, grants=grant(on_lost="leave"))
