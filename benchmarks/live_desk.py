"""The desk of the live benchmark: twin, feed, gateway and database as processes of their own, and kernels by papermill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.live_feed import MARK
from benchmarks.live_figures import family, processor_s
from benchmarks.live_notebook import write_notebook
from benchmarks.live_twin import SYMBOL
from northstar_core.cli.processes import DeskProcess
from northstar_core.client.desk import DeskClient, socket_path
from northstar_core.jobs.kernel import import_path
from northstar_core.jobs.launcher import PIDS_FILE
from northstar_core.jobs.live import LiveJob, LiveRun, ticket_from
from northstar_core.store.postgres import Role, open_database

ACCOUNT = "paper-1"
TRADER, LISTENERS = "Trader", tuple(f"Listener{n}" for n in range(1, 6))
PATIENCE_S = 90.0

CONFIGURATION = """\
[desk]
name = "desk"

[clock]
speed = 1.0
desk = "{desk}"
wall = {wall!r}

[feeds.massive]
kind = "massive"
ws = "ws://127.0.0.1:{feed}"
rest = "http://127.0.0.1:{feed}"
key = "env:NORTHSTAR_BENCH_KEY"
options = {{ clusters = ["stocks"], silence_s = 3600.0 }}

[accounts.{account}]
broker = "alpaca"
limits = "wide"
reconcile_s = 3600
options = {{ url = "http://127.0.0.1:{twin}", requests_per_minute = 0 }}
secrets = {{ key = "env:NORTHSTAR_BENCH_KEY", secret = "env:NORTHSTAR_BENCH_SECRET" }}
{grants}
[limits.wide.strategy]
max_order_qty = 100
max_order_contracts = 1
max_order_value = 1_000_000
collar = 0.10
market_reserve = 0.01
max_data_age_s = 60
max_data_age_bars = 3
max_position_qty = 1_000_000
max_position_contracts = 1
max_notional = 100_000_000
max_open_orders = 10_000
max_orders = 100_000
window_s = 60
session = "regular"
allow_short = true
allow_uncovered = false

[limits.wide.account]
max_gross = 100_000_000
max_net = 100_000_000
max_symbol_share = 10
leverage = 2
max_orders = 100_000
window_s = 60
"""

GRANT = """
[[grants]]
strategy = "{name}"
account = "{account}"
symbols = ["*"]
cash = 10_000_000
limits = "wide"
"""


class BenchError(Exception):
    """Something did not come up, or a figure would be wrong."""


def own_name(notebook: str) -> str:
    """Return what a strategy of this class name is called."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in notebook).lstrip("_")


