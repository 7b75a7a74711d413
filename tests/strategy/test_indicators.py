"""Each indicator against its definition written with numpy, and against talipp, an independent incremental library.

Where the conventions differ the tests say so and compare what must still agree.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import talipp.indicators as ta
from hypothesis import given
from hypothesis import strategies as st
from talipp.ohlcv import OHLCV

from northstar_core.model.errors import ParameterError
from northstar_core.strategy.indicators import (
    ATR,
    EMA,
    MACD,
    ROC,
    RSI,
    SMA,
    VWAP,
    WMA,
    Bollinger,
    Donchian,
    Indicator,
    Keltner,
    RollingMax,
    RollingMin,
    Stdev,
    ZScore,
)

PERIODS = (1, 2, 3, 10, 37)


def random_closes(n: int = 600, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))), 2)


def random_bars(n: int = 600, seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """High, low, close, volume; bars gap from close to open, so that true ranges differ from ranges."""
    rng = np.random.default_rng(seed)
    closes = random_closes(n, seed)
    opens = np.round(np.concatenate([[100.0], closes[:-1]]) * np.exp(rng.normal(0, 0.01, n)), 2)
    high = np.maximum(opens, closes) + np.round(rng.exponential(0.3, n), 2)
    low = np.minimum(opens, closes) - np.round(rng.exponential(0.3, n), 2)
    return high, low, closes, rng.integers(0, 5000, n).astype(float)


def fed(indicator: Any, *columns: np.ndarray) -> np.ndarray:
    return np.array([indicator.update(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])


def windows(x: np.ndarray, period: int, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``f`` over the last axis of every full window; nan before the first."""
    out = np.full(len(x), math.nan)
    out[period - 1 :] = f(np.lib.stride_tricks.sliding_window_view(x, period))
    return out


def talipp_fed(indicator: Any, values: list[Any]) -> np.ndarray:
    for value in values:
        indicator.add(value)
    return np.array([math.nan if v is None else v for v in indicator], dtype=float)


def ohlcv(high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray) -> list[OHLCV]:
    rows = np.column_stack([high, low, close, volume]).tolist()
    return [OHLCV(c, h, lo, c, v) for h, lo, c, v in rows]


def same(a: np.ndarray, b: np.ndarray, rtol: float = 1e-11, atol: float = 1e-11) -> None:
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)


# --- averages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
def test_sma_is_the_mean_of_the_last_inputs(period: int) -> None:
    closes = random_closes()
    ours = fed(SMA(period), closes)
    same(ours, windows(closes, period, lambda w: w.mean(axis=-1)))
    same(ours, talipp_fed(ta.SMA(period), closes.tolist()))


def test_sma_does_not_drift_over_a_million_updates() -> None:
    scales = np.random.default_rng(1).choice([1e-3, 1.0, 1e3], 100)
    closes = np.tile(random_closes(10_000), 100) * np.repeat(scales, 10_000)
    sma, period = SMA(50), 50
    ours = fed(sma, closes)
    for end in (*range(period, 10_000, 997), *range(990_000, 1_000_000, 97), 1_000_000):
        window = closes[end - period : end]
        # what left the window less than a window ago may still show in the last bits of a much smaller value
        scale = float(closes[max(0, end - 2 * period) : end].max())
        assert abs(ours[end - 1] - math.fsum(window) / period) <= period * np.finfo(float).eps * scale
    assert ours[-1] == math.fsum(closes[-period:]) / period, "a million is a multiple of the period: just summed anew"


def test_sma_of_a_constant_is_that_constant_exactly() -> None:
    assert set(fed(SMA(7), np.full(100, 0.1))[6:].tolist()) == {0.1}


@pytest.mark.parametrize("period", PERIODS)
def test_wma_weighs_the_newest_most(period: int) -> None:
    closes = random_closes()
    weights = np.arange(1, period + 1) / (period * (period + 1) / 2)
    ours = fed(WMA(period), closes)
    same(ours, windows(closes, period, lambda w: w @ weights))
    same(ours, talipp_fed(ta.WMA(period), closes.tolist()))


