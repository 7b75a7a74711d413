"""``northstar up``, ``down``, ``status`` and ``logs``: the desk's processes."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.cli.init import home_of, home_option, json_option
from northstar_core.cli.processes import DeskProcess, ProcessError
from northstar_core.cli.tail import Tail, log_file
from northstar_core.model.errors import NorthstarError

GATEWAY, WORKER = "northstar_core.gateway", "northstar_core.jobs.worker"
GRACE_S = 20.0  #: wall seconds a session that was begun by hand has to end
DOWN_S = 180.0  #: jobs have their grace, then the gateway writes what it has


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration; default: northstar.toml of the home.")
@home_option
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and take the desk down with an interrupt.")
@click.option("--no-worker", is_flag=True, help="Start the gateway alone: no schedule.")
@json_option
def up(config: Path | None, home: Path | None, foreground: bool, no_worker: bool, as_json: bool) -> None:
    """Start the desk: Postgres, the gateway, the jobs worker. What runs already is left alone; a second gateway is refused."""
    from northstar_core.client.desk import socket_path
    from northstar_core.gateway.settings import default_config, load_settings

    folder = home_of(home)
    file = (config or default_config(folder)).expanduser().absolute()
    settings = load_settings(file, folder)
    _read_secrets(settings)
    gateway, worker = DeskProcess("gateway", folder), DeskProcess("worker", folder)
    parts = [(gateway, GATEWAY), *([] if no_worker else [(worker, WORKER)])]
    missing = [(process, module) for process, module in parts if process.facts() is None]
    if not missing:
        raise ProcessError(f"the desk in {folder} is up already, gateway pid {gateway.pid}; northstar down stops it")
    if any(process is gateway for process, _ in missing):
        _refuse_a_taken_socket(folder)
    tails = [Tail(folder / "logs" / f"{process.name}.log", 0) for process, _ in parts]
    for tail in tails:
        tail.skip()
    try:
        for process, module in missing:
            process.start(module, file)
            process.wait_ready()
    except (NorthstarError, KeyboardInterrupt):
        for process, _ in reversed(missing):
            if process.child is not None:
                process.stop(DOWN_S)
        raise
    facts = {
        "home": str(folder), "config": str(file), "socket": str(socket_path(folder)), "logs": str(folder / "logs"),
        "pids": {process.name: process.pid for process, _ in parts}, "accounts": list(settings.accounts), "feeds": list(settings.feeds),
        "jobs": [job.name for job in settings.schedule if job.enabled],
    }  # fmt: skip
    if as_json:
        show.as_json(facts)
    else:
        _tell_where(facts, settings)
    if foreground:
        _stay(gateway, worker, [process for process, _ in parts], tails)


def _read_secrets(settings: Any) -> None:
    """Refuse now what the gateway would refuse: a secret that is not there or that others could read."""
    from northstar_core.gateway.secrets import account_secrets, feed_key

    for name in settings.accounts:
        account_secrets(settings, name)
    for name in settings.feeds:
        feed_key(settings, name)


def _refuse_a_taken_socket(folder: Path) -> None:
    """A file that nobody listens on is removed by the gateway; one that somebody listens on is a gateway without our lock."""
    from northstar_core.client.desk import socket_path

    path = socket_path(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise ProcessError(f"{path}: a gateway listens there that northstar up did not start; stop it first")


def _tell_where(facts: dict[str, Any], settings: Any) -> None:
    pids = ", ".join(f"{name} pid {pid}" for name, pid in facts["pids"].items())
    click.echo(f"the desk is up: {pids}")
    for name in ("config", "socket", "logs"):
        click.echo(f"  {name:<8} {facts[name]}")
    click.echo(
        f"  accounts {', '.join(facts['accounts'])}; feeds {', '.join(facts['feeds']) or 'none'}; jobs {len(facts['jobs'])}"
    )
    if settings.clock is not None:
        click.echo(f"  clock    {settings.clock.speed:g} times as fast as the wall's: simulated brokers")
    if not settings.feeds:
        click.echo("  no feed is configured: there are no prices, and no order will pass", err=True)


def _stay(gateway: DeskProcess, worker: DeskProcess, parts: list[DeskProcess], tails: list[Tail]) -> None:
    """Show the logs until interrupted, or until a process ends by itself."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    gone: list[DeskProcess] = []
    while not asked and not gone:
        for tail in tails:
            for line in tail.more():
                click.echo(line)
        gone = [process for process in parts if process.facts() is None]
        time.sleep(0.1)
    _take_down(gateway, worker, DOWN_S, force=False)
    if gone and not asked:
        raise ProcessError(f"the {gone[0].name} ended by itself: {gone[0].last_words()}; see {gone[0].home / 'logs'}")


@click.command()
@home_option
@click.option("--timeout", "timeout_s", default=DOWN_S, show_default=True, help="Seconds each part has to end.")
@click.option("--force", is_flag=True, help="Kill what does not end in time.")
@json_option
def down(home: Path | None, timeout_s: float, force: bool, as_json: bool) -> None:
    """Stop the desk in order: the worker with its jobs (each by its policy), then the gateway, then Postgres."""
    folder = home_of(home)
    stopped = _take_down(DeskProcess("gateway", folder), DeskProcess("worker", folder), timeout_s, force=force)
    if as_json:
        show.as_json({"stopped": stopped})
    else:
        click.echo(f"stopped: {', '.join(stopped)}" if stopped else f"nothing runs in {folder}")


