"""The process that executes one notebook which trades: ``python -m northstar_core.jobs.launcher PARENT_PID``.

It gets its letter on standard input, so that the session's token stands in no argument list and no environment. It hands it on to the
kernel in a file that only this user can read and that the kernel removes as it reads it. SIGTERM asks the gateway to stop the session;
a second signal ends the kernel at once. If the process that started it dies, so does this one, and its kernel with it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.jobs.files import write_atomically
from northstar_core.jobs.signals import handled
from northstar_core.model.errors import NorthstarError

log = logging.getLogger("northstar.jobs")

SESSION_VARIABLE = "NORTHSTAR_SESSION"  #: as ``client.session`` has it, whose import would hold up the kernel's start
SESSION_FILE = "session.json"
PIDS_FILE = "pids.json"
REPORT_FILE = "report.json"
OUTPUT_LOG = "output.log"
ASK_S = 5.0  #: how long the gateway has to answer that it will stop a session


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one run needs."""

    notebook: str
    parameters: dict[str, Any]  #: checked
    strategy: str
    account: str
    broker: str = ""
    mode: str = ""  #: as a person calls it: live, paper, shadow
    simulated: bool | None = None  #: no real money; None where only the session will tell
    home: str
    run_dir: str
    socket: str
    token: str
    grace_s: float = 30.0
    interrupt_s: float = 5.0
    save_s: float = 15.0
    silent_s: float = 150.0

    def __repr__(self) -> str:
        """Never the token."""
        return f"Letter(strategy={self.strategy!r}, account={self.account!r}, run_dir={self.run_dir!r})"


def launch(letter: Letter) -> int:
    """Execute the letter's notebook, leave its report, and return the exit code that says how it ended."""
    from northstar_core.jobs.engine import Executed, execute, start_kernel
    from northstar_core.jobs.lean import defer_slow_imports, without_hadoop
    from northstar_core.jobs.long_run import LongRun
    from northstar_core.jobs.notebook import Notebook

    folder = Path(letter.run_dir)
    started, stop = datetime.now(UTC), threading.Event()
    with handled(lambda number, frame: stop.set()):
        session = folder / SESSION_FILE
        try:
            book = Notebook.read(letter.notebook)
            write_session(session, letter, {"strategy": book.strategy_sha256, "notebook": book.code_sha256})
            env = {SESSION_VARIABLE: str(session)}
            kernel = start_kernel(book, env)
            write_atomically(
                folder / PIDS_FILE, json.dumps({"launcher": os.getpid(), "kernel": kernel.process.pid}).encode()
            )
            defer_slow_imports()
            with without_hadoop():
                import papermill.execute  # noqa: F401
            long_run = LongRun(
                ask_to_stop=lambda: _ask_to_stop(letter), grace_s=letter.grace_s, interrupt_s=letter.interrupt_s,
                save_s=letter.save_s, silent_s=letter.silent_s, secrets=(letter.token,), output_log=folder / OUTPUT_LOG,
                facts=facts(letter, folder.name),
            )  # fmt: skip
            executed = execute(
                book, parameters=letter.parameters, run_dir=folder, env=env, kernel=kernel, stop=stop, long_run=long_run
            )
        except (NorthstarError, OSError) as error:
            log.error("%s", error)
            executed = Executed("failed", folder / Path(letter.notebook).name, 0.0, str(error))
        finally:
            session.unlink(missing_ok=True)
        write_report(folder, report(letter, started, executed, _html(executed)))
    return executed.exit_code


def facts(letter: Letter, run_id: str) -> dict[str, Any]:
    """Return what the executed notebook says of where it ran."""
    names = ("strategy", "account", "broker", "mode", "simulated")
    return {"run_id": run_id, **{name: getattr(letter, name) for name in names}}


def write_session(path: Path, letter: Letter, code: dict[str, str]) -> None:
    """Write the kernel's way to the gateway where only this user can read it."""
    wiring = {"socket": letter.socket, "token": letter.token, "run_dir": letter.run_dir, "code": code}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(json.dumps(wiring).encode())


def report(letter: Letter, started: datetime, executed: Any, html: Path | None) -> dict[str, Any]:
    """Return the run's report: what ran, where, how it ended, and what its session said of itself."""
    from northstar_core.jobs.notebook import Notebook, code_hashes
    from northstar_core.jobs.run_folder import read_summary

    folder = Path(letter.run_dir)
    summary = read_summary(folder)
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError):
        kept = json.loads(executed.executed_notebook.read_bytes())["metadata"]["northstar"]
    hashes, whole = kept.get("code_cells"), kept.get("code_sha256")
    if hashes is None:
        with suppress(NorthstarError):
            book = Notebook.read(letter.notebook)
            hashes, whole = code_hashes(book), book.code_sha256
    return {
        **facts(letter, folder.name),
        **{name: summary[name] for name in ("broker", "simulated") if summary.get(name) is not None},
        "notebook": letter.notebook,
        "notebook_sha256": whole,
        "code_cells": hashes,
        "parameters": letter.parameters,
        "outcome": executed.outcome,
        "stopped": executed.stopped,
        "error": executed.error,
        "exit_code": executed.exit_code,
        "started": started.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "seconds": round(executed.seconds, 3),
        "cells": dict(executed.timings),
        "redacted": kept.get("redacted", 0),
        "session": summary,
        "executed_notebook": str(executed.executed_notebook) if executed.executed_notebook.is_file() else None,
        "report_html": str(html) if html else None,
    }


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Leave a run's report in its folder."""
    write_atomically(folder / REPORT_FILE, json.dumps(report, indent=1).encode())


def _html(executed: Any) -> Path | None:
    if not executed.executed_notebook.is_file():
        return None
    from northstar_core.jobs.report import export_html

    try:
        return export_html(executed.executed_notebook, executed.executed_notebook.with_suffix(".html"))
    except (NorthstarError, OSError) as error:
        log.warning("%s", error)
        return None


def _ask_to_stop(letter: Letter) -> str | None:
    """Ask the gateway, as the operator, to stop the session; return what stood against it."""
    from northstar_core.client.desk import DeskClient

    # The session has to be gone before the run cell's own time is up.
    session_s = max(letter.grace_s - 2.0, letter.grace_s / 2)
    try:
        with DeskClient(Path(letter.home), timeout_s=ASK_S) as desk:
            in_session = desk.request(
                "stop",
                strategy=letter.strategy,
                account=letter.account,
                reason="the run was asked to stop",
                grace_s=session_s,
            )
    except NorthstarError as error:
        return str(error)
    return None if in_session else f"{letter.strategy} is not in session in {letter.account}"


def _leave_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main() -> None:
    from northstar_core.jobs.kernel_main import die_with

    parent = int(sys.argv[1])
    die_with(parent)
    if sys.platform != "linux":  # which has a signal for it
        threading.Thread(target=_leave_without, args=(parent,), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    letter = msgspec.json.decode(sys.stdin.buffer.read(), type=Letter)
    sys.exit(launch(letter))


if __name__ == "__main__":
    main()
