"""Metrics against published answers and direct arithmetic; round trips against the cash that moved, exactly."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal as D
from decimal import localcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.model.errors import DataError
from northstar_core.model.events import OrderFilled, PositionAdjusted
from northstar_core.model.execution import ActivityKind
from northstar_core.model.order import Side
from northstar_core.research import metrics as m

nan = math.nan
DAY = 86_400_000_000_000

# The series of empyrical's own test-suite (quantopian/empyrical, tests/test_stats.py), in percent
MIXED = np.array([nan, 1.0, 10.0, -4.0, 2.0, 3.0, 2.0, 1.0, -10.0]) / 100
NEGATIVE = np.array([0.0, -6.0, -7.0, -1.0, -9.0, -2.0, -6.0, -8.0, -5.0]) / 100
POSITIVE = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) / 100


# --- returns, published -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "total", "growth", "volatility", "sharpe", "sortino"),
    [
        # empyrical-reloaded 0.7.1, nans dropped
        (MIXED, 0.03893109170048037, 2.330292797300439, 0.9136465399704637, 1.7238613961706866, 2.605531251673693),
        (NEGATIVE, -0.365907303498736, -0.9999971141282427, 0.5047771785649585, -24.40680863391008, -13.5327430750434),
        (POSITIVE, 0.10451383974064199, 15.173072621219674, 0.052915026221291815, 52.915026221291804, nan),
    ],
)
def test_returns_have_the_figures_that_empyrical_publishes(
    returns: np.ndarray, total: float, growth: float, volatility: float, sharpe: float, sortino: float
) -> None:
    functions = (m.total_return, m.cagr, m.annual_volatility, m.sharpe, m.sortino)
    got = tuple(function(returns) for function in functions)
    # one convention differs: without a negative return empyrical's Sortino is infinite, ours is not a number
    assert got == pytest.approx((total, growth, volatility, sharpe, sortino), rel=1e-12, nan_ok=True)


def test_random_returns_have_the_figures_that_empyrical_computes() -> None:
    returns = np.random.default_rng(42).normal(0.0005, 0.01, 500).round(6)
    assert m.total_return(returns) == pytest.approx(0.17512761710127456)
    assert m.cagr(returns) == pytest.approx(0.08473301003047906)
    assert m.annual_volatility(returns) == pytest.approx(0.1523850000925531)
    assert m.sharpe(returns) == pytest.approx(0.6098008067956888)
    assert m.sharpe(returns, rate=0.0252) == pytest.approx(0.44443019955288754)  # empyrical: 0.0001 a period
    assert m.sortino(returns) == pytest.approx(0.8985153337313554)
    depth = m.drawdown(np.cumprod(1 + returns), start=1.0).depth
    assert depth == pytest.approx(-0.11718548900895032)
    assert m.calmar(m.cagr(returns), depth) == pytest.approx(0.7230674270942146)


def test_sharpe_by_hand() -> None:
    # mean 0.02, sample deviation sqrt(((-0.01)^2 + 0 + 0.01^2) / 2) = 0.01
    assert m.sharpe([0.01, 0.02, 0.03]) == pytest.approx(2 * math.sqrt(252))
    assert m.sortino([0.03, -0.01]) == pytest.approx(0.01 / math.sqrt(0.0001 / 2) * math.sqrt(252))


@pytest.mark.parametrize("function", (m.cagr, m.annual_volatility, m.sharpe, m.sortino))
def test_what_cannot_be_measured_is_not_a_number(function: Any) -> None:
    assert math.isnan(function([])) and math.isnan(function([nan]))


def test_a_ratio_over_nothing_is_not_a_number() -> None:
    assert math.isnan(m.sharpe([0.01] * 10)) and math.isnan(m.sharpe([0.1, 0.1, 0.1])) and math.isnan(m.sharpe([0.01]))
    assert math.isnan(m.calmar(0.1, 0.0)) and math.isnan(m.profit_factor([1.0, 2.0]))
    assert m.cagr([-1.0, 0.5]) == -1.0


# --- equity to returns ------------------------------------------------------------------------------------------------


def test_daily_returns_run_from_session_close_to_session_close() -> None:
    ts = [DAY, DAY + 5, 2 * DAY, 2 * DAY + 5, 3 * DAY]
    got = m.daily_returns([101.0, 102.0, 90.0, 96.9, 107.0], [DAY + 6, 2 * DAY + 5, 3 * DAY + 9, 4 * DAY], 100.0, ts)
    # the third session was left in the middle: its last mark counts; the fourth never began
    np.testing.assert_allclose(got, [0.02, -0.05, 107.0 / 96.9 - 1])


def test_marks_after_the_last_close_belong_to_it_and_sessions_before_the_first_mark_are_left_out() -> None:
    got = m.daily_returns([101.0, 102.0, 103.0], [5, DAY + 1, 2 * DAY], 100.0, [DAY, DAY + 1, 2 * DAY + 50])
    np.testing.assert_allclose(got, [0.02, 103 / 102 - 1])
    assert len(m.daily_returns([], [5], 100.0, [])) == 0


def test_a_series_brings_its_own_times_and_naive_or_backward_ones_are_refused() -> None:
    index = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
    series = pd.Series([100.0, 110.0, 99.0], index)
    closes = [t.value for t in index]
    np.testing.assert_allclose(m.daily_returns(series, closes, 100.0), [0.0, 0.1, -0.1])
    newyork = series.copy()
    newyork.index = index.tz_convert("America/New_York").as_unit("s")
    np.testing.assert_allclose(m.daily_returns(newyork, closes, 100.0), [0.0, 0.1, -0.1])
    with pytest.raises(DataError, match="naive"):
        m.daily_returns(series.tz_localize(None), closes, 100.0)
    with pytest.raises(DataError, match="backward at row 1"):
        m.daily_returns(series[::-1], closes, 100.0)
    with pytest.raises(DataError, match="3 values but 2 times"):
        m.daily_returns([1.0, 2.0, 3.0], closes, 1.0, [1, 2])


def test_a_drawdown_has_a_depth_a_place_and_a_length() -> None:
    #                 0    1    2   3   4    5    6    7
    found = m.drawdown([100, 120, 90, 96, 120, 130, 110, 125])
    assert found == m.Drawdown(-0.25, 1, 2, 3)
    assert m.drawdown([100, 120, 90, 96, 119, 118, 110]).longest == 5, "never recovered: to the end"
    assert m.drawdown([95.0, 101.0], start=100.0, ts=[10, 20]) == m.Drawdown(95 / 100 - 1, 10, 10, 10)
    assert m.drawdown([1.0, 2.0, 3.0]) == m.Drawdown(0.0, 0, 0, 0)
    assert math.isnan(m.drawdown([]).depth)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_the_drawdown_is_the_worst_of_all_pairs(values: list[int]) -> None:
    worst = min(b / a - 1 for i, a in enumerate(values) for b in values[i:])
    found = m.drawdown(values)
    assert found.depth == worst
    assert values[found.trough] / values[found.peak] - 1 == worst
    below = [next((j for j in range(i + 1, len(values)) if values[j] >= values[i]), len(values) - 1) - i
             for i in range(len(values)) if values[i] == max(values[: i + 1])
             and i + 1 < len(values) and values[i + 1] < values[i]]  # fmt: skip
    assert found.longest == max(below, default=0)


# --- trades -----------------------------------------------------------------------------------------------------------


def test_trade_figures_by_hand() -> None:
    profits = [100.0, -50.0, 0.0, 200.0, -100.0]
    assert m.win_rate(profits) == 0.4
    assert m.profit_factor(profits) == 2.0
    assert m.expectancy(profits) == 30.0
    assert math.isnan(m.win_rate([])) and math.isnan(m.expectancy([]))
    assert m.turnover(200_000.0, 100_000.0, 126) == 2.0
    assert m.exposure([50.0, 0.0, 10.0], [100.0, 100.0, 0.0]) == 0.25


def fill(ts: int, side: str, qty: str, price: str, fees: str = "0", **more: Any) -> m.Fill:
    return m.Fill(ts, more.pop("symbol", "SPY"), side, D(qty), D(price), D(fees), **more)


def test_the_first_in_is_the_first_out() -> None:
    fills = [
        fill(1, "BUY", "100", "10.00", "1"), fill(2, "BUY", "50", "11.00", "1"), fill(3, "SELL", "120", "12.50", "3"),
    ]  # fmt: skip
    one, two = m.round_trips(fills)
    assert (one.qty, one.entry_price, one.exit_price, one.fees, one.pnl) == (100, 10, D("12.5"), D("3.5"), D("246.5"))
    assert (two.qty, two.entry_price, two.exit_price, two.fees, two.pnl) == (20, 11, D("12.5"), D("0.9"), D("29.1"))
    assert (one.side, one.entry_ts, one.exit_ts) == ("LONG", 1, 3)
    (lot,) = m.open_lots(fills)
    assert (lot.qty, lot.cash, lot.fees, lot.pnl(D("12.00"))) == (30, D(-330), D("0.6"), D("29.4"))


def test_a_sale_through_zero_closes_the_long_and_opens_a_short() -> None:
    trips = m.round_trips([fill(1, "BUY", "10", "5"), fill(2, "SELL", "25", "6"), fill(3, "BUY", "15", "4")])
    assert [(t.side, t.qty, t.entry_price, t.exit_price, t.pnl) for t in trips] == [
        ("LONG", 10, 5, 6, 10), ("SHORT", 15, 6, 4, 30),
    ]  # fmt: skip


def test_partial_fills_of_one_order_make_one_trip() -> None:
    fills = [
        fill(1, "BUY", "30", "10", "0.10", order_id="a"), fill(2, "BUY", "70", "11", "0.10", order_id="a"),
        fill(3, "SELL", "60", "12", "0.10", order_id="b"), fill(4, "SELL", "40", "13", "0.10", order_id="b"),
    ]  # fmt: skip
    (trip,) = m.round_trips(fills)
    assert (trip.qty, trip.entry_ts, trip.exit_ts) == (100, 1, 4)
    assert (trip.entry_price, trip.exit_price, trip.fees, trip.pnl) == (D("10.7"), D("12.4"), D("0.4"), D("169.6"))
    assert len(m.round_trips([f.__class__(f.ts, f.symbol, f.side, f.qty, f.price) for f in fills])) == 3


def test_strategies_and_symbols_are_matched_apart() -> None:
    fills = [
        fill(1, "BUY", "1", "10", strategy="a"), fill(2, "SELL", "1", "12", strategy="b"),
        fill(3, "SELL", "1", "13", strategy="a"), fill(4, "BUY", "1", "1", symbol="QQQ", strategy="b"),
    ]  # fmt: skip
    (trip,) = m.round_trips(fills)
    assert (trip.strategy, trip.pnl) == ("a", 3)
    left = {(lot.strategy, lot.symbol, lot.qty) for lot in m.open_lots(fills)}
    assert left == {("b", "SPY", D(-1)), ("b", "QQQ", D(1))}


def test_an_option_counts_its_multiplier() -> None:
    (trip,) = m.round_trips([fill(1, "SELL", "2", "1.25", multiplier=100), fill(2, "BUY", "2", "0.40", multiplier=100)])
    assert (trip.side, trip.entry_price, trip.pnl) == ("SHORT", D("1.25"), 170)


def test_fills_without_meaning_are_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"fill 2 \(SPY\): qty must be above zero"):
        m.round_trips([fill(1, "BUY", "1", "1"), fill(2, "SELL", "-1", "1")])
    with pytest.raises(DataError, match=r"fill 2 \(SPY\): ts 1 is before 5"):
        m.round_trips([fill(5, "BUY", "1", "1"), fill(1, "SELL", "1", "1")])


money = st.decimals("0.01", "5000", places=4)
rows = st.lists(
    st.builds(
        m.Fill, st.just(0), st.sampled_from(["SPY", "TWX"]), st.sampled_from(["BUY", "SELL"]),
        st.decimals("0.001", "1000", places=3), money, st.decimals("0", "20", places=5), st.just(1),
        st.sampled_from("ab"), st.sampled_from(["", "o1", "o2", "o3"]),
    ),
    max_size=40,
)  # fmt: skip


@given(rows, money)
def test_trips_and_open_lots_add_up_to_the_cash_that_moved_exactly(fills: list[m.Fill], mark: D) -> None:
    trips, lots = m.round_trips(fills), m.open_lots(fills)
    with localcontext() as exactly:
        exactly.prec = 60
        signed = [(f, f.qty if f.side == "BUY" else -f.qty) for f in fills]
        cash = sum((-q * f.price - f.fees for f, q in signed), D(0))
        held = sum((q for _, q in signed), D(0))
        assert sum((t.pnl for t in trips), D(0)) + sum((lot.cash - lot.fees for lot in lots), D(0)) == cash
        assert sum((t.pnl for t in trips), D(0)) + sum((lot.pnl(mark) for lot in lots), D(0)) == cash + held * mark
        assert sum((t.fees for t in trips), D(0)) + sum((lot.fees for lot in lots), D(0)) == sum(
            (f.fees for f in fills), D(0)
        )
        assert sum((lot.qty for lot in lots), D(0)) == held
    for book in {(lot.strategy, lot.symbol) for lot in lots}:
        assert len({lot.qty > 0 for lot in lots if (lot.strategy, lot.symbol) == book}) == 1, "long or short, not both"


# --- runs: fills and what happens without orders ----------------------------------------------------------------------


def filled(ts: int, side: Side, qty: str, price: str, symbol: str, order_id: str, fees: str = "0") -> OrderFilled:
    return OrderFilled(ts, order_id, "s", "a", symbol, side, D(qty), D(price), D(fees), order_id, D(qty), D(0))


def adjusted(ts: int, kind: ActivityKind, symbol: str, qty: str, cash: str = "0", price: str = "0") -> PositionAdjusted:
    return PositionAdjusted(ts, "s", "a", symbol, kind, f"r{ts}{symbol}", D(qty), D(cash), D(price))


CALL = "SPY230901C00430000"


def test_an_option_that_expires_loses_its_premium() -> None:
    (trip,) = m.round_trips_of(
        [filled(1, Side.BUY, "2", "1.50", CALL, "o1", "1.30")], [adjusted(9, ActivityKind.EXPIRATION, CALL, "-2")]
    )
    assert (trip.pnl, trip.exit_price, trip.ended, trip.exit_ts) == (D("-301.30"), 0, "EXPIRATION", 9)


def test_an_assigned_call_delivers_shares_at_the_strike() -> None:
    fills = [filled(1, Side.BUY, "100", "425", "SPY", "o1"), filled(2, Side.SELL, "1", "7.00", CALL, "o2")]
    adjustments = [
        adjusted(9, ActivityKind.ASSIGNMENT, CALL, "1"),
        adjusted(9, ActivityKind.DELIVERY, "SPY", "-100", "43000", "430"),
        adjusted(9, ActivityKind.DIVIDEND, "SPY", "0", "12.34"),
    ]
    trips = {t.symbol: t for t in m.round_trips_of(fills, adjustments)}
    assert (trips[CALL].pnl, trips[CALL].ended, trips[CALL].side) == (700, "ASSIGNMENT", "SHORT")
    assert (trips["SPY"].pnl, trips["SPY"].exit_price, trips["SPY"].ended) == (500, 430, "DELIVERY")


def test_a_split_rescales_what_is_open_and_brings_nothing() -> None:
    fills = [
        filled(1, Side.BUY, "10", "700", "AAPL", "o1"), filled(2, Side.BUY, "5", "707", "AAPL", "o2"),
        filled(4, Side.SELL, "105", "93", "AAPL", "o3"),
    ]  # fmt: skip
    trips = m.round_trips_of(fills, [adjusted(3, ActivityKind.SPLIT, "AAPL", "90", price="7")])
    assert [(t.qty, t.entry_price, t.pnl) for t in trips] == [(70, 100, -490), (35, 101, -280)]


# --- all at once ------------------------------------------------------------------------------------------------------


def test_the_summary_has_every_defined_metric_and_agrees_with_the_parts() -> None:
    rng = np.random.default_rng(5)
    ts = np.concatenate([d * DAY + np.arange(390) * 60_000_000_000 for d in range(20)])
    equity = 100_000 * np.cumprod(1 + rng.normal(0, 0.0005, len(ts)))
    closes = [d * DAY + 389 * 60_000_000_000 for d in range(20)]
    trips = m.round_trips([fill(0, "BUY", "10", "5"), fill(7_200_000_000_000, "SELL", "10", "6", "1")])
    gross = np.where(np.arange(len(ts)) % 2, equity / 2, 0)
    found = m.summary(equity, closes, 100_000.0, ts=ts, gross=gross, trips=trips, traded=D(110), fees=D(1))
    assert list(found) == list(m.DEFINITIONS) and all(type(v) is float for v in found.values())
    daily = m.daily_returns(equity, closes, 100_000.0, ts)
    assert found["sharpe"] == m.sharpe(daily) and len(daily) == 20
    assert found["total_return"] == pytest.approx(equity[-1] / 100_000 - 1)
    assert found["max_drawdown"] == m.drawdown(equity, 100_000.0).depth
    assert found["calmar"] == pytest.approx(found["cagr"] / -found["max_drawdown"])
    assert found["exposure"] == pytest.approx(0.25) and found["time_in_market"] == 0.5
    assert (found["trades"], found["win_rate"], found["expectancy"]) == (1.0, 1.0, 9.0)
    assert found["average_hold_hours"] == 2.0 and math.isnan(found["average_loss"])
    assert found["fees_bps"] == pytest.approx(1e4 / 110) and found["fees"] == 1.0
    assert found["turnover"] == pytest.approx(55 / equity.mean() * 252 / 20)
    series = pd.Series(equity, pd.to_datetime(ts, utc=True))
    again = m.summary(series, closes, 100_000.0, gross=gross, trips=trips, traded=D(110), fees=D(1))
    assert again == pytest.approx(found, nan_ok=True)


def test_the_summary_of_nothing_is_not_a_number() -> None:
    found = m.summary([], [], 100_000.0, ts=[])
    assert found.pop("trades") == 0.0 and found.pop("fees") == 0.0
    assert all(math.isnan(v) for v in found.values())


def test_importing_metrics_does_not_import_pandas() -> None:
    code = "import sys, northstar_core.research.metrics; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
