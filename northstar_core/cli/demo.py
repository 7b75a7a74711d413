"""``northstar demo``: the shipped notebooks as backtests, then a whole trading day of them on simulated brokers, end to end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.model.errors import NorthstarError, SettingsError

SPEED = 180.0
LONGEST_HOME = 70  #: bytes: a socket's path in it may have 107


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Where everything it leaves goes."
)  # fmt: skip
@click.option("--speed", type=click.FloatRange(1, 600), default=SPEED, show_default=True, help="Desk seconds in a second.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(out: Path, speed: float, as_json: bool) -> None:
    """Play a whole trading day: backtests first, then the same notebooks live and in shadow on simulated brokers, with mishaps.

    Brokers, prices and accounts are simulated, on this machine. Afterwards the log is verified, decided again, and the books are compared
    with both brokers'. Exit status 1 if anything of it does not hold.
    """
    from northstar_core.cli.demo_day import Day, twins
    from northstar_core.cli.demo_desk import STRATEGIES

    began = time.monotonic()

    def say(text: str) -> None:
        if not as_json:
            click.echo(text, err=True)

    say("SIMULATED: both brokers, all prices and all accounts of this demo are made up on this machine. Nothing real is traded.")
    out = out.absolute()
    folder = strategies_folder()
    backtests, names = _backtests(folder, STRATEGIES, out, say)
    home = out / "desk"
    if len(os.fsencode(str(home))) > LONGEST_HOME:
        home = Path(tempfile.mkdtemp(prefix="northstar-demo-")) / "desk"
        say(f"{out} is too long a path for a socket: the desk is in {home}")
    say(f"\nThe day: clock {speed:g} times as fast as the wall's, market of seed 7, twins of Massive, Alpaca and Interactive Brokers")
    with twins(speed) as ready:
        day = Day(home, ready, folder, names, say)
        try:
            day.up()
            say(f"{day.now:%H:%M}  the desk is up: Postgres, gateway, worker")
            day.play(_progress(as_json))
            differences = day.books_equal()
            struck = {name: day.twin(name, "/_twin/state").get("struck", []) for name in ("massive", "alpaca", "ibkr")}
            reports = day.reports()
            verified = _checked(day, "audit", "verify", "desk", "--json")
            replayed = _checked(day, "replay", "desk", "--json")
            rows = asyncio.run(_strategies(home, reports, backtests))
        finally:
            day.down()
    problems = _problems(rows, differences, verified, replayed)
    told = {
        "simulated": True, "seconds": round(time.monotonic() - began, 1), "home": str(home), "strategies": rows, "mishaps": day.happened,
        "struck": struck, "books": differences, "verified": verified, "replay": _short(replayed), "problems": problems,
    }  # fmt: skip
    if as_json:
        show.as_json(told)
    else:
        _tell(told)
    if problems:
        raise NorthstarError(f"the day does not hold: {'; '.join(problems)}")


def _backtests(folder: Path, parameters: dict[str, Any], out: Path, say: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, str]]:
    """Backtest every strategy of the day on the sessions before it; return the reports and the strategies' own names, by notebook."""
    from northstar_core.cli.demo_desk import DAY, HISTORY, SEED
    from northstar_core.data import synthetic
    from northstar_core.jobs.backtest import run_backtest
    from northstar_core.jobs.notebook import load_strategy
    from northstar_core.research.spec import RunSpec

    market = out / "market"
    if not (market / "SYNTHETIC.md").exists():
        synthetic.synth(market, days=HISTORY + 1, seed=SEED)
    reports, names = {}, {}
    for notebook, given in parameters.items():
        path = folder / f"{notebook}.ipynb"
        names[notebook] = load_strategy(path)(**given).strategy_id
        say(f"Backtesting {path.name} over the sessions up to {DAY} …")
        with show.progress_bar(notebook, shown=sys.stderr.isatty()) as on_progress:
            reports[notebook] = run_backtest(path, given, RunSpec(data=(str(market),)), out=out / "backtests", on_progress=on_progress)
    return reports, names


def _progress(quiet: bool) -> Callable[[datetime, dict[str, Any]], None]:
    """Say now and then how the day is going."""
    said = [0.0]

    def tell(now: datetime, status: dict[str, Any]) -> None:
        if quiet or time.monotonic() - said[0] < 10.0:
            return
        said[0] = time.monotonic()
        accounts = ", ".join(f"{name} {'up' if a['up'] else 'DOWN'}" for name, a in status["accounts"].items())
        click.echo(
            f"{now:%H:%M}  seq {status['durable']:,}, {len(status['sessions'])} strategies in session, {status['working']} orders working, "
            f"{status['unknown']} unknown; {accounts}",
            err=True,
        )

    return tell


def _checked(day: Any, *words: str) -> dict[str, Any]:
    """Run a command that answers in JSON; its exit status is part of the answer."""
    done = day.command(*words, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"error": done.stderr.strip()[-500:]}
    return {**found, "exit_code": done.returncode}


