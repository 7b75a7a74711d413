"""An account's link to its broker, over the broker's real wire: what is lost is looked for, what differs is believed only if it stays."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.brokers.base import BrokerError, Code, Evidence
from northstar_core.gateway import links
from northstar_core.model import events as e
from northstar_core.model.execution import BrokerSnapshot, HeldPosition
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp, ExternalOrder, OrderResent
from northstar_core.store.postgres import Database
from tests.gateway.alpaca_room import Twin, play_at_alpaca
from tests.gateway.room import Recorder, Room, paper, play


async def enter(room: Room) -> Any:
    return await room.enter(account="alpaca-1")


def test_an_order_reaches_alpaca_and_its_fill_the_strategy(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        raw = await enter(room)
        fill = await room.filled(raw, raw.place())
        assert (fill.qty, fill.price) == (10, Decimal("600.02"))
        [order] = (await twin.state())["orders"]
        assert order["client_order_id"].startswith("ns-trend-20260601-1-")
        assert await room.gateway.links["alpaca-1"].reconcile() == 0

    play_at_alpaca(database, scene)


@pytest.mark.parametrize("do", ["lost_response", "504", "junk"])
def test_an_order_whose_answer_is_lost_is_unknown_until_it_is_found_and_never_sent_twice(database: Database, do: str) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        twin.fault("orders.post", do)
        twin.fault("stream", "drop", times=0)
        raw = await enter(room)
        order = raw.place(limit="590")
        await room.fact(e.OrderUnknown)
        reserved = room.gateway.desk.engine.state.blotter.orders[order].reserved
        assert reserved == 10
        await room.until_status(order, "NEW")
        await raw.hear(e.OrderAccepted)
        assert room.of(OrderResent) == []
        assert len((await twin.state())["orders"]) == 1

    play_at_alpaca(database, scene)


def test_an_order_that_never_arrived_is_sent_again_exactly_once_after_enough_evidence(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        twin.fault("orders.post", "drop")
        raw = await enter(room)
        order = raw.place(limit="590")
        await room.fact(e.OrderUnknown)
        resent = await room.fact(OrderResent)
        assert (resent.order_id, resent.strategy, resent.account) == (order, "trend", "alpaca-1")
        assert "queries over" in resent.evidence
        unknown = room.of(e.OrderUnknown)[0]
        assert resent.ts - unknown.ts >= links.ABSENT_OVER_S * 1e9
        await room.until_status(order, "NEW")
        state = await twin.state()
        assert len(state["orders"]) == 1 and state["requests"]["orders.post"] == 2
        assert state["requests"]["orders.by_client_id"] >= links.ABSENT_QUERIES
        assert len(await room.logged(OrderResent)) == 1

    play_at_alpaca(database, scene, speed=150.0)


def test_an_order_that_never_arrived_is_not_sent_again_once_killed_but_left_to_a_person(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        twin.fault("orders.post", "drop")
        raw = await enter(room)
        order = raw.place(limit="590")
        await room.fact(e.OrderUnknown)
        person = await room.operate()
        await person.request("set_state", scope="account:alpaca-1", state="killed", who="ann", reason="test")
        alert = await room.fact(AlertRaised, lambda a: order in a.text)
        assert "northstar order resolve" in alert.text
        assert room.of(OrderResent) == []
        told = await person.request("resolve", order_id=order, outcome="rejected", who="ann", reason="asked the broker")
        assert told.value["status"] == "REJECTED"
        _, rejected = await raw.hear(e.OrderRejected)
        assert "resolved by ann" in rejected.reason

    play_at_alpaca(database, scene, speed=150.0)


def test_an_order_that_never_arrived_and_was_given_up_is_not_sent_again_but_left_to_a_person(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        twin.fault("orders.post", "drop")
        raw = await enter(room)
        order = raw.place(limit="590")
        await room.fact(e.OrderUnknown)
        for n in range(2, 5):  # whoever waits for it tries again and again
            raw.cancel(order)
            await room.fact(e.OrderUnknown, count=n)
        alert = await room.fact(AlertRaised, lambda a: order in a.text)
        assert "northstar order resolve" in alert.text
        assert room.of(OrderResent) == [] and (await twin.state())["orders"] == []
        person = await room.operate()
        told = await person.request("resolve", order_id=order, outcome="rejected", who="ann", reason="asked the broker")
        assert told.value["status"] == "REJECTED"

    play_at_alpaca(database, scene, speed=150.0)


def test_a_cancel_whose_answer_is_lost_is_resolved_too(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        raw = await enter(room)
        order = raw.place(limit="590")
        await raw.hear(e.OrderAccepted)
        twin.fault("orders.delete", "lost_response")
        raw.cancel(order)
        await room.until_status(order, "CANCELED")
        assert len((await twin.state())["orders"]) == 1

    play_at_alpaca(database, scene)


def test_what_others_trade_in_the_account_is_booked_to_external(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        twin.served.market.step(room.clock.now())  # after the desk began to look
        await twin.call("POST", "/v2/orders", {"symbol": "SPY", "qty": "7", "side": "buy", "type": "market", "time_in_force": "day"})
        adjusted = await room.fact(e.PositionAdjusted, lambda f: f.symbol == "SPY")
        assert (adjusted.strategy, adjusted.qty, adjusted.price) == ("external", 7, twin.account.executions[-1].price)
        shown = await room.fact(ExternalOrder)
        assert (shown.account, shown.symbol, shown.qty) == ("alpaca-1", "SPY", 7)
        person = await room.operate()
        [row] = (await person.request("positions")).value
        assert (row["strategy"], row["qty"]) == ("external", "7")
        assert await room.gateway.links["alpaca-1"].reconcile() == 0

    play_at_alpaca(database, scene)


def test_what_the_account_held_before_the_desk_opened_belongs_to_nobody(database: Database) -> None:
    class Holding(Recorder):
        async def snapshot(self) -> BrokerSnapshot:
            found = await super().snapshot()
            return BrokerSnapshot(found.ts, found.account, found.cash, (HeldPosition("SPY", Decimal(5)),), found.orders)

    async def scene(room: Room) -> None:
        person = await room.operate()
        [row] = (await person.request("positions")).value
        assert (row["strategy"], row["qty"]) == ("unassigned", "5")

    play(database, scene, make={"paper-1": Holding})


def test_a_stream_that_ends_takes_the_link_down_and_brings_it_back(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        raw = await enter(room)
        order = raw.place(limit="590")
        await raw.hear(e.OrderAccepted)
        await twin.disconnect()
        await room.fact(BrokerDown)
        await room.fact(BrokerUp)
        await room.up("alpaca-1")
        raw.cancel(order)
        await room.until_status(order, "CANCELED")

    play_at_alpaca(database, scene)


def test_a_snapshot_that_fails_once_does_not_take_the_account_down(database: Database) -> None:
    async def scene(room: Room, twin: Twin) -> None:
        link = room.gateway.links["alpaca-1"]
        twin.fault("account", "504", times=0)
        twin.fault("positions", "504", times=0)
        assert await link.reconcile() == -1
        assert link.up
        twin.faults.clear()
        assert await link.reconcile() == 0
        raw = await enter(room)
        await room.filled(raw, raw.place())

    play_at_alpaca(database, scene)


# ── what a broker that misbehaves may not do ──────────────────────────────────────────────────────────────────────────


class Wavering(Recorder):
    """Shows other positions than it has, as often as it is told."""

    wrong: list[Decimal]

    async def snapshot(self) -> BrokerSnapshot:
        found = await super().snapshot()
        wrong = getattr(self, "wrong", [])
        if not wrong:
            return found
        qty = wrong.pop(0) if len(wrong) > 1 else wrong[0]
        if not qty:
            return found
        return BrokerSnapshot(found.ts, found.account, found.cash, (HeldPosition("SPY", qty),), found.orders)


def test_a_difference_is_believed_only_if_it_stays(database: Database) -> None:
    async def scene(room: Room) -> None:
        link, broker = room.gateway.links["paper-1"], room.broker()
        await room.until(lambda: link.reconciled)
        broker.wrong = [Decimal(5), Decimal(5), Decimal(0)]
        assert await link.reconcile() == 0
        assert not room.of(e.BreakFound) and not link.breaks
        broker.wrong = [Decimal(5), Decimal(6), Decimal(7), Decimal(8), Decimal(0)]
        assert await link.reconcile() == 0
        broker.wrong = [Decimal(5)]
        assert await link.reconcile() == 1
        [found] = room.of(e.BreakFound)
        assert (found.what, found.key, found.ours, found.theirs) == ("position", "SPY", "0", "5")
        assert link.breaks == ("position SPY: ours 0, theirs 5",)
        assert room.gateway.alerts[-1].severity == "critical"
        broker.wrong = []
        assert await link.reconcile() == 0
        assert link.breaks == ()

    play(database, scene, make={"paper-1": Wavering})


def test_an_order_that_waits_for_its_answer_is_no_difference(database: Database) -> None:
    class Slow(Recorder):
        snapshots = 0

        async def submit(self, order: PlaceOrder) -> None:
            self.gate = asyncio.Event()
            await self.gate.wait()
            await super().submit(order)

        async def snapshot(self) -> BrokerSnapshot:
            self.snapshots += 1
            return await super().snapshot()

    async def scene(room: Room) -> None:
        raw, link, broker = await room.enter(), room.gateway.links["paper-1"], room.broker()
        room.price()
        order = raw.place(limit="99")
        await room.until(lambda: hasattr(broker, "gate"))
        comparing = asyncio.create_task(link.reconcile())
        before = broker.snapshots
        await room.until(lambda: broker.snapshots > before + links.STILL_DIFFERENT + 1)
        assert not room.of(e.BreakFound) and not comparing.done()
        broker.gate.set()
        await room.until_status(order, "NEW")
        assert await comparing == 0
        assert not room.of(e.BreakFound)

    play(database, scene, make={"paper-1": Slow})


def test_a_broker_that_goes_while_it_comes_is_not_held_to_be_up(database: Database) -> None:
    class Slow(Recorder):
        gate: asyncio.Event

        async def snapshot(self) -> BrokerSnapshot:
            if hasattr(self, "gate"):
                await self.gate.wait()
            return await super().snapshot()

    async def scene(room: Room) -> None:
        link, broker = room.gateway.links["paper-1"], room.broker()
        broker.gate = asyncio.Event()
        link.heard(BrokerUp(room.clock.now(), "paper-1"))
        await asyncio.sleep(0)
        link.heard(BrokerDown(room.clock.now(), "paper-1", "gone again"))
        broker.gate.set()
        await room.quiet()
        assert not link.up and link.reason == "gone again"
        link.heard(BrokerUp(room.clock.now(), "paper-1"))
        await room.up()

    play(database, scene, make={"paper-1": Slow})


def test_a_broker_that_raises_leaves_the_order_unknown_and_the_link_standing(database: Database) -> None:
    class Raising(Recorder):
        finds = 0

        async def submit(self, order: PlaceOrder) -> None:
            raise RuntimeError("a bug")

        async def find(self, order_id: str) -> Evidence:
            self.finds += 1
            if self.finds == 1:
                raise RuntimeError("another")
            return Evidence.SILENT

    async def scene(room: Room) -> None:
        raw = await room.enter()
        room.price()
        order = raw.place()
        _, unknown = await raw.hear(e.OrderUnknown)
        assert "RuntimeError: a bug" in unknown.reason
        await room.until(lambda: room.broker().finds >= 3)
        assert room.status(order) == "UNKNOWN"

    play(database, scene, make={"paper-1": Raising})


def test_a_login_that_is_refused_is_told_once_and_holds_up_nobody(database: Database) -> None:
    class Refusing(Recorder):
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            raise BrokerError(Code.CREDENTIALS, "the key is none of ours")

    async def scene(room: Room) -> None:
        alert = await room.fact(AlertRaised, lambda a: a.about == "paper-2")
        assert "the key is none of ours" in alert.text
        assert not room.gateway.links["paper-2"].up and room.broker("paper-2").starts == 1
        raw = await room.enter()
        room.price()
        await room.filled(raw, raw.place())

    play(database, scene, accounts=paper() + paper("paper-2"), make={"paper-2": Refusing}, wait_for=("paper-1",))
