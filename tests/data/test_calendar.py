from __future__ import annotations

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from northstar_core.data.calendar import load, load_around, midnight_ns, sessions
from northstar_core.model.errors import DataError

HOUR = 3_600_000_000_000


def utc(ns: int) -> str:
    return str(np.datetime64(ns, "ns").astype("datetime64[m]"))


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("1962-05-29", "1962-05-29T13:30", "1962-05-29T20:00"),  # the library gives old days today's hours
        ("2000-01-03", "2000-01-03T14:30", "2000-01-03T21:00"),  # before a calendar object's usual beginning
        ("2000-07-03", "2000-07-03T13:30", "2000-07-03T17:00"),  # a half day of 2000
        ("2012-02-29", "2012-02-29T14:30", "2012-02-29T21:00"),  # a leap day
        ("2019-07-03", "2019-07-03T13:30", "2019-07-03T17:00"),
        ("2023-03-10", "2023-03-10T14:30", "2023-03-10T21:00"),  # the Friday before summer time
        ("2023-03-13", "2023-03-13T13:30", "2023-03-13T20:00"),  # the Monday after
        ("2023-11-03", "2023-11-03T13:30", "2023-11-03T20:00"),
        ("2023-11-06", "2023-11-06T14:30", "2023-11-06T21:00"),
        ("2023-11-24", "2023-11-24T14:30", "2023-11-24T18:00"),  # the day after Thanksgiving closes at 13:00
        ("2035-12-31", "2035-12-31T14:30", "2035-12-31T21:00"),  # after a calendar object's usual end
    ],
)
def test_session_hours_follow_the_exchange_through_dst_and_half_days(day: str, opens: str, closes: str) -> None:
    (session,) = sessions(day, day)
    assert session.label == dt.date.fromisoformat(day)
    assert (utc(session.open), utc(session.close)) == (opens, closes)


@pytest.mark.parametrize(
    "day",
    ["2000-01-01", "2001-09-11", "2012-10-29", "2018-12-05", "2023-07-04", "2025-01-09", "2035-12-25", "2026-04-03"],
)
def test_the_exchange_has_no_session_on_holidays_and_days_of_mourning(day: str) -> None:
    assert sessions(day, day) == ()


def test_every_session_of_2000_to_2035_opens_at_half_past_nine_and_closes_at_four_or_on_a_half_day_at_one() -> None:
    found = sessions("2000-01-01", "2035-12-31")
    assert len(found) == 9049
    assert all(a.close < b.open for a, b in pairwise(found))
    new_york = ZoneInfo("America/New_York")  # not the calendar's own arithmetic
    odd = []
    for session in found:
        opens, closes = (dt.datetime.fromtimestamp(ns // 10**9, new_york) for ns in (session.open, session.close))
        assert opens.date() == closes.date() == session.label
        if opens.time() != dt.time(9, 30) or closes.time() not in (dt.time(16), dt.time(13)):
            odd.append((session.label.isoformat(), opens.time(), closes.time()))
    # A few days opened late or closed at another hour: storms, power failures, a minute of silence.
    assert len(odd) < 15
    assert all(day < "2014" for day, _, _ in odd)


def test_a_time_is_found_in_its_session_with_and_without_extended_hours() -> None:
    (friday,) = sessions("2023-11-24", "2023-11-24")
    calendar = load("XNYS", 2023, 2023)
    ts = np.array([friday.open - 1, friday.open, friday.close - 1, friday.close, friday.close + 4 * HOUR])
    regular, extended = calendar.index_of(ts, extended=False), calendar.index_of(ts)
    at = calendar.index_of_label(np.array(["2023-11-24"], dtype="datetime64[D]"))[0]
    assert regular.tolist() == [-1, at, at, -1, -1]
    assert extended.tolist() == [at, at, at, at, -1]  # after hours of a half day end at 17:00
    assert calendar.index_of(np.array([friday.open, friday.close]), extended=False, closing=True).tolist() == [-1, at]


def test_extended_hours_begin_at_four_in_new_york_on_both_sides_of_the_clock_change() -> None:
    calendar = load("XNYS", 2023, 2023)
    for day in ("2023-03-10", "2023-03-13", "2023-11-06"):
        at = int(calendar.index_of_label(np.array([day], dtype="datetime64[D]"))[0])
        assert calendar.first[at] - midnight_ns("XNYS", dt.date.fromisoformat(day)) == 4 * HOUR
        assert calendar.last[at] - calendar.closes[at] == 4 * HOUR


def test_a_closed_day_has_no_session_index() -> None:
    labels = np.array(["2023-07-03", "2023-07-04", "2023-07-05"], dtype="datetime64[D]")
    found = load("XNYS", 2023, 2023).index_of_label(labels)
    assert found[1] == -1
    assert found[2] == found[0] + 1


def test_a_market_that_never_closes_has_one_session_a_utc_day() -> None:
    found = sessions("2023-07-03", "2023-07-05", "24/7")
    assert [s.label.day for s in found] == [3, 4, 5]
    assert all(a.close == b.open for a, b in pairwise(found))


def test_covering_sessions_are_exactly_those_the_span_touches() -> None:
    days = sessions("2023-08-01", "2023-08-04")
    calendar = load_around("XNYS", days[0].open, days[-1].close)
    assert calendar.covering(days[1].open, days[2].close) == days[1:3]
    assert calendar.covering(days[1].open - HOUR, days[1].close) == days[1:2]  # pre-market belongs to its session
    never = load("24/7", 2023, 2023)
    days = sessions("2023-08-01", "2023-08-02", "24/7")
    assert never.covering(days[0].open, days[0].close) == days[:1]
    assert never.covering(days[1].open, days[1].open) == days[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2023-01-01", "2023-12-31", "XNYZ"), r"calendar 'XNYZ' is not known; did you mean .*XNYS"),
        (("2023-12-31", "2023-01-01"), "the end is before the start"),
        (("03/08/2023", "2023-12-31"), "'03/08/2023' is not a date; write it as 2023-08-03"),
        (("1815-06-18", "1815-06-19"), "use dates between 1930 and 2090"),
    ],
)
def test_questions_without_an_answer_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sessions(*arguments)


def test_the_indian_exchanges_share_their_sessions_and_open_at_a_quarter_past_nine() -> None:
    assert sessions("2026-01-01", "2026-12-31", "XNSE") == sessions("2026-01-01", "2026-12-31", "XBOM")
    (session,) = sessions("2026-11-20", "2026-11-20", "XNSE")
    assert (utc(session.open), utc(session.close)) == ("2026-11-20T03:45", "2026-11-20T10:00")
    assert sessions("2026-01-26", "2026-01-26", "XNSE") == (), "Republic Day"


def test_a_calendar_whose_holidays_are_announced_yearly_serves_its_known_years_and_refuses_the_others() -> None:
    last = load("XBOM", 2026, 2026).labels[-1].astype(object).year
    with pytest.raises(DataError, match=rf"known to {last}, not to {last + 1}; choose earlier dates, or update"):
        load("XBOM", 2026, last + 1)
    end = int(np.datetime64(f"{last}-12-30", "ns").astype(np.int64))
    assert load_around("XBOM", end, end).labels[-1] >= np.datetime64(f"{last}-12-29"), "the days beside are not needed"
    with pytest.raises(DataError, match="known from 1997, not from 1996"):
        load("XBOM", 1996, 1998)
