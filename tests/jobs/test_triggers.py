"""When jobs are due: half days, holidays, summer time, other exchanges, a clock that runs faster."""

from __future__ import annotations

import datetime as dt

import pytest

from northstar_core.jobs.triggers import SECOND_NS, Moment, SessionTrigger, Times, span_ns
from northstar_core.model.errors import SettingsError


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


def told(ts: int) -> str:
    return dt.datetime.fromtimestamp(ts // SECOND_NS, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def times(text: str, calendar: str = "XNYS") -> Times:
    return Times(calendar, Moment.parse(text))


@pytest.mark.parametrize(
    ("calendar", "moment", "day", "due"),
    [
        ("XNYS", "open-5m", "2026-11-20", "2026-11-20T14:25:00Z"),
        ("XNYS", "open-5m", "2026-07-10", "2026-07-10T13:25:00Z"),
        ("XNYS", "close+10m", "2026-11-27", "2026-11-27T18:10:00Z"),  # the half day after Thanksgiving
        ("XNYS", "close+10m", "2026-11-25", "2026-11-25T21:10:00Z"),
        ("XNYS", "close-1h30m", "2026-11-27", "2026-11-27T16:30:00Z"),
        ("XNYS", "09:10", "2026-03-06", "2026-03-06T14:10:00Z"),  # the Friday before summer time
        ("XNYS", "09:10", "2026-03-09", "2026-03-09T13:10:00Z"),  # the Monday after
        ("XNYS", "09:10", "2026-10-30", "2026-10-30T13:10:00Z"),
        ("XNYS", "09:10", "2026-11-02", "2026-11-02T14:10:00Z"),
        ("XNSE", "open", "2026-07-10", "2026-07-10T03:45:00Z"),  # 09:15 in India, which has no summer time
        ("XNSE", "open-5m", "2026-11-20", "2026-11-20T03:40:00Z"),
        ("XNSE", "09:00", "2026-11-20", "2026-11-20T03:30:00Z"),
        ("XLON", "open", "2026-03-27", "2026-03-27T08:00:00Z"),
        ("XLON", "open", "2026-03-30", "2026-03-30T07:00:00Z"),
        ("24/7", "02:30", "2026-11-21", "2026-11-21T02:30:00Z"),
    ],
)
def test_a_moment_is_the_exchanges(calendar: str, moment: str, day: str, due: str) -> None:
    found = times(moment, calendar).on(dt.date.fromisoformat(day))
    assert found is not None
    assert (found.label.isoformat(), told(found.ts)) == (day, due)


@pytest.mark.parametrize(
    ("calendar", "moment", "now", "due"),
    [
        ("XNYS", "open-5m", "2026-11-25T14:24:59Z", "2026-11-25T14:25:00Z"),
        ("XNYS", "open-5m", "2026-11-25T14:25:00Z", "2026-11-27T14:25:00Z"),  # Thanksgiving has no session
        ("XNYS", "open-5m", "2026-12-24T15:00:00Z", "2026-12-28T14:25:00Z"),  # Christmas, then a weekend
        (
            "XNYS",
            "open-5m",
            "2026-12-31T15:00:00Z",
            "2027-01-04T14:25:00Z",
        ),  # a year that no calendar was built for yet
        ("XNYS", "open-5m", "2029-12-31T15:00:00Z", "2030-01-02T14:25:00Z"),
        ("XNYS", "close+10m", "2026-03-06T21:10:00Z", "2026-03-09T20:10:00Z"),
        ("XNSE", "open-5m", "2026-01-23T12:00:00Z", "2026-01-27T03:40:00Z"),  # a weekend, then Republic Day
    ],
)
def test_the_next_time_skips_what_has_no_session(calendar: str, moment: str, now: str, due: str) -> None:
    found = times(moment, calendar).after(ns(now))
    assert found is not None
    assert told(found.ts) == due


def test_every_session_of_a_year_is_due_once_and_a_year_is_walked_without_a_gap() -> None:
    found = times("open-5m").between(ns("2026-01-01T00:00:00Z"), ns("2027-01-01T00:00:00Z"))
    assert len(found) == 251
    assert len({due.label for due in found}) == 251
    assert all(due.open - due.ts == 300 * SECOND_NS for due in found)
    assert [due.label.isoformat() for due in found if due.close - due.open < 5 * 3600 * SECOND_NS] == [
        "2026-11-27",
        "2026-12-24",
    ]


def test_the_last_time_before_now_tells_what_was_missed() -> None:
    found = times("open-5m")
    missed = found.latest(ns("2026-11-26T15:00:00Z"))
    assert missed is not None
    assert missed.label == dt.date(2026, 11, 25)


def test_where_the_holidays_are_not_known_yet_nothing_is_due() -> None:
    known = times("open", "XBOM")
    last = known.latest(ns("2026-12-31T12:00:00Z"))
    assert last is not None and last.label == dt.date(2026, 12, 31)
    assert known.after(last.ts) is None


def test_a_time_the_clock_skips_or_shows_twice_is_one_instant() -> None:
    moment = Moment.parse("02:30")
    from northstar_core.data.calendar import Calendar, load

    daily = load("24/7", 2026, 2026)
    here = Calendar(
        "24/7", "America/New_York", *(getattr(daily, n) for n in ("labels", "opens", "closes", "first", "last"))
    )
    at = {str(label): index for index, label in enumerate(here.labels)}
    assert told(moment.of(here, at["2026-03-08"])) == "2026-03-08T07:30:00Z", "the clock shows 03:30"
    assert told(Moment.parse("01:30").of(here, at["2026-11-01"])) == "2026-11-01T05:30:00Z", "the first of two"


@pytest.mark.parametrize(
    "text", ["", "open-", "open-5", "5m", "openish", "close+25h", "24:00", "9:10", "09:60", "open--5m", "close +10m"]
)
def test_what_is_no_moment_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write open, open-5m, close\+10m"):
        Moment.parse(text)


def test_spans() -> None:
    assert [span_ns(text) // SECOND_NS for text in ("90s", "5m", "1h30m", "0s")] == [90, 300, 5400, 0]
    with pytest.raises(SettingsError, match="write 90s, 5m or 1h30m"):
        span_ns("5 minutes")


class Fast:
    """A desk whose day goes by a hundred times as fast."""

    FLOOR_S = 0.0
    speed = 100.0

    def __init__(self, desk: int) -> None:
        self.desk, self.wall = desk, dt.datetime.now(dt.UTC)

    def now(self) -> int:
        return self.desk + int((dt.datetime.now(dt.UTC) - self.wall).total_seconds() * self.speed * SECOND_NS)


def test_the_trigger_gives_the_walls_time_of_the_desks_moment_and_never_the_same_moment_twice() -> None:
    clock = Fast(ns("2026-11-25T14:20:00Z"))
    trigger = SessionTrigger(times("open-5m"), clock)  # type: ignore[arg-type]
    first = trigger.get_next_fire_time(None, dt.datetime.now(dt.UTC))
    assert first is not None
    assert first - clock.wall == pytest.approx(dt.timedelta(seconds=3.002), abs=dt.timedelta(seconds=1))
    second = trigger.get_next_fire_time(first, dt.datetime.now(dt.UTC))
    again = trigger.get_next_fire_time(first, dt.datetime.now(dt.UTC))
    assert second is not None and again is not None
    days = dt.timedelta(days=2) / 100  # from before Thanksgiving to after it, and it is the same half past nine
    for found in (second, again):
        assert found - first == pytest.approx(days, abs=dt.timedelta(seconds=1))
