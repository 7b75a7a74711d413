"""What a fill costs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from northstar_core.model.instrument import Equity, Option, instrument
from northstar_core.sim.costs import (
    NOTHING,
    AllOf,
    Costs,
    Fixed,
    Percent,
    PerContract,
    PerShare,
    Tally,
    per_share_and_contract,
)  # fmt: skip
from northstar_core.sim.regulatory import RegulatoryFees, section_31_fee, trading_activity_fee
from tests.sim.worlds import BUY, MINUTE, SELL, broker, flat, order

D = Decimal
SHARE = Equity("SPY")
CALL = instrument("SPY230901C00430000")
assert isinstance(CALL, Option)


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


def fee(
    costs: Costs, qty: str, price: str, *, buy: bool = True, day: str = "2024-01-02", what: Equity | Option = SHARE
) -> str:
    return str(costs.fee(what, buy, D(qty), D(price), at(day), NOTHING))


@pytest.mark.parametrize(
    ("qty", "price", "expected"), [("100", "25", "1.00"), ("1000", "25", "5.00"), ("1000", "0.25", "2.50")]
)
def test_the_fixed_schedule_gives_the_examples_interactive_brokers_publishes(
    qty: str, price: str, expected: str
) -> None:
    assert fee(per_share_and_contract(), qty, price) == expected


def test_a_large_sale_in_2023_costs_what_interactive_brokers_published() -> None:
    """Sell 200,000 shares at $5, fixed pricing: commission 1,000, transaction fee 8.00, trading activity fee 7.27."""
    costs = AllOf((per_share_and_contract(), RegulatoryFees()))
    assert fee(costs, "200000", "5", buy=False, day="2023-06-01") == "1015.27"


def test_section_31_rates_change_on_their_day() -> None:
    million = D(1_000_000)
    days = {
        "2024-05-21": "8.00",
        "2024-05-22": "27.80",
        "2025-05-13": "27.80",
        "2025-05-14": "0.00",
        "2021-02-25": "5.10",
    }
    assert {day: str(section_31_fee(million, at(day))) for day in days} == days


def test_regulatory_fees_are_rounded_up_to_the_cent_capped_and_on_sales_only() -> None:
    assert fee(RegulatoryFees(), "1", "1", buy=False) == "0.02"
    assert fee(RegulatoryFees(), "100", "100", buy=True) == "0"
    assert str(trading_activity_fee(SHARE, D(49_000), at("2024-01-02"))) == "8.14"
    assert str(trading_activity_fee(SHARE, D(60_000), at("2024-01-02"))) == "8.30"
    assert str(trading_activity_fee(CALL, D(10), at("2024-01-02"))) == "0.03"


def test_a_minimum_an_order_is_charged_once_over_partial_fills() -> None:
    costs = PerShare(D("0.005"), D(1), D("0.01"))
    before, paid = NOTHING, []
    for qty in (D(50), D(100), D(250)):
        paid.append(str(costs.fee(SHARE, True, qty, D(25), 0, before)))
        before = Tally(before.qty + qty, before.value + qty * 25)
    assert paid == ["1.00", "0.00", "1.00"]


def test_commissions_are_rounded_half_up_on_the_running_total() -> None:
    costs = Percent(D("0.0001"))
    first = costs.fee(SHARE, True, D(1), D(150), 0, NOTHING)
    second = costs.fee(SHARE, True, D(1), D(150), 0, Tally(D(1), D(150)))
    assert (str(first), str(second)) == ("0.02", "0.01")


def test_shares_pay_by_share_and_options_by_contract() -> None:
    assert fee(PerShare(D("0.005"), D(1)), "10", "3", what=CALL) == "0"
    assert fee(PerContract(D("0.65")), "10", "3", what=CALL) == "6.50"
    assert fee(PerContract(D("0.65")), "10", "3") == "0"
    assert fee(Percent(D("0.01")), "1", "3", what=CALL) == "3.00"


def test_a_fixed_fee_is_charged_with_the_first_execution() -> None:
    b = broker(costs=Fixed(D("4.95")), volume_share=D("0.1"))
    b.submit(order(BUY, "100"), 0)
    (first,) = b.on_bars([flat(0, volume=500)])
    (second,) = b.on_bars([flat(1, volume=500)])
    assert (first.fees, second.fees) == (D("4.95"), D(0))
    assert b.snapshot(0).cash == D(90000) - D("4.95")


def test_fees_leave_the_account_with_the_fill() -> None:
    b = broker(costs=RegulatoryFees())
    b.submit(order(SELL, "100"), 0)
    (fill,) = b.on_bars([flat(0)])
    assert fill.ts == 0 < MINUTE and b.snapshot(0).cash == D(110000) - fill.fees


def test_every_cost_model_says_what_it_is() -> None:
    parts = (PerShare(D("0.005")), PerContract(D("0.65")), Percent(D("0.001")), Fixed(D(1)), RegulatoryFees())
    assert AllOf(parts).describe().split("; ") == [
        "$0.005 a share, at least $0 an order",
        "$0.65 an option contract, at least $0 an order",
        "0.100 % of the value, at least $0 an order",
        "$1 an order",
        "SEC Section 31 and FINRA trading activity fees on sales at the day's rates, each rounded up to the cent",
    ]
