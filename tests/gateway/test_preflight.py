"""Preflight says GO only where everything was seen to be right, and NO-GO with each reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.gateway.preflight import (
    FRESH_S,
    AccountSeen,
    FeedSeen,
    Observations,
    Verdict,
    evaluate,
)
from northstar_core.model.account import TradingState

SECOND = 10**9
OPEN = 1_709_562_600 * SECOND  #: 2024-03-04 09:30 New York
CLOSE = OPEN + 23_400 * SECOND
NOON = OPEN + 9_000 * SECOND
WALL = 1_800_000_000 * SECOND


def account(name: str = "live-1", **changes: Any) -> AccountSeen:
    seen = {
        "broker": "alpaca", "real_money": True, "connected": True, "credentials": True, "status": "ACTIVE",
        "broker_time": NOON - SECOND // 2, "asked_at": NOON, "reconciled": NOON - 30 * SECOND, "grants": 2, "feed": "massive",
    }  # fmt: skip
    return AccountSeen(name=name, **{**seen, **changes})


def feed(name: str = "massive", **changes: Any) -> FeedSeen:
    return FeedSeen(name=name, **{"connected": True, "last_heard": NOON - SECOND, "skew_s": 0.1, **changes})


def seen(**changes: Any) -> Observations:
    everything = {
        "now": NOON, "wall": WALL, "accounts": (account(),), "feeds": (feed(),), "session": "2024-03-04", "opens": OPEN, "closes": CLOSE,
        "next_session": "2024-03-05", "disk_free": 50 * 1024**3, "durable": True, "write_s": 0.002, "clock_offset_s": 0.01,
    }  # fmt: skip
    return Observations(**{**everything, **changes})


def test_everything_in_order_is_a_go_that_says_what_was_looked_at() -> None:
    verdict = evaluate(seen())
    assert verdict.go and verdict.reasons() == () and verdict.refusal("live-1", WALL) == ""
    assert {check.name for check in verdict.checks} == {
        "database", "durability", "database speed", "disk", "session", "calendar", "clock", "trading state", "connected", "data age",
        "clock skew", "credentials", "status", "books", "orders", "limits", "grants", "feed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"database": "OSError: gone"}, "desk database: OSError: gone"),
        ({"durable": False}, "desk durability: fsync, synchronous_commit or full_page_writes is off"),
        ({"write_s": -1.0}, "desk database speed: no write was made"),
        ({"write_s": 0.4}, "desk database speed: a durable write took 400.0 ms; up to 250 ms are fine"),
        ({"disk_free": 10**9}, "desk disk: 0.9 GiB free; 2 GiB are wanted"),
        ({"disk_free": -1}, "desk disk: could not be seen"),
        ({"session": ""}, "desk session: XNYS has no session today"),
        ({"now": CLOSE, "accounts": (account(reconciled=CLOSE),)}, "desk session: session 2024-03-04 has closed"),
        ({"next_session": ""}, "desk calendar: XNYS does not know the next session; update exchange-calendars"),
        ({"clock_offset_s": -2.5}, "desk clock: 2.50 s behind a time server's; 2 s at most"),
        ({"state": TradingState.KILLED}, "desk trading state: KILLED"),
        ({"state": TradingState.REDUCING}, "desk trading state: REDUCING"),
        ({"feeds": ()}, "account:live-1 feed: no feed is configured"),
        ({"feeds": (feed(connected=False, detail="login refused"),)}, "feed:massive connected: login refused"),
        ({"feeds": (feed(last_heard=0),)}, "feed:massive data age: nothing was heard; in session 10 s at most"),
        ({"feeds": (feed(last_heard=NOON - 11 * SECOND),)}, "feed:massive data age: last heard 11.0 s ago"),
        ({"feeds": (feed(skew_s=3.0),)}, "feed:massive clock skew: 3.00 s ahead of the exchange's"),
        ({"accounts": (account(credentials=False, detail="401"),)}, "account:live-1 credentials: refused: 401"),
        (
            {"accounts": (account(credentials=None, detail="no answer"),)},
            "account:live-1 credentials: could not be asked: no answer",
        ),
        ({"accounts": (account(connected=False, detail="down"),)}, "account:live-1 connected: no: down"),
        ({"accounts": (account(status="CLOSED", blocked=True),)}, "account:live-1 status: CLOSED"),
        (
            {"accounts": (account(broker_time=NOON + 5 * SECOND),)},
            "account:live-1 clock skew: 5.00 s behind the broker's",
        ),
        (
            {"accounts": (account(breaks=("SPY ours 10, theirs 0",)),)},
            "account:live-1 books: differ from the broker's: SPY ours 10, theirs 0",
        ),
        ({"accounts": (account(breaks=tuple("abcde")),)}, "books: differ from the broker's: a; b; c; and 2 more"),
        ({"accounts": (account(reconciled=0),)}, "account:live-1 books: last found equal to the broker's never"),
        (
            {"accounts": (account(reconciled=NOON - 901 * SECOND),)},
            "books: last found equal to the broker's 901 s ago, 900 s at most",
        ),
        (
            {"accounts": (account(unknown_orders=2),)},
            "account:live-1 orders: 2 of unknown outcome; northstar order list",
        ),
        ({"accounts": (account(missing_limits=("collar",)),)}, "account:live-1 limits: not set: collar"),
        ({"accounts": (account(grants=0),)}, "account:live-1 grants: no strategy may trade here"),
        ({"accounts": (account(state=TradingState.HALTED),)}, "account:live-1 trading state: HALTED"),
    ],
)
def test_each_thing_that_is_wrong_is_a_no_go_by_itself(changes: dict[str, Any], told: str) -> None:
    verdict = evaluate(seen(**changes))
    assert not verdict.go
    assert len(verdict.reasons()) == 1
    assert told in verdict.reasons()[0]
    assert told in verdict.refusal("live-1", WALL)


def test_data_are_expected_in_session_alone_and_a_minute_after_the_open() -> None:
    mute = (feed(last_heard=0, skew_s=None),)
    for now, expected in (
        (OPEN - 300 * SECOND, True),
        (OPEN + 59 * SECOND, True),
        (OPEN + 60 * SECOND, False),
        (CLOSE - 1, False),
    ):
        passed = {
            check.name: check.passed
            for check in evaluate(seen(now=now, feeds=mute)).checks
            if check.scope == "feed:massive"
        }
        assert passed == {"connected": True, "data age": expected}, now


def test_a_faster_clock_does_not_fool_ages_and_skews() -> None:
    """At 60 desk seconds a second, half a wall second of network is half a minute of the desk's."""
    late = {
        "feeds": (feed(last_heard=NOON - 60 * SECOND, skew_s=30.0),),
        "accounts": (account(broker_time=NOON - 30 * SECOND),),
    }
    assert not evaluate(seen(**late)).go
    assert evaluate(seen(**late, speed=60.0)).go
    mute = {"feeds": (feed(last_heard=NOON - 121 * SECOND),)}
    assert evaluate(seen(**mute, speed=60.0)).reasons() == (
        "feed:massive data age: last heard 121.0 s ago; in session 120 s at most",
    )


