"""When a job is due: an instant of every session of an exchange, and APScheduler's trigger made of it.

Moments are written ``open``, ``open-5m``, ``close+10m``, ``close-1h30m`` or ``09:10``, which is a time of the exchange's own
clock on every day that has a session. On a half day ``close`` is the early one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from apscheduler.triggers.base import BaseTrigger

from northstar_core.data.calendar import DAY_NS, Calendar, load_around
from northstar_core.model.errors import DataError, SettingsError
from northstar_core.model.ports import Clock

SECOND_NS = 1_000_000_000
LONGEST_NS = DAY_NS  #: how far from its session's open or close a moment may lie

_MOMENT = re.compile(
    r"(?P<anchor>open|close)(?:(?P<sign>[+-])(?P<span>(?:\d+[hms])+))?|(?P<hour>\d{2}):(?P<minute>\d{2})"
)
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant of every session."""

    text: str  #: as it was written
    anchor: Literal["open", "close", "midnight"]
    offset_ns: int  #: from the anchor; from midnight it is what the exchange's clock shows

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Return the moment a text names.

        Raises
        ------
        SettingsError
            If it names none.
        """
        match = _MOMENT.fullmatch(text.strip())
        advice = "write open, open-5m, close+10m or a time of the exchange such as 09:10"
        if match is None:
            raise SettingsError(f"moment {text!r}: not understood; {advice}")
        if match["hour"]:
            hour, minute = int(match["hour"]), int(match["minute"])
            if hour > 23 or minute > 59:
                raise SettingsError(f"moment {text!r}: no time of a day; {advice}")
            return cls(text, "midnight", (hour * 3600 + minute * 60) * SECOND_NS)
        offset = span_ns(match["span"]) if match["span"] else 0
        if offset > LONGEST_NS:
            raise SettingsError(f"moment {text!r}: more than a day from its session; {advice}")
        return cls(text, "open" if match["anchor"] == "open" else "close", -offset if match["sign"] == "-" else offset)

    def of(self, calendar: Calendar, index: int) -> int:
        """Return when this is in the session at an index, ns UTC."""
        if self.anchor == "open":
            return int(calendar.opens[index]) + self.offset_ns
        if self.anchor == "close":
            return int(calendar.closes[index]) + self.offset_ns
        label: dt.date = calendar.labels[index].astype(object)
        hours, seconds = divmod(self.offset_ns // SECOND_NS, 3600)
        # What the clock shows twice is meant the first time; what it skips is as long after midnight as on other days (PEP 495).
        local = dt.datetime.combine(label, dt.time(hours, seconds // 60), ZoneInfo(calendar.tz))
        return int(local.timestamp()) * SECOND_NS


def span_ns(text: str) -> int:
    """Return a length of time such as ``5m``, ``90s`` or ``1h30m`` in nanoseconds.

    Raises
    ------
    SettingsError
        If it is none.
    """
    parts = re.findall(r"(\d+)([hms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SettingsError(f"span {text!r}: not understood; write 90s, 5m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in parts) * SECOND_NS


@dataclass(frozen=True, slots=True)
class Due:
    """A job is due at ``ts`` for the session ``label``, which closes at ``close``; times are ns UTC."""

    label: dt.date
    ts: int
    open: int
    close: int


class Times:
    """A moment of every session of a calendar.

    The calendar is asked anew for each question, and built anew when time runs out of the years it was built for: a worker that
    has been up since last year still knows next year's sessions.
    """

    def __init__(self, calendar: str, moment: Moment) -> None:
        self.calendar, self.moment = calendar, moment

    def after(self, ts: int) -> Due | None:
        """Return the first time strictly after ``ts``; None where the calendar's known sessions end before it."""
        return next((due for due in self._around(ts) if due.ts > ts), None)

    def latest(self, ts: int) -> Due | None:
        """Return the last time at or before ``ts``."""
        found = [due for due in self._around(ts) if due.ts <= ts]
        return found[-1] if found else None

    def between(self, first: int, last: int) -> list[Due]:
        """Return the times in ``(first, last]``."""
        found: list[Due] = []
        while (due := self.after(found[-1].ts if found else first)) is not None and due.ts <= last:
            found.append(due)
        return found

    def on(self, label: dt.date) -> Due | None:
        """Return when it is due for the session of a date; None where there is no session."""
        calendar = self._calendar(int(dt.datetime.combine(label, dt.time(12), dt.UTC).timestamp()) * SECOND_NS)
        index = int(calendar.index_of_label(np.array([label], dtype="datetime64[D]"))[0])
        return None if index < 0 else self._due(calendar, index)

    def _calendar(self, ts: int) -> Calendar:
        # Exchanges close for ten days at most, so the sessions of 20 days hold the next one: those of a year to come as well.
        try:
            return load_around(self.calendar, ts, ts + 20 * DAY_NS)
        except DataError:  # the next year's holidays are not known yet: what is known of this one has to do
            return load_around(self.calendar, ts, ts)

    def _around(self, ts: int) -> Iterator[Due]:
        calendar = self._calendar(ts)
        begin = max(int(np.searchsorted(calendar.opens, ts - 20 * DAY_NS)), 0)
        for index in range(begin, min(begin + 40, len(calendar))):
            yield self._due(calendar, index)

    def _due(self, calendar: Calendar, index: int) -> Due:
        label: dt.date = calendar.labels[index].astype(object)
        return Due(label, self.moment.of(calendar, index), int(calendar.opens[index]), int(calendar.closes[index]))


class SessionTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """APScheduler's trigger for a moment of every session, on the desk's clock.

    APScheduler reads the wall's clock; the desk's may run faster. So each time is given to it as the wall's, computed as it is asked
    for, and the desk's time it stands for is remembered: what comes after it is then found by the calendar alone.

    Parameters
    ----------
    since
        The first time is the one after this, ns UTC of the desk, also where it has passed by the time APScheduler asks.
    """

    #: Of the wall; so that the desk's clock, which has been rounded on the way, is never short of the moment.
    LATE_S = 0.002
    REMEMBERED = 16

    def __init__(self, times: Times, clock: Clock, since: int | None = None) -> None:
        self.times, self.clock = times, clock
        self.since = clock.now() if since is None else since
        self._given: dict[dt.datetime, int] = {}

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """Return the wall's time of the moment after the previous one, or of the first; None where the calendar ends."""
        desk = self.clock.now()
        wall = dt.datetime.now(dt.UTC)
        after = self.since
        if previous_fire_time is not None:
            passed = (previous_fire_time - wall).total_seconds() * self.clock.speed
            after = self._given.get(previous_fire_time, desk + int(passed * SECOND_NS))
        due = self.times.after(after)
        if due is None:
            return None
        fire = wall + dt.timedelta(seconds=(due.ts - desk) / SECOND_NS / self.clock.speed + self.LATE_S)
        while len(self._given) >= self.REMEMBERED:
            del self._given[next(iter(self._given))]
        self._given[fire] = due.ts
        return fire

    def __str__(self) -> str:
        return f"{self.times.moment.text} of every session of {self.times.calendar}"
