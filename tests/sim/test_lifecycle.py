"""What happens to positions without an order."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from northstar_core.model.errors import DataError
from northstar_core.model.execution import AccountActivity
from northstar_core.model.instrument import instrument
from northstar_core.model.tape import CorporateAction
from northstar_core.sim import lifecycle
from northstar_core.sim.broker import SimBroker, Update
from northstar_core.sim.model import LifecyclePolicy
from tests.sim.worlds import BUY, GTC, MINUTE, SELL, D, bought, broker, flat, kinds, order, position

CALL, PUT = "SPY230901C00430000", "SPY230901P00430000"
EXPIRY = "2023-09-01"


def world(prices: dict[str, float], *actions: CorporateAction, **model: Any) -> SimBroker:
    return broker(prices=prices.get, actions=actions, **model)


def told(updates: list[Update]) -> list[tuple[str, str, str, str]]:
    return [(str(a.kind), a.symbol, str(a.qty), str(a.cash)) for a in updates if isinstance(a, AccountActivity)]


def test_an_option_out_of_the_money_expires_after_the_close_of_its_last_day() -> None:
    b = world({"SPY": 430.0})
    bought(b, CALL, "2", 3.0)
    assert b.on_session_close(10, "2023-08-31") == []
    assert told(b.on_session_close(20, EXPIRY)) == [("EXPIRATION", CALL, "-2", "0")]
    assert b.snapshot(0).positions == () and b.snapshot(0).cash == D("99400.0")


@pytest.mark.parametrize(
    ("symbol", "side", "price", "kind", "shares", "cash"),
    [
        (CALL, BUY, 430.01, "EXERCISE", "200", "-86000"),
        (CALL, SELL, 431.0, "ASSIGNMENT", "-200", "86000"),
        (PUT, BUY, 429.0, "EXERCISE", "-200", "86000"),
        (PUT, SELL, 429.0, "ASSIGNMENT", "200", "-86000"),
    ],
)
def test_a_cent_in_the_money_is_exercised_or_assigned_and_shares_move_at_the_strike(
    symbol: str, side: Any, price: float, kind: str, shares: str, cash: str
) -> None:
    b = world({"SPY": price})
    bought(b, symbol, "2", 3.0, side=side)
    before = b.snapshot(0).cash
    closing = "-2" if side is BUY else "2"
    assert told(b.on_session_close(20, EXPIRY)) == [(kind, symbol, closing, "0"), ("DELIVERY", "SPY", shares, cash)]
    assert position(b) == D(shares) and position(b, symbol) == 0
    assert b.snapshot(0).cash == before + D(cash)


def test_each_strategys_options_are_settled_in_its_own_book() -> None:
    b = world({"SPY": 435.0})
    b.submit(order(BUY, "1", symbol=CALL, strategy="a"), 0)
    b.submit(order(SELL, "1", symbol=CALL, strategy="b"), 0)
    b.on_bars([flat(0, 5.0, symbol=CALL)])
    out = [u for u in b.on_session_close(20, EXPIRY) if isinstance(u, AccountActivity)]
    assert [(u.strategy, str(u.kind)) for u in out] == [
        ("a", "EXERCISE"), ("a", "DELIVERY"), ("b", "ASSIGNMENT"), ("b", "DELIVERY"),
    ]  # fmt: skip
    assert b.snapshot(0).positions == () and b.snapshot(0).cash == 100000


def test_records_have_ids_that_count() -> None:
    b = world({"SPY": 435.0})
    bought(b, CALL, "1", 5.0)
    out = b.on_session_close(20, EXPIRY)
    assert [u.record_id for u in out if isinstance(u, AccountActivity)] == ["main-activity-1", "main-activity-2"]


def test_european_style_is_settled_in_cash(monkeypatch: pytest.MonkeyPatch) -> None:
    european = msgspec.structs.replace(instrument(CALL), american=False)
    b = world({"SPY": 435.25})
    bought(b, CALL, "2", 5.0)
    monkeypatch.setattr(lifecycle, "instrument", lambda symbol: european if symbol == CALL else instrument(symbol))
    assert told(b.on_session_close(20, EXPIRY)) == [("EXERCISE", CALL, "-2", "1050.00")]


def test_an_option_that_ends_on_a_saturday_ends_with_fridays_close() -> None:
    b = world({"TWX": 60.0})
    bought(b, "TWX140621C00070000", "1", 1.0)
    assert told(b.on_session_close(20, "2014-06-20"))[0][0] == "EXPIRATION"


def test_an_option_that_ends_on_a_holiday_ends_before_the_next_open() -> None:
    b = world({"SPY": 400.0})
    bought(b, CALL, "1", 1.0)
    assert b.on_session_close(20, "2023-08-31") == []
    assert told(b.on_session_open(30, "2023-09-05"))[0][0] == "EXPIRATION"


def test_working_orders_in_an_option_end_with_it_and_later_ones_are_refused() -> None:
    b = world({"SPY": 400.0})
    b.on_session_open(0, EXPIRY)
    b.submit(order(symbol=CALL, limit="0.5", tif=GTC), 1)
    assert kinds(b.on_session_close(20, EXPIRY)) == ["CANCELED"]
    b.on_session_open(30, "2023-09-05")
    assert kinds(b.submit(order(symbol=CALL, limit="0.5"), 31)) == ["REJECTED"]


def test_without_a_price_of_the_underlying_the_options_own_price_decides_and_without_both_it_is_an_error() -> None:
    b = world({CALL: 4.0})
    bought(b, CALL, "1", 5.0)
    assert [t[0] for t in told(b.on_session_close(20, EXPIRY))] == ["EXERCISE", "DELIVERY"]
    b = world({})
    bought(b, CALL, "1", 5.0)
    with pytest.raises(DataError, match="without a price of SPY"):
        b.on_session_close(20, EXPIRY)


# ── splits ────────────────────────────────────────────────────────────────────────────────────────────────────────────

APPLE = CorporateAction(symbol="AAPL", ex_date=date(2014, 6, 9), ratio=D(7))


def test_apples_seven_for_one_split_of_2014() -> None:
    prices = {"AAPL": 645.57, "AAPL140719C00645000": 14.0}
    b = world(prices, APPLE)
    b.on_session_open(0, "2014-06-06")
    bought(b, "AAPL", "100", 644.0)
    bought(b, "AAPL140719C00645000", "1", 14.0, n=1)
    b.submit(order(SELL, "100", symbol="AAPL", limit="700", tif=GTC), 3 * MINUTE)
    b.submit(order(SELL, "1", symbol="AAPL140719C00645000", limit="20", tif=GTC), 3 * MINUTE)
    b.on_session_close(10**12, "2014-06-06")
    cash = b.snapshot(0).cash
    out = b.on_session_open(2 * 10**12, "2014-06-09")
    assert kinds(out)[:2] == ["CANCELED", "CANCELED"] and not b.working
    assert told(out) == [
        ("SPLIT", "AAPL", "600", "0"),
        ("SPLIT", "AAPL140719C00645000", "6", "0"),
        ("DELIVERY", "AAPL140719C00645000", "-7", "0"),
        ("DELIVERY", "AAPL140719C00092140", "7", "0"),
    ]
    split = next(u for u in out if isinstance(u, AccountActivity))
    assert split.price == 7
    assert position(b, "AAPL") == 700 and position(b, "AAPL140719C00092140") == 7
    assert b.snapshot(0).cash == cash
    assert b.on_session_open(3 * 10**12, "2014-06-10") == []  # once


def test_a_reverse_split_pays_the_fraction_in_cash() -> None:
    b = world({"SPY": 2.0}, CorporateAction(symbol="SPY", ex_date=date(2024, 1, 3), ratio=D("0.1")))
    b.on_session_open(0, "2024-01-02")
    bought(b, "SPY", "1005", 2.0)
    assert told(b.on_session_open(9, "2024-01-03")) == [
        ("SPLIT", "SPY", "-904.5", "0"), ("DELIVERY", "SPY", "-0.5", "10.000"),
    ]  # fmt: skip
    assert position(b) == 100


def test_a_ratio_that_is_no_exact_decimal_leaves_whole_shares() -> None:
    b = world({"SPY": 2.0}, CorporateAction(symbol="SPY", ex_date=date(2024, 1, 3), ratio=D(1) / 3))
    b.on_session_open(0, "2024-01-02")
    bought(b, "SPY", "300", 2.0)
    before = b.snapshot(0).cash
    b.on_session_open(9, "2024-01-03")
    assert position(b) == 100 and b.snapshot(0).cash == before


def test_a_split_that_no_standard_contract_follows_closes_options_in_cash() -> None:
    b = world({"SPY": 450.0, CALL: 21.0}, CorporateAction(symbol="SPY", ex_date=date(2023, 8, 15), ratio=D("1.5")))
    b.on_session_open(0, "2023-08-14")
    bought(b, CALL, "2", 20.0)
    (closed,) = [u for u in b.on_session_open(9, "2023-08-15") if isinstance(u, AccountActivity)]
    assert (closed.qty, closed.cash, closed.price) == (D(-2), D(4200), D("21.0"))


# ── dividends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

DIVIDEND = CorporateAction(symbol="SPY", ex_date=date(2023, 6, 16), dividend=D("1.638"))


@pytest.mark.parametrize(("side", "cash"), [(BUY, "163.800"), (SELL, "-163.800")])
def test_a_dividend_is_paid_to_longs_and_taken_from_shorts(side: Any, cash: str) -> None:
    b = world({}, DIVIDEND)
    b.on_session_open(0, "2023-06-15")
    bought(b, "SPY", "100", 440.0, side=side)
    before = b.snapshot(0).cash
    assert told(b.on_session_open(9, "2023-06-16")) == [("DIVIDEND", "SPY", "0", cash)]
    assert b.snapshot(0).cash == before + D(cash)


def test_a_dividend_needs_the_position_at_the_previous_close_and_one_before_the_data_pays_nobody() -> None:
    b = world({}, DIVIDEND)
    assert b.on_session_open(0, "2023-06-16") == []
    bought(b, "SPY", "100", 440.0)
    assert b.on_session_open(9, "2023-06-20") == []


def test_an_ex_date_without_a_session_takes_effect_at_the_next_open() -> None:
    b = world({}, DIVIDEND)
    b.on_session_open(0, "2023-06-15")
    bought(b, "SPY", "100", 440.0)
    assert told(b.on_session_open(9, "2023-06-20")) == [("DIVIDEND", "SPY", "0", "163.800")]


def test_early_assignment_is_off_unless_asked_for_and_takes_short_calls_with_less_time_value_than_the_dividend() -> (
    None
):
    prices = {"SPY": 442.0, CALL: 12.5}
    for on, expected in (
        (False, []),
        (
            True,
            [
                ("ASSIGNMENT", CALL, "1", "0"),
                ("DELIVERY", "SPY", "-100", "43000"),
                ("DIVIDEND", "SPY", "0", "-163.800"),
            ],
        ),
    ):
        b = world(prices, DIVIDEND, lifecycle=LifecyclePolicy(early_assignment=on))
        b.on_session_open(0, "2023-06-15")
        bought(b, CALL, "1", 12.0, side=SELL)
        assert told(b.on_session_open(9, "2023-06-16")) == expected
    prices[CALL] = 15.0  # three dollars of time value: the holder sells rather than exercises
    b = world(prices, DIVIDEND, lifecycle=LifecyclePolicy(early_assignment=True))
    b.on_session_open(0, "2023-06-15")
    bought(b, CALL, "1", 12.0, side=SELL)
    assert b.on_session_open(9, "2023-06-16") == []
