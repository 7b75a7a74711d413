"""An account at Interactive Brokers on a good day, over real sockets: orders of every kind, and books equal the broker's."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.brokers.base import Evidence
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecutionReport, HeldPosition
from northstar_core.model.order import OrderStatus, TimeInForce
from northstar_core.model.world import BrokerUp
from tests.brokers.ibkr_desk import Desk, at_desk
from tests.twins.ibkr_room import CALL, HIGHER


def test_an_order_is_accepted_filled_and_paid_for_once() -> None:
    async def scene(desk: Desk) -> None:
        assert isinstance(desk.claims[-1], BrokerUp)
        order = await desk.place(1, limit="600.05")
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()
        assert desk.kinds(order) == ["NEW", "TRADE"]
        (fee,) = desk.of(AccountActivity)
        (trade,) = [c for c in desk.of(ExecutionReport) if c.exec_id]
        assert (fee.kind, fee.record_id, fee.strategy) == (ActivityKind.FEE, f"{trade.exec_id}:fee", "spy")
        assert fee.cash < 0 and trade.fees == 0

    at_desk(scene)


def test_a_resting_order_is_replaced_and_cancelled() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        await desk.until_state(order, OrderStatus.NEW)
        await desk.replace(order, 20, "591.00")
        await desk.until(lambda: "REPLACED" in desk.kinds(order))
        (row,) = [row for row in (await desk.room.state())["orders"]]
        assert (row["totalSize"], row["price"]) == (20.0, "591.00")
        await desk.cancel(order)
        await desk.until_state(order, OrderStatus.CANCELED)
        await desk.agrees()
        assert desk.kinds(order) == ["NEW", "REPLACED", "CANCELED"]

    at_desk(scene)


def test_orders_of_every_kind_arrive_as_they_were_meant() -> None:
    async def scene(desk: Desk) -> None:
        await desk.place(1)
        await desk.place(2, "SELL", 5, stop="598.50")
        await desk.place(3, "SELL", 5, limit="597.00", stop="598.40")
        await desk.place(4, "SELL", 1, limit="640.00", tif=TimeInForce.GTC)
        await desk.place(5, "BUY", 1, limit="590.00", tif=TimeInForce.IOC)
        await desk.until(lambda: len(desk.broker.book.lives.by_broker) == 5)
        desk.room.step(35)
        await desk.agrees()
        rows = {row["order_ref"].split("-")[3]: row for row in (await desk.room.state())["orders"]}
        assert [rows[n]["origOrderType"] for n in "12345"] == ["MARKET", "STOP", "STOP_LIMIT", "LIMIT", "LIMIT"]
        assert (rows["3"]["price"], rows["3"]["auxPrice"]) == ("597.00", "598.40")
        assert rows["4"]["timeInForce"] == "GTC"
        assert desk.status["spy-20260601abc-2"] is desk.status["spy-20260601abc-3"] is OrderStatus.FILLED

    at_desk(scene)


def test_an_option_and_a_spread_are_found_and_traded_leg_by_leg() -> None:
    async def scene(desk: Desk) -> None:
        option = await desk.place(1, qty=2, limit="10.10", symbol=CALL)
        spread = await desk.place(2, qty=1, limit="4.20", symbol=f"1*{CALL},-1*{HIGHER}")
        await desk.until_state(option, OrderStatus.FILLED)
        await desk.until_state(spread, OrderStatus.FILLED)
        await desk.agrees()
        assert desk.positions == {CALL: Decimal(3), HIGHER: Decimal(-1)}
        snapshot = await desk.broker.snapshot()
        assert snapshot.positions == (HeldPosition(CALL, Decimal(3)), HeldPosition(HIGHER, Decimal(-1)))
        assert snapshot.cash == desk.cash

    at_desk(scene)


def test_an_option_s_contract_is_looked_up_once() -> None:
    async def scene(desk: Desk) -> None:
        for n in (1, 2, 3):
            await desk.place(n, qty=1, limit="5.00", symbol=CALL)
        requests = (await desk.room.state())["requests"]
        assert [requests[name] for name in ("secdef.search", "secdef.strikes", "secdef.info")] == [1, 1, 1]

    at_desk(scene)


def test_a_symbol_nobody_lists_is_refused_before_anything_is_sent() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, symbol="NOSUCH")
        assert desk.status[order] is OrderStatus.REJECTED
        assert "NOSUCH" in desk.of(ExecutionReport)[-1].text
        assert "orders.post" not in (await desk.room.state())["requests"]

    at_desk(scene)


def test_a_snapshot_shows_cash_positions_and_what_works() -> None:
    async def scene(desk: Desk) -> None:
        await desk.place(1, qty=10)
        rests = await desk.place(2, qty=3, limit="590.00")
        await desk.agrees()
        snapshot = await desk.broker.snapshot()
        assert (snapshot.account, snapshot.cash) == ("live-1", desk.cash)
        assert snapshot.positions == (HeldPosition("SPY", Decimal(10)),)
        assert [(o.order_id, o.status, o.leaves_qty) for o in snapshot.orders] == [(rests, OrderStatus.NEW, Decimal(3))]
        info = await desk.broker.info()
        assert (info.account_id, info.cash, info.status) == ("DU1234567", desk.cash, "paper")
        assert info.equity > 0 and info.buying_power > 0

    at_desk(scene)


def test_an_order_that_the_broker_has_is_found_and_one_it_never_got_is_absent() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1)
        await desk.agrees()
        before = len(desk.claims)
        assert await desk.broker.find(order) is Evidence.FOUND
        assert [c.exec_type.value for c in desk.claims[before:] if isinstance(c, ExecutionReport)] == ["NEW", "TRADE"]
        never = desk.order(2)
        assert await desk.broker.find(never.order_id) is Evidence.ABSENT
        assert desk.kinds(never.order_id) == []

    at_desk(scene)


def test_an_entry_that_fills_sends_its_exits_and_one_exit_takes_the_other_along() -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="599.00")
        target = await desk.place(2, "SELL", 10, limit="604.00", parent=entry)
        stop = await desk.place(3, "SELL", 10, stop="590.00", parent=entry)
        assert len((await desk.room.state())["orders"]) == 1
        held = {order.order_id for order in (await desk.broker.snapshot()).orders}
        assert held == {entry, target, stop}
        desk.room.step(31)
        await desk.until_state(entry, OrderStatus.FILLED)
        await desk.until(lambda: len(desk.broker.book.lives.by_broker) == 3)
        desk.room.step(45)
        await desk.until_state(target, OrderStatus.FILLED)
        await desk.until_state(stop, OrderStatus.CANCELED)
        await desk.agrees()
        assert desk.positions == {}

    at_desk(scene)


def test_exits_of_an_entry_that_ends_without_a_fill_end_with_it() -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="590.00")
        target = await desk.place(2, "SELL", 10, limit="604.00", parent=entry)
        await desk.cancel(entry)
        await desk.until_state(target, OrderStatus.CANCELED)
        await desk.agrees()
        assert len((await desk.room.state())["orders"]) == 1

    at_desk(scene)


def test_a_held_exit_can_be_changed_and_cancelled_without_the_broker() -> None:
    async def scene(desk: Desk) -> None:
        entry = await desk.place(1, limit="590.00")
        target = await desk.place(2, "SELL", 10, limit="604.00", parent=entry)
        await desk.replace(target, 5, "603.00")
        assert desk.kinds(target)[-1] == "REPLACED"
        await desk.cancel(target)
        assert desk.status[target] is OrderStatus.CANCELED
        await desk.agrees()

    at_desk(scene)
