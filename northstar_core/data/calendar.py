"""Trading sessions: regular and extended hours, half days and DST, from ``exchange_calendars``.

The calendar library is heavy (it brings pandas), so it is imported when the first session is asked for. A calendar
object of that library covers about twenty years back and one ahead; ours is rebuilt with the wanted bounds, so a
backtest over 2000 and a schedule for 2035 both work. Future sessions assume today's rules; those before 1985 are given
today's hours, as the library has no others.

Where the library has an exchange's holidays only up to some year (Bombay's are published a year at a time), its calendar ends there
and later dates are refused: a schedule must not trust sessions that nobody has announced.

Extended hours are those of the US equity exchanges, 04:00 New York to four hours after the regular close (20:00, or
17:00 on a half day). Calendars of other markets have none: their extended hours are their regular ones.
"""

from __future__ import annotations

import datetime as dt
import warnings
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from northstar_core.model.errors import DataError
from northstar_core.model.tape import Int64, Session

DEFAULT = "XNYS"
US_EQUITY_CALENDARS = frozenset({"XNYS", "XNAS", "NYSE", "NASDAQ", "ARCX", "BATS"})
PRE_MARKET_OPEN = dt.timedelta(hours=4)  # after midnight, New York
AFTER_HOURS_NS = 4 * 3_600_000_000_000  # 16:00 to 20:00, and 13:00 to 17:00 on half days

#: Exchanges the library does not name, and the one whose sessions are theirs: NSE and BSE keep the same hours and holidays.
SAME_SESSIONS = {"XNSE": "XBOM", "NSE": "XBOM"}

DAY_NS = 86_400_000_000_000
FIRST_YEAR, LAST_YEAR = 1930, 2090


class Calendar:
    """The sessions of one exchange between two years, as columns; times are int nanoseconds UTC.

    ``labels`` are the session dates (``datetime64[D]``); ``opens`` and ``closes`` the regular hours, ``first`` and
    ``last`` the extended ones. All have one entry a session, in order.
    """

    def __init__(
        self, name: str, tz: str, labels: NDArray[np.datetime64], opens: Int64, closes: Int64, first: Int64, last: Int64
    ) -> None:
        self.name, self.tz, self.labels = name, tz, labels
        self.opens, self.closes, self.first, self.last = opens, closes, first, last

    def __len__(self) -> int:
        return len(self.labels)

    def session(self, index: int) -> Session:
        """Return the session at an index."""
        return Session(self.labels[index].astype(object), int(self.opens[index]), int(self.closes[index]))

    def index_of_label(self, labels: NDArray[np.datetime64]) -> NDArray[np.int64]:
        """Return the index of each date's session, -1 where the exchange was closed that day."""
        wanted = labels.astype("datetime64[D]")
        at = np.minimum(np.searchsorted(self.labels, wanted), len(self.labels) - 1)
        return np.where(self.labels[at] == wanted, at, -1).astype(np.int64)

    def index_of(self, ts: Int64, *, extended: bool = True, closing: bool = False) -> NDArray[np.int64]:
        """Return the index of the session each time falls in, -1 where in none.

        A session is ``[opening, close)``; with ``closing`` it is ``(opening, close]``, the question to ask of the end
        of a bar. ``extended`` counts the pre-market and after-hours minutes as part of their session.
        """
        begin, end = (self.first, self.last) if extended else (self.opens, self.closes)
        at = np.searchsorted(begin, ts, side="left" if closing else "right") - 1
        known = np.maximum(at, 0)
        inside = (at >= 0) & ((ts <= end[known]) if closing else (ts < end[known]))
        return np.where(inside, at, -1).astype(np.int64)

    def regular(self, start: Int64, end: Int64) -> NDArray[np.bool_]:
        """Return which spans ``[start, end]`` lie wholly in the regular hours of one session (or instants)."""
        return self._within(self.opens, self.closes, start, end)

    def extended(self, start: Int64, end: Int64) -> NDArray[np.bool_]:
        """Return which spans ``[start, end]`` lie wholly in the extended hours of one session."""
        return self._within(self.first, self.last, start, end)

    @staticmethod
    def _within(begin: Int64, stop: Int64, start: Int64, end: Int64) -> NDArray[np.bool_]:
        at = np.searchsorted(begin, start, side="right") - 1
        result: NDArray[np.bool_] = (at >= 0) & (end <= stop[np.maximum(at, 0)])
        return result

    def covering(self, first: int, last: int) -> tuple[Session, ...]:
        """Return the sessions whose extended hours overlap the span from ``first`` to ``last``, ns UTC."""
        begin = int(np.searchsorted(self.last, first, side="right"))
        end = int(np.searchsorted(self.first, last, side="left"))
        if first == last and begin < len(self) and self.first[begin] == first:
            end = begin + 1
        return tuple(self.session(i) for i in range(begin, end))

    def local_dates(self, ts: Int64) -> NDArray[np.datetime64]:
        """Return the calendar date at the exchange of each time."""
        import pandas as pd

        local = pd.DatetimeIndex(ts.astype("datetime64[ns]"), tz="UTC").tz_convert(self.tz)
        dates: NDArray[np.datetime64] = local.tz_localize(None).to_numpy().astype("datetime64[D]")
        return dates

    def at_midnight(self, dates: NDArray[np.datetime64], ts: Int64) -> bool:
        """Return whether every time is the midnight at the exchange with which its date begins."""
        import pandas as pd

        return bool(np.array_equal(_ns(pd.DatetimeIndex(dates.astype("datetime64[ns]")).tz_localize(self.tz)), ts))


