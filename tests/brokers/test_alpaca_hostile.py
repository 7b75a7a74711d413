"""Alpaca on its worst days: whatever gets lost, doubled, late, swapped or garbled, the books end as the server's, one order an intent."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.model.execution import ExecType
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp, FrameUnread
from tests.brokers.alpaca_scenes import S, caught_up, play, resolved
from tests.brokers.house import AlpacaHouse, house

# ── the answer to an order ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["500", "504", "lost_response", "junk"])
def test_an_order_that_lives_though_its_answer_was_bad_is_never_rejected(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", fault)
        order = await h.place("BUY", 10, "590.00")
        assert ExecType.REJECTED not in h.kinds(order)
        await resolved(h, order)
        await h.until_status(order, S.NEW)
        if fault == "junk":
            assert h.of(FrameUnread)

    play(scene)


@pytest.mark.parametrize("fault", ["500", "504", "lost_response", "junk"])
def test_a_fill_after_a_lost_answer_is_booked_once(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", fault)
        order = await h.place("BUY", 10)
        await h.until_status(order, S.FILLED)

    play(scene)


@pytest.mark.parametrize("fault", ["503", "504_lost", "drop"])
def test_an_order_that_never_arrived_is_unknown_until_absence_is_shown_and_a_second_send_makes_one(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", fault)
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.UNKNOWN)
        assert await h.broker.find(order) is Evidence.ABSENT
        await h.broker.submit(h[order].intent)  # what the gateway does after evidence
        await h.until_status(order, S.NEW)

    play(scene)


def test_a_second_send_of_an_order_that_is_there_finds_it() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "lost_response")
        h.fault("stream.*", "drop", times=0)
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.UNKNOWN)
        await h.broker.submit(h[order].intent)
        await h.until_status(order, S.NEW)
        assert ExecType.REJECTED not in h.kinds(order)
        h.heal()

    play(scene)


def test_a_rate_limited_order_is_rejected_by_the_brokers_own_word() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "429")
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.REJECTED)

    play(scene, orders=0)


def test_an_order_refused_for_buying_power_is_rejected_with_the_numbers() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 100_000, "600.00")
        await h.until_status(order, S.REJECTED)
        [report] = [c for c in h.claims if getattr(c, "exec_type", None) is ExecType.REJECTED]
        assert "insufficient buying power" in report.text and "cost_basis" in report.text  # type: ignore[union-attr]

    play(scene, orders=0)


def test_a_rejection_by_the_exchange_after_the_answer_rejects() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("account.submit", "reject")
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.REJECTED)

    play(scene)


def test_an_order_beyond_our_own_rate_limit_never_leaves_and_a_cancel_still_does() -> None:
    async def scene(h: AlpacaHouse) -> None:
        first = await h.place("BUY", 1, "590.00")
        sent = 1
        while h[order := await h.place("BUY", 1, "590.00")].status is not S.REJECTED:
            sent += 1
            assert sent < 100
        assert "never sent" in h.claims[-1].text  # type: ignore[union-attr]
        assert h[order].status is S.REJECTED
        await h.cancel(first)
        await h.until_status(first, S.CANCELED)
        state = await h.state()
        assert state["requests"]["orders.post"] == sent
        h.count = sent

    play(scene, requests_per_minute=60, kept_for_cancels=0.5)


def test_fills_before_the_answer_to_the_order_are_booked_and_acknowledged() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "early", delay_s=0.05)
        order = await h.place("BUY", 10)
        assert h[order].status is S.FILLED
        assert h.kinds(order)[:2] == [ExecType.NEW, ExecType.TRADE]

    play(scene)


# ── the stream ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["duplicate", "delay", "reorder", "junk", "drop"])
@pytest.mark.parametrize("place", ["stream", "stream.fill", "stream.partial_fill", "stream.new"])
def test_what_goes_wrong_on_the_stream_does_not_reach_the_books(place: str, fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault(place, fault, times=0, delay_s=0.05)
        whole = await h.place("BUY", 5)
        parts = await h.place("BUY", 120, "600.20")
        resting = await h.place("BUY", 5, "590.00")
        await h.cancel(resting)
        await h.step(25)
        for order, status in ((whole, S.FILLED), (parts, S.FILLED), (resting, S.CANCELED)):
            await caught_up(h, order, status)
        if fault == "junk" and (await h.state())["struck"]:  # not every market fills in parts
            assert h.of(FrameUnread)

    play(scene, at=12)


def test_two_fills_of_one_instant_told_in_the_wrong_order_are_both_booked() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("account.fill", "split", times=0)
        h.fault("stream.partial_fill", "reorder", times=0, delay_s=0.05)
        order = await h.place("BUY", 30, "600.20")
        await h.until_status(order, S.FILLED)
        assert h.kinds(order).count(ExecType.TRADE) == 2

    play(scene)


@pytest.mark.parametrize("fault", ["mute", "dead"])
def test_a_stream_that_is_silently_dead_is_noticed_and_left(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("stream", fault)
        order = await h.place("BUY", 10)
        await h.until_status(order, S.FILLED)
        await h.until(lambda: h.of(BrokerDown) and len(h.of(BrokerUp)) == 2)

    play(scene)


def test_a_stream_cut_at_every_fill_loses_none() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("stream.*fill", "disconnect", times=3)
        for qty in (3, 4, 5):
            order = await h.place("BUY", qty)
            await h.until_status(order, S.FILLED)
        await h.until(lambda: len(h.of(BrokerUp)) > len(h.of(BrokerDown)) >= 1)

    play(scene)


@pytest.mark.parametrize("how", [{"msgpack": True}, {"twin": {"binary": False}}, {"twin": {"binary": True}}])
def test_the_stream_is_read_as_text_as_binary_json_and_as_messagepack(how: dict[str, Any]) -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("orders.get", "503", times=0)  # only the stream can tell
        order = await h.place("BUY", 10)
        await h.until_status(order, S.FILLED)
        h.heal()

    play(scene, **how)


def test_fills_the_stream_swallowed_are_found_in_the_activities_with_one_id_each() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("stream.partial_fill", "drop", times=0)
        order = await h.place("BUY", 120, "600.20")
        await h.step(25)
        await h.until_status(order, S.FILLED)
        ids = [c.exec_id for c in h.claims if getattr(c, "exec_id", "")]  # type: ignore[union-attr]
        assert len(set(ids)) == len(h.account.executions)

    play(scene, at=12)


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["500", "504", "lost_response", "503", "504_lost", "drop", "delay", "late"])
def test_a_cancel_whose_answer_is_lost_is_resolved_by_what_the_order_is(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        h.fault("cancel", fault, delay_s=0.05)
        await h.cancel(order)
        await resolved(h, order)
        if h[order].status is not S.CANCELED:
            await h.until_status(order, S.NEW, S.CANCELED)
        arrived = fault not in ("503", "504_lost", "drop")
        await h.until_status(order, S.CANCELED if arrived else S.NEW)
        assert (await h.state())["requests"]["orders.delete"] == 1

    play(scene)


def test_a_cancel_that_crosses_a_fill_leaves_the_fill() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "599.00")
        await h.until_status(order, S.NEW)
        h.fault("cancel", "delay", delay_s=0.1)
        asked = asyncio.create_task(h.cancel(order))
        await h.step(31)
        await asked
        await h.until_status(order, S.FILLED)

    play(scene)


def test_a_cancel_right_behind_its_order_waits_for_the_order_to_be_known() -> None:
    async def scene(h: AlpacaHouse) -> None:
        h.fault("order", "late", delay_s=0.1)
        order = h.order("BUY", 10, "590.00")
        sent = asyncio.create_task(h.broker.submit(order))
        await asyncio.sleep(0)
        await h.cancel(order.order_id)
        await sent
        await h.until_status(order.order_id, S.CANCELED)

    play(scene)


def test_a_partly_filled_order_is_cancelled_for_the_rest() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 120, "600.20")
        await h.until_status(order, S.PARTIALLY_FILLED)
        await h.cancel(order)
        await h.until_status(order, S.CANCELED)
        assert h[order].cum_qty == 40

    play(scene, at=12)


# ── replaces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["500", "504", "lost_response", "junk", "503", "504_lost", "drop"])
def test_a_replace_whose_answer_is_lost_is_resolved_by_evidence(fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        h.fault("replace", fault)
        await h.replace(order, 8, "591.00")
        for _ in range(500):
            await h.broker.find(order)
            if h[order].status is S.NEW and h[order].pending is None:
                break
            await h.stir()
        arrived = fault not in ("503", "504_lost", "drop")
        assert h[order].limit_price == (Decimal("591.00") if arrived else Decimal("590.00"))
        assert (await h.state())["requests"]["orders.patch"] == 1

    play(scene)


def test_an_order_that_fills_while_it_is_being_replaced_stays_filled() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "599.00")
        await h.until_status(order, S.NEW)
        h.fault("replace", "delay", delay_s=0.1)
        asked = asyncio.create_task(h.replace(order, 10, "590.00"))
        await h.step(31)
        await asked
        await h.until_status(order, S.FILLED)

    play(scene)


def test_an_order_replaced_three_times_is_one_order_with_one_end() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 10, "590.00")
        await h.until_status(order, S.NEW)
        for n, price in enumerate(("591.00", "592.00", "599.00"), 1):
            await h.replace(order, 10 + n, price)
            await h.until(lambda n=n: h.kinds(order).count(ExecType.REPLACED) == n)
        await h.step(31)
        await h.until_status(order, S.FILLED)
        assert h[order].cum_qty == 13

    play(scene)


@pytest.mark.parametrize("place", ["stream.replaced", "stream.new", "stream.*"])
@pytest.mark.parametrize("fault", ["drop", "duplicate", "reorder"])
def test_a_replace_is_told_once_however_the_stream_tells_it(place: str, fault: str) -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 120, "600.20")
        await h.until_status(order, S.PARTIALLY_FILLED)
        h.fault(place, fault, times=0, delay_s=0.05)
        await h.replace(order, 100, "600.19")
        await h.until(lambda: ExecType.REPLACED in h.kinds(order))
        await h.step(25)
        await h.until_status(order, S.FILLED)
        assert h.kinds(order).count(ExecType.REPLACED) == 1 and h[order].cum_qty == 100

    play(scene, at=12)


@pytest.mark.parametrize(("option", "twin", "severity"), [("whole", "whole", "critical"), ("rest", "remaining", "warning")])
def test_a_replacement_of_another_size_than_asked_for_is_an_alarm(option: str, twin: str, severity: str) -> None:
    async def run() -> None:
        async with house("alpaca", at=12, replace_qty=option, twin={"replaced_qty": twin}) as h:
            order = await h.place("BUY", 120, "600.20")
            await h.until_status(order, S.PARTIALLY_FILLED)
            await h.replace(order, 100, "600.19")
            await h.until(lambda: h.of(AlertRaised))
            assert [(c.severity, "may fill in all" in c.text) for c in h.of(AlertRaised)] == [(severity, True)]

    asyncio.run(run())


def test_a_broker_that_counts_what_has_filled_in_a_replacement_is_sent_the_whole() -> None:
    async def scene(h: AlpacaHouse) -> None:
        order = await h.place("BUY", 120, "600.20")
        await h.until_status(order, S.PARTIALLY_FILLED)
        await h.replace(order, 100, "600.19")
        await h.until(lambda: ExecType.REPLACED in h.kinds(order))
        await h.step(25)
        await h.until_status(order, S.FILLED)
        assert h[order].cum_qty == 100

    play(scene, at=12, replace_qty="whole", twin={"replaced_qty": "remaining"})


@pytest.mark.parametrize("seed", range(4))
def test_a_day_of_random_faults_ends_with_equal_books(seed: int) -> None:
    async def scene(h: AlpacaHouse) -> None:
        for place, kinds in (
            ("order", ("lost_response", "504", "504_lost", "early", "late")), ("cancel", ("lost_response", "504_lost", "delay")),
            ("replace", ("lost_response", "504_lost", "late")),
            ("stream", ("drop", "duplicate", "delay", "reorder", "junk")), ("stream.*", ("disconnect",)),
            ("orders.*", ("503",)), ("account.fill", ("split",)),
        ):  # fmt: skip
            for kind in kinds:
                h.fault(place, kind, times=0, share=0.1, delay_s=0.03)
        made = []
        for n in range(40):
            limit = ("", "600.20", "590.00", "599.00")[n % 4]
            made.append(await h.place("BUY", 1 + n % 5, limit))
            if n % 8 == 2:
                await h.cancel(made[-1])
            elif n % 8 == 6 and h[made[-1]].status is S.NEW:
                await h.replace(made[-1], 3, "598.50")
            if n in (10, 20, 30):
                await h.step(n + 2)
        h.heal()
        for order in made:
            for _ in range(300):
                if h[order].status is not S.UNKNOWN or await h.broker.find(order) is Evidence.ABSENT:
                    break
                await h.stir()
        lost = [order for order in made if h[order].status is S.UNKNOWN]
        for order in lost:
            await h.broker.submit(h[order].intent)
            await h.until_status(order, S.NEW, S.FILLED, S.PARTIALLY_FILLED, S.CANCELED)
        await h.step(60)
        await h.agrees()
        refused = [order for order in made if h[order].status is S.REJECTED]
        h.count -= len(refused)
        assert not any(c.severity == "critical" for c in h.of(AlertRaised))

    play(scene, seed=seed)
