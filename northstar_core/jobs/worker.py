"""The jobs worker: ``python -m northstar_core.jobs.worker --config FILE --home DIR``.

It runs the notebooks of the schedule, each in a process of its own, in the sessions of their calendars. What it has begun is on record in
the database before it begins, so that a worker that was killed and comes back starts nothing twice, and goes on with what it left.
SIGTERM stops every run in order; a second one ends them at once. It prints one line of JSON when it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.gateway.clock import WallClock, clock_of
from northstar_core.gateway.settings import JobSettings, Settings, load_settings
from northstar_core.jobs.describe import Description, describe
from northstar_core.jobs.files import write_atomically
from northstar_core.jobs.gateway_calls import GatewayCalls, require_go
from northstar_core.jobs.guard import held, holder_of_job
from northstar_core.jobs.live import LiveJob, LiveRun, Ticket, mode_of
from northstar_core.jobs.schedule import Planned, Schedule, overdue, verdict
from northstar_core.jobs.supervise import Attempt, Refused, Restart, Run, Supervisor
from northstar_core.jobs.triggers import SECOND_NS, Due
from northstar_core.jobs.worker_log import log_to
from northstar_core.model.errors import NorthstarError, StoreError
from northstar_core.store.jobs import JobRun, Jobs
from northstar_core.store.leases import Leases
from northstar_core.store.postgres import open_database

log = logging.getLogger("northstar.jobs")

LOGINS = "open-30m"  #: when every account's broker is to be logged in at
GATEWAY_S = 60.0  #: wall seconds a gateway that is not there is waited for, before an attempt counts as failed
TOKEN_HOURS = 24.0
RECORD_TRIES = 30  #: seconds that a database which restarts may take
WITH_THE_WORKER = "stopped with the worker"
AGAIN = "to be started again"


class Worker:
    """Runs a schedule.

    Parameters
    ----------
    settings
        The desk's configuration.
    jobs, leases
        The database's record of what ran, and who may run.
    """

    def __init__(self, settings: Settings, clock: WallClock, jobs: Jobs, leases: Leases) -> None:
        self.settings, self.clock, self.jobs, self.leases = settings, clock, jobs, leases
        self.gateway = GatewayCalls(settings.home)
        self.schedule = Schedule(clock, self.gateway.alert)
        self.stopping = asyncio.Event()
        self.running: dict[str, Supervisor] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._plans = {
            job.name: (job, Planned.of(job.name, job.calendar, job.start, job.stop, job.late_s))
            for job in settings.schedule
            if job.enabled
        }

    # ------------------------------------------------------------------------------------------------- the worker

    async def start(self) -> None:
        """See to what fell due while no worker ran, and begin to wait for what is to come."""
        for job, planned in self._plans.values():
            now = self.clock.now()
            await self._catch_up(job, planned, now)
            self.schedule.add(planned, self._caller(job, planned), now)
        for calendar in sorted({job.calendar for job, _ in self._plans.values()}):
            self.schedule.add(Planned.of(f"logins of {calendar}", calendar, LOGINS, None, 1800.0), self._log_in)
        self.schedule.start()
        self._tell()

    async def close(self) -> None:
        """Stop every run in order, and wait for it."""
        self.schedule.pause()
        for supervisor in self.running.values():
            supervisor.stop()
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await asyncio.sleep(0)  # who waited for them hears of it
        await self.schedule.close()
        await self.gateway.close()

    def kill(self) -> None:
        """End every run at once."""
        for supervisor in self.running.values():
            supervisor.kill()

    def _caller(self, job: JobSettings, planned: Planned) -> Callable[[Due], Awaitable[None]]:
        async def call(due: Due) -> None:
            # Closing the schedule cancels what it called, and a run is to be stopped in order.
            await asyncio.shield(self._task(self._due(job, planned, due)))

        return call

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(self._told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _told(self, work: Coroutine[Any, Any, None]) -> None:
        """The worker outlives whatever one of its jobs does; what it did is told."""
        try:
            await work
        except Exception as error:
            log.exception("a job could not be looked after")
            self.gateway.alert(
                "critical", "jobs worker", f"a job could not be looked after: {type(error).__name__}: {error}"
            )

    async def _log_in(self, due: Due) -> None:
        """Have the gateway log in at every account's broker, side by side; it does so without being asked where it can."""
        try:
            await self.gateway.ask("login", patience_s=GATEWAY_S)
        except NorthstarError as error:
            self.gateway.alert("warning", "logins", f"could not be asked for before the open: {error}")

    # ------------------------------------------------------------------------------------------------- what is due

    async def _catch_up(self, job: JobSettings, planned: Planned, now: int) -> None:
        last = await self.jobs.last(job.name)
        if last is not None:
            await self._take_up(job, planned, last, now)
        for due in overdue(planned, now, last.planned if last is not None else None):
            if verdict(planned, due, now) == "missed":
                await self._missed(job, due, now, "no worker was up")
            else:
                self._task(self._due(job, planned, due))

    async def _take_up(self, job: JobSettings, planned: Planned, last: JobRun, now: int) -> None:
        """Go on with a run that ended with an earlier worker, if its session is not over and the job's policy wants it."""
        left = last.outcome == "running"
        failed = last.outcome == "failed" and last.detail.startswith(AGAIN)  # and the worker went before it did
        if not left and not failed and not (last.outcome == "stopped" and last.detail.startswith(WITH_THE_WORKER)):
            return
        due = planned.start.latest(last.planned)
        wanted = job.restart == "on-failure" and (not (left or failed) or last.attempt <= job.restarts)
        if wanted and due is not None and due.ts == last.planned and now < planned.end_of(due):
            again = await self.jobs.restart(last, self._holder(job), now)
            if again is not None:
                if left or failed:
                    self.gateway.alert("warning", f"job {job.name}", "its worker died; the run is started again")
                self._task(self._run(job, planned, due, again))
            return
        if left:
            await self.jobs.finish(last, now, "failed", "its worker died")
            self.gateway.alert(
                "critical", f"job {job.name}", "its worker died, and its run with it; it is not started again"
            )

    async def _due(self, job: JobSettings, planned: Planned, due: Due) -> None:
        """It is time for a job, or past it. A database that is away is waited for, as long as the job may start."""
        told = False
        while True:
            now = self.clock.now()
            late_s = (now - due.ts) / SECOND_NS
            found = verdict(planned, due, now)
            try:
                if found == "missed" or self.stopping.is_set():
                    await self._missed(job, due, now, f"{late_s:.0f} s late")
                    return
                record = await self.jobs.claim(job.name, due.ts, self._holder(job), now)
                break
            except StoreError as error:
                if found == "missed":
                    raise
                if not told:
                    self.gateway.alert("critical", f"job {job.name}", f"is due, and waits for the database: {error}")
                told = True
                await asyncio.sleep(1.0)
        if record is None:
            log.info("job %s: its run of %s was begun before", job.name, due.label)
            return
        if found == "late":
            self.gateway.alert("warning", f"job {job.name}", f"starts {late_s:.0f} s late")
        await self._run(job, planned, due, record)

    async def _missed(self, job: JobSettings, due: Due, now: int, why: str) -> None:
        if await self.jobs.miss(job.name, due.ts, now, why):
            self.gateway.alert("critical", f"job {job.name}", f"missed its run of {due.label}: {why}")

    def _holder(self, job: JobSettings) -> str:
        return holder_of_job(self.settings.home, job.name)

    # ------------------------------------------------------------------------------------------------- one run

    async def _run(self, job: JobSettings, planned: Planned, due: Due, record: JobRun) -> None:
        notebook = self.settings.notebook(job)
        try:
            described = await describe(notebook, job.parameters)
        except NorthstarError as error:
            await self._ended(job, record, Attempt("failed", str(error)))
            self.gateway.alert("critical", f"job {job.name}", f"failed: {error}")
            return
        records = {record.attempt: record}

        async def on_end(attempt: int, ended: Attempt) -> None:
            await self._ended(job, records[attempt], ended)

        async def begin(attempt: int) -> Run:
            if attempt not in records:
                again = await self.jobs.restart(records[attempt - 1], self._holder(job), self.clock.now())
                records[attempt] = again or records[attempt - 1]
                if again is None:
                    raise Refused("another worker has begun it")
            return await self._start(job, due, described)

        async def on_start(attempt: int, run: Run) -> None:
            log.info("job %s: attempt %d is %s", job.name, attempt, run.run_id)
            self._tell()

        supervisor = Supervisor(
            job.name, clock=self.clock, ends=planned.end_of(due),
            restart=Restart(job.restarts if job.restart == "on-failure" else 0), start=begin,
            guard=lambda: self._lease(job, described), alert=self.gateway.alert, on_start=on_start, on_end=on_end, first=record.attempt,
        )  # fmt: skip
        self.running[job.name] = supervisor
        if self.stopping.is_set():
            supervisor.stop()
        try:
            await supervisor.run()
        finally:
            del self.running[job.name]
            self._tell()

    async def _start(self, job: JobSettings, due: Due, described: Description) -> LiveRun:
        account = self.settings.accounts[job.account]
        if account.real_money:
            require_go(job.account, await self.gateway.ask("preflight", account=job.account, patience_s=GATEWAY_S))

        async def ticket(strategy: str) -> Ticket:
            args = {"strategy": strategy, "account": job.account, "hours": TOKEN_HOURS}
            return msgspec.convert(await self.gateway.ask("token", patience_s=GATEWAY_S, **args), Ticket)

        from northstar_core.client.desk import socket_path

        live = LiveJob(
            notebook=self.settings.notebook(job), parameters=dict(job.parameters), account=job.account, home=self.settings.home,
            socket=socket_path(self.settings.home), broker=account.broker, mode=mode_of(job.account, account.real_money),
            day=due.label.strftime("%Y%m%d"), grace_s=job.grace_s,
        )  # fmt: skip
        return await LiveRun.start(live, ticket, described)

    def _lease(self, job: JobSettings, described: Description) -> AbstractAsyncContextManager[Any]:
        def on_lost(why: str) -> None:
            self.gateway.alert("critical", f"job {job.name}", why)
            self.running[job.name].kill()

        return held(self.leases, described.strategy, job.account, self._holder(job), on_lost)

    async def _ended(self, job: JobSettings, record: JobRun, ended: Attempt) -> None:
        detail = f"{ended.run_id}: {ended.detail}" if ended.run_id and ended.detail else ended.run_id or ended.detail
        if ended.outcome == "stopped" and self.stopping.is_set():
            detail = f"{WITH_THE_WORKER}: {detail}"
        elif ended.again_s is not None:
            detail = f"{AGAIN}: {detail}"
        now = self.clock.now()
        for left in reversed(range(RECORD_TRIES)):
            try:
                await self.jobs.finish(record, now, ended.outcome, detail[:2000])
                break
            except StoreError as error:
                log.warning("job %s: its end could not be put on record: %s", job.name, error)
                if not left:
                    raise
                await asyncio.sleep(1.0)
        log.info("job %s: attempt %d %s %s", job.name, record.attempt, ended.outcome, detail)

    def _tell(self) -> None:
        """Leave what runs and what comes next where a person's command finds it."""
        runs = {
            name: {"attempt": s.attempt, "run_id": s.current.run_id, "folder": str(s.current.folder)}
            for name, s in self.running.items()
            if s.current is not None
        }
        with suppress(OSError):
            folder = self.settings.home / "run"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = {"pid": os.getpid(), "running": runs, "next": self.schedule.next_times()}
            write_atomically(folder / "worker.json", json.dumps(facts, indent=1).encode())


async def serve(settings: Settings) -> None:
    """Run a worker until it is asked to stop."""
    async with open_database(settings.home) as database, Jobs(database) as jobs, Leases(database) as leases:
        worker = Worker(settings, clock_of(settings.clock), jobs, leases)

        def on_signal() -> None:
            if worker.stopping.is_set():
                worker.kill()
            worker.stopping.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        try:
            await worker.start()
            print(json.dumps({"ready": True, "pid": os.getpid(), "jobs": [*worker._plans]}), flush=True)
            log.info("ready, %d jobs", len(worker._plans))
            await worker.stopping.wait()
            log.info("going down, %d runs to stop", len(worker.running))
        finally:
            worker.stopping.set()
            await worker.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m northstar_core.jobs.worker")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    handler = None
    try:
        settings = load_settings(given.config, given.home)
        handler = log_to(settings.home / "logs" / "worker.log")
        asyncio.run(serve(settings))
    except NorthstarError as error:
        print(f"northstar worker: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        if handler is not None:
            handler.close()


if __name__ == "__main__":
    main()