def test_one_accounts_trouble_is_not_anothers() -> None:
    both = (account("live-1", credentials=False), account("live-2", feed="other"), account("live-3"))
    verdict = evaluate(seen(accounts=both, feeds=(feed(), feed("other", connected=False))))
    assert verdict.reasons("live-1") == ("account:live-1 credentials: refused",)
    assert verdict.reasons("live-2") == ("feed:other connected: no",)
    assert verdict.reasons("live-3") == ()
    assert verdict.refusal("live-3", WALL) == "" and not verdict.go
    assert verdict.reasons("live-9") == ("account live-9 was not looked at",)


def test_a_feed_nobody_trades_by_stops_nobody() -> None:
    assert evaluate(seen(feeds=(feed(), feed("spare", connected=False)))).go


@pytest.mark.parametrize(
    ("age_s", "believed"), [(0, True), (FRESH_S, True), (FRESH_S + 0.001, False), (-1, False), (-(10**6), False)]
)
def test_a_go_is_believed_while_it_is_fresh_and_never_from_the_future(age_s: float, believed: bool) -> None:
    verdict = evaluate(seen())
    refusal = verdict.refusal("live-1", WALL + round(age_s * SECOND))
    assert (refusal == "") is believed
    assert believed or "run northstar preflight" in refusal


def test_a_verdict_survives_the_wire() -> None:
    verdict = evaluate(seen(disk_free=-1))
    assert msgspec.convert(msgspec.to_builtins(verdict), Verdict) == verdict


@given(st.data())
def test_what_was_not_observed_never_passes(data: st.DataObject) -> None:
    """Observations left at their defaults are things nobody saw."""
    full = seen()
    names = ("accounts", "session", "next_session", "disk_free", "durable", "write_s", "feeds")
    kept = data.draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    partly = Observations(now=NOON, wall=WALL, closes=CLOSE, opens=OPEN, **{name: getattr(full, name) for name in kept})
    verdict = evaluate(partly)
    assert verdict.refusal("live-1", WALL)
