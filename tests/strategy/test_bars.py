"""Bars from trades, quotes and smaller bars: closed by time, anchored, in order, and equal to direct aggregation."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.model.errors import DataError, ParameterError
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.strategy.bars import BarBuilder

SHARED = Path(os.environ.get("NORTHSTAR_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
S = 1_000_000_000
MINUTE = 60 * S
OPEN = 1_381_239_000 * S  # 2013-10-08 09:30 New York


def trade(ts: int, price: float, size: float = 100.0, forms_price: bool = True) -> Trade:
    return Trade("X", ts, price, size, forms_price)


def small(start: int, price: float, span: int = S, volume: float = 10.0) -> Bar:
    return Bar("X", start, start + span, price, price + 1, price - 1, price + 0.5, volume)


def fed(builder: BarBuilder, events: list[Any], end: int) -> list[Bar]:
    return [bar for event in events for bar in builder.add(event)] + list(builder.advance(end))


def test_trades_become_open_high_low_close_and_volume() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    events = [trade(OPEN, 10), trade(OPEN + 5 * S, 12), trade(OPEN + 6 * S, 9), trade(OPEN + MINUTE - 1, 11, 50)]
    assert fed(builder, events, OPEN + MINUTE) == [Bar("X", OPEN, OPEN + MINUTE, 10, 12, 9, 11, 350)]


def test_a_trade_at_the_close_of_a_bar_belongs_to_the_next() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    assert builder.add(trade(OPEN, 10)) == ()
    assert builder.add(trade(OPEN + MINUTE, 20)) == (Bar("X", OPEN, OPEN + MINUTE, 10, 10, 10, 10, 100),)
    assert builder.partial == Bar("X", OPEN + MINUTE, OPEN + 2 * MINUTE, 20, 20, 20, 20, 100)


def test_time_alone_closes_a_bar_once() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    builder.add(trade(OPEN + S, 10))
    assert builder.advance(OPEN + MINUTE - 1) == ()
    assert [b.ts for b in builder.advance(OPEN + MINUTE)] == [OPEN + MINUTE]
    assert builder.advance(OPEN + MINUTE) == () and builder.advance(OPEN + 30 * MINUTE) == ()


def test_a_span_without_data_gives_no_bar() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    bars = fed(builder, [trade(OPEN, 10), trade(OPEN + 7 * MINUTE, 11)], OPEN + 8 * MINUTE)
    assert [(b.start - OPEN) // MINUTE for b in bars] == [0, 7]
    assert builder.partial is None


def test_trades_that_form_no_price_count_for_volume_only() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    events = [trade(OPEN, 99, 7, False), trade(OPEN + 1, 10), trade(OPEN + 2, 1, 5, False)]
    assert fed(builder, events, OPEN + MINUTE) == [Bar("X", OPEN, OPEN + MINUTE, 10, 10, 10, 10, 112)]
    assert fed(builder, [trade(OPEN + MINUTE, 99, 7, False)], OPEN + 2 * MINUTE) == [], "no price, no bar"
    later = fed(builder, [trade(OPEN + 2 * MINUTE, 8)], OPEN + 3 * MINUTE)
    assert later[0].volume == 100, "nor is its volume carried on"
    assert builder.unpriced == 3


def test_quotes_give_bars_of_their_mid_and_one_sided_ones_give_nothing() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    events = [
        Quote("X", OPEN, 58.0, 100.0, 1, 1), Quote("X", OPEN + 1, 0.0, 100.0, 0, 1), Quote("X", OPEN + 2, 58.0, 0.0, 1,
        0), Quote("X", OPEN + 3, 70.0, 71.0, 1, 1),
    ]  # fmt: skip
    assert fed(builder, events, OPEN + MINUTE) == [Bar("X", OPEN, OPEN + MINUTE, 79.0, 79.0, 70.5, 70.5, 0.0)]
    assert builder.unpriced == 2


def test_smaller_bars_become_larger_ones_as_soon_as_the_last_is_known() -> None:
    builder = BarBuilder("X", 3 * S, OPEN)
    assert builder.add(small(OPEN, 10)) == () == builder.add(small(OPEN + S, 20))
    assert builder.add(small(OPEN + 2 * S, 5)) == (Bar("X", OPEN, OPEN + 3 * S, 10, 21, 4, 5.5, 30),)
    builder.add(small(OPEN + 3 * S, 7))
    # the next two seconds had no trade; the second after them closes both the bar before and its own
    one, two = builder.add(small(OPEN + 8 * S, 9))
    assert (one.start, one.ts, two.start, two.ts) == (OPEN + 3 * S, OPEN + 6 * S, OPEN + 6 * S, OPEN + 9 * S)
    assert builder.add(small(OPEN + 8 * S, 9)) == () and builder.late == 1, "a repeated bar is dropped"


def test_smaller_bars_that_straddle_ours_are_refused() -> None:
    builder = BarBuilder("X", 5 * S, OPEN)
    with pytest.raises(DataError, match=r"X: the bar of \d+ to \d+ does not lie within one of"):
        builder.add(small(OPEN + 4 * S, 10, span=2 * S))


def test_late_input_is_dropped_and_counted() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    builder.add(trade(OPEN, 10))
    builder.advance(OPEN + MINUTE)
    assert builder.add(trade(OPEN + MINUTE - 1, 99)) == () and builder.late == 1
    assert fed(builder, [trade(OPEN + MINUTE, 11)], OPEN + 2 * MINUTE) == [
        Bar("X", OPEN + MINUTE, OPEN + 2 * MINUTE, 11, 11, 11, 11, 100)
    ]
    builder.advance(OPEN + 9 * MINUTE)
    builder.add(trade(OPEN + 5 * MINUTE, 99))
    assert builder.late == 2, "no bar of an empty span is made once its time has passed"


@given(
    st.lists(st.tuples(st.integers(0, MINUTE - 1), st.integers(1, 50)), min_size=1, unique_by=lambda t: t[0]),
    st.randoms()
)
def test_the_order_of_arrival_within_a_bar_does_not_change_it(rows: list[tuple[int, int]], random: Any) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)
    bars = [
        fed(BarBuilder("X", MINUTE, OPEN), [trade(OPEN + ts, p) for ts, p in order], OPEN + MINUTE)
        for order in (sorted(rows), shuffled)
    ]
    assert bars[0] == bars[1]


@given(
    st.lists(st.tuples(st.integers(-(10**4), 10**4), st.integers(1, 50)), max_size=60),
    st.lists(st.integers(-(10**4), 10**4), max_size=60),
    st.integers(1, 900),
    st.one_of(st.none(), st.integers(1, 5000)),
)
def test_bars_come_in_order_without_overlap_whatever_the_input(
    rows: list[tuple[int, int]], times: list[int], span: int, close: int | None
) -> None:
    base = 10**6
    builder = BarBuilder("X", span, base, None if close is None else base + close)
    bars: list[Bar] = []
    for (ts, price), now in zip(rows, [*times, *([0] * len(rows))], strict=False):
        bars += builder.add(trade(base + ts, price))
        bars += builder.advance(base + now)
    bars += builder.advance(base + 10**6)
    assert all(a.ts <= b.start for a, b in itertools.pairwise(bars))
    for bar in bars:
        assert bar.start < bar.ts <= bar.start + span
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        if close is not None:
            assert not bar.start < base + close < bar.ts, "no bar spans the close"
    assert sum(b.volume for b in bars) / 100 + builder.late == len(rows), "in one bar, or counted as late"


def test_the_last_bar_of_a_session_is_cut_at_its_close() -> None:
    close = OPEN + 390 * MINUTE
    builder = BarBuilder("X", 60 * MINUTE, OPEN, close)
    bars = fed(builder, [trade(close - 1, 10), trade(close, 11)], close + 60 * MINUTE)
    assert [((b.start - OPEN) // MINUTE, (b.ts - OPEN) // MINUTE) for b in bars] == [(360, 390), (390, 420)]


def test_a_new_session_has_its_own_anchor() -> None:
    builder = BarBuilder("X", 60 * MINUTE, OPEN)
    builder.add(trade(OPEN + 1, 10))
    next_open = OPEN + 24 * 60 * MINUTE + 7 * MINUTE
    assert [b.start for b in builder.start_session(next_open)] == [OPEN]
    bars = fed(builder, [trade(next_open + 1, 12)], next_open + 60 * MINUTE)
    assert [(b.start, b.ts) for b in bars] == [(next_open, next_open + 60 * MINUTE)]
    with pytest.raises(ParameterError, match="cannot start at"):
        builder.start_session(OPEN)


def test_a_bar_that_would_reach_into_the_next_session_ends_where_that_begins() -> None:
    builder = BarBuilder("X", 60 * MINUTE, OPEN)
    builder.add(trade(OPEN + 1, 10))
    assert [(b.start, b.ts) for b in builder.start_session(OPEN + 30 * MINUTE)] == [(OPEN, OPEN + 30 * MINUTE)]
    builder.add(trade(OPEN + 29 * MINUTE, 10))
    assert builder.late == 1


def test_inputs_of_another_symbol_or_of_two_kinds_are_refused() -> None:
    builder = BarBuilder("X", MINUTE, OPEN)
    with pytest.raises(DataError, match="Y: given to the bar builder of X"):
        builder.add(Trade("Y", OPEN, 1.0, 1.0))
    builder.add(trade(OPEN, 1.0))
    with pytest.raises(DataError, match="use one builder for each kind"):
        builder.add(small(OPEN + S, 1.0))


@pytest.mark.parametrize("arguments", [("X", 0, OPEN), ("X", MINUTE, OPEN, OPEN)])
def test_a_span_or_session_of_no_length_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ParameterError):
        BarBuilder(*arguments)


# --- real data
# ------------------------------------------------------------------------------------------------------------


def rows_of(name: str) -> list[dict[str, str]]:
    path = SHARED / "equity" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    with path.open() as file:
        return list(csv.DictReader(file))


def aggregated(symbol: str, ts: np.ndarray, ohlcv: np.ndarray, span: int) -> list[Bar]:
    """Bars by numpy: rows sorted by time, columns open, high, low, close, volume."""
    bucket = (ts - OPEN) // span
    first = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
    last = np.concatenate([first[1:], [len(ts)]]) - 1
    columns = (
        ohlcv[first, 0], np.maximum.reduceat(ohlcv[:, 1], first), np.minimum.reduceat(ohlcv[:, 2], first),
        ohlcv[last, 3], np.add.reduceat(ohlcv[:, 4], first),
    )  # fmt: skip
    starts = (OPEN + bucket[first] * span).tolist()
    return [Bar(symbol, s, s + span, *row) for s, row in zip(starts, np.column_stack(columns).tolist(), strict=True)]


@pytest.mark.parametrize("minutes", (1, 5, 30))
def test_seconds_become_the_minutes_that_numpy_makes_of_them(minutes: int) -> None:
    rows = rows_of("IBM_2013-10-08_second_trades.csv")
    ts = np.array([int(r["window_start"]) for r in rows])
    ohlcv = np.array([[float(r[c]) for c in ("open", "high", "low", "close", "volume")] for r in rows])
    seconds = [Bar("IBM", int(t), int(t) + S, *map(float, row)) for t, row in zip(ts, ohlcv, strict=True)]
    builder = BarBuilder("IBM", minutes * MINUTE, OPEN)
    assert fed(builder, seconds, int(ts[-1]) + 60 * MINUTE) == aggregated("IBM", ts, ohlcv, minutes * MINUTE)
    assert builder.late == 0


def test_ticks_become_the_seconds_and_minutes_that_numpy_makes_of_them() -> None:
    rows = rows_of("IBM_2013-10-08_ticks_trades_0929-1030.csv")
    ts = np.array([int(r["timestamp"]) for r in rows])
    price, size = (np.array([float(r[c]) for r in rows]) for c in ("price", "size"))
    assert (np.diff(ts) >= 0).all()
    ticks = [Trade("IBM", int(t), float(p), float(s)) for t, p, s in zip(ts, price, size, strict=True)]
    for span in (S, MINUTE):
        bars = fed(BarBuilder("IBM", span, OPEN), ticks, int(ts[-1]) + span)
        assert bars == aggregated("IBM", ts, np.column_stack([price, price, price, price, size]), span)


def test_ticks_to_seconds_to_minutes_is_ticks_to_minutes() -> None:
    rows = rows_of("IBM_2013-10-08_ticks_trades_0929-1030.csv")
    ticks = [Trade("IBM", int(r["timestamp"]), float(r["price"]), float(r["size"])) for r in rows]
    end = ticks[-1].ts + MINUTE
    seconds = fed(BarBuilder("IBM", S, OPEN), ticks, end)
    assert fed(BarBuilder("IBM", MINUTE, OPEN), seconds, end) == fed(BarBuilder("IBM", MINUTE, OPEN), ticks, end)