def _take_down(gateway: DeskProcess, worker: DeskProcess, timeout_s: float, *, force: bool) -> list[str]:
    from northstar_core.client.desk import DeskClient

    stopped = []

    def ask() -> None:
        with DeskClient(gateway.home, timeout_s=10.0) as desk:
            desk.request("down")

    for process, how in ((worker, None), (gateway, ask)):
        if process is gateway:
            _end_sessions(gateway.home)
        try:
            lived = process.stop(timeout_s, how)
        except ProcessError:
            if not force:
                raise
            process.kill()
            lived = True
        if lived:
            stopped.append(process.name)
    return stopped


def _end_sessions(home: Path) -> None:
    """Let strategies that no worker runs end in order, while the gateway still carries their orders."""
    from northstar_core.client.desk import DeskClient, GatewayError

    deadline = time.monotonic() + GRACE_S + 5.0
    asked: set[tuple[str, str]] = set()
    try:
        with DeskClient(home, timeout_s=10.0) as desk:
            while (rows := desk.request("status")["sessions"]) and time.monotonic() < deadline:
                for name, account in {(row["strategy"], row["account"]) for row in rows} - asked:
                    desk.request("stop", strategy=name, account=account, reason="the desk goes down", grace_s=GRACE_S)
                    asked.add((name, account))
                time.sleep(0.1)
    except GatewayError:
        return  # it is not up, or does not answer: whoever stops it next says so


@click.command()
@home_option
@json_option
def status(home: Path | None, as_json: bool) -> None:
    """Show what runs, and how the desk stands. Exit status: 0 up, 1 not up."""
    from northstar_core.client.desk import DeskClient, GatewayError

    folder = home_of(home)
    processes = {name: DeskProcess(name, folder).facts() for name in ("gateway", "worker")}
    desk, error = None, ""
    try:
        with DeskClient(folder, timeout_s=10.0) as client:
            desk = client.request("status")
    except GatewayError as found:
        error = str(found)
    if as_json:
        show.as_json(
            {"up": desk is not None, "home": str(folder), "processes": processes, "desk": desk, "error": error}
        )
    elif desk is None:
        for name, facts in processes.items():
            if facts is not None:
                click.echo(f"{name}: pid {facts.get('pid')}")
        click.echo(error, err=True)
    else:
        _show_desk(desk, processes)
    sys.exit(0 if desk is not None else 1)


def _show_desk(desk: dict[str, Any], processes: dict[str, dict[str, Any] | None]) -> None:
    from northstar_core.cli.words import ago, clock_time

    now = desk["now"]
    pids = ", ".join(
        f"{name} {'pid ' + str(facts.get('pid')) if facts else 'is not up'}" for name, facts in processes.items()
    )
    speed = "" if desk["speed"] == 1 else f" ({desk['speed']:g} times as fast as the wall's)"
    session = desk["session"]
    click.echo(f"desk {desk['desk']}: {pids}; time {clock_time(now)}{speed}; session {session.get('label') or 'none'}")
    click.echo(
        f"log: seq {desk['seq']:,}, durable {desk['durable']:,}, epoch {desk['epoch']}; "
        f"orders working {desk['working']}, unknown {desk['unknown']}; alerts {desk['alerts']}"
    )
    for scope, state in desk["states"].items():
        if state != "ACTIVE":
            click.echo(f"{scope} is {state}")
    show.table(
        "accounts", ["account", "broker", "money", "link", "cash", "reconciled", "breaks"],
        [
            [
                name, a["broker"], "simulated" if a["simulated"] else "REAL", "up" if a["up"] else f"down: {a['reason']}",
                show.money(a["cash"]), ago(a["reconciled"], now), str(a["breaks"]),
            ]
            for name, a in desk["accounts"].items()
        ],
        right={"cash", "breaks"},
    )  # fmt: skip
    if desk["feeds"]:
        rows = [[name, ago(feed["last_heard"], now)] for name, feed in desk["feeds"].items()]
        show.table("feeds", ["feed", "last heard"], rows)
    if desk["sessions"]:
        shown = ("strategy", "account", "session", "state", "silent_s")
        columns = [key for key in shown if key in desk["sessions"][0]]
        show.table("sessions", columns, [[str(row.get(key, "")) for key in columns] for row in desk["sessions"]])


@click.command()
@click.argument("what", default="gateway")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added.")
@click.option("-n", "lines", default=50, show_default=True, help="How many lines from the end.")
@home_option
@json_option
def logs(what: str, follow: bool, lines: int, home: Path | None, as_json: bool) -> None:
    """Show a log: gateway, worker, or a run by its id or the beginning of it."""
    tail = Tail(log_file(home_of(home), what), lines, raw=as_json)
    shown = 0
    while True:
        for line in tail.more():
            click.echo(line)
            shown += 1
        if not follow:
            break
        time.sleep(0.2)
    if not shown:
        click.echo(f"{tail.file}: nothing yet", err=True)
