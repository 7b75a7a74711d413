"""Books: several strategies in one account, what changes without an order, and how a restart finds them again."""

from __future__ import annotations

from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.model.execution import ActivityKind, BrokerSnapshot, HeldPosition, OpenOrder
from northstar_core.model.order import OrderStatus
from tests.engine.desks import BUY, CALL_100, CALL_105, CLOSE, SELL, TODAY, D, Desk, state_of


def parts(facts: list[Any]) -> dict[str, tuple[Any, Any]]:
    assert all(isinstance(fact, e.PositionAdjusted) for fact in facts), facts
    return {fact.strategy: (fact.qty, fact.cash) for fact in facts}


def shared(s: str = "30", t: str = "-10") -> Desk:
    desk = Desk()
    desk.hold(s)
    desk.hold(t, strategy="t")
    return desk


# ── P5 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_books_sum_to_the_account_when_a_second_strategy_comes_late() -> None:
    desk = Desk(strategies=("s",))
    desk.hold("10")
    desk.hold("2", CALL_100, "3")
    desk.working(BUY, "5", limit="99")
    desk.set_limits("strategy:late")
    desk.give(e.Grant(ts=desk.now, strategy="late", account="main"))
    desk.fill(desk.working(SELL, "3", limit="100", strategy="late"), "3")
    desk.working(SELL, "4", limit="101", strategy="late")
    assert (desk.line(strategy="s").qty, desk.line(strategy="late").qty, desk.line(strategy=None).qty) == (10, -3, 7)
    assert desk.reserved(strategy=None) == (5, 4)
    assert desk.line(CALL_100, None).qty == 2
    desk.fill(desk.working(SELL, "10", limit="100"), "10")
    assert (desk.line(strategy="s").qty, desk.line(strategy=None).qty) == (0, -3)
    desk.assert_clean()


def test_one_strategys_offsetting_position_does_not_hide_anothers_worst_case() -> None:
    desk = shared("100", "-100")
    fact = desk.place(BUY, "1")
    assert (fact.verdict.notional, fact.verdict.gross) == (10_100.0, 100.0)
    desk.assert_clean()


def test_a_book_that_holds_no_options_any_more_is_judged_like_one_that_never_did() -> None:
    desk = Desk()
    desk.hold("1", CALL_100, "3")
    desk.fill(desk.working(SELL, "1", CALL_100), "1", "3")
    desk.report(desk.working(BUY, "1", CALL_100), "CANCELED")
    desk.hold("3")
    fact = desk.place(SELL, "5", symbol="QQQ")
    assert (fact.verdict.gross, fact.verdict.net) == (800.0, 300.0), "shares have a sign, so what offsets is not net"
    desk.assert_clean()


def test_accounts_are_apart() -> None:
    desk = Desk()
    desk.give(e.AccountOpened(ts=desk.now, account="other", broker="sim", cash=D(500)))
    desk.hold("10")
    accounts = desk.engine.state.portfolio.accounts
    assert (accounts["other"].cash, accounts["other"].book.lines) == (500, {})
    assert desk.engine.books().cash == {"main": D(999_000), "other": D(500)}


# ── without an order ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_split_is_divided_in_proportion_and_keeps_each_cost() -> None:
    desk = shared("30", "-10")
    assert parts(desk.activity(ActivityKind.SPLIT, "r", qty="20", price="2")) == {"s": (30, 0), "t": (-10, 0)}
    account = desk.engine.state.portfolio.accounts["main"]
    assert (account.position("s", "SPY").avg_price, account.position("t", "SPY").avg_price) == (50, 50)
    desk.assert_clean()


def test_a_dividend_is_paid_to_the_long_and_taken_from_the_short() -> None:
    desk = shared("30", "-10")
    assert parts(desk.activity(ActivityKind.DIVIDEND, "r", cash="5")) == {"s": (0, D("7.50")), "t": (0, D("-2.50"))}
    desk.assert_clean()


def test_a_dividend_that_does_not_divide_evenly_is_paid_out_to_the_cent() -> None:
    desk = shared("1", "2")
    cash = desk.cash
    got = parts(desk.activity(ActivityKind.DIVIDEND, "r", cash="0.10"))
    assert got == {"s": (0, D("0.03")), "t": (0, D("0.07"))}
    assert desk.cash == cash + D("0.10")


def test_an_expiry_closes_its_holders_in_turn_and_the_delivery_follows_the_options() -> None:
    desk = Desk()
    desk.hold("1", CALL_100, "3")
    desk.hold("2", CALL_100, "3", strategy="t")
    got = parts(desk.activity(ActivityKind.EXERCISE, "exercise-1", CALL_100, qty="-3"))
    assert got == {"s": (-1, 0), "t": (-2, 0)}
    got = parts(
        desk.activity(ActivityKind.DELIVERY, "r2", "SPY", qty="300", cash="-30000", price="100", text="exercise-1")
    )
    assert got == {"s": (100, -10_000), "t": (200, -20_000)}
    desk.assert_clean()