@pytest.mark.parametrize("period", PERIODS)
def test_ema_starts_as_the_mean_of_its_first_inputs(period: int) -> None:
    closes = random_closes()
    ours = fed(EMA(period), closes)
    expected, alpha = np.full(len(closes), math.nan), 2 / (period + 1)
    expected[period - 1] = closes[:period].mean()
    for i in range(period, len(closes)):
        expected[i] = alpha * closes[i] + (1 - alpha) * expected[i - 1]
    same(ours, expected)
    same(ours, talipp_fed(ta.EMA(period), closes.tolist()))


def test_ema_takes_wilders_smoothing_as_alpha() -> None:
    closes = random_closes()
    same(fed(EMA(14, alpha=1 / 14), closes), talipp_fed(ta.SMMA(14), closes.tolist()))


def test_macd_is_fast_less_slow_with_an_ema_of_that_as_signal() -> None:
    closes = random_closes()
    macd = MACD(12, 26, 9)
    rows = []
    for x in closes.tolist():
        macd.update(x)
        rows.append((macd.value, macd.signal, macd.histogram))
        assert macd.ready == (len(rows) >= 26 + 9 - 1)
    theirs = ta.MACD(12, 26, 9)
    for x in closes.tolist():
        theirs.add(x)
    none = (None, None, None)
    expected = [none if v is None else (v.macd, v.signal, v.histogram) for v in theirs]
    same(np.array(rows), np.array([[math.nan if x is None else x for x in row] for row in expected]))
    line = fed(EMA(12), closes) - fed(EMA(26), closes)
    same(np.array(rows)[:, 0], line)
    same(np.array(rows)[25:, 1], fed(EMA(9), line[25:]))


# --- momentum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
def test_roc_is_the_change_since_period_updates_ago(period: int) -> None:
    closes = random_closes()
    expected = np.full(len(closes), math.nan)
    expected[period:] = closes[period:] / closes[:-period] - 1
    ours = fed(ROC(period), closes)
    same(ours, expected)
    same(100 * ours, talipp_fed(ta.ROC(period), closes.tolist()))  # talipp gives percent


def wilder_rsi(closes: np.ndarray, period: int) -> np.ndarray:
    change = np.diff(closes)
    gains, losses = np.maximum(change, 0), np.maximum(-change, 0)
    gain, loss = gains[:period].mean(), losses[:period].mean()
    out = np.full(len(closes), math.nan)
    for i in range(period, len(closes)):
        if i > period:
            gain, loss = (gain * (period - 1) + gains[i - 1]) / period, (loss * (period - 1) + losses[i - 1]) / period
        out[i] = 100 - 100 / (1 + gain / loss) if loss else 100.0 if gain else 50.0
    return out


@pytest.mark.parametrize("period", (2, 3, 10, 14, 37))
def test_rsi_smooths_as_wilder_did(period: int) -> None:
    closes = random_closes(1500)
    ours = fed(RSI(period), closes)
    same(ours, wilder_rsi(closes, period))
    # talipp seeds with period - 1 changes and smooths the next one in; the difference decays by (1 - 1/period) an
    # update
    theirs = talipp_fed(ta.RSI(period), closes.tolist())
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    same(ours[1400:], theirs[1400:], atol=1e-10)


def test_rsi_gives_a_published_worked_example() -> None:
    # The worked example of StockCharts' ChartSchool (RSI, 14 periods): 70.53, 66.32, 66.55, 69.41, 66.36, 57.97
    closes = [
        44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826, 45.8931, 46.0328,
        45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439,
    ]  # fmt: skip
    rsi = RSI(14)
    values = [rsi.update(x) for x in closes]
    assert all(math.isnan(v) for v in values[:14])
    assert [round(v, 2) for v in values[14:]] == pytest.approx([70.53, 66.32, 66.55, 69.41, 66.36, 57.97], abs=0.011)


def test_rsi_is_100_without_losses_and_50_without_any_movement() -> None:
    assert fed(RSI(3), np.array([1.0, 2, 3, 4, 5]))[3:].tolist() == [100.0, 100.0]
    assert fed(RSI(3), np.array([5.0, 4, 3, 2, 1]))[3:].tolist() == [0.0, 0.0]
    assert fed(RSI(3), np.full(6, 9.0))[3:].tolist() == [50.0, 50.0, 50.0]