def sessions(start: dt.date | str, end: dt.date | str, calendar: str = DEFAULT) -> tuple[Session, ...]:
    """Return the sessions from one date to another, both included.

    Raises
    ------
    DataError
        If the calendar is unknown, a date is not ISO 8601, or ``end`` is before ``start``.
    """
    first, last = as_date(start), as_date(end)
    if last < first:
        raise DataError(f"sessions from {first} to {last}: the end is before the start; swap them")
    known = load(calendar, first.year, last.year)
    begin = int(np.searchsorted(known.labels, np.datetime64(first, "D"), side="left"))
    stop = int(np.searchsorted(known.labels, np.datetime64(last, "D"), side="right"))
    return tuple(known.session(i) for i in range(begin, stop))


def as_date(value: dt.date | str) -> dt.date:
    """Return the date a caller meant by a date, a datetime or ISO text."""
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise DataError(f"{value!r} is not a date; write it as 2023-08-03") from None


def load_around(calendar: str, first: int, last: int) -> Calendar:
    """Return the calendar over at least the years of two times, ns UTC, and the days beside them as far as they are known."""
    times = np.array([first - 7 * DAY_NS, first, last, last + 7 * DAY_NS])
    begin, *years, end = (
        min(max(int(year) + 1970, FIRST_YEAR), LAST_YEAR)
        for year in times.astype("datetime64[ns]").astype("datetime64[Y]").astype(np.int64)
    )
    return _known(_blocks(calendar, begin, end), *years)


def load(calendar: str, first_year: int, last_year: int) -> Calendar:
    """Return a calendar that covers whole years, both included; built once for each span of years.

    Raises
    ------
    DataError
        If the calendar is unknown, the years are outside 1930 to 2090, or the exchange's holidays in them are not known.
    """
    if not FIRST_YEAR <= first_year <= last_year <= LAST_YEAR:
        raise DataError(
            f"calendar {calendar}: sessions of {first_year} to {last_year} are not known; "
            f"use dates between {FIRST_YEAR} and {LAST_YEAR}"
        )
    return _known(_blocks(calendar, first_year, last_year), first_year, last_year)


def _known(found: Calendar, first_year: int, last_year: int) -> Calendar:
    """Refuse a calendar that does not reach as far as was asked."""
    begin, end = (int(label.astype("datetime64[Y]").astype(np.int64)) + 1970 for label in found.labels[[0, -1]])
    if first_year < begin:
        raise DataError(
            f"calendar {found.name}: its sessions are known from {begin}, not from {first_year}; choose later dates"
        )
    if last_year > end:
        raise DataError(
            f"calendar {found.name}: its sessions are known to {end}, not to {last_year}; choose earlier dates, "
            "or update exchange_calendars once the holidays are announced"
        )
    return found


def _blocks(calendar: str, first_year: int, last_year: int) -> Calendar:
    # Five-year blocks, so that asking day by day does not build a calendar for each question.
    return _load(calendar, max(first_year - first_year % 5, FIRST_YEAR), min(last_year - last_year % 5 + 4, LAST_YEAR))


@lru_cache(maxsize=16)
def _load(calendar: str, first_year: int, last_year: int) -> Calendar:
    import exchange_calendars
    import pandas as pd
    from exchange_calendars.errors import InvalidCalendarName

    known: list[str] = [*exchange_calendars.get_calendar_names(include_aliases=True), *SAME_SESSIONS]
    name = SAME_SESSIONS.get(calendar, calendar)
    try:
        if calendar not in known:
            raise InvalidCalendarName(calendar_name=calendar)
        with warnings.catch_warnings():
            # exchange_calendars uses what pandas 3 will drop in version 4; nothing we or the user could do about it.
            warnings.simplefilter("ignore", DeprecationWarning)
            begin, end = pd.Timestamp(first_year, 1, 1), pd.Timestamp(last_year, 12, 31)
            try:
                source = exchange_calendars.get_calendar(name, start=begin, end=end)
            except ValueError:  # some exchanges' calendars begin later, or end sooner
                bounds = exchange_calendars.get_calendar(name)
                begin, end = max(begin, bounds.bound_min() or begin), min(end, bounds.bound_max() or end)
                if end <= begin:
                    raise
                source = exchange_calendars.get_calendar(name, start=begin, end=end)
    except ValueError as error:
        raise DataError(f"calendar {calendar}: {' '.join(str(error).split())[:150]}; choose other dates") from None
    except InvalidCalendarName:
        close = get_close_matches(str(calendar).upper(), known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "use a MIC such as XNYS, or 24/7 for no closing"
        raise DataError(f"calendar {calendar!r} is not known; {hint}") from None

    labels = source.sessions.to_numpy().astype("datetime64[D]")
    opens, closes = _ns(source.opens), _ns(source.closes)
    first, last = opens, closes
    if calendar in US_EQUITY_CALENDARS:
        midnight = pd.DatetimeIndex(labels).tz_localize(source.tz)
        # Wall-clock arithmetic: 04:00 New York also on the two days a year that are 23 or 25 hours long.
        first = _ns((midnight.tz_localize(None) + PRE_MARKET_OPEN).tz_localize(source.tz).tz_convert("UTC"))
        last = closes + AFTER_HOURS_NS
    return Calendar(calendar, str(source.tz), labels, opens, closes, np.minimum(first, opens), np.maximum(last, closes))


def _ns(times: Any) -> Int64:
    """int64 nanoseconds of a tz-aware pandas Series or index, whatever its resolution."""
    import pandas as pd

    index = pd.DatetimeIndex(times)
    ns: Int64 = index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    return ns


def midnight_ns(calendar: str, day: dt.date) -> int:
    """Return when a date begins at the exchange, ns UTC."""
    import pandas as pd

    year = min(max(day.year, FIRST_YEAR), LAST_YEAR)
    return int(pd.Timestamp(day, tz=load(calendar, year, year).tz).as_unit("ns").value)
