"""``northstar run``: a strategy notebook at the desk, in a paper, shadow or live account: the account says which."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.cli.init import home_of, home_option, json_option
from northstar_core.cli.processes import DeskProcess
from northstar_core.model.errors import NorthstarError, SettingsError

DETACHED_S = 90.0  #: a detached run is in session by then, or says why not


class NotStarted(NorthstarError):
    """A detached run ended before its session was open."""

    exit_code = 1


@click.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("--account", required=True, help="Account to trade in; see northstar status.")
@click.option(
    "-p", "--param", "params", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of the notebook; JSON or plain text."
)  # fmt: skip
@click.option("--detach", is_flag=True, help="Return once it is in session; northstar logs RUN shows what it prints.")
@home_option
@json_option
def run(
    notebook: Path, account: str, params: tuple[tuple[str, str], ...], detach: bool, home: Path | None, as_json: bool
) -> None:
    """Run a strategy NOTEBOOK at the running desk until its session ends. An interrupt stops it in order, a second one at once."""
    twice = sorted({name for name, _ in params if [n for n, _ in params].count(name) > 1})
    if twice:
        raise SettingsError(f"-p {twice[0]}: given twice")
    if not notebook.is_file():
        raise SettingsError(f"notebook {notebook}: there is no such file")
    folder = home_of(home)
    if detach:
        start_detached(folder, notebook, account, params, as_json)
    else:
        report = run_here(folder, notebook, dict(params), account, as_json)
        show_report(report, as_json)


def config_of(home: Path) -> Any:
    """Return the configuration of the running desk: the file it was started with, else the home's own."""
    from northstar_core.gateway.settings import default_config, load_settings

    facts = DeskProcess("gateway", home).facts() or {}
    return load_settings(Path(facts.get("config") or default_config(home)), home)


def run_here(
    home: Path, notebook: Path, parameters: dict[str, Any], account: str, quiet: bool, **options: Any
) -> dict[str, Any]:
    """Run a notebook at the desk, and return its report; with real money only after a fresh GO.

    Raises
    ------
    NorthstarError
        If it may not start, or did not complete.
    """
    from northstar_core.client.desk import DeskClient
    from northstar_core.jobs.gateway_calls import require_go
    from northstar_core.jobs.live import run_live

    settings = config_of(home)
    entry = settings.accounts.get(account)
    if entry is None:
        raise SettingsError(f"--account {account}: {settings.path} has {', '.join(settings.accounts)}")
    with DeskClient(home) as desk:
        status = desk.request("status")
        if entry.real_money:
            require_go(account, desk.request("preflight", account=account))
    return run_live(
        notebook, parameters, account=account, home=home, day=status["session"].get("label") or "",
        on_progress=Progress(quiet).step, **options,
    )  # fmt: skip


class Progress:
    """Says on stderr how far a session is, on one line that is written over where it can be."""

    def __init__(self, quiet: bool) -> None:
        self.shown = not quiet
        self._line = False

    def step(self, facts: dict[str, Any]) -> None:
        """A session reported itself."""
        if not self.shown:
            return
        words = ", ".join(
            f"{name} {value}" for name, value in facts.items() if isinstance(value, (int, str)) and name != "socket"
        )
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{words[:200]}", err=True, nl=False)
        elif not self._line:
            click.echo(f"in session: {words}", err=True)
        self._line = True


def start_detached(
    home: Path, notebook: Path, account: str, params: tuple[tuple[str, str], ...], as_json: bool
) -> None:
    """Start the same command in a process of its own, and return once its session is open.

    Raises
    ------
    NorthstarError
        If it ends before, with its own words.
    """
    from northstar_core.gateway.files import private_folder
    from northstar_core.jobs.kernel import import_path

    logs = private_folder(home / "logs")
    before = _sessions(home, account)
    out = logs / f"run-{notebook.stem}-{account}.log"
    command = [
        sys.executable,
        "-P",
        "-m",
        "northstar_core.cli.main",
        "run",
        str(notebook.absolute()),
        "--account",
        account,
    ]
    command += [word for pair in params for word in ("-p", *pair)]
    with open(out, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        child = subprocess.Popen(
            [*command, "--home", str(home)], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, "PYTHONPATH": import_path(os.environ)},
        )  # fmt: skip
    deadline = time.monotonic() + DETACHED_S
    while not (opened := _sessions(home, account) - before):
        if child.poll() is not None:
            lines = [line for line in out.read_text(errors="replace").splitlines() if line.strip()]
            raise NotStarted(
                (lines[-1] if lines else f"the run ended with exit code {child.returncode}").removeprefix("northstar: ")
            )
        if time.monotonic() > deadline:
            raise NotStarted(f"the run (pid {child.pid}) is not in session after {DETACHED_S:.0f} s; see {out}")
        time.sleep(0.2)
    strategy, session = sorted(opened)[0]
    child.returncode = 0  # it outlives us: nobody here waits for it
    if as_json:
        show.as_json({"pid": child.pid, "strategy": strategy, "session": session, "account": account, "log": str(out)})
    else:
        click.echo(f"{strategy} is in session {session} in {account}, pid {child.pid}; log {out}")


def _sessions(home: Path, account: str) -> set[tuple[str, str]]:
    from northstar_core.client.desk import DeskClient

    with DeskClient(home) as desk:
        rows = desk.request("status")["sessions"]
    return {(row["strategy"], str(row.get("session", ""))) for row in rows if row["account"] == account}


def show_report(report: dict[str, Any], as_json: bool) -> None:
    """Print how a run ended, and what it left."""
    if as_json:
        show.as_json(report)
        return
    click.echo(
        f"{report['run_id']} {report['outcome']} in {report['seconds']:.0f} s, {report['strategy']} in {report['account']}"
    )
    for name in ("executed_notebook", "report_html"):
        if report.get(name):
            click.echo(f"  {os.path.relpath(report[name])}")