# --- ranges and bands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", (1, 2, 14))
def test_atr_smooths_true_ranges_as_wilder_did(period: int) -> None:
    high, low, close, volume = random_bars()
    before = np.concatenate([[math.nan], close[:-1]])
    ranges = np.fmax(high, before) - np.fmin(low, before)
    assert (ranges > high - low).any(), "the bars must gap for this to test anything"
    ours = fed(ATR(period), high, low, close)
    same(ours, fed(EMA(period, alpha=1 / period), ranges))
    same(ours, talipp_fed(ta.ATR(period), ohlcv(high, low, close, volume)))


@pytest.mark.parametrize("period", (2, 3, 10, 37))
@pytest.mark.parametrize("ddof", (0, 1))
def test_stdev_is_of_the_population_unless_asked(period: int, ddof: int) -> None:
    closes = random_closes()
    ours = fed(Stdev(period, ddof), closes)
    same(ours, windows(closes, period, lambda w: w.std(axis=-1, ddof=ddof)), rtol=1e-9)
    if ddof == 0:
        # talipp subtracts squares of prices, which loses half of the digits
        same(ours, talipp_fed(ta.StdDev(period), closes.tolist()), rtol=1e-6, atol=1e-6)


def test_stdev_keeps_its_digits_far_from_zero_and_after_a_jump() -> None:
    rng = np.random.default_rng(3)
    far = 1e9 + rng.normal(0, 1, 500)
    same(fed(Stdev(20), far), windows(far, 20, lambda w: w.std(axis=-1)), rtol=1e-9)
    jump = np.concatenate([np.full(55, 1.0), np.full(60, 1e8 + 0.1)])
    assert fed(Stdev(20), jump)[55 + 19 :].tolist() == [0.0] * 41, "equal inputs deviate by nothing"


def test_stdev_does_not_drift_over_a_million_updates() -> None:
    closes = np.tile(random_closes(10_000), 100)
    ours = fed(Stdev(30), closes)
    expected = windows(closes[-20_000:], 30, lambda w: w.std(axis=-1))
    same(ours[-10_000:], expected[-10_000:], rtol=1e-9)


def test_bollinger_bands_lie_two_population_deviations_from_the_mean() -> None:
    closes = random_closes()
    bands = Bollinger(20, 2.0)
    rows = np.array([(bands.update(x), bands.upper, bands.lower) for x in closes.tolist()])
    mean, stdev = windows(closes, 20, lambda w: w.mean(axis=-1)), windows(closes, 20, lambda w: w.std(axis=-1))
    same(rows, np.column_stack([mean, mean + 2 * stdev, mean - 2 * stdev]))
    theirs = ta.BB(20, 2.0)
    for x in closes.tolist():
        theirs.add(x)
    same(rows[19:], np.array([(v.cb, v.ub, v.lb) for v in theirs[19:]]), rtol=1e-6)


def test_zscore_counts_deviations_from_the_mean() -> None:
    closes = random_closes()
    score = ZScore(15)
    ours = fed(score, closes)
    same(ours, windows(closes, 15, lambda w: (w[:, -1] - w.mean(axis=-1)) / w.std(axis=-1)), rtol=1e-8, atol=1e-10)


def test_zscore_of_equal_inputs_is_ready_but_not_a_number() -> None:
    score = ZScore(5)
    assert all(math.isnan(x) for x in fed(score, np.full(8, 3.3)))
    assert score.ready and score.stdev == 0.0 and score.mean == 3.3


@pytest.mark.parametrize("period", PERIODS)
def test_rolling_extremes_are_those_of_the_window(period: int) -> None:
    closes = random_closes()
    same(fed(RollingMax(period), closes), windows(closes, period, lambda w: w.max(axis=-1)), 0, 0)
    same(fed(RollingMin(period), closes), windows(closes, period, lambda w: w.min(axis=-1)), 0, 0)


@given(st.lists(st.integers(-3, 3), max_size=60), st.integers(1, 8))
def test_rolling_extremes_hold_for_any_series_with_ties(xs: list[int], period: int) -> None:
    greatest, least = RollingMax(period), RollingMin(period)
    for i, x in enumerate(xs, 1):
        high, low = greatest.update(x), least.update(x)
        if i < period:
            assert math.isnan(high) and math.isnan(low) and not greatest.ready
        else:
            assert (high, low) == (max(xs[i - period : i]), min(xs[i - period : i]))


