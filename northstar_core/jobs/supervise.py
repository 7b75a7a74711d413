"""One job in one session: started when it may, started again when it fails, stopped when it is time, each attempt on the record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from northstar_core.model.errors import NorthstarError
from northstar_core.model.ports import Clock

log = logging.getLogger("northstar.jobs")

Ended = Literal["completed", "stopped", "failed"]


class Run(Protocol):
    """A run that was started (``live.LiveRun``)."""

    run_id: str
    folder: Any

    async def wait(self) -> dict[str, Any]:
        """Return its report, once it has ended."""

    async def stop(self) -> dict[str, Any]:
        """Stop it, and return its report."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True, slots=True)
class Restart:
    """When a run that failed is started again; waits are the wall's, because processes do not start faster on a faster desk."""

    most: int = 0  #: restarts in one session
    first_s: float = 1.0
    factor: float = 2.0
    longest_s: float = 60.0

    def delay_s(self, attempt: int, in_a_row: int | None = None) -> float | None:
        """Return how long to wait after an attempt that failed; None where it is not started again.

        Parameters
        ----------
        attempt
            Its number in the session.
        in_a_row
            How many have failed since one that lasted; by default all.
        """
        if attempt > self.most:
            return None
        failures = attempt if in_a_row is None else in_a_row
        return min(self.first_s * self.factor ** (failures - 1), self.longest_s)

    def lasted(self, seconds: float) -> bool:
        """Whether an attempt ran so long that its failure is a new one."""
        return seconds > self.longest_s


class Refused(NorthstarError):
    """A run may not start, and trying again would not help."""


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended."""

    outcome: Ended
    detail: str = ""
    run_id: str = ""
    final: bool = False  #: trying again would not help
    again_s: float | None = None  #: after so many seconds it is started again; None where it is not


class Supervisor:
    """Runs one job until its session's end.

    Parameters
    ----------
    start
        Starts an attempt, by its number from 1. What it raises as ``Refused`` ends the job; any other error of ours is a failed
        attempt.
    guard
        Entered around every attempt: the lease that no other run of the same strategy in the same account holds.
    ends
        The desk's time at which the run is stopped, ns UTC.
    on_start, on_end
        Told of every attempt: for the record.
    """

    def __init__(
        self, name: str, *, clock: Clock, ends: int, restart: Restart, start: Callable[[int], Awaitable[Run]],
        guard: Callable[[], AbstractAsyncContextManager[Any]], alert: Callable[[str, str, str], None],
        on_start: Callable[[int, Run], Awaitable[None]], on_end: Callable[[int, Attempt], Awaitable[None]], first: int = 1,
    ) -> None:  # fmt: skip
        self.name, self.clock, self.ends, self.restart = name, clock, ends, restart
        self.current: Run | None = None
        self.attempt = first
        self._start, self._guard, self._alert = start, guard, alert
        self._on_start, self._on_end = on_start, on_end
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask for the end; ``run`` returns once it is reached."""
        self._stop.set()

    def kill(self) -> None:
        """Do not wait for an end in order."""
        self._stop.set()
        if self.current is not None:
            self.current.kill()

    async def run(self) -> Attempt:
        """Run to the end, with restarts, and return how the last attempt ended."""
        timer, in_a_row = asyncio.ensure_future(self._at_the_end()), 0
        try:
            while True:
                began = time.monotonic()
                ended = await self._attempt()
                delay = None
                if ended.outcome == "failed" and not ended.final and not self._stop.is_set():
                    in_a_row = 1 if self.restart.lasted(time.monotonic() - began) else in_a_row + 1
                    delay = self.restart.delay_s(self.attempt, in_a_row)
                    ended = replace(ended, again_s=delay)
                await self._on_end(self.attempt, ended)
                if ended.outcome != "failed":
                    if ended.detail:
                        self._alert("warning", f"job {self.name}", f"did not stop in order: {ended.detail}")
                    return ended
                if delay is None:
                    self._alert("critical", f"job {self.name}", f"failed: {ended.detail}")
                    return ended
                self._alert(
                    "warning", f"job {self.name}", f"failed and is started again in {delay:g} s: {ended.detail}"
                )
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
                if self._stop.is_set():
                    return ended
                self.attempt += 1
        finally:
            timer.cancel()

    async def _at_the_end(self) -> None:
        await self.clock.until(self.ends)
        self._stop.set()

    async def _attempt(self) -> Attempt:
        try:
            async with self._guard():
                run = await self._begun()
                if run is None:
                    return Attempt("stopped")  # before it began
                self.current = run
                try:
                    await self._on_start(self.attempt, run)
                    return _attempt_of(await self._watched(run))
                finally:
                    run.kill()  # nothing where it has ended
                    self.current = None
        except Refused as refused:
            return Attempt("failed", str(refused), final=True)
        except NorthstarError as error:
            return Attempt("failed", str(error))

    async def _begun(self) -> Run | None:
        """Start an attempt, unless a stop comes first."""
        starting = asyncio.ensure_future(self._start(self.attempt))
        asked = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                return starting.result()
            starting.cancel()
            with suppress(asyncio.CancelledError, NorthstarError):
                return await starting  # it was too far on to be given up
            return None
        finally:
            asked.cancel()

    async def _watched(self, run: Run) -> dict[str, Any]:
        ended = asyncio.ensure_future(run.wait())
        asked = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else await run.stop()
        finally:
            asked.cancel()
            ended.cancel()


def _attempt_of(report: dict[str, Any]) -> Attempt:
    run_id, error = str(report.get("run_id", "")), str(report.get("error") or "")
    if report["outcome"] == "completed":
        return Attempt("stopped" if report.get("stopped") else "completed", run_id=run_id)
    if report["outcome"] == "interrupted":
        return Attempt("stopped", error, run_id)
    return Attempt("failed", error or str(report["outcome"]), run_id)
