"""A whole trading day on simulated brokers, over real sockets: twins, desk, schedule, mishaps, close, and what must be true afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen
from zoneinfo import ZoneInfo

from northstar_core.cli.demo_desk import BEGIN, DAY, HISTORY, MISHAPS, SEED, Mishap, configuration
from northstar_core.cli.processes import DeskProcess
from northstar_core.client.desk import DeskClient, GatewayError
from northstar_core.model.errors import NorthstarError

NEW_YORK = ZoneInfo("America/New_York")
SECRETS = {"massive.key": "KEY", "alpaca.key": "KEY", "alpaca.secret": "SECRET"}  # the twins', of no use anywhere else
MARK = "SIMULATED.md"
AFTER_S = 60.0  #: wall seconds the jobs have to end after they were stopped

Say = Callable[[str], None]


@contextmanager
def twins(speed: float) -> Iterator[dict[str, Any]]:
    """Run the three twins in a process of their own; yields their ready line."""
    command = [
        sys.executable, "-P", "-m", "northstar_core.cli.main", "twins", "--alpaca", "0", "--massive", "0", "--ibkr", "0",
        "--synthetic", str(SEED), "--history", str(HISTORY), "--start", f"{DAY}T{BEGIN}", "--speed", str(speed),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise NorthstarError(f"the twins did not start: {process.stderr.read().strip()[-300:]}")
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Day:
    """The demo's desk on its day.

    Parameters
    ----------
    home
        The desk's folder, made anew.
    ready
        The twins' ready line.
    """

    def __init__(self, home: Path, ready: dict[str, Any], strategies: Path, names: dict[str, str], say: Say) -> None:
        self.home, self.ready, self.say = home, ready, say
        self.config = home / "northstar.toml"
        self.happened: list[str] = []
        self._clock = ready["clock"]
        self._mishaps = list(MISHAPS)
        _new_home(home)
        for name, secret in SECRETS.items():
            file = home / "secrets" / name
            file.write_text(secret)
            file.chmod(0o400)
        self.config.write_text(configuration(self._clock, ready, strategies, names))

    @property
    def now(self) -> datetime:
        """The desk's time, New York."""
        begin = datetime.fromisoformat(self._clock["desk"]).timestamp()
        return datetime.fromtimestamp(begin + (time.time() - self._clock["wall"]) * self._clock["speed"], NEW_YORK)

    def at(self, text: str) -> datetime:
        """Return a time of the day."""
        return datetime.fromisoformat(f"{DAY}T{text}").replace(tzinfo=NEW_YORK)

    # ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of ours on this desk."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "northstar_core.cli.main", *words],
            env={**os.environ, "NORTHSTAR_HOME": str(self.home)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise NorthstarError(f"northstar {' '.join(words)}: {done.stderr.strip()[-400:]}")
        return done

    def up(self) -> None:
        """Start the desk."""
        self.command("up", "--config", str(self.config), "--home", str(self.home))

    def down(self) -> None:
        """Stop the desk, whatever state it is in."""
        self.command("down", "--home", str(self.home), "--force", check=False)
        for name in ("worker", "gateway"):
            with suppress(Exception):
                DeskProcess(name, self.home).kill()

    def ask(self, what: str, **arguments: Any) -> Any:
        """Ask the gateway."""
        with DeskClient(self.home) as desk:
            return desk.request(what, **arguments)

    # ── the day ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def play(self, show: Callable[[datetime, dict[str, Any]], None]) -> None:
        """Let the day pass, with its mishaps, until every job has ended."""
        last, gone_by = "", self.at("16:10")
        deadline = 0.0
        while True:
            now = self.now
            while self._mishaps and self.at(self._mishaps[0].at) <= now:
                self._happen(self._mishaps.pop(0), now)
            status = {}
            with suppress(GatewayError, OSError):
                status = self.ask("status")
            if status:
                show(now, status)
                state = "open" if status["session"]["open"] else "closed"
                if state != last:
                    self.say(f"{now:%H:%M}  the market is {state}")
                    last = state
            if now > gone_by:
                deadline = deadline or time.monotonic() + AFTER_S
                if status and not status["sessions"] and self._reports_complete():
                    return
                if time.monotonic() > deadline:
                    raise NorthstarError(f"jobs did not end after the close: {[s['strategy'] for s in status.get('sessions', [])]}")
            time.sleep(0.5)

    def _happen(self, mishap: Mishap, now: datetime) -> None:
        what = mishap.what
        try:
            if mishap.kill:
                pid = self._kernel_of(mishap.kill)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                else:
                    what += ": there was none"
            elif mishap.disconnect:
                self.twin(mishap.twin, "/_twin/disconnect", b"{}")
            else:
                self.twin(mishap.twin, "/_twin/faults", json.dumps(list(mishap.rules)).encode())
        except (OSError, URLError) as error:
            what += f": failed: {error}"
        self.happened.append(f"{now:%H:%M}  {what}")
        self.say(self.happened[-1])

    def twin(self, name: str, path: str, body: bytes | None = None) -> Any:
        """Speak to a twin's control endpoint."""
        request = Request(f"http://127.0.0.1:{self.ready[name]}{path}", data=body, headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def _folders(self) -> list[Path]:
        return sorted(path.parent for path in self.home.glob("runs/**/pids.json"))

    def _kernel_of(self, notebook: str) -> int:
        for folder in reversed(self._folders()):
            if (folder / f"{notebook}.ipynb").exists() and not (folder / "report.json").exists():
                return int(json.loads((folder / "pids.json").read_text())["kernel"])
        return 0

    def _reports_complete(self) -> bool:
        return all((folder / "report.json").exists() for folder in self._folders())

    # ── afterwards ────────────────────────────────────────────────────────────────────────────────────────────────────

    def reports(self) -> list[dict[str, Any]]:
        """Return every run's report, oldest first."""
        found = [json.loads((folder / "report.json").read_text()) for folder in self._folders() if (folder / "report.json").exists()]
        return sorted(found, key=lambda report: report["started"])

    def books_equal(self) -> dict[str, str]:
        """Compare the desk's books with each twin's own; returns what differs, by account."""
        cash = {name: account["cash"] for name, account in self.ask("status")["accounts"].items()}
        held: dict[str, dict[str, Decimal]] = {}
        for row in self.ask("positions"):
            book = held.setdefault(row["account"], {})
            book[row["symbol"]] = book.get(row["symbol"], Decimal(0)) + Decimal(str(row["qty"]))
        differences = {}
        for account, twin in (("live-alpaca", "alpaca"), ("live-ibkr", "ibkr")):
            state = self.twin(twin, "/_twin/state")
            theirs = {symbol: Decimal(str(qty)) for symbol, qty in _positions(state).items() if Decimal(str(qty))}
            ours = {symbol: qty for symbol, qty in held.get(account, {}).items() if qty}
            found = []
            if Decimal(cash[account]) != Decimal(str(state["cash"])):
                found.append(f"cash {cash[account]} here, {state['cash']} there")
            found += [
                f"{s}: {ours.get(s, 0)} here, {theirs.get(s, 0)} there"
                for s in sorted({*ours, *theirs})
                if ours.get(s, Decimal(0)) != theirs.get(s, Decimal(0))
            ]
            differences[account] = "; ".join(found)
        for account in ("live-alpaca", "live-ibkr", "shadow-1"):
            breaks = self.ask("reconcile", account=account)
            if breaks:
                differences[account] = f"{differences.get(account, '')} reconciliation: {breaks} differences".strip()
        return differences


def _positions(state: dict[str, Any]) -> dict[str, Any]:
    found = state["positions"]
    return found if isinstance(found, dict) else {row["symbol"]: row["qty"] for row in found}


def _new_home(home: Path) -> None:
    """Make the demo's folder anew; one that is not the demo's is left alone."""
    if home.exists() and any(home.iterdir()):
        if not (home / MARK).exists():
            raise NorthstarError(f"{home}: is not empty and not of an earlier demo; choose another --out")
        shutil.rmtree(home)
    (home / "secrets").mkdir(parents=True, mode=0o700)
    (home / MARK).write_text("The demo's desk. Brokers, prices and keys in here are simulated; nothing real was traded.\n")

