"""The contract of a broker, held against every broker there is: the books end as the other side's, whatever the way there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.order import OrderStatus
from northstar_core.model.world import BrokerDown, BrokerUp, ExternalOrder
from tests.brokers.house import house

Scene = Callable[[Any], Awaitable[None]]
S = OrderStatus
ALL = ("alpaca", "ibkr", "paper")
WIRED = ("alpaca", "ibkr")


def play(kind: str, scene: Scene, **more: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), house(kind, **more) as h:
            await scene(h)

    asyncio.run(run())


everyone = pytest.mark.parametrize("kind", ALL)
over_a_wire = pytest.mark.parametrize("kind", WIRED)


@everyone
def test_an_order_is_acknowledged_then_filled_and_the_books_are_one(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10)
        await h.until_status(order, S.FILLED)
        kinds = h.kinds(order)
        assert kinds.index(ExecType.NEW) < kinds.index(ExecType.TRADE)
        await h.agrees()
        [fill] = [c for c in h.of(ExecutionReport) if c.exec_type is ExecType.TRADE]
        assert (fill.qty, fill.price) == (10, Decimal("600.02"))

    play(kind, scene)


@everyone
def test_an_order_larger_than_what_is_shown_fills_in_parts(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 120, "600.20")
        await h.until_status(order, S.PARTIALLY_FILLED)
        await h.agrees()
        await h.step(25)
        await h.until_status(order, S.FILLED)
        assert h[order].cum_qty == 120
        await h.agrees()

    play(kind, scene, at=12)


@everyone
def test_a_resting_order_is_cancelled(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        await h.cancel(order)
        await h.until_status(order, S.CANCELED)
        await h.agrees()

    play(kind, scene)


@everyone
def test_a_cancel_of_a_filled_order_is_refused_and_changes_nothing(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10)
        await h.until_status(order, S.FILLED)
        await h.broker.cancel(order)
        await h.until(lambda: ExecType.CANCEL_REJECTED in h.kinds(order))
        assert h[order].status is S.FILLED
        await h.agrees()

    play(kind, scene)


@everyone
def test_a_replaced_order_works_on_its_new_terms_under_our_old_id(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        await h.replace(order, 8, "599.00")
        await h.until(lambda: ExecType.REPLACED in h.kinds(order))
        assert (h[order].qty, h[order].limit_price, h[order].status) == (8, Decimal("599.00"), S.NEW)
        await h.agrees()
        await h.step(31)
        await h.until_status(order, S.FILLED)
        assert h[order].cum_qty == 8
        await h.agrees()

    play(kind, scene)


@everyone
def test_a_partly_filled_order_that_is_replaced_never_fills_more_than_its_new_whole(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 120, "600.20")
        await h.until_status(order, S.PARTIALLY_FILLED)
        await h.agrees()
        await h.replace(order, 100, "600.19")
        await h.until(lambda: ExecType.REPLACED in h.kinds(order))
        await h.step(35)
        await h.until_status(order, S.FILLED)
        assert h[order].cum_qty == 100
        await h.agrees()

    play(kind, scene, at=12)


@everyone
def test_a_replace_of_a_filled_order_is_refused(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "601.00")
        await h.until_status(order, S.FILLED)
        await h.broker.replace(order, Decimal(5), Decimal("599.00"), None)
        await h.agrees()
        assert h[order].status is S.FILLED and ExecType.REPLACED not in h.kinds(order)

    play(kind, scene)


@everyone
def test_an_order_the_broker_cannot_take_is_rejected_with_its_words(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "600.001" if kind != "paper" else "", symbol="SPY" if kind != "paper" else "SPY260101C00600000")
        await h.until_status(order, S.REJECTED)
        [report] = [c for c in h.of(ExecutionReport) if c.exec_type is ExecType.REJECTED]
        assert report.text
        await h.agrees()

    play(kind, scene)


@everyone
def test_an_order_can_be_found_and_another_is_absent(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        assert await h.broker.find(order) is Evidence.FOUND
        never = h.order("BUY", 10, "590.00")
        assert await h.broker.find(never.order_id) is Evidence.ABSENT

    play(kind, scene)


@everyone
def test_a_combo_fills_leg_by_leg_and_in_proportion(kind: str) -> None:
    symbol = "1*SPY260619C00600000,-1*SPY260619C00610000"

    async def scene(h: Any) -> None:
        order = await h.place("BUY", 2, "4.50", symbol=symbol)
        await h.until_status(order, S.FILLED)
        legs = {(c.symbol, str(c.side), c.qty) for c in h.of(ExecutionReport) if c.exec_type is ExecType.TRADE}
        assert legs == {("SPY260619C00600000", "BUY", Decimal(2)), ("SPY260619C00610000", "SELL", Decimal(2))}
        await h.agrees()

    play(kind, scene)


@everyone
def test_the_snapshot_says_what_the_account_holds(kind: str) -> None:
    async def scene(h: Any) -> None:
        filled = await h.place("BUY", 10)
        resting = await h.place("BUY", 5, "590.00")
        await h.until_status(filled, S.FILLED)
        await h.until_status(resting, S.NEW)
        snapshot = await h.broker.snapshot()
        assert [(p.symbol, p.qty) for p in snapshot.positions] == [("SPY", 10)]
        assert [(o.order_id, o.leaves_qty) for o in snapshot.orders] == [(resting, 5)]
        assert snapshot.cash == Decimal(100_000) - 10 * Decimal("600.02")
        await h.agrees()

    play(kind, scene)


@everyone
def test_the_login_shows_the_account(kind: str) -> None:
    async def scene(h: Any) -> None:
        info = await h.broker.info()
        assert info.cash == 100_000 and info.account_id and info.status

    play(kind, scene)


@everyone
def test_exits_wait_for_their_entry_and_one_cancels_the_other(kind: str) -> None:
    async def scene(h: Any) -> None:
        entry = h.order("BUY", 10, "600.50")
        target = h.order("SELL", 10, "604.00", parent=entry.order_id, reduce_only=True)
        stop = h.order("SELL", 10, stop="590.00", parent=entry.order_id, reduce_only=True)
        for order in (entry, target, stop):
            await h.broker.submit(order)
        await h.until_status(entry.order_id, S.FILLED)
        for order in (target, stop):
            await h.until_status(order.order_id, S.NEW)
        if kind == "alpaca":
            await h.until(lambda: h.broker.book.stops and h.broker.book.tracks[stop.order_id].seats)
        await h.agrees()
        await h.step(41)
        await h.until_status(target.order_id, S.FILLED)
        await h.until_status(stop.order_id, S.CANCELED)
        await h.agrees()
        assert not h.truth().positions

    play(kind, scene)


@everyone
def test_exits_of_an_entry_that_never_filled_end_with_it(kind: str) -> None:
    async def scene(h: Any) -> None:
        entry = h.order("BUY", 10, "590.00")
        target = h.order("SELL", 10, "604.00", parent=entry.order_id)
        await h.broker.submit(entry)
        await h.broker.submit(target)
        await h.until_status(target.order_id, S.NEW)
        await h.until_status(entry.order_id, S.NEW)
        await h.cancel(entry.order_id)
        await h.until_status(entry.order_id, S.CANCELED)
        await h.until_status(target.order_id, S.CANCELED)
        await h.agrees()

    play(kind, scene)


# ── what only a wire can do ───────────────────────────────────────────────────────────────────────────────────────────


@over_a_wire
def test_a_lost_answer_leaves_the_order_unknown_or_known_and_one_order_is_there(kind: str) -> None:
    async def scene(h: Any) -> None:
        h.fault("order", "lost_response")
        order = await h.place("BUY", 10, "590.00")
        await h.until(lambda: h[order].status in (S.UNKNOWN, S.NEW))
        assert ExecType.REJECTED not in h.kinds(order)
        assert await h.broker.find(order) is Evidence.FOUND
        await h.until_status(order, S.NEW)
        await h.agrees()
        assert len(h.truth().orders) == 1

    play(kind, scene)


@over_a_wire
def test_an_order_that_never_arrived_is_unknown_then_absent(kind: str) -> None:
    async def scene(h: Any) -> None:
        h.fault("order", "504_lost")
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.UNKNOWN)
        assert await h.broker.find(order) is Evidence.ABSENT
        assert not h.truth().orders

    play(kind, scene)


@over_a_wire
def test_what_happens_while_the_stream_is_cut_is_read_anew(kind: str) -> None:
    async def scene(h: Any) -> None:
        order = await h.place("BUY", 10, "599.00")
        await h.until_status(order, S.NEW)
        await h.disconnect()
        await h.step(31)
        await h.until_status(order, S.FILLED)
        await h.until(lambda: len(h.of(BrokerUp)) > len(h.of(BrokerDown)) >= 1)
        await h.agrees()

    play(kind, scene)


@over_a_wire
def test_a_trade_that_is_not_ours_is_shown_and_booked_as_external(kind: str) -> None:
    async def scene(h: Any) -> None:
        await h.trade_elsewhere()
        await h.until(lambda: [c for c in h.of(AccountActivity) if c.kind is ActivityKind.EXTERNAL])
        await h.until(lambda: h.of(ExternalOrder))
        [trade] = {c.record_id: c for c in h.of(AccountActivity)}.values()
        assert (trade.symbol, trade.qty, trade.strategy) == ("SPY", 7, "external")
        await h.agrees()

    play(kind, scene)


@over_a_wire
def test_a_second_adapter_reads_what_the_first_left_and_books_nothing_twice(kind: str) -> None:
    async def scene(h: Any) -> None:
        filled = await h.place("BUY", 10)
        resting = await h.place("BUY", 5, "590.00")
        await h.until_status(filled, S.FILLED)
        await h.until_status(resting, S.NEW)
        await h.broker.close()
        h.broker = h.make()
        if hasattr(h.broker, "restore"):
            h.broker.restore(h.engine.books(), list(h.engine.state.blotter.orders.values()), h.engine.state.blotter.exec_ids)
        await h.broker.start()
        await h.agrees()
        assert h[filled].cum_qty == 10 and h[resting].status is S.NEW

    play(kind, scene)