class Desk:
    """Everything that runs. Start it in the main thread."""

    def __init__(self, home: Path, symbols: int) -> None:
        self.home = home
        self.symbols = [SYMBOL, *(f"S{n:03d}" for n in range(symbols - 1))]
        self.gateway = DeskProcess("gateway", home)
        self.runs: dict[str, LiveRun] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self.twin: dict[str, Any] = {}
        self.feed = 0
        self.client = DeskClient(home)

    # ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self) -> None:
        """Start twin, feed and gateway."""
        os.environ.update(NORTHSTAR_BENCH_KEY="KEY", NORTHSTAR_BENCH_SECRET="SECRET")  # the twin's, of no use anywhere else
        self.twin = self._start("benchmarks.live_twin")
        clock = self.twin["clock"]
        self.feed = self._start("benchmarks.live_feed", str(clock["desk"]), repr(clock["wall"]), str(self.twin["price"]))["port"]
        config = self.home / "northstar.toml"
        config.write_text(
            CONFIGURATION.format(
                desk=datetime.fromtimestamp(clock["desk"] / 1e9, UTC).isoformat(), wall=clock["wall"], feed=self.feed, account=ACCOUNT,
                twin=self.twin["port"], grants="".join(GRANT.format(name=own_name(n), account=ACCOUNT) for n in (TRADER, *LISTENERS)),
            )
        )  # fmt: skip
        self.gateway.start("northstar_core.gateway", config)
        self.gateway.wait_ready()

    def _start(self, module: str, *words: str) -> dict[str, Any]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *words], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": import_path(os.environ) + os.pathsep + str(Path(__file__).parents[1])},
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"{module} did not start")
        said: dict[str, Any] = json.loads(line)
        return said

    async def down(self) -> None:
        """Stop everything that runs."""
        await asyncio.gather(*(self.leave(name) for name in list(self.runs)), return_exceptions=True)
        self.client.close()
        try:
            self.gateway.stop(30.0)
        finally:
            if self.gateway.pid:
                self.gateway.kill()
            for process in self._processes:
                process.send_signal(signal.SIGTERM)
            for process in self._processes:
                process.wait(10)

    # ── kernels ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def enter(self, names: Iterable[str], **parameters: Any) -> None:
        """Start the notebooks of strategies and wait until each is in session."""
        names = list(names)
        for name in names:
            notebook = self.home / f"{name}.ipynb"
            write_notebook(notebook, name)
            given = {"symbols": self.symbols, "mark": MARK, "out": str(self._notes(name)), **parameters}
            job = LiveJob(
                notebook=notebook, parameters=given, account=ACCOUNT, home=self.home, socket=socket_path(self.home), grace_s=20.0
            )
            self.runs[name] = await LiveRun.start(job, ticket_from(self.home, ACCOUNT))
        wanted = {own_name(name) for name in names}
        await self.until(
            lambda: wanted <= {s["strategy"] for s in self.status()["sessions"]}, f"{', '.join(names)} in session", names
        )

    async def leave(self, name: str) -> dict[str, Any]:
        """Stop a strategy in order; return what it noted: how much it heard, and when it ordered."""
        report = await self.runs.pop(name).stop()
        if report["outcome"] != "completed":
            raise BenchError(f"{name}: {report['outcome']}: {report['error']}")
        noted: dict[str, Any] = json.loads(self._notes(name).read_text())
        return noted

    def heard(self) -> dict[str, int]:
        """Return how many market events each kernel says it has handled; it says so once a second."""
        return {name: int(run.progress().get("done", 0)) for name, run in self.runs.items()}

    def _notes(self, name: str) -> Path:
        return self.home / f"{name}.json"

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        """Return the gateway's."""
        found: dict[str, Any] = self.client.request("status")
        return found

    def rate(self, ticks: float, **more: float) -> dict[str, Any]:
        """Set how many quotes a second the feed sends (``live_feed``); return what was sent until now."""
        return _ask(self.feed, "/_bench/rate", json.dumps({"ticks": ticks, **more}).encode())

    def sent(self) -> dict[str, Any]:
        """Return what the feed has sent."""
        return _ask(self.feed, "/_bench/state")

    def stamps(self) -> dict[str, list[int]]:
        """Return when the twin saw and answered each order."""
        return _ask(self.twin["port"], "/_bench/orders")

    async def until(self, what: Callable[[], bool], words: str, names: Iterable[str] = (), patience_s: float = PATIENCE_S) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + patience_s
        while not what():
            dead = [name for name in names if name in self.runs and not self.runs[name].alive]
            if dead:
                report = await self.runs[dead[0]].wait()
                raise BenchError(f"{dead[0]}: {report['outcome']}: {report['error']}")
            if time.monotonic() > deadline:
                raise BenchError(f"not within {patience_s:.0f} s: {words}")
            await asyncio.sleep(0.1)

    async def stored(self) -> int:
        """Return how many market events the database holds."""
        async with open_database(self.home) as database:
            connection = await database.connect(Role.READER)
            try:
                return int(await connection.fetchval("SELECT coalesce(sum(n), 0) FROM northstar.ticks"))
            finally:
                await connection.close()

    # ── processors ────────────────────────────────────────────────────────────────────────────────────────────────────

    def used(self) -> dict[str, float]:
        """Return the processor seconds used so far by the gateway, by the database and by all kernels."""
        kernels = [json.loads((run.folder / PIDS_FILE).read_bytes())["kernel"] for run in self.runs.values()]
        pids = {"gateway": [self.gateway.pid], "database": self._database(), "kernels": kernels}
        return {name: sum(map(processor_s, of)) for name, of in pids.items()}

    def _database(self) -> list[int]:
        """Return the database's processes: those whose postmaster has this home's folder."""
        for file in (self.home / "postgres").rglob("postmaster.pid"):
            return family(int(file.read_text().split()[0]))
        return []


def _ask(port: int, path: str, body: bytes | None = None) -> dict[str, Any]:
    request = Request(f"http://127.0.0.1:{port}{path}", data=body, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found
