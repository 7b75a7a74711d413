"""A bar in detail adds up to the bar."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from northstar_core.model.market import Bar
from northstar_core.twins.expand import SECOND_NS, detail, expand

START = 1_691_069_400_000_000_000
cents = st.integers(1, 500_000).map(lambda c: c / 100)


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    prices = draw(st.lists(cents | st.floats(0.01, 5_000, allow_subnormal=False), min_size=4, max_size=4))
    low, first, second, high = sorted(prices)
    opening, close = draw(st.permutations([first, second]))
    volume = draw(st.integers(0, 10**9).map(float) | st.floats(0, 1e7, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 3.0, 4.5, 5.0]))
    seconds = draw(st.sampled_from([1, 2, 5, 60, 300]))
    return Bar("SPY", START, START + seconds * SECOND_NS, opening, high, low, close, volume)


@given(bars())
def test_second_bars_and_prints_add_up_to_the_bar_to_the_last_digit(bar: Bar) -> None:
    made = detail(bar)
    for parts in ([made.seconds, made.trades] if bar.volume else [made.seconds]):
        prices = [p for x in parts for p in ((x.open, x.high, x.low, x.close) if isinstance(x, Bar) else (x.price,))]
        assert (prices[0], max(prices), min(prices), prices[-1]) == (bar.open, bar.high, bar.low, bar.close)
        assert sum(x.volume if isinstance(x, Bar) else x.size for x in parts) == bar.volume
    assert bool(made.trades) == (bar.volume > 0) and all(trade.size > 0 for trade in made.trades)


@given(bars())
def test_everything_happens_within_the_bar_in_order_and_on_whole_milliseconds(bar: Bar) -> None:
    made = detail(bar)
    events = made.events()
    assert [e.ts for e in events] == sorted(e.ts for e in events)
    assert all(bar.start <= t.ts < bar.ts and t.ts % 1_000_000 == 0 for t in made.trades)
    assert len({t.ts for t in made.trades}) == len(made.trades)
    assert all(bar.start <= q.ts < bar.ts and 0 < q.bid < q.ask for q in made.quotes)
    assert all(s.ts == s.start + SECOND_NS and bar.start <= s.start < bar.ts for s in made.seconds)
    assert len({s.start for s in made.seconds}) == len(made.seconds)


def test_the_same_bar_gives_the_same_path_and_another_symbol_another() -> None:
    bar = Bar("SPY", START, START + 60 * SECOND_NS, 450.0, 450.4, 449.8, 450.1, 120_000.0)
    assert expand(bar) == expand(bar) == detail(bar).events() != expand(bar, 1)
    other = Bar("QQQ", bar.start, bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume)
    assert [t.price for t in detail(other).trades] != [t.price for t in detail(bar).trades]


def test_whole_shares_trade_in_whole_sizes_and_on_whole_cents() -> None:
    bar = Bar("SPY", START, START + 60 * SECOND_NS, 450.0, 450.4, 449.8, 450.1, 120_000.0)
    made = detail(bar)
    assert 40 <= len(made.trades) <= 120
    assert all(t.size == int(t.size) >= 1 and t.price == round(t.price, 2) for t in made.trades)
    assert len(made.quotes) == 60
