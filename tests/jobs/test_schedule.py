"""What is called when, on a desk whose days take a second; what is late and what is missed."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest

from northstar_core.gateway.clock import ScaledClock
from northstar_core.jobs.schedule import Planned, Schedule, overdue, verdict
from northstar_core.jobs.triggers import SECOND_NS, Due

MINUTE = 60 * SECOND_NS


def ns(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND_NS


def planned(late_s: float = 900.0, calendar: str = "XNYS") -> Planned:
    return Planned.of("momentum", calendar, "open-5m", "close+10m", late_s)


def due_on(day: str) -> Due:
    found = planned().start.on(dt.date.fromisoformat(day))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("after", "late_s", "found"),
    [
        (0, 900, "start"),
        (SECOND_NS, 900, "start"),
        (2 * SECOND_NS, 900, "late"),
        (15 * MINUTE, 900, "late"),
        (15 * MINUTE + 1, 900, "missed"),
        (300 * MINUTE, 86_400, "missed"),  # the half day is over, ten minutes after its early close
        (220 * MINUTE, 86_400, "late"),
    ],
)
def test_what_is_due_starts_in_time_late_or_never(after: int, late_s: float, found: str) -> None:
    due = due_on("2026-11-27")
    assert verdict(planned(late_s), due, due.ts + after) == found


def test_what_fell_due_while_nobody_was_up_is_known_from_the_last_run_on_record() -> None:
    monday = ns("2026-11-30T14:30:00Z")
    last = due_on("2026-11-24").ts
    labels = [due.label.isoformat() for due in overdue(planned(), monday, last)]
    assert labels == ["2026-11-25", "2026-11-27", "2026-11-30"], "Thanksgiving was missed by nobody"
    assert overdue(planned(), monday, due_on("2026-11-30").ts) == []
    assert overdue(planned(), monday, due_on("2026-11-30").ts + 3 * MINUTE) == [], "a changed start is the same session"
    assert len(overdue(planned(), monday, ns("2025-01-02T14:25:00Z"))) == 10


def test_a_job_without_a_record_starts_if_it_still_may_and_has_missed_nothing() -> None:
    assert [due.label.isoformat() for due in overdue(planned(), ns("2026-11-30T14:30:00Z"), None)] == ["2026-11-30"]
    assert overdue(planned(), ns("2026-11-30T18:00:00Z"), None) == []


def clock(text: str) -> ScaledClock:
    return ScaledClock(ns(text), time.time(), 100_000)


def test_every_session_is_called_once_and_what_goes_wrong_is_alerted() -> None:
    called: list[str] = []
    alerts: list[tuple[str, str, str]] = []

    async def main() -> None:
        three, hung = asyncio.Event(), asyncio.Event()

        async def call(due: Due) -> None:
            called.append(due.label.isoformat())
            if len(called) == 3:
                three.set()

        async def fail(due: Due) -> None:
            raise ValueError("planted")

        async def hang(due: Due) -> None:
            await hung.wait()

        schedule = Schedule(clock("2026-11-25T14:20:00Z"), lambda *alert: alerts.append(alert))
        for name, work in (("good", call), ("bad", fail), ("long", hang)):
            schedule.add(Planned.of(name, "XNYS", "open-5m", "close", 900.0), work, ns("2026-11-25T14:20:00Z"))
        schedule.start()
        assert set(schedule.next_times()) == {"good", "bad", "long"}
        await asyncio.wait_for(three.wait(), 60)
        hung.set()
        await schedule.close()

    asyncio.run(main())
    assert called[:3] == ["2026-11-25", "2026-11-27", "2026-11-30"]
    assert ("critical", "job bad", "could not be run: ValueError: planted") in alerts
    assert any(about == "job long" and "has not ended; it was not started" in text for _, about, text in alerts)


def test_a_calendar_that_ends_is_alerted_and_forgets_no_job_in_silence() -> None:
    alerts: list[Any] = []

    async def main(start: str) -> None:
        done = asyncio.Event()

        def alert(*what: str) -> None:
            alerts.append(what)
            done.set()

        async def call(due: Due) -> None:
            alerts.append(due.label.isoformat())

        schedule = Schedule(clock(start), alert)
        schedule.add(planned(calendar="XNSE"), call, ns(start))
        schedule.start()
        await asyncio.wait_for(done.wait(), 60)
        await schedule.close()

    told = (
        "critical",
        "job momentum",
        "will not run again: its calendar's holidays are known no further; update exchange_calendars",
    )
    asyncio.run(main("2026-12-31T03:30:00Z"))
    assert sorted(alerts, key=str) == [told, "2026-12-31"], "the last session was called"
    alerts.clear()
    asyncio.run(main("2026-12-31T12:00:00Z"))
    assert alerts == [told]
