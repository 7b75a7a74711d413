"""A tape as events: the order in which things became known, in chunks of any size."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.model.errors import DataError
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.tape import Tape, TradeTable
from northstar_core.research.feed import Feed
from tests.research.markets import FIRST, MINUTE, SECOND, bars, quotes

D = Decimal


def trades(symbol: str, rows: list[tuple[int, float]]) -> TradeTable:
    ts, price = zip(*rows, strict=True)
    return TradeTable(
        symbols=(symbol,), code=np.zeros(len(rows), dtype=np.int32), ts=np.array(ts, dtype=np.int64),
        price=np.array(price), size=np.full(len(rows), 100.0), forms_price=np.ones(len(rows), dtype=bool),
    )  # fmt: skip


def mixed(seconds: list[int], ticks: list[int]) -> Tape:
    """Bars of two symbols a minute, quotes and prints at the given seconds."""
    table = bars({"AAA": [(1.0, 1.5)] * 5, "ZZZ": [(2.0, 2.5)] * 5})
    return Tape(
        bars=table,
        quotes=quotes("AAA", [(FIRST + s * SECOND, 1.0, 1.1) for s in sorted(seconds)]) if seconds else None,
        trades=trades("ZZZ", [(FIRST + s * SECOND, 2.0) for s in sorted(ticks)]) if ticks else None,
    )


def test_at_one_instant_quotes_come_before_prints_before_bars() -> None:
    feed = Feed(mixed([60, 61], [60]))
    (chunk,) = feed.chunks()
    assert chunk.bars is None
    assert [(type(event).__name__, event.symbol) for event in chunk.events()[:5]] == [
        ("Quote", "AAA"), ("Trade", "ZZZ"), ("Bar", "AAA"), ("Bar", "ZZZ"), ("Quote", "AAA"),
    ]  # fmt: skip
    assert feed.table == "ticks"


def test_bars_alone_are_known_when_they_have_closed() -> None:
    feed = Feed(Tape(bars=bars({"AAA": [(1.0, 1.5), (1.5, 1.25)]})))
    (chunk,) = feed.chunks()
    assert chunk.bars == [
        Bar("AAA", FIRST, FIRST + MINUTE, 1.0, 1.5, 1.0, 1.5, 10_000.0),
        Bar("AAA", FIRST + MINUTE, FIRST + 2 * MINUTE, 1.5, 1.5, 1.25, 1.25, 10_000.0),
    ]
    assert (feed.table, feed.first_ts) == ("bars", FIRST)


def test_a_tape_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows"):
        Feed(Tape())


moments = st.lists(st.integers(0, 300), max_size=30)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(moments, moments, st.integers(1, 40))
def test_chunks_of_any_size_give_every_row_once_in_order(seconds: list[int], ticks: list[int], size: int) -> None:
    feed = Feed(mixed(seconds, ticks))
    events, ends = [], []
    for chunk in feed.chunks(size):
        assert chunk.first == len(events)
        events += chunk.events()
        ends.append(len(events))
    assert len(events) == feed.rows == 10 + len(seconds) + len(ticks)
    keys = [(event.ts, (Quote, Trade, Bar).index(type(event))) for event in events]
    assert keys == sorted(keys)
    assert all(events[end - 1].ts < events[end].ts for end in ends[:-1]), "no chunk ends within an instant"
    assert [feed.row(n) for n in range(feed.rows)] == events


@settings(max_examples=60, deadline=None, derandomize=True)
@given(moments, moments, st.integers(0, 70), st.integers(-1, 8))
def test_history_is_the_last_bars_among_the_rows_consumed(
    seconds: list[int], ticks: list[int], consumed: int, n: int
) -> None:
    feed = Feed(mixed(seconds, ticks))
    seen = [feed.row(k) for k in range(min(consumed, feed.rows))]
    bars_seen = [event for event in seen if isinstance(event, Bar) and event.symbol == "ZZZ"]
    assert feed.history("ZZZ", n, consumed) == (bars_seen[-n:] if n > 0 else [])
    assert feed.history("QQQ", n, consumed) == []


@settings(max_examples=30, deadline=None, derandomize=True)
@given(moments, st.integers(0, 40), st.integers(0, 40))
def test_a_digest_is_of_the_rows_and_of_nothing_else(seconds: list[int], first: int, last: int) -> None:
    feed, again = Feed(mixed(seconds, [])), Feed(mixed(seconds, []))
    first, last = sorted((min(first, feed.rows), min(last, feed.rows)))
    assert feed.digest(first, last) == again.digest(first, last)
    if last - first > 1:
        assert feed.digest(first, last) != feed.digest(first, last - 1)