def test_what_no_strategy_owns_goes_to_the_unassigned_book() -> None:
    desk = Desk()
    assert parts(desk.activity(ActivityKind.DELIVERY, "r", qty="5", price="100")) == {"unassigned": (5, 0)}
    assert parts(desk.activity(ActivityKind.FEE, "fee", "", cash="-1")) == {"unassigned": (0, -1)}
    assert desk.line(strategy="unassigned").qty == 5
    desk.assert_clean()


def test_an_activity_of_a_named_strategy_is_its_own() -> None:
    desk = shared()
    assert parts(desk.activity(ActivityKind.FEE, "r", cash="-1", strategy="t")) == {"t": (0, -1)}


def test_an_activity_is_booked_once() -> None:
    desk = shared()
    desk.activity(ActivityKind.DIVIDEND, "r", cash="5")
    before = state_of(desk.engine)
    assert desk.activity(ActivityKind.DIVIDEND, "r", cash="5") == []
    assert state_of(desk.engine) == before


@pytest.mark.parametrize("kind", ActivityKind)
def test_shares_of_an_activity_sum_to_it_whatever_it_is(kind: ActivityKind) -> None:
    desk = shared("30", "-10")
    before = (desk.line(strategy=None).qty, desk.cash)
    qty = "20" if kind is ActivityKind.SPLIT else "-7"
    desk.activity(kind, "r", qty=qty, cash="12.34", price="2")
    assert (desk.line(strategy=None).qty, desk.cash) == (before[0] + D(qty), before[1] + D("12.34"))
    sums = sum(desk.line(strategy=name).qty for name in ("s", "t", "unassigned"))
    assert sums == desk.line(strategy=None).qty


# ── against the broker ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_that_agrees_has_no_breaks_and_each_difference_is_one() -> None:
    desk = shared()
    order_id = desk.working(BUY, "5", limit="99")
    cash = desk.cash
    opened = OpenOrder(order_id, OrderStatus.NEW, D(5))
    agreed = BrokerSnapshot(desk.now, "main", cash, (HeldPosition("SPY", D(20)),), (opened,))
    assert desk.give(agreed) == [e.ReconcileCompleted(desk.now, "main", 0)]
    off = BrokerSnapshot(
        desk.now, "main", cash + 1, (HeldPosition("SPY", D(21)), HeldPosition("QQQ", D(1))),
        (OpenOrder(order_id, OrderStatus.NEW, D(4)), OpenOrder("theirs", OrderStatus.NEW, D(1))),
    )  # fmt: skip
    *breaks, completed = desk.give(off)
    assert [(b.what, b.key) for b in breaks] == [
        ("cash", "USD"), ("position", "QQQ"), ("position", "SPY"), ("order", order_id), ("order", "theirs"),
    ]  # fmt: skip
    assert completed.breaks == 5
    assert desk.give(BrokerSnapshot(desk.now, "nowhere", D(0), (), ()))[0].what == "account"


# ── a restart ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_restart_finds_everything_a_decision_reads() -> None:
    desk = shared()
    order_id = desk.working(BUY, "5", limit="99")
    desk.replace(order_id, qty="9")
    desk.report(desk.place(BUY, "1", symbol="QQQ").order.order_id, "UNKNOWN")
    entry = desk.working(BUY, "10", limit="98")
    desk.working(SELL, "10", limit="110", reduce_only=True, parent=entry)
    desk.fill(entry, "4", "98")
    desk.place(SELL, "1", CALL_100)
    desk.activity(ActivityKind.DIVIDEND, "r", cash="5")
    twin = desk.restored()
    assert state_of(twin) == state_of(desk.engine)
    assert twin.snapshot(0).digest == desk.engine.snapshot(0).digest
    for event in list(desk.engine.state.marks.values()):
        twin.observe(event)
    order = desk.order(BUY, "3")
    assert twin.handle(order) == desk.engine.handle(order), "the same question, the same answer, with the same numbers"


def test_a_restart_remembers_the_rate() -> None:
    desk = Desk(limits={"max_orders": 2})
    desk.place()
    desk.place()
    twin = desk.restored()
    twin.observe(desk.engine.state.marks["SPY"])
    (fact,) = twin.handle(desk.order())
    assert fact.reason == "ORDER_RATE"


def test_a_session_that_closed_is_closed_after_a_restart() -> None:
    desk = Desk()
    desk.give(e.SessionClosed(CLOSE, TODAY))
    assert desk.restored().state.session_close == 0


def test_an_option_that_another_strategy_offsets_in_the_account_still_counts_for_its_own() -> None:
    desk = Desk(limits={"allow_uncovered": True})
    for side, strategy in ((SELL, "t"), (BUY, "s")):
        desk.fill(desk.working(side, "1", CALL_105, strategy=strategy), "1", "1")
    verdict = desk.place(BUY, "1", strategy="s").verdict
    assert verdict.prices.keys() == {CALL_105, "SPY"}
    assert verdict.notional == 100.0 + 100.0, "one share, and a hundred times the option's price"
    assert verdict.gross == 100.0
    desk.assert_clean()
