"""What became of each planned run of each scheduled job: written down before it starts, so that it starts once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Self

from northstar_core.model.errors import StoreError
from northstar_core.store.postgres import Database, Role
from northstar_core.store.session import Session

EVER = 2**63 - 1


class JobRun(NamedTuple):
    """A planned run. Times are the desk's, ns UTC."""

    job: str
    planned: int
    attempt: int  #: 1, and one more for each restart
    holder: str  #: the worker that runs it
    started: int | None  #: of this attempt; None if it never began
    finished: int | None  #: None while it runs
    outcome: str  #: running, completed, stopped, failed, missed
    detail: str
    folder: str  #: of the run's evidence
    recorded: datetime  #: UTC, by the database's clock: when this was last written


class Jobs:
    """The record of scheduled runs. An asynchronous context manager; any number of workers may share it."""

    def __init__(self, database: Database, role: Role = Role.RUN_WRITER) -> None:
        self._session = Session(database, role)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def claim(self, job: str, planned: int, holder: str, now: int, folder: str = "") -> JobRun | None:
        """Begin a planned run; None if it was begun before, or put down as missed.

        The record is durable before this returns. A worker that is killed right after it leaves a run that is ``running``:
        ``running`` finds it, and ``restart`` begins it again, by the job's policy.

        Parameters
        ----------
        planned
            The time it was planned for, ns UTC: together with the job's name the run's identity.
        holder
            Says which worker: unique to a process.
        """
        rows, asked_again = await self._session.ask("claim_job", job, planned, holder, now, folder)
        if rows:
            return JobRun(*rows[0].values())
        if not asked_again:
            return None
        # the claim may have been made before its answer was lost
        found = await self.run(job, planned)
        ours = (holder, now, folder, 1, "running")
        if found is not None and (found.holder, found.started, found.folder, found.attempt, found.outcome) == ours:
            return found
        return None

    async def restart(self, run: JobRun, holder: str, now: int, folder: str = "") -> JobRun | None:
        """Begin a run again that failed, was stopped or lost its worker; None if somebody else was first.

        ``run`` is the attempt that ended, as it was read: only who restarts exactly this one gets the next.
        """
        row = await self._session.row("restart_job", run.job, run.planned, run.attempt, holder, now, folder)
        return None if row is None else JobRun(*row.values())

    async def finish(self, run: JobRun, now: int, outcome: str, detail: str = "") -> JobRun:
        """Say how an attempt ended: ``completed``, ``stopped`` or ``failed``. A second word about it changes nothing.

        Raises
        ------
        StoreError
            If there is no such run, or the outcome is none.
        """
        row = await self._session.row("finish_job", run.job, run.planned, run.attempt, now, outcome, detail)
        if row is not None:
            return JobRun(*row.values())
        found = await self.run(run.job, run.planned)
        if found is None:
            raise StoreError(f"job {run.job}: no run planned at {run.planned} is on record")
        return found

    async def miss(self, job: str, planned: int, now: int, why: str) -> bool:
        """Put on record that a planned run never began; False if something is known of it."""
        return await self._session.row("miss_job", job, planned, now, why) is not None

    async def unknown(self, planned: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of some planned runs, (job, time), that nothing is on record of: overdue, they were missed."""
        wanted = list(planned)
        rows = await self._session.rows("unknown_jobs", [job for job, _ in wanted], [time for _, time in wanted])
        return [(row["job"], row["planned"]) for row in rows]

    async def run(self, job: str, planned: int) -> JobRun | None:
        """Return one planned run; None if nothing is known of it."""
        row = await self._session.row("job_run", job, planned)
        return None if row is None else JobRun(*row.values())

    async def runs(self, job: str | None = None, since: int = 0, until: int = EVER, limit: int = 100) -> list[JobRun]:
        """Return runs planned in ``[since, until]``, the newest first."""
        return [JobRun(*row.values()) for row in await self._session.rows("job_runs", job, since, until, limit)]

    async def last(self, job: str) -> JobRun | None:
        """Return a job's newest run; None where it has none."""
        found = await self.runs(job, limit=1)
        return found[0] if found else None

    async def running(self) -> list[JobRun]:
        """Return the runs that have begun and not ended: after a worker's death, those it left."""
        return [JobRun(*row.values()) for row in await self._session.rows("running_jobs")]
