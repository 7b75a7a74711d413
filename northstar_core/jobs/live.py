"""One run of a strategy notebook at the desk, in a process group of its own: started, watched, stopped in order, accounted for.

``run_live`` is for a command that waits for the run; ``LiveRun`` for whoever has several, as the worker. Both start the launcher
(``jobs.launcher``), which executes the notebook as a backtest's launcher does. What the launcher cannot report because it was killed
is reported here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.jobs.backtest import RunFailed
from northstar_core.jobs.describe import Description, describe
from northstar_core.jobs.files import write_atomically
from northstar_core.jobs.kernel import import_path
from northstar_core.jobs.launcher import PIDS_FILE, REPORT_FILE, SESSION_FILE, Letter, facts, write_report
from northstar_core.jobs.run_folder import new_folder

LAUNCHER_LOG = "launcher.log"
#: What the report cells, the report and the tear sheet have, after the run cell has returned; wall seconds.
REPORT_S = 60.0
KILL_S = 5.0
LAUNCHER_DIED = "launcher-died"
ASK_S = 15.0  #: how long the gateway has to answer
LOOK_S = 0.5


class LiveJob(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook that is to trade, and where."""

    notebook: Path
    parameters: dict[str, Any] = {}  #: as given
    account: str
    home: Path  #: Northstar's folder
    socket: Path  #: the gateway's
    out: Path | None = None  #: folder for the run's own folder; default ``<home>/runs``
    broker: str = ""  #: kind of the account's broker, mode and whether it is simulated: where the ticket does not say
    mode: str = ""
    simulated: bool | None = None
    day: str = ""  #: the desk's day, for the run's name
    grace_s: float = 30.0  #: wall seconds it has to end when asked to
    interrupt_s: float = 5.0
    save_s: float = 15.0
    silent_s: float = 150.0


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway gives for a run: the token of one session, and what it knows of the account."""

    token: str
    socket: str = ""
    strategy: str = ""  #: its name on the desk
    account: str = ""
    broker: str = ""  #: kind of the account's broker
    simulated: bool | None = None  #: no real money; None where only the session will tell
    live: bool = False  #: the account's broker moves real money

    def __repr__(self) -> str:
        """Never the token."""
        return f"Ticket(strategy={self.strategy!r}, account={self.account!r})"


#: Gives the ticket of a run, or a mere token, for a strategy, by the name its notebook gives it.
TicketOf = Callable[[str], Awaitable[Ticket | str]]


def ticket_from(home: Path, account: str, hours: float = 24.0) -> TicketOf:
    """Return how to ask the gateway of ``home``, as the operator, for the ticket of a run in an account."""

    def ask(strategy: str) -> Ticket:
        from northstar_core.client.desk import DeskClient

        with DeskClient(home, timeout_s=ASK_S) as desk:
            return msgspec.convert(desk.request("token", strategy=strategy, account=account, hours=hours), Ticket)

    return lambda strategy: asyncio.to_thread(ask, strategy)


def mode_of(account: str, real_money: bool) -> str:
    """Return what a person calls the mode of an account: its name says it, else whether real money moves."""
    word = account.partition("-")[0]
    return word if word in ("live", "paper", "shadow") else "live" if real_money else "paper"


class LiveRun:
    """A run that was started.

    Start it in the main thread of a process that outlives it: on Linux it dies with the thread that started it.
    """

    def __init__(self, letter: Letter, process: asyncio.subprocess.Process, grace_s: float) -> None:
        self.letter, self.process = letter, process
        self.folder = Path(letter.run_dir)
        self.run_id, self.strategy = self.folder.name, letter.strategy
        self._started = datetime.now(UTC)
        self._patience_s = grace_s + letter.interrupt_s + REPORT_S
        self._report: dict[str, Any] | None = None
        self._ended = asyncio.ensure_future(self._end())

    @classmethod
    async def start(cls, job: LiveJob, ticket: TicketOf, described: Description | None = None) -> LiveRun:
        """Check the notebook, ask for its ticket, and start it.

        Raises
        ------
        NotebookError, ParameterError, SettingsError
            Before anything runs; also what ``ticket`` raises.
        """
        what = described or await describe(job.notebook, job.parameters)
        given = await ticket(what.strategy)
        if isinstance(given, str):
            given = Ticket(token=given)
        name = "-".join(filter(None, (what.strategy, job.account, job.day)))
        folder = new_folder(job.out or job.home / "runs", name)
        letter = Letter(
            notebook=str(job.notebook.absolute()), parameters=what.parameters, strategy=what.strategy, account=job.account,
            broker=given.broker or job.broker, mode=job.mode or mode_of(job.account, given.live),
            simulated=job.simulated if given.simulated is None else given.simulated, home=str(job.home.absolute()),
            run_dir=str(folder), socket=given.socket or str(job.socket.absolute()), token=given.token, grace_s=job.grace_s,
            interrupt_s=job.interrupt_s, save_s=job.save_s, silent_s=job.silent_s,
        )  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": import_path(os.environ)}
        with open(folder / LAUNCHER_LOG, "wb", opener=_private) as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "northstar_core.jobs.launcher", str(os.getpid()),
                env=environment, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        run = cls(letter, process, job.grace_s)
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(letter))
            await process.stdin.drain()
            process.stdin.close()
        except ConnectionError:  # died at once: ``wait`` will tell
            pass
        except BaseException:
            run.kill()
            raise
        return run

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> dict[str, Any]:
        """Return the run's report, once it has ended."""
        await asyncio.shield(self._ended)
        assert self._report is not None
        return self._report

    def ask_to_stop(self) -> None:
        """Ask for a stop in order; returns at once."""
        self._signal(signal.SIGTERM)

    def end_kernel(self) -> None:
        """End the kernel of a run that was asked to stop and does not; what there is of it is still kept."""
        self._signal(signal.SIGINT)

    async def stop(self) -> dict[str, Any]:
        """Stop the run: ask, then end its kernel, then kill what is left; return its report."""
        for rung, patience_s in ((self.ask_to_stop, self._patience_s), (self.end_kernel, KILL_S)):
            rung()
            await asyncio.wait({self._ended}, timeout=patience_s)
            if not self.alive:
                break
        else:
            self.kill()
        return await self.wait()

    def kill(self) -> None:
        """End the launcher and all it started, at once; the kernel goes with it."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def progress(self) -> dict[str, Any]:
        """Return what the session last reported of itself: ``seq`` is the last number it had handled."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / "progress.json").read_bytes())
            return found if isinstance(found, dict) else {}
        return {}

    def _signal(self, number: int) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def _end(self) -> None:
        code = await self.process.wait()
        await asyncio.to_thread(self._account_for, code)

    def _account_for(self, code: int) -> None:
        """Remove what a killed launcher left behind, and see that there is a report."""
        with suppress(OSError):
            (self.folder / SESSION_FILE).unlink(missing_ok=True)
        with suppress(OSError, ValueError):
            self._report = json.loads((self.folder / REPORT_FILE).read_bytes())
            return
        kernel = _kernel_of(self.folder)
        with suppress(ProcessLookupError, PermissionError):
            if kernel:
                os.killpg(kernel, signal.SIGKILL)
        self._report = self._report_of_the_dead(code)
        with suppress(OSError):
            write_report(self.folder, self._report)

    def _report_of_the_dead(self, code: int) -> dict[str, Any]:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        words = _last_words(self.folder / LAUNCHER_LOG)
        error = f"{self.letter.notebook}: the launcher {how}{f'; its last words: {words}' if words else ''}"
        notebook = self.folder / Path(self.letter.notebook).name
        marks = _mark_dead(notebook, error)
        return {
            **facts(self.letter, self.run_id),
            "notebook": self.letter.notebook,
            "notebook_sha256": marks.get("code_sha256"),
            "code_cells": marks.get("code_cells"),
            "parameters": self.letter.parameters,
            "outcome": LAUNCHER_DIED,
            "stopped": False,
            "error": error,
            "exit_code": 1,
            "started": self._started.isoformat(),
            "ended": datetime.now(UTC).isoformat(),
            "seconds": round((datetime.now(UTC) - self._started).total_seconds(), 3),
            "cells": {},
            "redacted": marks.get("redacted", 0),
            "session": {},
            "executed_notebook": str(notebook) if notebook.is_file() else None,
            "report_html": None,
        }


