"""The meter follows one market event in so many through the gateway, and tells what the last minute took."""

from __future__ import annotations

from northstar_core.gateway.meter import HAPPENED, NUMBERED, ON_DISK, RECEIVED, SENT, STORED, WINDOW_NS, Meter
from northstar_core.model.market import Quote
from northstar_core.model.world import FeedUp

MS = 1_000_000


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.ns = 10**18

    def __call__(self) -> int:
        return self.ns


def quote(ts: int) -> Quote:
    return Quote("ALFA", ts, 1.0, 2.0, 1.0, 1.0)


def test_one_event_in_so_many_is_picked_wherever_it_lies_in_its_batch() -> None:
    meter = Meter(Time(), every=10)
    batches = [3, 3, 3, 3, 8, 10, 1]
    picked = [meter.pick(count) for count in batches]
    assert picked == [-1, -1, -1, 0, -1, 1, -1]


def test_an_event_is_followed_from_its_own_time_until_it_is_on_the_disk() -> None:
    time = Time()
    meter = Meter(time)
    happened = time.ns
    time.ns += 3 * MS
    received = time.ns
    time.ns += 1 * MS
    meter.follow(quote(happened), 7, received)
    time.ns += 2 * MS
    meter.durable(6, 6)
    assert STORED not in meter.latest()
    meter.durable(7, 6)
    time.ns += 4 * MS
    meter.durable(9, 9)
    found = {stage: of["p50"] for stage, of in meter.latest().items()}
    assert found == {HAPPENED: 3.0, RECEIVED: 1.0, NUMBERED: 2.0, STORED: 6.0, ON_DISK: 10.0}


def test_what_is_no_market_event_is_not_followed() -> None:
    time = Time()
    meter = Meter(time)
    meter.follow(FeedUp(time.ns, "feed"), 7, time.ns)
    meter.durable(7, 7)
    assert meter.latest() == {}


def test_an_event_ahead_of_our_clock_took_no_time() -> None:
    time = Time()
    meter = Meter(time)
    meter.follow(quote(time.ns + MS), 1, time.ns)
    assert meter.latest()[HAPPENED]["p99.9"] == 0.0


def test_only_the_last_minute_is_told() -> None:
    time = Time()
    meter = Meter(time)
    for took in range(1, 101):
        meter.sent(time.ns - took * MS)
    assert meter.latest()[SENT] == {"n": 100, "p50": 51.0, "p99": 100.0, "p99.9": 100.0}
    time.ns += WINDOW_NS + 1
    assert meter.latest() == {}
