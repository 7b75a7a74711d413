"""What reduces passes; who may trade what, where and when; which options are covered."""

from __future__ import annotations

import pytest

from northstar_core.model import events as e
from northstar_core.model.account import TradingState
from northstar_core.model.denial import DenialReason
from northstar_core.model.execution import ActivityKind
from northstar_core.model.market import Halt
from tests.engine.desks import BUY, CALL_100, CALL_105, SELL, VERTICAL, D, Desk

# ── what reduces passes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exit_passes_every_cap_on_exposure_that_was_lowered_below_what_is_held() -> None:
    desk = Desk()
    desk.hold("100")
    desk.set_limits("strategy:s", max_notional=D(1), max_position_qty=D(1))
    desk.set_limits("account:main", max_gross=D(1), max_net=D(1), max_symbol_share=D("0.0001"), leverage=D("0.0001"))
    assert isinstance(desk.place(BUY, "1"), e.OrderDenied)
    assert isinstance(desk.place(SELL, "60"), e.OrderSubmitted)
    assert isinstance(desk.place(SELL, "101"), e.OrderDenied), "more than is held opens the other way"
    assert isinstance(desk.place(SELL, "40"), e.OrderSubmitted)


def test_shares_that_a_split_multiplied_beyond_the_cap_can_be_sold_in_parts() -> None:
    desk = Desk(limits={"max_position_qty": D(100)})
    desk.hold("100")
    desk.activity(ActivityKind.SPLIT, "r1", qty="600", price="7")
    assert isinstance(desk.place(SELL, "200"), e.OrderSubmitted)
    assert desk.place(BUY, "1").reason is DenialReason.POSITION_QTY_CAP


# ── who, where, when ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["desk", "account:main", "strategy:s"])
@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.KILLED])
def test_nothing_is_placed_in_a_halted_scope_and_cancels_pass(scope: str, state: TradingState) -> None:
    desk = Desk()
    desk.hold("10")
    order_id = desk.working(BUY, limit="99")
    desk.halt(scope, state)
    assert desk.place().reason is DenialReason.TRADING_HALTED
    assert desk.place(SELL, "10", reduce_only=True).reason is DenialReason.TRADING_HALTED
    assert desk.replace(order_id, qty="5").reason is DenialReason.TRADING_HALTED
    assert isinstance(desk.cancel(order_id), e.CancelSubmitted)
    other = desk.place(strategy="t")
    assert isinstance(other, e.OrderSubmitted) is (scope == "strategy:s")
    desk.halt(scope, TradingState.ACTIVE)
    assert isinstance(desk.place(), e.OrderSubmitted)


def test_a_reducing_scope_takes_reduce_only_orders_and_sums_them() -> None:
    desk = Desk()
    desk.hold("10")
    desk.halt("strategy:s", TradingState.REDUCING)
    assert desk.place(SELL, "10").reason is DenialReason.TRADING_REDUCING
    assert isinstance(desk.place(SELL, "6", reduce_only=True), e.OrderSubmitted)
    assert desk.place(SELL, "5", reduce_only=True).reason is DenialReason.REDUCE_ONLY
    assert isinstance(desk.place(SELL, "4", reduce_only=True), e.OrderSubmitted)
    assert desk.place(BUY, "1", reduce_only=True).reason is DenialReason.REDUCE_ONLY


def test_the_strictest_scope_holds() -> None:
    desk = Desk()
    desk.hold("10")
    desk.halt("strategy:s", TradingState.REDUCING)
    desk.halt("account:main", TradingState.HALTED)
    assert desk.place(SELL, "1", reduce_only=True).reason is DenialReason.TRADING_HALTED


def test_an_option_is_in_the_universe_of_its_underlying() -> None:
    desk = Desk(symbols=("SPY",))
    assert isinstance(desk.place(symbol=CALL_100, qty="1"), e.OrderSubmitted)
    assert isinstance(desk.place(symbol=VERTICAL, qty="1"), e.OrderSubmitted)
    assert Desk(symbols=(CALL_100,)).place(symbol=VERTICAL, qty="1").reason is DenialReason.UNIVERSE_NOT_ALLOWED


def test_trading_resumes_in_a_symbol_after_its_halt() -> None:
    desk = Desk()
    desk.give(Halt("SPY", desk.now, True))
    assert isinstance(desk.place(symbol="QQQ"), e.OrderSubmitted)
    assert desk.place(symbol=VERTICAL, qty="1").reason is DenialReason.SYMBOL_HALTED, "as options do"
    desk.give(Halt("SPY", desk.now, False))
    assert isinstance(desk.place(), e.OrderSubmitted)


def test_an_order_that_would_meet_an_own_resting_order_is_denied() -> None:
    desk = Desk()
    desk.working(SELL, limit="101", strategy="t")
    assert isinstance(desk.place(BUY, limit="100.99"), e.OrderSubmitted)
    assert desk.place(BUY, limit="101").reason is DenialReason.SELF_MATCH
    assert desk.place(BUY).reason is DenialReason.SELF_MATCH, "a market order meets every price"
    assert isinstance(desk.place(BUY, symbol="QQQ"), e.OrderSubmitted)
    assert isinstance(desk.place(SELL, limit="101"), e.OrderSubmitted)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_covered_by_shares_or_by_a_call_and_by_nothing_else() -> None:
    desk = Desk()
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED
    desk.hold("199")
    assert isinstance(desk.place(SELL, "1", CALL_105), e.OrderSubmitted)
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED, "one is working already"
    desk = Desk()
    desk.hold("1", CALL_100, "3")
    assert isinstance(desk.place(SELL, "1", CALL_105), e.OrderSubmitted)
    assert isinstance(Desk(limits={"allow_uncovered": True}).place(SELL, "1", CALL_105), e.OrderSubmitted)


def test_shares_that_are_being_sold_cover_no_call() -> None:
    desk = Desk()
    desk.hold("100")
    desk.working(SELL, "1", limit="105")
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED


def test_a_call_that_covers_a_working_sale_covers_no_other() -> None:
    desk = Desk(prices={"SPY": 100.0, CALL_100: 3.0, CALL_105: 1.0, "SPY231117C00110000": 0.5})
    desk.hold("1", CALL_100, "3")
    desk.working(SELL, "1", CALL_105)
    assert desk.place(SELL, "1", "SPY231117C00110000").reason is DenialReason.OPTION_UNCOVERED


def test_a_spread_covers_itself_and_its_long_leg_cannot_be_sold_away() -> None:
    desk = Desk()
    order_id = desk.working(SELL, "2", VERTICAL)
    desk.fill(order_id, "2", "3", symbol=CALL_100, side=SELL)
    desk.fill(order_id, "2", "1", symbol=CALL_105, side=BUY)
    fact = desk.place(SELL, "1", CALL_105)
    assert fact.reason is DenialReason.OPTION_UNCOVERED
