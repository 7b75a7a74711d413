"""Interactive Brokers on a bad day: lost, repeated, late or nonsense, books equal the broker's, one order an intent."""

from __future__ import annotations

import asyncio

import pytest

from northstar_core.brokers.base import Evidence
from northstar_core.model.execution import ExecutionReport
from northstar_core.model.order import OrderStatus
from tests.brokers.ibkr_desk import Desk, at_desk

# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["lost_response", "504", "500", "junk"])
def test_an_order_whose_answer_is_lost_is_unknown_until_the_broker_shows_it_and_is_never_sent_again(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", fault)
        order = await desk.place(1)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()
        assert (await desk.room.state())["requests"]["orders.post"] == 1

    at_desk(scene)


@pytest.mark.parametrize("fault", ["drop", "504_lost", "503"])
def test_an_order_that_never_arrived_stays_unknown_and_is_absent_when_asked_for(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", fault)
        order = await desk.place(1)
        assert desk.status[order] is OrderStatus.UNKNOWN
        assert await desk.broker.find(order) is Evidence.ABSENT
        desk.room.fault("orders.get", "503", times=0)
        assert await desk.broker.find(order) is Evidence.SILENT
        assert desk.status[order] is OrderStatus.UNKNOWN
        assert (await desk.room.state())["requests"]["orders.post"] == 1

    at_desk(scene)


def test_an_answer_that_comes_too_late_is_silence_and_asking_tells_the_rest() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "late", delay_s=0.8)
        desk.room.fault("stream.*", "drop", times=0)
        order = await desk.place(1)
        assert desk.status[order] is OrderStatus.UNKNOWN
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene, connect_s=0.1, answer_s=0.3)


def test_a_fill_that_overtakes_the_answer_is_booked_once() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "early", delay_s=0.1)
        order = await desk.place(1)
        await desk.agrees()
        assert desk.kinds(order) == ["NEW", "TRADE"]

    at_desk(scene)


def test_a_lost_answer_to_an_order_the_stream_has_shown_says_nothing_new() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "late", delay_s=0.8)
        order = await desk.place(1, limit="590.00")
        assert desk.kinds(order) == ["NEW"]
        await desk.agrees()

    at_desk(scene, connect_s=0.1, answer_s=0.3)


@pytest.mark.parametrize(
    ("fault", "words"), [("refuse", "no margin"), ("401", "not authenticated"), ("429", "too many")]
)
def test_the_broker_s_own_no_rejects_in_its_words(fault: str, words: str) -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", fault, text=words)
        order = await desk.place(1)
        assert desk.status[order] is OrderStatus.REJECTED
        assert words in desk.of(ExecutionReport)[-1].text
        assert (await desk.room.state())["orders"] == []

    at_desk(scene)


def test_more_than_the_account_can_carry_is_rejected_in_the_broker_s_words() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, qty=100_000)
        assert desk.status[order] is OrderStatus.REJECTED
        assert "initial margin" in desk.of(ExecutionReport)[-1].text
        await desk.agrees()

    at_desk(scene)


def test_an_order_that_goes_inactive_is_rejected_by_what_the_broker_says_about_it() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("account.submit", "reject", text="no shares to borrow")
        order = await desk.place(1)
        await desk.until_state(order, OrderStatus.REJECTED)
        assert "no shares to borrow" in desk.of(ExecutionReport)[-1].text
        await desk.agrees()

    at_desk(scene)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chain_of_questions_on_the_list_is_confirmed_and_every_one_is_written_down() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1)
        await desk.agrees()
        assert desk.status[order] is OrderStatus.FILLED
        assert all(f"question {one}, confirmed" in desk.alerts for one in ("o163", "o354", "o10153"))

    at_desk(scene, twin={"questions": ("o163", "o354", "o10153")})


