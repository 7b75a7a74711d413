"""A strategy runs once in an account, and a planned run starts once, whoever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from northstar_core.model.errors import StoreError
from northstar_core.store.jobs import Jobs
from northstar_core.store.leases import Leases
from northstar_core.store.postgres import Database, Role
from tests.store.builders import MINUTE, T0, run_id


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen"
        await asyncio.sleep(0)


def test_one_run_of_a_strategy_in_an_account_holds_the_lease(database: Database) -> None:
    async def act() -> None:
        strategy = run_id()
        async with Leases(database) as leases, Leases(database, Role.GATEWAY) as others:
            first = await leases.take(strategy, "paper-1", "host:1", 60)
            assert first.token == 1 and first.expires > first.taken
            with pytest.raises(StoreError, match=rf"{strategy} is running in account paper-1 already: host:1, lease until"):
                await others.take(strategy, "paper-1", "host:2", 60)
            assert (await others.take(strategy, "shadow-1", "host:2", 60)).token == 1
            again = await leases.take(strategy, "paper-1", "host:1", 60)
            assert (again.token, again.taken) == (first.token, first.taken) and again.expires > first.expires
            renewed = await leases.renew(first, 120)
            assert renewed.expires > again.expires
            assert await leases.release(renewed) and not await leases.release(renewed)
            assert await leases.held(strategy, "paper-1") is None
            with pytest.raises(StoreError, match="lost: token 1 holds no more"):
                await leases.renew(first, 60)
            assert (await others.take(strategy, "paper-1", "host:2", 60)).token == 2
            assert [lease.holder for lease in await leases.all() if lease.strategy == strategy] == ["host:2"] * 2

    asyncio.run(act())


def test_a_lease_that_expired_passes_to_the_next_and_the_first_hears_of_it(database: Database) -> None:
    async def act() -> None:
        strategy = run_id()
        async with Leases(database) as leases:
            first = await leases.take(strategy, "a", "host:1", 0.05)

            async def free() -> bool:
                return await leases.held(strategy, "a") is None

            await eventually(free)
            second = await leases.take(strategy, "a", "host:2", 60)
            assert (second.holder, second.token) == ("host:2", first.token + 1)
            with pytest.raises(StoreError, match="is lost"):
                await leases.renew(first, 60)
            assert not await leases.release(first)
            assert (await leases.held(strategy, "a")) == second

    asyncio.run(act())


def test_of_many_workers_one_begins_a_planned_run(database: Database) -> None:
    async def act() -> None:
        job, workers = run_id(), [Jobs(database) for _ in range(5)]
        claims = await asyncio.gather(*(w.claim(job, T0, f"w{n}", T0 + n, f"runs/{n}") for n, w in enumerate(workers)))
        (won,) = [claim for claim in claims if claim is not None]
        assert (won.job, won.planned, won.attempt, won.outcome, won.finished) == (job, T0, 1, "running", None)
        assert won.holder == f"w{won.folder[-1]}"
        assert await workers[0].run(job, T0) == won
        assert won in await workers[0].running()
        done = await workers[0].finish(won, T0 + MINUTE, "completed", "3 orders")
        assert (done.finished, done.outcome, done.detail) == (T0 + MINUTE, "completed", "3 orders")
        assert (await workers[1].finish(won, T0 + 2 * MINUTE, "failed")).outcome == "completed"
        assert await workers[1].claim(job, T0, "w1", T0) is None
        assert await workers[1].claim(job, T0 + MINUTE, "w1", T0) is not None
        for worker in workers:
            await worker._session.close()

    asyncio.run(act())


def test_a_run_whose_worker_died_is_found_and_restarted_once(database: Database) -> None:
    async def act() -> None:
        job = run_id()
        async with Jobs(database) as dead, Jobs(database) as one, Jobs(database) as two:
            left = await dead.claim(job, T0, "dead", T0)
            assert left is not None
            (found,) = [run for run in await one.running() if run.job == job]
            again = await asyncio.gather(one.restart(found, "one", T0 + 1, "f1"), two.restart(found, "two", T0 + 1, "f2"))
            (won,) = [run for run in again if run is not None]
            assert won.attempt == 2 and won.started == T0 + 1
            assert (await dead.finish(left, T0 + 2, "failed")).outcome == "running"  # the dead one's word is of attempt 1
            await one.finish(won, T0 + 3, "completed")
            assert await one.restart(won, "one", T0 + 4) is None

    asyncio.run(act())


def test_planned_times_without_a_record_are_found_and_put_down_as_missed(database: Database) -> None:
    async def act() -> None:
        one, two = run_id(), run_id()
        async with Jobs(database) as jobs:
            await jobs.claim(one, T0, "w", T0)
            planned = [(one, T0), (one, T0 + MINUTE), (two, T0)]
            assert await jobs.unknown(planned) == [(two, T0), (one, T0 + MINUTE)]
            assert await jobs.miss(two, T0, T0 + 5 * MINUTE, "the worker was down")
            assert not await jobs.miss(two, T0, T0 + 6 * MINUTE, "again") and not await jobs.miss(one, T0, T0, "no")
            assert await jobs.unknown(planned) == [(one, T0 + MINUTE)]
            assert await jobs.claim(two, T0, "w", T0 + 7 * MINUTE) is None
            last = await jobs.last(two)
            assert last is not None and (last.outcome, last.started, last.detail) == ("missed", None, "the worker was down")
            assert [run.planned for run in await jobs.runs(one, since=T0 + 1)] == []
            assert await jobs.last("nobody's") is None
            with pytest.raises(StoreError, match="finish_job"):
                await jobs.finish(last._replace(job=one, planned=T0), T0, "splendid")

    asyncio.run(act())


def test_a_session_that_was_ended_in_between_is_not_noticed(database: Database) -> None:
    async def act() -> None:
        job = run_id()
        killer = await database.connect(Role.ADMIN)
        async with Jobs(database) as jobs:
            assert await jobs.claim(job, T0, "w", T0) is not None
            connection = jobs._session._connection
            assert connection is not None
            await killer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            assert await jobs.claim(job, T0 + MINUTE, "w", T0) is not None
        await killer.close()

    asyncio.run(act())
