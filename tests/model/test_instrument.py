"""Symbols to instruments and back, prices to ticks."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Combo, Equity, Option, Right, combo, exact, instrument, occ_symbol

D = Decimal
CALL, PUT = "SPY230901C00430000", "SPY230901P00440500"


def test_a_symbol_names_its_instrument() -> None:
    assert instrument("SPY") == Equity("SPY")
    assert instrument("BRK.B") == Equity("BRK.B")
    option = instrument(PUT)
    assert option == Option(PUT, "SPY", date(2023, 9, 1), D("440.5"), Right.PUT)
    assert (option.multiplier, option.american) == (100, True)


@pytest.mark.parametrize("symbol", [
    "", "spy", "SPY ", "SPY\n", "1*SPY", "1*SPY,1*SPY", "0*SPY,1*QQQ", "x*SPY,1*QQQ", "SPY231332C00430000", "A" * 13,
    "SPY٢٣٠٩٠١C00430000", "1*SPY,1*QQQ,1*IWM,1*DIA,1*TLT", ",", "*", f"2*{CALL},-2*{PUT}", "01*SPY,-1*QQQ",
    "+1*SPY,-1*QQQ",
])  # fmt: skip
def test_what_names_no_instrument_is_an_error_that_says_so(symbol: str) -> None:
    with pytest.raises(DataError):
        instrument(symbol)


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.sampled_from(Right), st.integers(1, 99_999_999))
def test_an_option_symbol_is_read_as_it_was_written(expiry: date, right: Right, thousandths: int) -> None:
    strike = D(thousandths) / 1000
    option = instrument(occ_symbol("SPY", expiry, right, strike))
    assert isinstance(option, Option)
    assert (option.underlying, option.expiry, option.right, option.strike) == ("SPY", expiry, right, strike)


@pytest.mark.parametrize("strike", ["0", "-1", "0.0001", "100000"])
def test_a_strike_that_has_no_symbol_is_refused(strike: str) -> None:
    with pytest.raises(DataError, match="not expressible"):
        occ_symbol("SPY", date(2023, 9, 1), Right.CALL, D(strike))


def test_a_combo_is_its_legs_in_lowest_terms() -> None:
    made = combo((instrument(CALL), 2), (instrument(PUT), -4))
    assert made.symbol == f"1*{CALL},-2*{PUT}"
    assert instrument(made.symbol) == made
    assert isinstance(made, Combo)
    assert made.multiplier == 100


def test_intrinsic_value_is_never_negative() -> None:
    call, put = instrument(CALL), instrument(PUT)
    assert isinstance(call, Option) and isinstance(put, Option)
    assert (call.intrinsic(D(435)), call.intrinsic(D(425)), put.intrinsic(D(435)), put.intrinsic(D(450))) == (
        5, 0, D("5.5"), 0,
    )  # fmt: skip


@given(st.floats(0.0001, 100_000, allow_nan=False))
def test_a_rounded_price_is_a_multiple_of_the_tick_and_on_the_side_asked_for(price: float) -> None:
    share = Equity("SPY")
    down, near, up = share.round_price(price, -1), share.round_price(price), share.round_price(price, 1)
    assert down <= exact(price) <= up
    assert down <= near <= up
    assert all(not p % share.tick_at(exact(price)) for p in (down, near, up))


def test_a_price_below_a_dollar_has_four_places() -> None:
    assert Equity("SPY").round_price(0.12345) == D("0.1234")
    assert Equity("SPY").round_price(12.345678) == D("12.35")
    assert exact(0.1) == D("0.1")
