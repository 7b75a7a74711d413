"""What runs when: APScheduler turns the moments of a calendar into calls, and what came too late is told apart.

APScheduler's scheduler, executors, events and in-memory job store do the waiting; the trigger is ours (``triggers``), because it has to
know sessions and the desk's clock. Three of its answers are not used: its misfire rule and its catching up measure lateness by the wall's
clock and know no session, so a late call comes here and ``verdict`` decides by the desk's; its durable stores would keep a schedule
that the configuration already holds, so what is durable is which planned runs have run (``store.jobs``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_REMOVED
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from northstar_core.jobs.triggers import SECOND_NS, Due, Moment, SessionTrigger, Times
from northstar_core.model.ports import Clock

log = logging.getLogger("northstar.jobs")

#: How often the clock is looked at anew: the wall's may be set, and a machine that slept wakes with its timers late.
WAKE_S = 15.0
#: Two moments of one job that lie closer together are of one session: the configuration was changed between them.
SAME_SESSION_NS = 8 * 3600 * SECOND_NS
MOST = 10  #: sessions back that are still told to have been missed

Verdict = Literal["start", "late", "missed"]
Alert = Callable[[str, str, str], None]  #: severity, about, text


@dataclass(frozen=True, slots=True)
class Planned:
    """When something is done in every session, and until when it makes sense."""

    name: str
    start: Times
    stop: Times | None  #: None: it is done in a moment
    late_s: float  #: desk seconds it may begin late

    @classmethod
    def of(cls, name: str, calendar: str, start: str, stop: str | None, late_s: float) -> Planned:
        """Return it from the texts of a configuration.

        Raises
        ------
        SettingsError
            If one of them is no moment.
        """
        end = None if stop is None else Times(calendar, Moment.parse(stop))
        return cls(name, Times(calendar, Moment.parse(start)), end, late_s)

    def end_of(self, due: Due) -> int:
        """Return when what was due is to end, ns UTC."""
        end = None if self.stop is None else self.stop.on(due.label)
        return due.ts + int(self.late_s * SECOND_NS) if end is None else end.ts


def verdict(planned: Planned, due: Due, now: int) -> Verdict:
    """Return whether what was due at ``due.ts`` is to start at ``now``: in time, late, or no more."""
    if now >= planned.end_of(due) or now - due.ts > planned.late_s * SECOND_NS:
        return "missed"
    return "start" if now - due.ts <= SECOND_NS else "late"


def overdue(planned: Planned, now: int, last: int | None, most: int = MOST) -> list[Due]:
    """Return what fell due up to ``now`` after ``last``, the last known to have been seen to; without one, only what may still start.

    Oldest first, the newest ``most`` at most.
    """
    newest = planned.start.latest(now)
    if newest is None or (last is not None and newest.ts <= last + SAME_SESSION_NS):
        return []
    if last is None:
        return [newest] if verdict(planned, newest, now) != "missed" else []
    return planned.start.between(last + SAME_SESSION_NS, now)[-most:]


class Schedule:
    """Calls what is due, on the desk's clock.

    Parameters
    ----------
    alert
        Told of what went wrong: a call that raised, one that was due while the one before still ran, a calendar that ended.
    """

    def __init__(self, clock: Clock, alert: Alert) -> None:
        self.clock, self.alert = clock, alert
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(self._on_event, EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_REMOVED)
        self._waker: asyncio.Task[None] | None = None
        self._closing = False

    def add(self, planned: Planned, call: Callable[[Due], Awaitable[Any]], since: int | None = None) -> None:
        """Call this in every session from now on, or from a time before (ns UTC), with what it is due for."""

        trigger = SessionTrigger(planned.start, self.clock, since)
        seen = trigger.since

        async def fire() -> None:
            # All since the last call, also those a sleeping machine or a run that would not end has let pass.
            nonlocal seen
            for due in planned.start.between(seen, self.clock.now())[-MOST:]:
                seen = due.ts
                await call(due)

        if planned.start.after(trigger.since) is None:
            self._ended(planned.name)
        else:
            self._scheduler.add_job(fire, trigger, id=planned.name, name=f"{planned.name}: {trigger}")

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._scheduler.start()
        self._waker = asyncio.get_running_loop().create_task(self._wake())

    def pause(self) -> None:
        """Call nothing any more; what was called goes on."""
        self._closing = True
        if self._scheduler.running:
            self._scheduler.pause()

    async def close(self) -> None:
        """Call nothing any more, and give up what was called and has not ended."""
        self._closing = True
        if self._waker is not None:
            self._waker.cancel()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
            await asyncio.sleep(0)  # it ends in the loop's next turn

    def next_times(self) -> dict[str, int]:
        """Return when each is due next, ns UTC of the desk."""
        now = self.clock.now()
        found = {}
        for job in self._scheduler.get_jobs():
            due = job.trigger.times.after(now)
            if due is not None:
                found[str(job.id)] = due.ts
        return found

    async def _wake(self) -> None:
        while True:
            await asyncio.sleep(WAKE_S)
            self._scheduler.wakeup()

    def _on_event(self, event: Any) -> None:
        if self._closing:
            return
        if event.code == EVENT_JOB_ERROR:
            self.alert(
                "critical",
                f"job {event.job_id}",
                f"could not be run: {type(event.exception).__name__}: {event.exception}",
            )
        elif event.code == EVENT_JOB_MAX_INSTANCES:
            self.alert(
                "critical",
                f"job {event.job_id}",
                "is due, but its run of the session before has not ended; it was not started",
            )
        else:
            self._ended(event.job_id)

    def _ended(self, name: str) -> None:
        self.alert(
            "critical",
            f"job {name}",
            "will not run again: its calendar's holidays are known no further; update exchange_calendars",
        )
