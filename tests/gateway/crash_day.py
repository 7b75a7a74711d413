"""A trading day of real processes, any of which is killed at any moment, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from zoneinfo import ZoneInfo

from northstar_core.cli.processes import DeskProcess
from northstar_core.client.desk import DeskClient, GatewayError
from northstar_core.model.errors import NorthstarError
from northstar_core.model.journal import decode
from northstar_core.model.order_ids import client_order_id
from northstar_core.model.world import SessionBegan
from northstar_core.store.cluster import Cluster, processes_in
from northstar_core.store.postgres import open_database
from northstar_core.store.reader import Reader
from tests.gateway.crash_notebook import brisk

NEW_YORK = ZoneInfo("America/New_York")
DAY = "2024-01-05"
ROOT = Path(__file__).resolve().parents[2]
#: Class of the strategy, account, symbols.
STRATEGIES = (
    ("Swift", "live-alpaca", ("ALFA", "BETA", "GAMA")),
    ("Brisk", "live-ibkr", ("ALFA", "BETA")),
    ("Hasty", "live-ibkr", ("GAMA",)),
)
TWINS = {"live-alpaca": "alpaca", "live-ibkr": "ibkr"}
KINDS = ("gateway", "worker", "kernel", "launcher", "postmaster", "backend")
TRADES_WITHIN_S = 45.0  #: after a kill the desk has so long to trade again, before the next comes anyway
ENDS_WITHIN_S = 90.0  #: wall seconds from the close until everything has ended

SETTINGS = """
[desk]
name = "desk"
[clock]
speed = {speed}
desk = "{desk}"
wall = {wall}
[feeds.massive]
kind = "massive"
ws = "ws://127.0.0.1:{massive}"
rest = "http://127.0.0.1:{massive}"
key = "file:secrets/key"
[accounts.live-alpaca]
broker = "alpaca"
limits = "wide"
reconcile_s = 600
options = {{ url = "http://127.0.0.1:{alpaca}" }}
secrets = {{ key = "file:secrets/key", secret = "file:secrets/secret" }}
[accounts.live-ibkr]
broker = "ibkr"
limits = "wide"
reconcile_s = 600
options = {{ url = "http://127.0.0.1:{ibkr}/v1/api", account_id = "DU1234567" }}
[limits.wide.strategy]
max_order_qty = 1_000
max_order_contracts = 1
max_order_value = 100_000
collar = 0.10
market_reserve = 0.01
max_data_age_s = 600
max_data_age_bars = 10
max_position_qty = 2_000
max_position_contracts = 1
max_notional = 500_000
max_open_orders = 40
max_orders = 1000
window_s = 60
session = "regular"
allow_short = true
allow_uncovered = false
[limits.wide.account]
max_gross = 1_000_000
max_net = 1_000_000
max_symbol_share = 10
leverage = 4
max_orders = 2000
window_s = 60
"""
JOB = """
[[grants]]
strategy = "{strategy}"
account = "{account}"
symbols = ["*"]
cash = 50_000
limits = "wide"
on_lost = "cancel"
[[schedule]]
name = "{strategy}"
notebook = "notebooks/{strategy}.ipynb"
account = "{account}"
parameters = {{ symbols = {symbols}, qty = 10 }}
start = "open-3h"
stop = "close+10m"
restart = "on-failure"
restarts = 100
late_s = 40_000
grace_s = 15
"""


def northstar(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a home's desk."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "northstar_core.cli.main", *words], cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "NORTHSTAR_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@contextmanager
def twins(begin: str, speed: float, seed: int) -> Iterator[dict[str, Any]]:
    """Run the three twins in a process of their own; yields their ready line."""
    command = [
        sys.executable, "-P", "-m", "northstar_core.cli.main", "twins", "--alpaca", "0", "--massive", "0", "--ibkr", "0",
        "--synthetic", str(seed), "--symbols", "ALFA,BETA,GAMA", "--start", f"{DAY}T{begin}", "--speed", str(speed),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the twins did not start"
        yield json.loads(line)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class CrashDay:
    """A desk with strategies that trade all the time, and somebody who kills its processes.

    Parameters
    ----------
    ready
        The twins' line.
    seed
        Of who dies, and when.
    """

    def __init__(self, home: Path, ready: dict[str, Any], seed: int, say: Callable[[str], None]) -> None:
        self.home, self.ready, self._say = home, ready, say
        self.random = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self._clock = threading.Event()  #: never set: the wall's time passes, and with it the twins' market
        self.unwanted: list[str] = []  #: what ended though nobody killed it
        self.resolved: list[tuple[int, str]] = []  #: orders that a person had to look up, and when he was told to
        self.gateways = 0  #: how often a gateway was started
        self._processes = {name: DeskProcess(name, home) for name in ("gateway", "worker")}
        for folder in ("secrets", "notebooks"):
            (home / folder).mkdir(mode=0o700)
        for name in ("key", "secret"):
            (home / "secrets" / name).write_text(name.upper())
            (home / "secrets" / name).chmod(0o400)
        text = SETTINGS.format(**ready["clock"], **{name: ready[name] for name in ("massive", "alpaca", "ibkr")})
        for kind, account, symbols in STRATEGIES:
            brisk(home / "notebooks", kind)
            text += JOB.format(strategy=kind.lower(), account=account, symbols=json.dumps(symbols))
        (home / "northstar.toml").write_text(text)

    def say(self, text: str) -> None:
        self._say(f"{self.now:%H:%M:%S}  {text}")

    @property
    def now(self) -> datetime:
        """The desk's time, New York."""
        clock = self.ready["clock"]
        begin = datetime.fromisoformat(clock["desk"]).timestamp()
        return datetime.fromtimestamp(begin + (time.time() - clock["wall"]) * clock["speed"], NEW_YORK)

    def at(self, text: str) -> datetime:
        return datetime.fromisoformat(f"{DAY}T{text}").replace(tzinfo=NEW_YORK)

    # ── the desk ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self) -> None:
        """Start whatever of the desk does not run."""
        starts = self._processes["gateway"].facts() is None
        done = northstar(self.home, "up", "--config", str(self.home / "northstar.toml"), "--home", str(self.home))
        assert done.returncode == 0, done.stderr
        self.gateways += starts

    def down(self) -> None:
        """Stop the desk, whatever state it is in."""
        northstar(self.home, "down", "--home", str(self.home), "--timeout", "30", "--force")
        for process in self._processes.values():
            process.kill()

    def ask(self, what: str, **arguments: Any) -> Any:
        with DeskClient(self.home) as desk:
            return desk.request(what, **arguments)

    def status(self) -> dict[str, Any]:
        """Return the desk at a glance; nothing while there is no gateway."""
        with suppress(NorthstarError, OSError):
            found: dict[str, Any] = self.ask("status")
            return found
        return {}

    def twin(self, account: str) -> dict[str, Any]:
        """Return a twin's truth."""
        with urlopen(f"http://127.0.0.1:{self.ready[TWINS[account]]}/_twin/state", timeout=20) as answer:
            state: dict[str, Any] = json.loads(answer.read(), parse_float=Decimal)
            return state

    def fault(self, account: str, **rule: Any) -> None:
        """Let something go wrong at a twin."""
        url, kind = f"http://127.0.0.1:{self.ready[TWINS[account]]}/_twin/faults", {"Content-Type": "application/json"}
        with urlopen(Request(url, data=json.dumps([rule]).encode(), headers=kind), timeout=20) as answer:
            assert answer.status == 200

    def executions(self, account: str, state: dict[str, Any] | None = None) -> Counter[str]:
        """Return how often each order traded at its twin, by our id for it."""
        state = state or self.twin(account)
        if account == "live-ibkr":
            return Counter(row.get("order_ref", "") for row in state["executions"])
        ours = self.ours(state)
        return Counter(ours[row["order_id"]] for row in state["executions"])

    @staticmethod
    def ours(state: dict[str, Any]) -> dict[str, str]:
        """Return our id for each of Alpaca's, that of the first where an order was replaced."""
        before = {row["id"]: row.get("replaces") for row in state["orders"]}
        names = {row["id"]: row["client_order_id"] for row in state["orders"]}
        found = {}
        for each in names:
            first = each
            while before.get(first):
                first = before[first]
            found[each] = names[first]
        return found

    def traded(self) -> int:
        """Return how many executions there are at both twins."""
        return sum(len(self.twin(account)["executions"]) for account in TWINS)

    # ── killing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def pids(self, kind: str) -> list[int]:
        """Return the processes of a kind that live now."""
        if kind in self._processes:
            pid = self._processes[kind].pid
            return [pid] if pid else []
        if kind in ("kernel", "launcher"):
            found = [json.loads(file.read_text())[kind] for file in sorted(self.home.glob("runs/*/pids.json"))]
            return [pid for pid in found if str(self.home) in _command(pid) or "northstar_core.jobs" in _command(pid)]
        data = Cluster(self.home / "postgres").data
        with suppress(OSError, ValueError):
            head = int((data / "postmaster.pid").read_text().split("\n")[0])
            among = processes_in(data)
            return [pid for pid in among if (pid == head) == (kind == "postmaster")]
        return []

    def kill(self, kind: str) -> bool:
        """Kill one process of a kind; false where none lives."""
        living = self.pids(kind)
        if not living:
            return False
        pid = self.random.choice(living)
        what = _command(pid)[:60].strip() if kind == "backend" else kind
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if kind in self._processes:
            self._processes[kind].wait_gone(10.0)
        self.killed[kind] += 1
        self.say(f"killed {what} ({pid}) after {self.traded()} trades")
        return True

    def mend(self) -> None:
        """Start again what a person would; note what ended by itself."""
        gone = [name for name, process in self._processes.items() if process.facts() is None]
        if gone:
            self._clock.wait(self.random.uniform(0.0, 1.0))  # a person takes his time
            self.up()
            self.say(f"up again: {', '.join(gone)}")

    def look(self, up: tuple[str, ...] = ("gateway", "worker")) -> None:
        """Look after the desk as a person does: nothing may have ended by itself; orders that are unknown are looked up."""
        for name in up:
            process = self._processes[name]
            if process.facts() is None:
                words = process.err.read_text(errors="replace").strip()[-300:]
                self.unwanted.append(f"{self.now:%H:%M:%S} {name} ended by itself: {words}")
                self.say(self.unwanted[-1])
                self.mend()
        with suppress(GatewayError, OSError):
            for alert in self.ask("alerts"):
                order_id = alert["text"].partition("resolve it: northstar order resolve ")[2].strip()
                if order_id and (alert["ts"], order_id) not in self.resolved and self._resolve(order_id):
                    self.resolved.append((alert["ts"], order_id))

    def _resolve(self, order_id: str) -> bool:
        """Say of an order that its broker does not know that it was never sent, if that is so; whether the desk takes it."""
        if client_order_id(order_id) in {row.get("order_ref") for row in self.twin("live-ibkr")["orders"]}:
            self.unwanted.append(f"the broker was said not to know {order_id}, which it does")
            return True
        evidence = ("rejected", "--who", "tester", "--reason", "the broker has no such order", "--home", str(self.home))
        done = northstar(self.home, "order", "resolve", order_id, *evidence)
        self.say(f"resolved {order_id}: {done.stdout.strip()} {done.stderr.strip()}")
        return "REJECTED" in done.stdout or "is not UNKNOWN" not in done.stderr or self._has_ended(order_id)

    def _has_ended(self, order_id: str) -> bool:
        """Whether an order works no more: it was resolved before."""
        with suppress(NorthstarError, OSError):
            return order_id not in {row["order_id"] for row in self.ask("orders")}
        return False

    def play(self, kills: int, gap_s: tuple[float, float], last: str) -> None:
        """Kill so often, at random moments until ``last`` (HH:MM): mostly a moment after there was trading, now and then at once."""
        self.up()
        self.say("up")
        self.fault("live-alpaca", at="orders.post", do="lost_response", after=3)
        self.fault("live-ibkr", at="orders.post", do="drop", after=3)  # only a person can say that it never arrived
        self._until_trading()
        order: list[str] = []
        while sum(self.killed.values()) < kills and self.now < self.at(last):
            if self.random.random() < 0.7:
                self._until_trading()
            self._pass(self.random.uniform(*gap_s))
            if not order:
                order = self.random.sample(KINDS, len(KINDS))
            if self.kill(kind := order.pop()):
                self.mend()
            else:
                order.insert(0, kind)
        self._until_trading()

    def _pass(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._clock.wait(min(left, 0.5))
            self.look()

    def _until_trading(self) -> None:
        """Wait until there are new executions."""
        before, deadline = self.traded(), time.monotonic() + TRADES_WITHIN_S
        while self.traded() == before and time.monotonic() < deadline:
            self._pass(0.2)

    def leave(self) -> None:
        """Have every run stopped in order, as at the end of a day, and wait until nothing works any more."""
        self.say("the worker is asked to stop")
        self._processes["worker"].stop(ENDS_WITHIN_S)
        self._until_quiet(("gateway",))

    def close(self) -> None:
        """Wait for the close, until every run has ended by itself and nothing works any more."""
        while self.now < self.at("16:11"):
            self._pass(0.5)
        self._until_quiet(("gateway", "worker"))

    def _until_quiet(self, up: tuple[str, ...]) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while True:
            self.look(up)
            status = self.status()
            if status and not (status["sessions"] or status["working"] or self.pids("kernel")):
                if all(account["up"] for account in status["accounts"].values()) and not asyncio.run(open_sessions(self.home)):
                    return
            assert time.monotonic() < deadline, f"it does not end: {status}"
            self._clock.wait(0.3)


async def written(home: Path, *kinds: str) -> list[Any]:
    """Return a desk's log as it is stored; of all kinds, or of some."""
    async with open_database(home) as database, await Reader.open(database) as reader:
        run = await reader.run("desk")
        return [decode(row.payload) async for row in reader.events(run.stream, kinds=kinds or None)]


async def open_sessions(home: Path) -> set[str]:
    """Return whose session has not ended on the record: a kernel that is gone has a while to come back."""
    found = set()
    for event in await written(home, "SessionBegan", "StrategyStopped"):
        (found.add if isinstance(event, SessionBegan) else found.discard)(event.strategy)
    return found


def _command(pid: int) -> str:
    """Return a living process's command line; of one that is gone nothing."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@contextmanager
def crash_day(begin: str, speed: float, seed: int, say: Callable[[str], None]) -> Iterator[CrashDay]:
    """Give a day whose folder goes with it, and whose processes are gone at the end."""
    home = Path(tempfile.mkdtemp(prefix="ns-crash-", dir="/tmp"))
    try:
        with twins(begin, speed, seed) as ready:
            day = CrashDay(home, ready, seed, say)
            try:
                yield day
            finally:
                day.down()
    finally:
        if not os.environ.get("NORTHSTAR_KEEP"):
            shutil.rmtree(home, ignore_errors=True)