def test_a_question_not_on_the_list_places_nothing_and_its_words_are_the_rejection() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "question", text="o163,o451")
        order = await desk.place(1)
        assert desk.status[order] is OrderStatus.REJECTED
        assert "Total Value Limit" in desk.of(ExecutionReport)[-1].text
        other = await desk.place(2)
        await desk.until_state(other, OrderStatus.FILLED)
        await desk.agrees()
        assert (await desk.room.state())["requests"]["reply"] == 1

    at_desk(scene)


def test_the_list_of_questions_is_the_account_s_own() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "question", text="o163")
        assert desk.status[await desk.place(1)] is OrderStatus.REJECTED
        desk.room.fault("orders.post", "question", text="o451")
        await desk.until_state(await desk.place(2), OrderStatus.FILLED)

    at_desk(scene, confirm=["o451"])


def test_orders_sent_at_once_do_not_drop_each_other_s_questions() -> None:
    async def scene(desk: Desk) -> None:
        await asyncio.gather(*(desk.place(n, qty=1) for n in range(1, 9)))
        await desk.agrees()
        assert set(desk.status.values()) == {OrderStatus.FILLED}
        assert (await desk.room.state())["questions_dropped"] == 0

    at_desk(scene, twin={"questions": ("o163", "o354", "o10153")})


def test_a_cancel_does_not_wait_behind_a_question_for_long() -> None:
    async def scene(desk: Desk) -> None:
        rests = await desk.place(1, limit="590.00")
        desk.room.fault("reply", "delay", delay_s=1.0)
        desk.room.fault("orders.post", "question", text="o354")
        placing = asyncio.create_task(desk.place(2))
        await desk.until(lambda: "question o354" in desk.alerts)
        await desk.cancel(rests)
        await desk.until_state(rests, OrderStatus.CANCELED)
        assert not placing.done()
        dropped = await placing
        assert desk.status[dropped] is OrderStatus.REJECTED
        assert "nothing was placed" in desk.of(ExecutionReport)[-1].text
        await desk.agrees()

    at_desk(scene)


def test_a_lost_answer_to_a_confirmation_is_unknown_and_found() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("reply", "lost_response")
        order = await desk.place(1)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()

    at_desk(scene, twin={"questions": ("o354",)})


# ── cancel and replace ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["lost_response", "504", "junk"])
def test_a_cancel_whose_answer_is_lost_ends_the_order_all_the_same(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault("orders.delete", fault)
        await desk.cancel(order)
        await desk.until_state(order, OrderStatus.CANCELED)
        await desk.agrees()

    at_desk(scene)


def test_a_cancel_that_never_arrived_is_found_out_by_asking() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault("orders.delete", "drop")
        await desk.cancel(order)
        await desk.until(lambda: "CANCEL_REJECTED" in desk.kinds(order))
        assert desk.status[order] is OrderStatus.NEW
        await desk.agrees()
        await desk.cancel(order)
        await desk.until_state(order, OrderStatus.CANCELED)

    at_desk(scene)


def test_a_cancel_the_broker_refuses_later_leaves_the_order_working() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault("order.cancel", "reject")
        await desk.cancel(order)
        await desk.until(lambda: "CANCEL_REJECTED" in desk.kinds(order))
        assert "cancellation is rejected" in desk.of(ExecutionReport)[-1].text
        await desk.agrees()

    at_desk(scene)


def test_a_fill_overtakes_a_cancel() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        desk.room.fault("order.cancel", "delay", delay_s=0.3)
        await desk.cancel(order)
        desk.room.step(31)
        await desk.until_state(order, OrderStatus.FILLED)
        await desk.agrees()
        assert "CANCELED" not in desk.kinds(order)

    at_desk(scene)


def test_a_cancel_after_the_fill_is_refused_and_changes_nothing() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1)
        await desk.agrees()
        await desk.broker.cancel(order)
        assert desk.kinds(order)[-1] == "CANCEL_REJECTED"
        await desk.agrees()

    at_desk(scene)


