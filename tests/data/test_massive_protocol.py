"""The feed's decisions without a socket: frames and answers in, events out."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.data.bar_sequence import KEPT_NS, BarSequence
from northstar_core.data.feed import FeedStats, Latency
from northstar_core.data.massive.conditions import Conditions
from northstar_core.data.massive.protocol import MassiveProtocol
from northstar_core.data.massive.symbol import Rules
from northstar_core.data.massive.wire import ConditionRow, Moves, UpdateRules, rows_of
from northstar_core.model.errors import DataError
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.world import AlertRaised, BarRevised, FeedDown, FeedUp, FrameUnread, QuoteRefused

SECOND, MINUTE, MS = 10**9, 60 * 10**9, 10**6
T0 = 1_691_069_400 * SECOND  # an open


def bar(n: int, *, close: float = 10.0, volume: float = 100.0, span: int = MINUTE) -> Bar:
    return Bar("SPY", T0 + n * span, T0 + (n + 1) * span, 10.0, 11.0, 9.0, close, volume)


def row(b: Bar, day: float | None = None) -> dict[str, Any]:
    made = {
        "ev": "AM" if b.ts - b.start == MINUTE else "A", "sym": b.symbol, "v": b.volume, "o": b.open, "c": b.close, "h": b.high,
        "l": b.low, "s": b.start // MS, "e": b.ts // MS,
    }  # fmt: skip
    return made if day is None else made | {"av": day}


def frame(*rows: Any) -> bytes:
    return json.dumps(rows).encode()


def status(name: str, message: str = "") -> dict[str, str]:
    return {"ev": "status", "status": name, "message": message}


def protocol(*, up: bool = True, now: int = T0, rules: Rules | None = None, **want: Any) -> MassiveProtocol:
    """A feed of SPY that is connected and subscribed."""
    made = MassiveProtocol("massive", FeedStats(), lambda now: T0 if now >= T0 else None, rules)
    made.want(["SPY"], now, **want)
    if up:
        connect(made, now)
    return made


def connect(made: MassiveProtocol, now: int) -> list[Any]:
    """Connect, and answer every question with nothing."""
    made.connected("stocks")
    events = made.receive("stocks", frame(status("connected"), status("auth_success")), now)
    cluster = made.clusters["stocks"]
    asked = [name for message in cluster.outbox for name in json.loads(message)["params"].split(",")]
    cluster.outbox.clear()
    events += made.receive("stocks", frame(*(status("success", f"subscribed to: {name}") for name in asked)), now)
    return events


def answer(made: MassiveProtocol, now: int, bars: list[Bar] | None = None) -> list[Any]:
    """Answer what was asked of REST from these bars."""
    events: list[Any] = []
    for fill in made.take_fills():
        events += made.filled(fill, [b for b in bars or [] if fill.start <= b.start < fill.end], now)
    return events


# ── bars ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=60))
def test_whatever_order_bars_come_in_they_go_out_in_order_once_and_the_rest_as_revisions(feed: list[tuple[int, int]]) -> None:
    sequence = BarSequence("SPY", MINUTE, T0)
    out: list[Bar] = []
    stored: dict[int, Bar] = {}
    last: dict[int, Bar] = {}
    for n, close in feed:
        given_bar = bar(n, close=9.0 + close / 2)
        found = sequence.take(given_bar)
        if found == "next":
            out.append(given_bar)
        if found in ("next", "revised", "late"):
            stored[n] = given_bar
        if found != "too old":
            last[n] = given_bar
        else:
            assert given_bar.start < sequence.next - KEPT_NS
    assert all(a.ts <= b.start for a, b in pairwise(out))
    assert stored == last


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_however_the_stream_is_torn_and_rest_answers_bars_are_whole_in_order_and_once(data: st.DataObject) -> None:
    minutes = sorted(data.draw(st.sets(st.integers(0, 14), min_size=1)))
    bars = [bar(n, volume=100.0 + n) for n in minutes]
    made = protocol()
    out = answer(made, T0)
    day = 0.0
    down = False
    for b in bars:
        day += b.volume
        fate = data.draw(st.sampled_from(["sent", "sent", "lost", "twice", "cut"]))
        known = [other for other in bars if other.ts <= b.ts]
        if fate == "cut" and not down:
            out += made.lost("stocks", b.ts, "cut")
            down = True
        if down and data.draw(st.booleans()):
            out += connect(made, b.ts)
            down = False
        if fate in ("sent", "twice") and not down:
            out += made.receive("stocks", frame(*[row(b, day)] * (1 + (fate == "twice"))), b.ts)
        if data.draw(st.booleans()):
            out += answer(made, b.ts, known)
    end = bars[-1].ts + MINUTE
    out += answer(made, end, bars)
    if not down:
        out += made.lost("stocks", end, "cut")
    out += connect(made, end)
    out += answer(made, end, bars)
    assert [e for e in out if type(e) is Bar] == bars
    assert not [e for e in out if type(e) is BarRevised]
    assert type([e for e in out if type(e) in (FeedUp, FeedDown)][-1]) is FeedUp


def test_a_window_without_trades_has_no_bar_and_asks_for_nothing() -> None:
    made = protocol()
    out = made.receive("stocks", frame(row(bar(0), 100), row(bar(3), 200)), T0 + 4 * MINUTE)
    assert out == [bar(0), bar(3)] and made.take_fills() == []


def test_a_days_volume_that_has_grown_too_much_tells_of_a_missing_bar_and_everything_waits_for_it() -> None:
    made = protocol(quotes=True, trades=True)
    assert made.receive("stocks", frame(row(bar(0), 100)), T0 + MINUTE) == [bar(0)]
    t = T0 // MS
    quote = {"ev": "Q", "sym": "SPY", "bp": 9.99, "ap": 10.01, "bs": 1, "as": 1, "t": t + 190_000, "q": 1}
    trade = {"ev": "T", "sym": "SPY", "p": 10.0, "s": 5, "t": t + 200_000, "q": 2, "i": "1", "x": 4}
    assert made.receive("stocks", frame(row(bar(2), 300), quote, trade), T0 + 200 * SECOND) == []
    (fill,) = made.take_fills()
    assert (fill.start, fill.end, fill.reason) == (T0 + MINUTE, T0 + 2 * MINUTE, "hole")
    out = made.filled(fill, [bar(1)], T0 + 201 * SECOND)
    assert out[:2] == [bar(1), bar(2)] and [type(e) for e in out[2:]] == [Quote, Trade]
    assert made.stats.filled == 1


def test_what_rest_does_not_answer_is_waited_for_only_so_long_alerted_and_told_when_it_comes() -> None:
    made = protocol(rules=Rules(hold_ns=10 * SECOND))
    made.receive("stocks", frame(row(bar(0), 100)), T0 + MINUTE)
    now = T0 + 3 * MINUTE
    made.receive("stocks", frame(row(bar(2), 300)), now)
    (fill,) = made.take_fills()
    assert made.tick(now + 9 * SECOND) == []
    alert, after = made.tick(now + 11 * SECOND)
    assert after == bar(2) and type(alert) is AlertRaised
    assert alert.text == "SPY: bars of 60 s since 13:31:00 UTC could not be asked for: no answer in time"
    assert made.filled(fill, [bar(1)], now + 30 * SECOND) == [BarRevised(now + 30 * SECOND, bar(1))]


def test_what_rest_refused_is_asked_again_later_without_holding_anything_up() -> None:
    made = protocol()
    made.receive("stocks", frame(row(bar(0), 100)), T0 + MINUTE)
    now = T0 + 3 * MINUTE
    made.receive("stocks", frame(row(bar(2), 300)), now)
    (fill,) = made.take_fills()
    assert [type(e) for e in made.fill_failed(fill, now, "503")] == [AlertRaised, Bar]
    assert made.tick(now + 59 * SECOND) == [] and made.take_fills() == []
    made.tick(now + 60 * SECOND)
    (again,) = made.take_fills()
    assert (again.start, again.end) == (fill.start, fill.end)
    assert made.receive("stocks", frame(row(bar(3), 400)), now + MINUTE) == [bar(3)]
    assert made.filled(again, [bar(1)], now + 61 * SECOND) == [BarRevised(now + 61 * SECOND, bar(1))]


def test_a_suspicion_of_seconds_that_proves_wrong_makes_the_next_one_wait_and_the_bars_go_on() -> None:
    made = protocol(bars=False, seconds=True)
    seconds = [bar(n, span=SECOND) for n in range(9)]
    made.receive("stocks", frame(row(seconds[0], 100)), T0 + 3 * SECOND)
    now = T0 + 5 * SECOND
    made.receive("stocks", frame(row(seconds[2], 250)), now)  # volume without a bar: odd lots
    assert answer(made, now) == [seconds[2]]
    assert made.receive("stocks", frame(row(seconds[5], 400)), now + 3 * SECOND) == [seconds[5]]
    assert made.take_fills() == []
    made.tick(now + 61 * SECOND)
    first = made.take_fills()[0]
    assert (first.start, first.end) == (T0 + 3 * SECOND, T0 + 5 * SECOND)


def test_rests_numbers_stand_above_the_streams_first_ones_and_below_its_later_ones() -> None:
    made = protocol(up=False)
    connect(made, T0)
    out = answer(made, T0) + made.receive("stocks", frame(row(bar(0), 100)), T0 + MINUTE)
    out += made.lost("stocks", T0 + MINUTE, "cut") + connect(made, T0 + 3 * MINUTE)
    thin, whole, late = bar(1, volume=50), bar(1, volume=100), bar(1, volume=110)
    held = made.receive("stocks", frame(row(thin, 150), row(bar(2), 300)), T0 + 3 * MINUTE + SECOND)
    assert held == []
    assert [e for e in answer(made, T0 + 3 * MINUTE, [bar(0), whole, bar(2)]) if type(e) is not FeedUp] == [whole, bar(2)]
    assert made.receive("stocks", frame(row(late)), T0 + 4 * MINUTE) == [BarRevised(T0 + 4 * MINUTE, late)]
    assert made.receive("stocks", frame(row(late)), T0 + 4 * MINUTE) == []


def test_bars_missing_at_the_end_are_asked_for_at_growing_intervals_and_only_in_session() -> None:
    made = protocol()
    made.receive("stocks", frame(row(bar(0), 100)), T0 + MINUTE)
    asked = []
    for second in range(60, 1800):
        made.tick(T0 + second * SECOND)
        asked += [second - 60 for _ in made.take_fills()]
    assert asked[:4] == [66, 197, 458, 979] and len(asked) == 4
    made._opened = lambda now: None
    made.tick(T0 + 7200 * SECOND)
    assert made.take_fills() == []


@pytest.mark.parametrize(
    "change",
    [{"h": 9.5}, {"l": 10.5}, {"o": -1.0}, {"v": -5}, {"e": T0 // MS + 61_000}, {"s": T0 // MS + 500}, {"c": 1e999}],
)
def test_a_bar_that_cannot_be_is_kept_as_it_came_and_handed_over_to_nobody(change: dict[str, Any]) -> None:
    made = protocol()
    data = frame({**row(bar(0)), **change}).replace(b"Infinity", b"1e999")
    (event,) = made.receive("stocks", data, T0 + MINUTE)
    assert type(event) is FrameUnread and "SPY" in event.raw
    assert made.receive("stocks", frame(row(bar(0))), T0 + MINUTE) == [bar(0)]


def test_parts_of_a_share_are_read_from_their_decimal_text() -> None:
    made = protocol(trades=True)
    fractional = {**row(bar(0, volume=2), 2), "dv": "2.5", "dav": "2.5"}
    print_ = {"ev": "T", "sym": "SPY", "p": 10.0, "s": 0, "ds": "0.25", "t": T0 // MS, "q": 1}
    found = made.receive("stocks", frame(fractional, print_), T0 + MINUTE)
    assert [found[0].volume, found[1].size] == [2.5, 0.25]


# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_frame_whatever_it_holds_raises(data: bytes) -> None:
    made = protocol()
    for event in made.receive("stocks", data, T0):
        assert type(event) in (FrameUnread, AlertRaised)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(st.none() | st.booleans() | numbers | st.text(max_size=5), lambda s: st.lists(s, max_size=3))
fields = st.sampled_from(["ev", "sym", "p", "t", "s", "o", "h", "l", "c", "e", "v", "bp", "ap", "q", "i", "status", "message", "av"])


@given(st.lists(st.dictionaries(fields, json_values | st.sampled_from(["T", "Q", "AM", "A", "SPY", "status", 1.0, 10**12]), max_size=9)))
def test_one_bad_message_costs_no_other(rows: list[Any]) -> None:
    made = protocol(seconds=True, quotes=True, trades=True)
    answer(made, T0)
    events = made.receive("stocks", json.dumps([*rows, row(bar(9), 100)]).encode(), T0 + 10 * MINUTE)
    held = [e for k in made._symbols.values() for e in k._held]
    assert bar(9) in events or held


def test_a_frame_that_cannot_be_read_is_told_once_of_its_kind() -> None:
    made = protocol()
    first = made.receive("stocks", b"<html>502</html>", T0)
    assert [type(e) for e in first] == [FrameUnread] and first[0].raw == "<html>502</html>"
    assert made.receive("stocks", b"<html>502</html>", T0) == [] and made.stats.unread == 2
    rows, unread = rows_of(frame({"ev": "ZZ"}, status("success"), 5))
    assert len(rows) == 1 and len(unread) == 2


# ── the connection ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_up_only_when_subscribed_and_filled_in() -> None:
    made = protocol(up=False)
    made.connected("stocks")
    later = T0 + 5 * MINUTE
    assert made.receive("stocks", frame(status("connected"), status("auth_success")), later) == []
    assert json.loads(made.clusters["stocks"].outbox[0]) == {"action": "subscribe", "params": "AM.SPY"}
    assert made.receive("stocks", frame(status("success", "subscribed to: AM.SPY")), later) == []
    out = answer(made, later, [bar(0), bar(1)])
    assert out == [bar(0), bar(1), FeedUp(later, "massive", "2 bars filled in")]
    assert made.lost("stocks", later, "cut") == [FeedDown(later, "massive", "stocks: cut")]
    assert made.lost("stocks", later, "cut") == []


def test_a_channel_that_is_refused_is_an_alert_and_the_others_go_on() -> None:
    made = protocol(up=False, quotes=True)
    made.connected("stocks")
    made.receive("stocks", frame(status("auth_success")), T0)
    out = made.receive(
        "stocks", frame(status("error", "not authorized to subscribe to: Q.SPY"), status("success", "subscribed to: AM.SPY")), T0
    )
    assert [type(e) for e in out] == [AlertRaised, FeedUp] and "Q.SPY" in out[0].text


def test_a_subscription_without_an_answer_is_an_alert_and_not_waited_for_for_ever() -> None:
    made = protocol(up=False)
    made.connected("stocks")
    made.receive("stocks", frame(status("auth_success")), T0)
    assert made.tick(T0 + 5 * SECOND) == []
    assert [type(e) for e in made.tick(T0 + 11 * SECOND)] == [AlertRaised, FeedUp]


@pytest.mark.parametrize("name", ["auth_failed", "max_connections", "slow_consumer", "force_disconnect", "auth_timeout"])
def test_a_last_word_of_the_server_is_told_and_ends_the_connection(name: str) -> None:
    made = protocol()
    (alert,) = made.receive("stocks", frame(status(name, "because")), T0)
    assert type(alert) is AlertRaised and name in alert.text and made.clusters["stocks"].closing == name


def test_symbols_go_to_their_cluster_and_one_without_it_is_refused() -> None:
    made = MassiveProtocol("massive", FeedStats(), lambda now: T0, clusters=("stocks",))
    with pytest.raises(DataError, match="feed massive: SPY230901C00430000 needs the options cluster"):
        made.want(["SPY230901C00430000"], T0)
    both = MassiveProtocol("massive", FeedStats(), lambda now: T0)
    both.want(["SPY230901C00430000"], T0, bars=False, quotes=True)
    assert both.clusters["options"].channels == {"Q.O:SPY230901C00430000"} and not both.clusters["stocks"].channels


# ── quotes and prints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def quote(bid: float, ask: float, *, ms: int = 0, q: int = 1, **more: Any) -> dict[str, Any]:
    return {"ev": "Q", "sym": "SPY", "bp": bid, "ap": ask, "bs": 2, "as": 3, "t": T0 // MS + ms, "q": q, **more}


def trade(price: float, *, ms: int = 0, q: int = 1, **more: Any) -> dict[str, Any]:
    return {"ev": "T", "sym": "SPY", "p": price, "s": 10, "x": 11, "i": str(q), "t": T0 // MS + ms, "q": q, **more}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (quote(10.02, 10.01, q=2), "crossed"),
        (quote(0, 0, q=2), "empty"),
        (quote(1, 19_999, q=2), "absurd"),
        (quote(-1, 10, q=2), "absurd"),
        (quote(10, 10.01, q=2, bs=-1), "absurd"),
        (quote(100.0, 100.01, q=2), "absurd"),
    ],
)
def test_a_quote_no_decision_may_be_based_on_is_refused_when_it_begins_and_never_handed_over(bad: Any, reason: str) -> None:
    made = protocol(bars=False, quotes=True, trades=True)
    made.receive("stocks", frame(trade(10.0)), T0)
    good = Quote("SPY", T0, 10.0, 10.02, 200.0, 300.0)
    assert made.receive("stocks", frame(quote(10.0, 10.02)), T0) == [good]
    (refused,) = made.receive("stocks", frame(bad), T0)
    assert type(refused) is QuoteRefused and refused.reason == reason
    assert made.receive("stocks", frame({**bad, "q": 3}), T0) == []
    assert [type(e) for e in made.receive("stocks", frame(quote(10.0, 10.0, q=4), {**bad, "q": 5}), T0)] == [Quote, QuoteRefused]


def test_a_quote_that_arrives_too_late_is_stale_and_one_of_one_side_passes() -> None:
    made = protocol(bars=False, quotes=True)
    (refused,) = made.receive("stocks", frame(quote(10.0, 10.02)), T0 + 11 * SECOND)
    assert refused == QuoteRefused(T0 + 11 * SECOND, "SPY", "stale", 10.0, 10.02)
    (event,) = made.receive("stocks", frame(quote(0, 10.02, ms=11_000, q=2)), T0 + 11 * SECOND)
    assert event.price == 10.02


def test_quotes_that_are_superseded_or_repeated_are_dropped() -> None:
    made = protocol(bars=False, quotes=True)
    rows = [quote(10, 10.02, ms=5, q=9), quote(10, 10.02, ms=5, q=9), quote(9, 9.02, ms=4, q=8), quote(9.5, 9.52, ms=5, q=10)]
    assert [e.bid for e in made.receive("stocks", frame(*rows), T0)] == [10.0, 9.5]
    assert made.stats.dropped == {"quote repeated": 1, "quote superseded": 1}


def test_an_options_sizes_are_contracts_and_a_stocks_are_lots() -> None:
    made = MassiveProtocol("massive", FeedStats(), lambda now: T0, Rules(quote_lot=1.0))
    option = "SPY230901C00430000"
    made.want(["SPY", option], T0, bars=False, quotes=True)
    (share,) = made.receive("stocks", frame(quote(10, 10.02)), T0)
    (contract,) = made.receive("options", frame({**quote(1.0, 1.2), "sym": f"O:{option}"}), T0)
    assert (share.bid_size, contract.symbol, contract.ask_size) == (2.0, option, 3.0)


def test_a_late_print_forms_no_price_at_the_time_it_became_known_and_a_repeated_one_is_dropped() -> None:
    made = protocol(bars=False, trades=True)
    rows = [trade(10, ms=9, q=5), trade(11, ms=3, q=4), trade(11, ms=3, q=4), trade(12, ms=9, q=6)]
    out = made.receive("stocks", frame(*rows), T0)
    assert [(e.price, e.ts - T0, e.forms_price) for e in out] == [(10, 9 * MS, True), (11, 9 * MS, False), (12, 9 * MS, True)]
    far = made.receive("stocks", frame(trade(13, ms=16 * 60_000, q=7), trade(14, ms=10, q=3, i="x")), T0)
    assert [e.price for e in far] == [13] and made.stats.dropped == {"print repeated": 1, "print too late": 1}


@pytest.mark.parametrize(
    ("conditions", "size", "forms_price"),
    [
        ([14, 41], 10, True), ([37], 10, False), ([12], 10, True), ([14, 2], 10, False), ([38], 0, True), (33, 10, False),
        ([999], 10, True),
    ],
)
def test_conditions_say_whether_a_print_forms_a_price_and_counts_for_volume(conditions: Any, size: int, forms_price: bool) -> None:
    made = protocol(bars=False, trades=True)
    (event,) = made.receive("stocks", frame(trade(10, c=conditions)), T0)
    assert (event.size, event.forms_price) == (size, forms_price)


def test_an_official_close_is_no_trade_and_rules_are_refreshed_from_rest_except_for_extended_hours() -> None:
    made = protocol(bars=False, trades=True)
    assert made.receive("stocks", frame(trade(10, c=[15])), T0) == []
    nothing = UpdateRules(Moves(False, False, True))
    made.refresh_conditions([ConditionRow(14, nothing), ConditionRow(12, nothing), ConditionRow(37, UpdateRules(Moves()))])
    rows = (trade(10, q=n, c=[c]) for n, c in enumerate((14, 12, 37), start=2))
    assert [e.forms_price for e in made.receive("stocks", frame(*rows), T0)] == [False, True, True]
    assert Conditions().forms_price([14])


# ── counters ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_within_an_eighth_of_the_true_one(durations: list[int], share: float) -> None:
    latency = Latency()
    for ns in durations:
        latency.note(ns)
    rank = max(0, min(len(durations) - 1, -int(-share * len(durations) // 1) - 1))
    true = sorted(durations)[rank]
    assert true <= latency.percentile(share) <= true * 1.125 + 1


def test_latency_is_counted_by_stage_and_shown_in_milliseconds() -> None:
    made = protocol(quotes=True)
    made.receive("stocks", frame(quote(10, 10.02)), T0 + 40 * MS)
    assert str(made.stats.latency["wire Q"]).startswith("p50 4")


