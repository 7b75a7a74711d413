"""The worker over a real database, a gateway's front door and real kernels: what it starts, and what it starts only once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from northstar_core.cli.first_config import TEXT
from northstar_core.gateway.clock import ScaledClock
from northstar_core.gateway.settings import Settings, load_settings
from northstar_core.jobs.gateway_calls import NoGo, require_go
from northstar_core.jobs.live import run_live
from northstar_core.jobs.worker import AGAIN, Worker
from northstar_core.model.errors import StoreError
from northstar_core.store.jobs import Jobs
from northstar_core.store.leases import Leases
from northstar_core.store.postgres import Database, open_database
from tests.jobs.desk import SESSION, TOKEN, TestDesk
from tests.jobs.notebooks import cross
from tests.jobs.test_live import is_running, until

DAY = "2026-11-20"
OPEN_5 = 1_795_184_700 * 10**9  # 09:25 in New York, five minutes before the open of 20 November 2026

JOB = """
[[schedule]]
name = "{name}"
notebook = "a.ipynb"
account = "{account}"
start = "open-5m"
stop = "close+10m"
{more}
"""

TWIN = """
[accounts.real-1]
broker = "alpaca"
live = true
limits = "careful"
options = { url = "http://127.0.0.1:9002" }
secrets = { key = "file:k", secret = "file:s" }
"""


def configured(
    folder: Path, name: str, at: int, *, more: str = "", account: str = "paper-1", extra: str = ""
) -> Settings:
    """Return a configuration with one job, on a desk whose clock shows ``at`` now."""
    desk = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at // 10**9))
    clock = f'[clock]\nspeed = 1\ndesk = "{desk}"\nwall = {time.time()}\n'
    path = folder / "northstar.toml"
    path.write_text(TEXT + extra + clock + JOB.format(name=name, account=account, more=more))
    return load_settings(path, folder / "h")


def session(folder: Path) -> None:
    cross(folder / "a.ipynb", run=f"{SESSION}\nprint(await session())")


def with_worker(settings: Settings, database: Database, work: Callable[[Worker, Jobs], Awaitable[Any]]) -> Any:
    """Run a worker, do something meanwhile, and close it in order."""

    async def main() -> Any:
        async with Jobs(database) as jobs, Leases(database) as leases:
            assert settings.clock is not None
            clock = ScaledClock(settings.clock.desk_ns, float(settings.clock.wall), settings.clock.speed)
            worker = Worker(settings, clock, jobs, leases)
            await worker.start()
            try:
                return await work(worker, jobs)
            finally:
                worker.stopping.set()
                await asyncio.wait_for(worker.close(), 60)

    return asyncio.run(main())


def test_a_late_worker_starts_what_may_still_start_and_stops_it_in_order_when_it_goes(
    tmp_path: Path, database: Database
) -> None:
    session(tmp_path)
    settings = configured(
        tmp_path, "late", OPEN_5 + 60 * 10**9, more='parameters = { fast = 12 }\nrestart = "on-failure"'
    )
    with TestDesk(settings.home) as desk:

        async def work(worker: Worker, jobs: Jobs) -> None:
            await asyncio.to_thread(desk.wait_for, "beat", 2)
            await asyncio.to_thread(desk.wait_for, "alert")
            record = await jobs.last("late")
            assert record is not None and (record.planned, record.outcome, record.attempt) == (OPEN_5, "running", 1)
            told = json.loads((settings.home / "run" / "worker.json").read_text())
            assert told["running"]["late"]["run_id"] == "cross-paper-1-20261120-1"
            assert set(told["next"]) == {"late", "logins of XNYS"}
            with pytest.raises(StoreError, match="strategy cross is running in account paper-1 already"):
                async with Leases(database) as leases:
                    await leases.take("cross", "paper-1", "somebody else", 10)

        with_worker(settings, database, work)
        assert desk.of("leave") == ["stopped"], "the session was asked to end, and left"
        assert desk.of("token") == [{"strategy": "cross", "account": "paper-1", "hours": 24.0}]
        assert [alert["text"][:7] for alert in desk.of("alert")] == ["starts "]

        async def again(worker: Worker, jobs: Jobs) -> Any:
            await asyncio.to_thread(desk.wait_for, "leave", 1)
            await asyncio.to_thread(desk.wait_for, "hello", 2)
            return await jobs.last("late")

        record = with_worker(settings, database, again)
        assert record.attempt == 2, "a desk that was taken down in mid-session goes on with what it ran"
        report = json.loads((settings.home / "runs" / "cross-paper-1-20261120-1" / "report.json").read_text())
        assert (report["outcome"], report["stopped"], report["parameters"]) == ("completed", True, {"fast": 12})

    async def last() -> Any:
        async with Jobs(database) as jobs:
            return await jobs.last("late")

    ended = asyncio.run(last())
    assert (ended.outcome, ended.detail) == ("stopped", "stopped with the worker: cross-paper-1-20261120-2")


def test_what_comes_too_late_is_missed_and_alerted_once(tmp_path: Path, database: Database) -> None:
    session(tmp_path)
    settings = configured(tmp_path, "missed", OPEN_5 + 20 * 60 * 10**9)

    async def yesterday() -> None:
        async with Jobs(database) as jobs:
            record = await jobs.claim("missed", OPEN_5 - 24 * 3600 * 10**9, "w", 0)
            assert record is not None
            await jobs.finish(record, 1, "completed")

    asyncio.run(yesterday())
    with TestDesk(settings.home) as desk:
        for _ in range(2):

            async def work(worker: Worker, jobs: Jobs) -> Any:
                await asyncio.to_thread(desk.wait_for, "alert")
                return await jobs.last("missed")

            record = with_worker(settings, database, work)
        assert (record.outcome, record.started, record.detail) == ("missed", None, "no worker was up")
        (alert,) = desk.of("alert")
        assert (alert["severity"], alert["about"]) == ("critical", "job missed")
        assert alert["text"] == "missed its run of 2026-11-20: no worker was up"
        assert desk.of("hello") == []


def test_a_run_that_fails_is_alerted_and_a_notebook_that_cannot_run_is_not_tried_again(
    tmp_path: Path, database: Database
) -> None:
    cross(tmp_path / "a.ipynb")
    settings = configured(tmp_path, "broken", OPEN_5, more='parameters = { fast = 1 }\nrestart = "on-failure"')
    with TestDesk(settings.home) as desk:

        async def work(worker: Worker, jobs: Jobs) -> Any:
            await asyncio.to_thread(desk.wait_for_alert, "critical")
            return await jobs.last("broken")

        record = with_worker(settings, database, work)
        assert (record.outcome, record.attempt) == ("failed", 1)
        assert "fast = 1" in record.detail and "fast = 1" in desk.of("alert")[-1]["text"]


def test_a_run_that_was_to_be_started_again_is_so_by_the_next_worker_and_one_that_failed_for_good_is_not(
    tmp_path: Path, database: Database
) -> None:
    session(tmp_path)
    settings = configured(tmp_path, "again", OPEN_5 + 60 * 10**9, more='restart = "on-failure"\nrestarts = 2')

    async def failed(jobs: Jobs, detail: str) -> None:
        run = await jobs.last("again") or await jobs.claim("again", OPEN_5, "a worker that is gone", OPEN_5)
        assert run is not None
        await jobs.finish(run, OPEN_5 + 1, "failed", detail)

    async def last(worker: Worker, jobs: Jobs) -> Any:
        return await jobs.last("again")

    async def began(worker: Worker, jobs: Jobs) -> Any:
        await asyncio.to_thread(desk.wait_for, "beat", 2)
        record = await jobs.last("again")
        worker.kill()
        return record

    async def put_down(detail: str) -> None:
        async with Jobs(database) as jobs:
            await failed(jobs, detail)

    with TestDesk(settings.home) as desk:
        asyncio.run(put_down(f"{AGAIN}: the kernel was killed"))
        record = with_worker(settings, database, began)
        assert (record.planned, record.attempt, record.outcome) == (OPEN_5, 2, "running")
        record = with_worker(settings, database, last)
        assert (record.attempt, record.outcome) == (2, "failed"), "it was killed on purpose: that is its end"
        assert len(desk.of("hello")) == 1


def test_real_money_starts_only_with_a_fresh_go(tmp_path: Path, database: Database) -> None:
    session(tmp_path)
    settings = configured(tmp_path, "real", OPEN_5, account="real-1", extra=TWIN)
    check = {"scope": "account:real-1", "name": "credentials", "passed": False, "text": "refused by the broker"}
    verdict = {"wall": 0, "checks": [check], "accounts": ["real-1"], "feeds": {}}
    with TestDesk(settings.home, preflight=verdict) as desk:

        async def work(worker: Worker, jobs: Jobs) -> Any:
            await asyncio.to_thread(desk.wait_for_alert, "critical")
            return await jobs.last("real")

        record = with_worker(settings, database, work)
        assert (record.outcome, desk.of("token")) == ("failed", [])
        assert desk.of("alert")[-1]["text"] == (
            "failed: real-1: preflight says NO-GO: account:real-1 credentials: refused by the broker"
        )


def test_a_go_is_what_looked_at_this_account_and_found_nothing() -> None:
    good = {"scope": "account:a", "name": "state", "passed": True, "text": ""}
    other = {"scope": "account:b", "name": "state", "passed": False, "text": "halted"}
    require_go("a", {"checks": [good, other], "accounts": ["a", "b"], "feeds": {"a": "massive"}})
    for verdict in (
        None,
        {},
        {"checks": [], "accounts": ["a"], "feeds": {}},
        {"checks": [good], "accounts": [], "feeds": {}},
        {"checks": [good, {**good, "passed": None}], "accounts": ["a"], "feeds": {}},
        {
            "checks": [good, {**good, "scope": "feed:massive", "passed": False}],
            "accounts": ["a"],
            "feeds": {"a": "massive"},
        },
        {"checks": [good, {**good, "scope": "desk", "passed": False}], "accounts": ["a"], "feeds": {}},
    ):
        with pytest.raises(NoGo):
            require_go("a", verdict)


def worker_process(settings: Settings) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "northstar_core.jobs.worker",
            "--config",
            str(settings.path),
            "--home",
            str(settings.home),
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["ready"]
    return process


def test_a_killed_worker_takes_its_kernels_along_and_the_next_goes_on_without_starting_twice(tmp_path: Path) -> None:
    session(tmp_path)
    settings = configured(tmp_path, "killed", OPEN_5 - 10**9, more='restart = "on-failure"')
    processes = []
    # The database's supervisor goes when the last who uses it goes, so it is held over the worker's death, as a gateway would.
    with asyncio.Runner() as runner, TestDesk(settings.home) as desk:
        opened = open_database(settings.home)
        database = runner.run(opened.__aenter__())
        try:
            processes.append(worker_process(settings))
            desk.wait_for("beat", 2)
            run = settings.home / "runs" / "cross-paper-1-20261120-1"
            pids = json.loads((run / "pids.json").read_text())
            processes[0].kill()
            processes[0].wait()
            until(lambda: not any(is_running(pid) for pid in pids.values()), "the end of launcher and kernel")
            processes.append(worker_process(settings))
            desk.wait_for("hello", 2)
            desk.wait_for("beat", len(desk.of("beat")) + 2)
            with pytest.raises(StoreError, match="strategy cross is running in account paper-1 already"):
                run_live(tmp_path / "a.ipynb", {}, account="paper-1", home=settings.home, token=TOKEN)
            assert [path.name for path in sorted((settings.home / "runs").iterdir())] == [
                "cross-paper-1-20261120-1", "cross-paper-1-20261120-2",
            ]  # fmt: skip
            processes[1].send_signal(signal.SIGTERM)
            assert processes[1].wait(60) == 0
            assert desk.of("leave") == ["stopped"]

            async def last() -> Any:
                async with Jobs(database) as jobs:
                    return await jobs.runs("killed")

            (record,) = runner.run(last())
            assert (record.planned, record.attempt, record.outcome) == (OPEN_5, 2, "stopped")
            log = [json.loads(line) for line in (settings.home / "logs" / "worker.log").read_text().splitlines()]
            assert "job killed: its worker died; the run is started again" in [line["message"] for line in log]
            assert TOKEN not in (settings.home / "logs" / "worker.log").read_text()
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
            runner.run(opened.__aexit__(None, None, None))
            assert database.server is not None and database.server.wait_stopped()
