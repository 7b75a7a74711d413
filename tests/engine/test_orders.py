"""An order's life, told by a broker who repeats himself, is late, is wrong, or says nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from northstar_core.engine.engine import Engine
from northstar_core.model import events as e
from northstar_core.model.denial import DenialReason
from northstar_core.model.errors import ProtocolError
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.order import TERMINAL, OrderStatus, PlaceOrder, TimeInForce
from tests.engine.desks import BUY, CALL_100, CALL_105, SELL, VERTICAL, D, Desk, state_of

S = OrderStatus


def one(facts: list[Any], kind: type) -> Any:
    (fact,) = facts
    assert isinstance(fact, kind), fact
    return fact


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ── fills ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_order_is_reserved_from_its_submit_and_held_as_it_fills(desk: Desk) -> None:
    order_id = desk.place(BUY, "10").order.order_id
    assert desk.status(order_id) is S.PENDING_NEW
    assert (desk.line().qty, desk.reserved()) == (0, (10, 0))
    desk.report(order_id, "NEW")
    fact = one(desk.fill(order_id, "4", "101", fees="0.35"), e.OrderFilled)
    assert (fact.cum_qty, fact.leaves_qty, fact.late) == (4, 6, False)
    assert (desk.line().qty, desk.reserved(), desk.status(order_id)) == (4, (6, 0), S.PARTIALLY_FILLED)
    desk.fill(order_id, "6", "102")
    assert (desk.line().qty, desk.reserved(), desk.status(order_id)) == (10, (0, 0), S.FILLED)
    assert desk.cash == D(1_000_000) - 4 * 101 - D("0.35") - 6 * 102
    desk.assert_clean()


def test_the_second_copy_of_a_fill_changes_nothing(desk: Desk) -> None:
    order_id = desk.working(BUY, "10")
    desk.fill(order_id, "4", exec_id="x")
    before = state_of(desk.engine)
    assert desk.fill(order_id, "4", exec_id="x") == []
    assert state_of(desk.engine) == before


def test_a_fill_before_the_acknowledgement_is_booked(desk: Desk) -> None:
    order_id = desk.place(BUY, "10").order.order_id
    desk.fill(order_id, "4")
    assert desk.status(order_id) is S.PARTIALLY_FILLED
    desk.report(order_id, "NEW")
    assert desk.status(order_id) is S.PARTIALLY_FILLED
    assert desk.reserved() == (6, 0)


@pytest.mark.parametrize("end", ["CANCELED", "EXPIRED"])
def test_a_fill_after_the_end_is_booked_and_marked_late(desk: Desk, end: str) -> None:
    order_id = desk.working(BUY, "10")
    desk.fill(order_id, "4")
    desk.report(order_id, end)
    assert desk.reserved() == (0, 0)
    fact = one(desk.fill(order_id, "6"), e.OrderFilled)
    assert fact.late
    assert (desk.line().qty, desk.reserved()) == (10, (0, 0))
    assert desk.status(order_id) is S[end], "the order stays closed"
    desk.assert_clean()


def test_a_late_fill_of_an_order_said_to_be_rejected_is_booked_too(desk: Desk) -> None:
    order_id = desk.place(BUY, "10").order.order_id
    desk.report(order_id, "REJECTED", text="no")
    assert one(desk.fill(order_id, "10"), e.OrderFilled).late
    assert desk.line().qty == 10


@pytest.mark.parametrize("qty", ["11", "0", "-1", "NaN", "Infinity"])
def test_a_fill_of_more_than_was_ordered_or_of_nothing_is_a_break_and_not_booked(desk: Desk, qty: str) -> None:
    order_id = desk.working(BUY, "10")
    before = state_of(desk.engine)
    assert one(desk.fill(order_id, qty), e.BreakFound).what == "report"
    assert state_of(desk.engine) == before


@pytest.mark.parametrize("wrong", [
    {"price": "NaN"}, {"price": "Infinity"}, {"fees": "NaN"}, {"side": SELL}, {"symbol": "QQQ"},
])  # fmt: skip
def test_a_fill_that_does_not_fit_its_order_is_a_break_and_not_booked(desk: Desk, wrong: dict[str, Any]) -> None:
    order_id = desk.working(BUY, "10")
    before = state_of(desk.engine)
    one(desk.fill(order_id, "5", **wrong), e.BreakFound)
    assert state_of(desk.engine) == before


def test_a_fill_without_an_execution_id_is_a_break_as_it_could_not_be_told_from_the_next(desk: Desk) -> None:
    order_id = desk.working(BUY, "10")
    report = ExecutionReport(desk.now, order_id, ExecType.TRADE, qty=D(5), price=D(100))
    one(desk.give(report), e.BreakFound)
    one(desk.give(report), e.BreakFound)
    assert desk.line().qty == 0


@pytest.mark.parametrize("exec_type", ExecType)
def test_a_report_about_no_order_of_ours_is_a_break(desk: Desk, exec_type: ExecType) -> None:
    fact = one(desk.report("somebody-else", exec_type), e.BreakFound)
    assert (fact.what, fact.key) == ("report", "somebody-else")


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_silence_keeps_the_reservation_until_there_is_evidence(desk: Desk) -> None:
    order_id = desk.place(BUY, "10").order.order_id
    one(desk.report(order_id, "UNKNOWN", text="no answer"), e.OrderUnknown)
    assert (desk.status(order_id), desk.reserved()) == (S.UNKNOWN, (10, 0))
    assert desk.report(order_id, "UNKNOWN") == []
    desk.report(order_id, "NEW")
    assert (desk.status(order_id), desk.reserved()) == (S.NEW, (10, 0))


def test_an_unknown_order_can_be_cancelled_filled_or_rejected(desk: Desk) -> None:
    for exec_type, after in (("CANCELED", S.CANCELED), ("REJECTED", S.REJECTED), ("EXPIRED", S.EXPIRED)):
        order_id = desk.place(BUY, "10").order.order_id
        desk.report(order_id, "UNKNOWN")
        assert desk.reserved() == (10, 0)
        desk.report(order_id, exec_type)
        assert (desk.status(order_id), desk.reserved()) == (after, (0, 0))
    order_id = desk.place(BUY, "10").order.order_id
    desk.report(order_id, "UNKNOWN")
    assert isinstance(desk.cancel(order_id), e.CancelSubmitted)
    assert desk.reserved() == (10, 0)
    desk.fill(order_id, "10")
    assert (desk.status(order_id), desk.line().qty) == (S.FILLED, 10)


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cancel_keeps_the_reservation_until_the_broker_says_so(desk: Desk) -> None:
    order_id = desk.working(BUY, "10")
    assert isinstance(desk.cancel(order_id), e.CancelSubmitted)
    assert (desk.status(order_id), desk.reserved()) == (S.PENDING_CANCEL, (10, 0))
    assert desk.cancel(order_id).reason is DenialReason.ORDER_NOT_WORKING, "it is on its way"
    desk.fill(order_id, "4")
    assert (desk.status(order_id), desk.reserved()) == (S.PENDING_CANCEL, (6, 0))
    fact = one(desk.report(order_id, "CANCELED"), e.OrderCanceled)
    assert fact.cum_qty == 4
    assert (desk.status(order_id), desk.reserved()) == (S.CANCELED, (0, 0))


def test_a_refused_cancel_leaves_the_order_working(desk: Desk) -> None:
    order_id = desk.working(BUY, "10")
    desk.fill(order_id, "4")
    desk.cancel(order_id)
    fact = one(desk.report(order_id, "CANCEL_REJECTED", text="too late"), e.RequestRejected)
    assert fact.request == "cancel"
    assert (desk.status(order_id), desk.reserved()) == (S.PARTIALLY_FILLED, (6, 0))


def test_nobody_cancels_or_replaces_anothers_order(desk: Desk) -> None:
    order_id = desk.working(BUY, "10")
    assert desk.cancel(order_id, "t").reason is DenialReason.ORDER_UNKNOWN
    assert desk.replace(order_id, "t", qty="5").reason is DenialReason.ORDER_UNKNOWN
    assert desk.status(order_id) is S.NEW


def test_a_refused_cancel_of_an_id_that_is_not_known_does_not_use_the_id_up(desk: Desk) -> None:
    order = desk.order()
    assert desk.cancel(order.order_id).reason is DenialReason.ORDER_UNKNOWN
    one(desk.give(order), e.OrderSubmitted)


# ── replaces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replace_reserves_the_larger_of_both_until_it_is_answered(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    assert isinstance(desk.replace(order_id, qty="30"), e.ReplaceSubmitted)
    assert (desk.status(order_id), desk.reserved()) == (S.PENDING_REPLACE, (30, 0))
    desk.report(order_id, "REPLACED")
    assert (desk.known(order_id).qty, desk.status(order_id), desk.reserved()) == (30, S.NEW, (30, 0))
    desk.replace(order_id, qty="5", limit_price="98")
    assert desk.reserved() == (30, 0)
    desk.report(order_id, "REPLACED")
    assert (desk.known(order_id).limit_price, desk.reserved()) == (98, (5, 0))
    desk.assert_clean()


def test_a_refused_replace_leaves_the_old_terms(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.replace(order_id, qty="30", limit_price="99.50")
    fact = one(desk.report(order_id, "REPLACE_REJECTED"), e.RequestRejected)
    assert fact.request == "replace"
    known = desk.known(order_id)
    assert (known.qty, known.limit_price, known.pending, desk.reserved()) == (10, 99, None, (10, 0))


def test_a_replace_is_judged_beside_the_books_without_the_order_it_replaces() -> None:
    desk = Desk(limits={"max_notional": D(2000), "max_open_orders": 1})
    order_id = desk.working(BUY, "10", limit="100")
    assert isinstance(desk.replace(order_id, qty="20"), e.ReplaceSubmitted), "20 in all, not 30"
    desk.report(order_id, "REPLACED")
    fact = desk.replace(order_id, qty="21")
    assert (fact.reason, fact.passes_at) == (DenialReason.STRATEGY_NOTIONAL_CAP, 20)
    assert (desk.reserved(), list(desk.engine.state.blotter.working)) == ((20, 0), [order_id])


def test_a_denied_replace_leaves_everything_as_it_was(desk: Desk) -> None:
    first = desk.working(BUY, "10", limit="99")
    desk.working(BUY, "10", limit="98")
    before = state_of(desk.engine)
    assert isinstance(desk.replace(first, qty="999999"), e.OrderDenied)
    assert state_of(desk.engine) == before


def test_a_replace_of_a_part_filled_order_counts_what_has_filled(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.fill(order_id, "4")
    assert desk.replace(order_id, qty="4").reason is DenialReason.ORDER_FIELDS_INVALID
    desk.replace(order_id, qty="6")
    assert desk.reserved() == (6, 0)
    desk.report(order_id, "REPLACED")
    assert (desk.reserved(), desk.known(order_id).leaves_qty) == ((2, 0), 2)


def test_only_one_replace_is_on_its_way(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.replace(order_id, qty="20")
    assert desk.replace(order_id, qty="30").reason is DenialReason.ORDER_NOT_WORKING


def test_a_refused_cancel_does_not_forget_the_replace_that_is_on_its_way(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.replace(order_id, qty="30")
    desk.cancel(order_id)
    desk.report(order_id, "CANCEL_REJECTED")
    assert desk.reserved() == (30, 0), "the broker may work 30 at any moment"
    assert desk.replace(order_id, qty="40").reason is DenialReason.ORDER_NOT_WORKING
    desk.report(order_id, "REPLACED")
    assert (desk.known(order_id).qty, desk.status(order_id), desk.reserved()) == (30, S.NEW, (30, 0))
    desk.fill(order_id, "30")
    assert desk.line().qty == 30
    desk.assert_clean()


@pytest.mark.parametrize("lost", ["REPLACED", "REPLACE_REJECTED"])
def test_a_replace_whose_order_was_lost_and_found_is_still_answered(desk: Desk, lost: str) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.replace(order_id, qty="30")
    desk.report(order_id, "UNKNOWN")
    desk.report(order_id, "NEW")
    assert desk.reserved() == (30, 0)
    desk.report(order_id, lost)
    assert desk.reserved() == ((30, 0) if lost == "REPLACED" else (10, 0))
    assert desk.known(order_id).pending is None
    desk.assert_clean()


@pytest.mark.parametrize("repeat", ["CANCEL_REJECTED", "REPLACE_REJECTED", "REPLACED"])
def test_an_answer_nobody_asked_for_changes_nothing(desk: Desk, repeat: str) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    before = state_of(desk.engine)
    assert desk.report(order_id, repeat) == []
    desk.fill(order_id, "1")
    assert desk.report(order_id, repeat) == []
    desk.cancel(order_id)
    if repeat != "CANCEL_REJECTED":
        assert desk.report(order_id, repeat) == []
    assert state_of(desk.engine)["orders"][order_id][2] == before["orders"][order_id][2]


def test_a_repeated_refusal_of_a_cancel_does_not_answer_a_later_replace(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.cancel(order_id)
    desk.report(order_id, "CANCEL_REJECTED")
    desk.replace(order_id, qty="30")
    assert desk.report(order_id, "CANCEL_REJECTED") == []
    assert (desk.status(order_id), desk.reserved()) == (S.PENDING_REPLACE, (30, 0))


def test_a_replace_to_less_than_has_filled_reserves_never_less_than_nothing(desk: Desk) -> None:
    order_id = desk.working(BUY, "10", limit="99")
    desk.replace(order_id, qty="5")
    desk.fill(order_id, "7")
    assert desk.reserved() == (3, 0)
    one(desk.report(order_id, "REPLACED"), e.BreakFound)
    assert desk.reserved() == (3, 0)


def test_a_replace_meets_the_plugged_in_rules_too() -> None:
    class AtMostTwenty:
        name = "at_most_20"

        def check(self, order: PlaceOrder, state: Any) -> PlaceOrder | None:
            return msgspec.structs.replace(order, qty=D(20)) if order.qty > 20 else None

    desk = Desk(rules=(AtMostTwenty(),))
    fact = desk.place(BUY, "50", limit="99")
    assert fact.order.qty == 20
    assert fact.verdict.rules == ("at_most_20: qty 50 -> 20",)
    desk.report(fact.order.order_id, "NEW")
    desk.fill(fact.order.order_id, "5")
    replaced = desk.replace(fact.order.order_id, qty="100")
    assert replaced.qty == 25, "20 beyond the 5 that have filled"
    desk.assert_clean()


# ── decided once ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_denied_order_is_not_decided_again_when_it_would_pass() -> None:
    desk = Desk(is_open=False)
    order = desk.order()
    assert one(desk.give(order), e.OrderDenied).reason is DenialReason.SESSION_CLOSED
    desk.give(e.SessionOpened(desk.now - 1, "2023-11-14", desk.now + 10**12))
    assert one(desk.give(order), e.OrderDenied).reason is DenialReason.ORDER_ID_DUPLICATE
    desk.assert_clean()
    twin = desk.restored()
    assert twin.state.blotter.denied == desk.engine.state.blotter.denied


def test_a_signalling_nan_with_a_used_id_is_a_conflict(desk: Desk) -> None:
    order = desk.order()
    desk.give(order)
    fact = one(desk.give(msgspec.structs.replace(order, qty=Decimal("sNaN"))), e.OrderDenied)
    assert fact.reason is DenialReason.ORDER_ID_CONFLICT


# ── brackets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def bracket(desk: Desk, qty: str = "10") -> tuple[str, str, str]:
    entry = desk.working(BUY, qty, limit="100")
    exits = {"reduce_only": True, "parent": entry, "tif": TimeInForce.GTC}
    return entry, desk.working(SELL, qty, limit="105", **exits), desk.working(SELL, qty, stop="95", **exits)


def test_the_exits_of_a_bracket_are_counted_once_and_not_before_the_entry_fills(desk: Desk) -> None:
    entry, target, stop = bracket(desk)
    assert desk.reserved() == (10, 0)
    desk.fill(entry, "4")
    assert (desk.line().qty, desk.reserved()) == (4, (6, 4))
    desk.fill(entry, "6")
    assert (desk.line().qty, desk.reserved()) == (10, (0, 10))
    desk.fill(target, "3", "105")
    assert (desk.line().qty, desk.reserved()) == (7, (0, 10)), "the stop still works ten until the broker says less"
    desk.fill(target, "7", "105")
    desk.report(stop, "CANCELED", text="one cancels other")
    assert (desk.line().qty, desk.reserved()) == (0, (0, 0))
    desk.assert_clean()


def test_the_exits_of_an_entry_that_never_filled_reserve_nothing(desk: Desk) -> None:
    entry, target, stop = bracket(desk)
    desk.report(entry, "CANCELED")
    assert desk.reserved() == (0, 0)
    for exit_id in (target, stop):
        desk.report(exit_id, "CANCELED")
    assert not desk.engine.state.blotter.working


def test_a_late_fill_of_an_entry_brings_its_exits_back_into_the_count(desk: Desk) -> None:
    entry, _, _ = bracket(desk)
    desk.report(entry, "CANCELED")
    desk.fill(entry, "4")
    assert (desk.line().qty, desk.reserved()) == (4, (0, 4))


def test_an_exit_can_be_attached_to_an_entry_that_has_filled(desk: Desk) -> None:
    entry = desk.working(BUY, "10")
    desk.fill(entry, "10")
    for more in ({"limit": "105"}, {"stop": "95"}):
        assert isinstance(desk.place(SELL, "10", parent=entry, reduce_only=True, **more), e.OrderSubmitted)
    assert desk.reserved() == (0, 10)


@pytest.mark.parametrize(("more", "reason"), [
    ({"reduce_only": False}, DenialReason.ORDER_FIELDS_INVALID),
    ({"side": BUY}, DenialReason.ORDER_FIELDS_INVALID),
    ({"symbol": "QQQ"}, DenialReason.ORDER_FIELDS_INVALID),
    ({"strategy": "t"}, DenialReason.ORDER_FIELDS_INVALID),
    ({"parent": "s-1-99"}, DenialReason.ORDER_FIELDS_INVALID),
    ({"qty": "11"}, DenialReason.REDUCE_ONLY),
])  # fmt: skip
def test_what_is_reserved_with_an_entry_has_to_be_its_exit(
    desk: Desk, more: dict[str, Any], reason: DenialReason
) -> None:
    entry = desk.working(BUY, "10")
    order = {"side": SELL, "qty": "10", "parent": entry, "reduce_only": True, **more}
    assert desk.place(**order).reason is reason


def test_an_exit_has_no_exits(desk: Desk) -> None:
    _, target, _ = bracket(desk)
    fact = desk.place(BUY, "1", parent=target, reduce_only=True)
    assert fact.reason is DenialReason.ORDER_FIELDS_INVALID


def test_an_exit_of_what_was_sold_long_ago_is_denied(desk: Desk) -> None:
    entry = desk.working(BUY, "10")
    desk.fill(entry, "10")
    desk.hold("-10")
    assert desk.place(SELL, "10", parent=entry, reduce_only=True).reason is DenialReason.REDUCE_ONLY


# ── combos ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_combo_is_reserved_and_booked_leg_by_leg(desk: Desk) -> None:
    order_id = desk.working(BUY, "2", VERTICAL)
    assert (desk.reserved(CALL_100), desk.reserved(CALL_105)) == ((2, 0), (0, 2))
    fact = one(desk.fill(order_id, "2", "3", symbol=CALL_100, side=BUY), e.OrderFilled)
    assert (fact.cum_qty, fact.leaves_qty) == (0, 2), "no whole unit yet"
    assert desk.status(order_id) is S.PARTIALLY_FILLED
    fact = one(desk.fill(order_id, "2", "1", symbol=CALL_105, side=SELL, fees="1.30"), e.OrderFilled)
    assert (fact.cum_qty, fact.leaves_qty) == (2, 0)
    assert desk.status(order_id) is S.FILLED
    assert (desk.line(CALL_100).qty, desk.line(CALL_105).qty) == (2, -2)
    assert (desk.reserved(CALL_100), desk.reserved(CALL_105)) == ((0, 0), (0, 0))
    assert desk.cash == D(1_000_000) - 600 + 200 - D("1.30")
    assert not any(desk.engine.state.portfolio.accounts["main"].book.option_orders.values())
    desk.assert_clean()


def test_a_leg_that_fills_beyond_its_share_is_a_break(desk: Desk) -> None:
    order_id = desk.working(BUY, "2", VERTICAL)
    desk.fill(order_id, "2", "3", symbol=CALL_100, side=BUY)
    one(desk.fill(order_id, "1", "3", symbol=CALL_100, side=BUY), e.BreakFound)
    one(desk.fill(order_id, "1", "1", symbol=CALL_105, side=BUY), e.BreakFound)
    assert desk.line(CALL_100).qty == 2


def test_a_ratio_spread_counts_whole_units(desk: Desk) -> None:
    order_id = desk.working(SELL, "1", f"1*{CALL_100},-2*{CALL_105}")
    desk.fill(order_id, "1", "1", symbol=CALL_105, side=BUY)
    fact = one(desk.fill(order_id, "1", "3", symbol=CALL_100, side=SELL), e.OrderFilled)
    assert (fact.cum_qty, fact.leaves_qty) == (0, 1)
    fact = one(desk.fill(order_id, "1", "1", symbol=CALL_105, side=BUY), e.OrderFilled)
    assert (fact.cum_qty, fact.leaves_qty) == (1, 0)
    desk.assert_clean()


# ── what the engine never sees ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("message", [
    "text", None, e.NoSignal(0, "s", "SPY", 1, "calm"), e.RunFinished(ts=0, outcome="completed"),
    e.OrderAccepted(0, "x", "s", "main", "SPY"),
])  # fmt: skip
def test_a_message_the_engine_does_not_know_is_a_protocol_error(message: Any) -> None:
    with pytest.raises(ProtocolError):
        Engine().handle(message)


def test_a_fact_that_the_table_forbids_is_a_protocol_error(desk: Desk) -> None:
    order_id = desk.working()
    desk.fill(order_id, "10")
    with pytest.raises(ProtocolError, match="may not happen"):
        desk.engine.restore([e.OrderCanceled(desk.now, order_id, "s", "main", "SPY", D(10))])
    assert desk.status(order_id) in TERMINAL