async def _strategies(home: Path, reports: list[dict[str, Any]], backtests: dict[str, Any]) -> list[dict[str, Any]]:
    """What each strategy of the day did, from the desk's log."""
    from northstar_core.jobs.notebook import code_hashes
    from northstar_core.model import events as e
    from northstar_core.model.journal import decode
    from northstar_core.research.metrics import round_trips_of
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    fills: dict[tuple[str, str], list[Any]] = {}
    orders: dict[tuple[str, str], int] = {}
    denied: dict[tuple[str, str], int] = {}
    names: dict[tuple[str, str], str] = {}
    kinds = ["OrderFilled", "OrderSubmitted", "OrderDenied", "SessionBegan"]
    async with open_database(home) as database, await Reader.open(database) as reader:
        run = await reader.run("desk")
        async for stored in reader.events(run.stream, kinds=kinds):
            event: Any = decode(stored.payload)
            if isinstance(event, e.OrderSubmitted):
                orders[event.order.account, event.order.strategy] = orders.get((event.order.account, event.order.strategy), 0) + 1
            elif isinstance(event, e.OrderFilled):
                fills.setdefault((event.account, event.strategy), []).append(event)
            elif isinstance(event, e.OrderDenied):
                denied[event.account, event.strategy] = denied.get((event.account, event.strategy), 0) + 1
            else:
                names[event.account, event.author] = event.strategy
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for report in reports:
        notebook = Path(report["notebook"]).stem
        key = (report["account"], names.get((report["account"], report["strategy"]), report["strategy"]))
        trips = round_trips_of(fills.get(key, []), [])
        tested = code_hashes(Path(backtests[notebook]["executed_notebook"]))
        row = rows.setdefault(key, {"runs": 0, "same_code": True})
        row |= {
            "strategy": key[1], "notebook": notebook, "account": key[0], "broker": report["broker"], "mode": report["mode"],
            "orders": orders.get(key, 0), "denied": denied.get(key, 0), "fills": len(fills.get(key, [])), "round_trips": len(trips),
            "pnl": str(sum((trip.pnl for trip in trips), start=trips[0].pnl * 0) if trips else 0), "runs": row["runs"] + 1,
            "outcome": report["outcome"], "same_code": row["same_code"] and report["code_cells"] == tested,
            "executed_notebook": report["executed_notebook"], "error": report["error"],
        }  # fmt: skip
    return list(rows.values())


def _problems(
    rows: list[dict[str, Any]], differences: dict[str, str], verified: dict[str, Any], replayed: dict[str, Any]
) -> list[str]:
    """What does not hold."""
    from northstar_core.cli.demo_desk import JOBS

    found = []
    for row in rows:
        name = f"{row['strategy']} in {row['account']}"
        if not row["round_trips"]:
            found.append(f"{name} made no round trip")
        if not row["same_code"]:
            found.append(f"the code of {name} is not what was backtested")
        if row["outcome"] != "completed":
            found.append(f"{name} ended {row['outcome']}: {row['error']}")
    if len(rows) != len(JOBS):
        found.append(f"{len(rows)} of {len(JOBS)} jobs ran")
    found += [f"books of {account} differ from the broker's: {text}" for account, text in differences.items() if text]
    if verified["exit_code"]:
        found.append("the log does not verify")
    if replayed["exit_code"]:
        found.append("the day, decided again, is not the same")
    return found


def _short(replayed: dict[str, Any]) -> dict[str, Any]:
    sessions = replayed.get("sessions", [])
    return {
        "identical": replayed.get("identical", False), "sessions": len(sessions), "intents": sum(s["intents"] for s in sessions),
        "signals": sum(s["signals"] for s in sessions), "different": sum(len(s["differences"]) for s in sessions),
    }  # fmt: skip


def _tell(told: dict[str, Any]) -> None:
    """Print the summary."""
    columns = ["strategy", "account", "mode", "broker", "orders", "denied", "fills", "round trips", "P&L", "runs", "outcome", "same code"]
    rows = [
        [
            row["strategy"], row["account"], row["mode"], f"{row['broker']} (simulated)", str(row["orders"]), str(row["denied"]),
            str(row["fills"]), str(row["round_trips"]), show.money(row["pnl"]), str(row["runs"]), row["outcome"],
            "yes" if row["same_code"] else "NO",
        ]
        for row in told["strategies"]
    ]  # fmt: skip
    show.table("The day, on simulated brokers", columns, rows, right=set(columns[4:10]))
    books = "equal both brokers'" if not any(told["books"].values()) else "DIFFER: " + "; ".join(filter(None, told["books"].values()))
    replay = told["replay"]
    click.echo(f"books     {books}")
    click.echo(f"log       {'verified' if not told['verified']['exit_code'] else 'VIOLATED'}, {told['verified'].get('events', 0):,} events")
    click.echo(f"replay    {replay['intents']} intents and {replay['signals']} signals identical, {replay['different']} different")
    click.echo(f"mishaps   {len(told['mishaps'])} came and went")
    for row in told["strategies"]:
        if row["executed_notebook"]:
            click.echo(f"notebook  {os.path.relpath(row['executed_notebook'])}")
    click.echo(f"Everything in here is simulated; it took {told['seconds']:.0f} s.")
    click.echo(f"Ask the log: NORTHSTAR_HOME={os.path.relpath(told['home'])} northstar audit why ORDER_ID")


def strategies_folder() -> Path:
    """Return the folder of the shipped strategy notebooks.

    Raises
    ------
    SettingsError
        Outside of a checkout.
    """
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if list((folder / "strategies").glob("*.ipynb")) and (folder / "pyproject.toml").exists():
            return folder / "strategies"
    raise SettingsError("the shipped strategies are in the project's folder strategies/; run the demo from there")