def test_donchian_is_the_greatest_high_and_the_least_low() -> None:
    high, low, close, volume = random_bars()
    channel = Donchian(20)
    bars = np.column_stack([high, low]).tolist()
    rows = np.array([(channel.update(*bar), channel.upper, channel.lower) for bar in bars])
    theirs = ta.DonchianChannels(20)
    for bar in ohlcv(high, low, close, volume):
        theirs.add(bar)
    same(rows[19:], np.array([(v.cb, v.ub, v.lb) for v in theirs[19:]]))
    assert np.isnan(rows[:19]).all()


def test_keltner_is_an_ema_between_average_true_ranges() -> None:
    high, low, close, volume = random_bars()
    channel = Keltner(20, 10, 1.5)
    bars = np.column_stack([high, low, close]).tolist()
    rows = np.array([(channel.update(*bar), channel.upper, channel.lower) for bar in bars])
    middle = fed(EMA(20), close)
    band = 1.5 * fed(ATR(10), high, low, close)
    same(rows, np.column_stack([middle, middle + band, middle - band]))
    theirs = ta.KeltnerChannels(20, 10, 1.5, 1.5)
    for bar in ohlcv(high, low, close, volume):
        theirs.add(bar)
    same(rows[19:], np.array([(v.cb, v.ub, v.lb) for v in theirs[19:]]))


def test_vwap_is_money_over_volume_since_the_reset() -> None:
    high, low, close, volume = random_bars()
    typical = (high + low + close) / 3
    vwap = VWAP()
    ours = fed(vwap, typical, volume)
    with np.errstate(invalid="ignore"):
        expected = np.cumsum(typical * volume) / np.cumsum(volume)
    same(ours, expected)
    same(ours[5:], talipp_fed(ta.VWAP(), ohlcv(high, low, close, volume))[5:])
    vwap.reset()
    assert math.isnan(vwap.update(10.0, 0.0)) and not vwap.ready
    assert vwap.update(11.0, 5.0) == 11.0 and vwap.volume == 5.0


# --- what all share ---------------------------------------------------------------------------------------------------

ONE_INPUT: list[Callable[[], Indicator]] = [
    lambda: SMA(5), lambda: WMA(5), lambda: EMA(5), lambda: ROC(5), lambda: RSI(5), lambda: Stdev(5), lambda: ZScore(5),
    lambda: Bollinger(5), lambda: RollingMax(5), lambda: RollingMin(5), lambda: MACD(3, 5, 2),
]  # fmt: skip


@pytest.mark.parametrize("make", ONE_INPUT, ids=lambda make: type(make()).__name__)
def test_a_copy_or_a_pickle_goes_on_as_the_original(make: Callable[[], Any]) -> None:
    closes = random_closes(80)
    for cut in (0, 3, 33):
        original = make()
        fed(original, closes[:cut])
        for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert fed(twin, closes[cut:]).tobytes() == fed(copy.deepcopy(original), closes[cut:]).tobytes()


@pytest.mark.parametrize("make", ONE_INPUT, ids=lambda make: type(make()).__name__)
def test_value_is_what_update_returned_and_ready_says_whether_there_is_one(make: Callable[[], Any]) -> None:
    indicator = make()
    assert math.isnan(indicator.value) and not indicator.ready
    became_ready = False
    for x in random_closes(30).tolist():
        returned = indicator.update(x)
        assert returned == indicator.value or (math.isnan(returned) and math.isnan(indicator.value))
        assert indicator.ready or not became_ready
        became_ready = indicator.ready
    assert became_ready and not hasattr(indicator, "__dict__")


@pytest.mark.parametrize("period", (0, -3, 2.5, "10"))
def test_a_period_that_is_no_positive_whole_number_is_refused(period: Any) -> None:
    with pytest.raises(ParameterError, match=r"SMA: period must be a whole number of at least 1, got"):
        SMA(period)


def test_settings_that_make_no_sense_are_refused() -> None:
    for make in (lambda: MACD(26, 12), lambda: Stdev(1, ddof=1), lambda: EMA(3, alpha=0.0), lambda: Stdev(5, ddof=2)):
        with pytest.raises(ParameterError):
            make()
