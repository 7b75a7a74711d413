"""One job in one session: restarts with a limit, a stop at its end, attempts on record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from northstar_core.gateway.clock import ScaledClock
from northstar_core.jobs.supervise import Attempt, Refused, Restart, Supervisor
from northstar_core.model.errors import NorthstarError, StoreError

HOUR = 3600 * 10**9


class Run:
    """A run that ends as it was told to, or when it is stopped."""

    folder = Path()

    def __init__(self, n: int, outcome: str | None) -> None:
        self.run_id, self.outcome = f"run-{n}", outcome
        self.ended = asyncio.Event()
        self.killed = self.stopped = False
        if outcome is not None:
            self.ended.set()

    async def wait(self) -> dict[str, Any]:
        await self.ended.wait()
        return {"run_id": self.run_id, "outcome": self.outcome, "stopped": self.stopped, "error": None}

    async def stop(self) -> dict[str, Any]:
        self.stopped, self.outcome = True, "completed"
        self.ended.set()
        return await self.wait()

    def kill(self) -> None:
        if not self.ended.is_set():
            self.killed, self.outcome = True, "launcher-died"
            self.ended.set()


class Case:
    """A supervisor over planned outcomes, and what it did."""

    def __init__(
        self, *plan: str | Exception | None, restarts: int = 0, ends_in_s: float = 3600, first: int = 1
    ) -> None:
        self.plan, self.first = list(plan), first
        self.runs: list[Run] = []
        self.records: list[tuple[int, Attempt]] = []
        self.alerts: list[tuple[str, str]] = []
        self.held = 0
        self.clock = ScaledClock(0, time.time(), 1.0)
        self.supervisor = Supervisor(
            "momentum", clock=self.clock, ends=self.clock.now() + int(ends_in_s * 1e9), restart=Restart(restarts, first_s=0.001),
            start=self.start, guard=self.guard, alert=lambda severity, about, text: self.alerts.append((severity, text)),
            on_start=self.on_start, on_end=self.on_end, first=first,
        )  # fmt: skip
        self.begun = asyncio.Event()

    async def start(self, attempt: int) -> Run:
        assert self.held == 1
        wanted = self.plan[attempt - self.first]
        if isinstance(wanted, Exception):
            raise wanted
        self.runs.append(Run(attempt, wanted))
        return self.runs[-1]

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    async def on_start(self, attempt: int, run: Any) -> None:
        self.begun.set()

    async def on_end(self, attempt: int, ended: Attempt) -> None:
        self.records.append((attempt, ended))


def test_a_run_that_fails_is_started_again_until_it_completes() -> None:
    async def main() -> Case:
        case = Case("failed", "kernel-died", "completed", restarts=3)
        assert (await case.supervisor.run()).outcome == "completed"
        return case

    case = asyncio.run(main())
    assert [(n, ended.outcome) for n, ended in case.records] == [(1, "failed"), (2, "failed"), (3, "completed")]
    assert [ended.again_s is not None for _, ended in case.records] == [True, True, False]
    assert [severity for severity, _ in case.alerts] == ["warning", "warning"]
    assert case.held == 0


@pytest.mark.parametrize(("restarts", "first", "attempts"), [(0, 1, 1), (2, 1, 3), (2, 2, 2), (2, 3, 1)])
def test_restarts_have_a_limit_that_a_worker_before_counts_into(restarts: int, first: int, attempts: int) -> None:
    async def main() -> Case:
        case = Case(*["failed"] * 5, restarts=restarts, first=first)
        await case.supervisor.run()
        return case

    case = asyncio.run(main())
    assert len(case.records) == attempts
    assert case.alerts[-1] == ("critical", "failed: failed")
    assert case.records[-1][1].again_s is None


def test_what_was_stopped_or_ended_by_itself_is_not_started_again() -> None:
    async def main() -> None:
        for outcome in ("completed", "interrupted"):
            case = Case(outcome, restarts=5)
            await case.supervisor.run()
            assert len(case.records) == 1

    asyncio.run(main())


def test_a_refusal_is_final_and_another_error_is_a_failed_attempt() -> None:
    async def main() -> tuple[Case, Case]:
        refused, failed = (
            Case(Refused("no grant"), restarts=5),
            Case(StoreError("runs already"), "completed", restarts=5),
        )
        await refused.supervisor.run()
        await failed.supervisor.run()
        return refused, failed

    refused, failed = asyncio.run(main())
    assert [(n, e.outcome, e.detail) for n, e in refused.records] == [(1, "failed", "no grant")]
    assert refused.alerts == [("critical", "failed: no grant")]
    assert [(n, e.outcome) for n, e in failed.records] == [(1, "failed"), (2, "completed")]


def test_a_run_is_stopped_in_order_at_its_sessions_end() -> None:
    async def main() -> Case:
        case = Case(None, ends_in_s=0.05)
        assert (await case.supervisor.run()).outcome == "stopped"
        return case

    case = asyncio.run(main())
    assert case.runs[0].stopped and not case.runs[0].killed
    assert case.records[0][1].run_id == "run-1" and case.alerts == []


def test_a_stop_comes_through_while_a_run_is_being_started_or_waited_for() -> None:
    async def main() -> None:
        never = Case(None)
        started = asyncio.Event()

        async def start(attempt: int) -> Run:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

        never.supervisor._start = start
        task = asyncio.ensure_future(never.supervisor.run())
        await started.wait()
        never.supervisor.stop()
        assert (await task).outcome == "stopped"

        waits = Case("failed", "completed", restarts=3)
        waits.supervisor.restart = Restart(3, first_s=3600, longest_s=3600)
        task = asyncio.ensure_future(waits.supervisor.run())
        await waits.begun.wait()
        waits.supervisor.stop()
        assert (await task).outcome == "failed" and len(waits.records) == 1

    asyncio.run(main())


def test_a_kill_waits_for_nothing() -> None:
    async def main() -> None:
        case = Case(None, restarts=3)
        task = asyncio.ensure_future(case.supervisor.run())
        await case.begun.wait()
        case.supervisor.kill()
        assert (await task).outcome == "failed"
        assert len(case.runs) == 1 and case.runs[0].killed

    asyncio.run(main())


def test_waits_grow_up_to_a_limit() -> None:
    policy = Restart(10, first_s=1, factor=2, longest_s=10)
    assert [policy.delay_s(n) for n in (1, 2, 3, 4, 5, 10, 11)] == [1, 2, 4, 8, 10, 10, None]
    assert [policy.delay_s(n, in_a_row=1) for n in (1, 5, 11)] == [1, 1, None]
    assert policy.lasted(10.5) and not policy.lasted(9.5)
    assert issubclass(Refused, NorthstarError)