def test_a_cancel_of_an_order_in_doubt_goes_out_when_the_order_comes_to_light() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "late", delay_s=0.5)
        desk.room.fault("stream.sor", "drop", times=4)
        placing = asyncio.create_task(desk.place(1, limit="590.00"))
        await desk.until(lambda: desk.broker.book.submitting)
        order = next(iter(desk.orders))
        await desk.cancel(order)
        await placing
        await desk.until_state(order, OrderStatus.CANCELED)
        await desk.agrees()

    at_desk(scene)


def test_a_cancel_of_an_order_that_never_arrived_is_answered_also_while_another_is_sent() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "drop")
        lost = await desk.place(1, limit="590.00")
        assert desk.kinds(lost) == ["UNKNOWN"]
        desk.room.fault("orders.post", "delay", delay_s=0.5)
        other = asyncio.create_task(desk.place(2, limit="590.00"))
        await desk.until(lambda: desk.broker.book.submitting)
        await desk.cancel(lost)
        assert desk.broker.book.submitting
        assert desk.kinds(lost) == ["UNKNOWN", "UNKNOWN"]
        await other
        assert len((await desk.room.state())["orders"]) == 1

    at_desk(scene)


def test_an_order_cancelled_while_it_waits_behind_another_s_questions_never_leaves() -> None:
    async def scene(desk: Desk) -> None:
        desk.room.fault("orders.post", "delay", delay_s=0.5)
        first = asyncio.create_task(desk.place(1))
        await desk.until(lambda: desk.broker.book.submitting)
        second = asyncio.create_task(desk.place(2))
        await desk.until(lambda: desk.broker.book.submitting == 2)
        waiting = list(desk.orders)[1]
        await desk.cancel(waiting)
        await asyncio.gather(first, second)
        assert desk.status[waiting] is OrderStatus.CANCELED
        await desk.agrees()
        assert (await desk.room.state())["requests"]["orders.post"] == 1

    at_desk(scene)


@pytest.mark.parametrize("fault", ["lost_response", "504", "junk"])
def test_a_replace_whose_answer_is_lost_is_settled_by_the_row(fault: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault("orders.modify", fault)
        await desk.replace(order, 20, "591.00")
        await desk.until(lambda: "REPLACED" in desk.kinds(order))
        assert desk.status[order] is OrderStatus.NEW
        await desk.agrees()

    at_desk(scene)


@pytest.mark.parametrize(("where", "fault"), [("orders.modify", "drop"), ("order.modify", "drop"), ("order.modify", "reject")])
def test_a_replace_that_came_to_nothing_is_found_out_by_asking(where: str, fault: str) -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault(where, fault)
        await desk.replace(order, 20, "591.00")
        await desk.until(lambda: "REPLACE_REJECTED" in desk.kinds(order))
        assert desk.status[order] is OrderStatus.NEW
        await desk.agrees()

    at_desk(scene)


def test_a_replace_that_takes_its_time_holds_once_the_broker_shows_it() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="590.00")
        desk.room.fault("order.modify", "delay", delay_s=0.05)
        await desk.replace(order, 20, "591.00")
        assert "REPLACED" not in desk.kinds(order)
        await desk.until(lambda: "REPLACED" in desk.kinds(order))
        await desk.agrees()

    at_desk(scene)


def test_a_replace_races_a_fill() -> None:
    async def scene(desk: Desk) -> None:
        order = await desk.place(1, limit="599.00")
        desk.room.fault("orders.modify", "delay", delay_s=0.2)
        replacing = asyncio.create_task(desk.replace(order, 20, "599.00"))
        await desk.until(lambda: desk.status[order] is OrderStatus.PENDING_REPLACE)
        desk.room.step(31)
        await replacing
        await desk.until_state(order, OrderStatus.FILLED)
        assert "REPLACED" not in desk.kinds(order)
        await desk.agrees()

    at_desk(scene)
