"""A position: exact, first in first out, and cash that always adds up."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.model.account import Position
from northstar_core.model.order import Side

D = Decimal
trades = st.lists(
    st.tuples(st.sampled_from(Side), st.integers(1, 500), st.integers(1, 10_000), st.integers(0, 300)), max_size=30
)


def test_entries_are_matched_with_exits_first_in_first_out() -> None:
    position = Position("SPY")
    position.trade(Side.BUY, D(10), D(100))
    position.trade(Side.BUY, D(10), D(110))
    position.trade(Side.SELL, D(15), D(120), D("0.50"))
    assert (position.qty, position.realized, position.cost, position.avg_price) == (5, 250, 550, 110)
    assert position.fees == D("0.50")


def test_a_position_may_turn() -> None:
    position = Position("SPY")
    position.trade(Side.BUY, D(10), D(100))
    position.trade(Side.SELL, D(15), D(90))
    assert (position.qty, position.realized, position.avg_price) == (-5, -100, 90)
    position.trade(Side.BUY, D(5), D(80))
    assert (position.qty, position.realized, position.avg_price, position.cost) == (0, -50, 0, 0)


def test_a_short_gains_when_the_price_falls() -> None:
    position = Position("SPY230901C00430000", 100)
    assert position.trade(Side.SELL, D(2), D("1.50")) == 300
    assert position.trade(Side.BUY, D(2), D("0.50"), D(1)) == -101
    assert position.realized == 200


def test_a_split_keeps_the_cost_and_the_profit() -> None:
    position = Position("SPY")
    position.trade(Side.BUY, D(10), D(100))
    position.trade(Side.SELL, D(5), D(110))
    position.split(D(4))
    assert (position.qty, position.cost, position.realized, position.avg_price) == (20, 500, 50, 25)


def test_an_expiry_realizes_the_premium() -> None:
    position = Position("SPY230901C00430000", 100)
    position.trade(Side.BUY, D(2), D("1.50"))
    position.shift(D(-2), D(0))
    assert (position.qty, position.realized) == (0, -300)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(trades)
def test_cash_cost_and_profit_add_up_to_the_last_digit(made: list[tuple[Side, int, int, int]]) -> None:
    position, cash = Position("SPY", 100), D(0)
    for side, qty, cents, fee in made:
        cash += position.trade(side, D(qty), D(cents) / 100, D(fee) / 100)
    assert cash == position.realized - position.cost - position.fees
    assert position.qty == sum(qty * side.sign for side, qty, _, _ in made)
    assert sum(qty for qty, _ in position.lots) == position.qty
    assert len({qty > 0 for qty, _ in position.lots}) <= 1, "lots are all long or all short"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trades, st.integers(0, 30))
def test_asking_in_between_changes_nothing(made: list[tuple[Side, int, int, int]], at: int) -> None:
    asked, silent = Position("SPY"), Position("SPY")
    for n, (side, qty, cents, _) in enumerate(made):
        for position in (asked, silent):
            position.trade(side, D(qty), D(cents) / 100)
        if n % (at + 1) == 0:
            assert asked.realized is not None
    assert (asked.realized, list(asked.lots)) == (silent.realized, list(silent.lots))