def run_live(
    notebook: Path | str, parameters: Mapping[str, Any], *, account: str, home: Path, token: str | TicketOf | None = None,
    socket: Path | None = None, out: Path | None = None, leased: bool = True,
    on_progress: Callable[[dict[str, Any]], None] | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Run a strategy notebook in an account of the desk until it ends, and return its report.

    SIGINT and SIGTERM stop it in order; a second one ends its kernel; for both the main thread is needed.

    Parameters
    ----------
    notebook
        A notebook with a ``strategy`` and a ``run`` cell.
    parameters
        By name; text is taken as typed on a command line.
    token
        The session's, or how to ask for its ticket by the strategy's name; by default the gateway of ``home`` is asked.
    socket
        The gateway's; by default that of ``home``.
    leased
        Hold the lease that refuses a second run of the strategy in the account; it needs the database of ``home``.
    on_progress
        Called with what the session reports of itself, when it changes.
    **options
        Further fields of ``LiveJob``.

    Returns
    -------
    run_id, strategy, account, broker, mode, simulated, notebook, notebook_sha256, code_cells, parameters, outcome ("completed"), stopped,
    error, exit_code, started, ended, seconds, cells, redacted, session (the kernel's own summary), executed_notebook, report_html.

    Raises
    ------
    NotebookError, ParameterError, SettingsError, GatewayError, StoreError
        Before anything runs; the last where the strategy runs in the account already.
    RunFailed
        If it did not complete; its ``report`` has what there is.
    """
    from northstar_core.client.desk import socket_path

    job = LiveJob(
        notebook=Path(notebook), parameters=dict(parameters), account=account, home=home, socket=socket or socket_path(home), out=out,
        **options,
    )  # fmt: skip
    report = asyncio.run(_run(job, token or ticket_from(home, account), leased, on_progress))
    if report["outcome"] != "completed":
        raise RunFailed(
            f"{report['error'] or report['outcome']}; evidence in {job_folder(report)}", report["exit_code"], report
        )
    return report


def job_folder(report: Mapping[str, Any]) -> str:
    """Return where a run's evidence is."""
    return str(Path(report["executed_notebook"]).parent) if report.get("executed_notebook") else str(report["run_id"])


async def _run(
    job: LiveJob, token: str | TicketOf, leased: bool, on_progress: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    async def given(strategy: str) -> Ticket | str:
        return token if isinstance(token, str) else await token(strategy)

    described = await describe(job.notebook, job.parameters)
    async with AsyncExitStack() as stack:
        lost = asyncio.Event()
        if leased:
            from northstar_core.jobs.guard import held, holder_by_hand
            from northstar_core.store.leases import Leases
            from northstar_core.store.postgres import open_database

            leases = await stack.enter_async_context(Leases(await stack.enter_async_context(open_database(job.home))))
            holding = held(leases, described.strategy, job.account, holder_by_hand(), lambda why: lost.set())
            await stack.enter_async_context(holding)
        run = await LiveRun.start(job, given, described)
        stack.callback(run.kill)
        return await _watched(run, lost, on_progress)


async def _watched(
    run: LiveRun, lost: asyncio.Event, on_progress: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    loop, asked = asyncio.get_running_loop(), False

    def on_signal() -> None:
        nonlocal asked
        run.end_kernel() if asked else run.ask_to_stop()
        asked = True

    with suppress(ValueError, RuntimeError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
    seen: dict[str, Any] = {}
    ended = asyncio.ensure_future(run.wait())
    while not ended.done():
        await asyncio.wait({ended}, timeout=LOOK_S)
        if lost.is_set():
            run.kill()
        if on_progress is not None and (now := run.progress()) and now != seen:
            on_progress(seen := now)
    return await ended


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _kernel_of(folder: Path) -> int | None:
    """Return the process group of a killed launcher's kernel, with whatever its cells started.

    The kernel died with the launcher, a moment ago; its group's number is given to nobody while a member of it lives.
    """
    try:
        pid = int(json.loads((folder / PIDS_FILE).read_bytes())["kernel"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if pid > 1 else None


def _last_words(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


def _mark_dead(notebook: Path, error: str) -> dict[str, Any]:
    """Say in a notebook that was last saved as running how its run ended; return what it says of the run."""
    try:
        document = json.loads(notebook.read_bytes())
        marks: dict[str, Any] = document["metadata"]["northstar"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    marks |= {"outcome": LAUNCHER_DIED, "error": error}
    for cell in document["cells"]:
        mark = cell["metadata"].get("northstar", {})
        if mark.get("status") in ("running", "pending"):
            mark["status"] = LAUNCHER_DIED if mark["status"] == "running" else "not-run"
    with suppress(OSError):
        write_atomically(notebook, json.dumps(document, indent=1).encode() + b"\n")
    return marks
