"""A backtest as a job: a notebook, its parameters and a run specification in; an executed notebook, a tear sheet and a stored log out."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from northstar_core.jobs.cells import Progress
from northstar_core.jobs.engine import Executed, execute, start_kernel
from northstar_core.jobs.notebook import Notebook, load_strategy
from northstar_core.jobs.parameters import check_parameters
from northstar_core.jobs.provenance import provenance
from northstar_core.model.errors import JournalError, NorthstarError, SettingsError
from northstar_core.research.spec import JOURNAL_FILE, SPEC_VARIABLE, SUMMARY_FILE, RunSpec, write_spec
from northstar_core.store.postgres import default_home

SPEC_FILE = "spec.json"


class RunFailed(NorthstarError):
    """A run did not complete; ``report`` has what there is of it."""

    def __init__(self, message: str, exit_code: int, report: dict[str, Any]) -> None:
        self.exit_code, self.report = exit_code, report
        super().__init__(message)


def run_backtest(
    notebook: Path | str,
    given: Mapping[str, Any],
    spec: RunSpec,
    *,
    out: Path | None = None,
    home: Path | None = None,
    store: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Run a strategy notebook as a backtest and return its report.

    Parameters
    ----------
    notebook
        A notebook with a ``strategy`` cell.
    given
        Parameters by name; text is taken as typed on a command line.
    spec
        Data, cash, limits, broker.
    out
        Folder for the run's own folder; default ``<home>/runs``.
    home
        Northstar's folder; default ``store.postgres.default_home()``.
    store
        Whether the timeline goes into the event store.

    Returns
    -------
    run_id, notebook, notebook_sha256, parameters, data, bars, orders, fills, trades, money as decimal strings, metrics,
    executed_notebook, report_html, timings (seconds).

    Raises
    ------
    NotebookError, ParameterError, SettingsError
        Before anything runs.
    RunFailed
        If the notebook failed, was stopped, or its log could not be kept; partial evidence stays in the run's folder.
    """
    started = time.perf_counter()
    book = Notebook.read(notebook)
    strategy = load_strategy(book)
    parameters = check_parameters(book, given, strategy=strategy)
    spec = _absolute(spec)
    name = strategy.name or strategy.__name__
    folder = _new_folder(out or (home or default_home()) / "runs", _run_name(book, strategy, parameters, spec))
    run_id = folder.name
    spec = msgspec.structs.replace(
        spec, run_dir=str(folder), code={"strategy": book.strategy_sha256, "notebook": book.code_sha256}
    )
    write_spec(spec, folder / SPEC_FILE)
    env = {SPEC_VARIABLE: str(folder / SPEC_FILE)}
    kernel = start_kernel(book, env)
    stop = threading.Event()
    try:
        carrier = _carrier(run_id, book, parameters, env, home, folder, stop) if store else None
        if carrier is not None:
            carrier.wait_ready()
    except BaseException:
        kernel.close()
        raise
    executed = execute(
        book, parameters=parameters, run_dir=folder, env=env, on_progress=on_progress, kernel=kernel, stop=stop
    )
    summary = _summary(folder)
    log_error: NorthstarError | None = None
    if carrier is not None:
        try:
            carrier.finish(_STATUS.get(executed.outcome, "failed"), summary)
            if summary and carrier.head.hex() != summary["journal_sha256"]:
                log_error = JournalError(
                    f"run {run_id}: the stored log ends in {carrier.head.hex()[:16]}, the run's in {summary['journal_sha256'][:16]}"
                )
        except NorthstarError as error:
            log_error = error
    report = _report(run_id, book, parameters, summary, executed)
    if executed.executed_notebook.exists():
        from northstar_core.jobs.report import export_html

        report["report_html"] = str(export_html(executed.executed_notebook, folder / f"{book.path.stem}.html"))
    seconds = summary.get("seconds", {})
    report["timings"] = {
        "load": round(seconds.get("load", 0.0), 4),
        "run": round(seconds.get("run", 0.0), 4),
        "journal": round(carrier.wait_s if carrier is not None else 0.0, 4),
        "notebook": round(executed.seconds - seconds.get("load", 0.0) - seconds.get("run", 0.0), 4),
        "total": round(time.perf_counter() - started, 4),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    if log_error is not None:
        raise RunFailed(f"{log_error}; what was committed is whole, evidence in {folder}", 3, report)
    if executed.outcome != "completed":
        raise RunFailed(f"{executed.error or executed.outcome}; evidence in {folder}", executed.exit_code, report)
    if not summary:
        raise RunFailed(
            f"{book.path}: strategy {name} was never run; the run cell must await northstar.run(...)", 1, report
        )
    return report


_STATUS = {"completed": "completed", "interrupted": "stopped"}


def _carrier(
    run_id: str,
    book: Notebook,
    parameters: Mapping[str, Any],
    env: Mapping[str, str],
    home: Path | None,
    folder: Path,
    stop: threading.Event,
) -> Any:
    from northstar_core.jobs.carrier import Carrier
    from northstar_core.store.events import NewRun

    run = NewRun(
        run_id=run_id, kind="backtest", notebook=str(book.path), notebook_sha256=book.code_sha256, parameters=parameters,
        provenance=provenance(book, parameters, env) | {"folder": str(folder)},
    )  # fmt: skip
    carrier = Carrier(home, run, folder / JOURNAL_FILE, on_failure=stop.set)
    carrier.start()
    return carrier


def _absolute(spec: RunSpec) -> RunSpec:
    """The spec with data paths that hold also in the kernel's folder.

    Raises
    ------
    SettingsError
        If a path leads nowhere.
    """
    paths = []
    for path in spec.data:
        full = Path(path).expanduser().absolute()
        if not full.exists() and not any(sign in path for sign in "*?["):
            raise SettingsError(f"--data {path}: there is no such file or folder")
        paths.append(str(full))
    return msgspec.structs.replace(spec, data=tuple(paths))


def _run_name(book: Notebook, strategy: Any, parameters: Mapping[str, Any], spec: RunSpec) -> str:
    """A name derived from what is run: the strategy, and a digest of its code, parameters and wiring."""
    what = json.dumps([book.code_sha256, dict(parameters), msgspec.to_builtins(spec)], sort_keys=True, default=str)
    name = strategy.name or strategy.__name__
    return f"{''.join(c if c.isalnum() else '_' for c in name).lower()[:24]}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def _new_folder(parent: Path, name: str) -> Path:
    """Make the run's own folder; runs of the same thing are counted.

    Raises
    ------
    SettingsError
        If it cannot be made.
    """
    n = 1
    while True:
        folder = parent.absolute() / f"{name}-{n}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            n += 1
        except OSError as error:
            raise SettingsError(
                f"{folder}: cannot be made: {os.strerror(error.errno or 0)}; choose another folder with --out"
            ) from None


def _summary(folder: Path) -> dict[str, Any]:
    """What the kernel left; empty where the run did not end."""
    try:
        found: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
        return found
    except (OSError, ValueError):
        return {}


def _report(
    run_id: str, book: Notebook, parameters: Mapping[str, Any], summary: dict[str, Any], executed: Executed
) -> dict[str, Any]:
    """The run's report; nulls where the run did not get that far."""
    sources = summary.get("data", [])
    return {
        "run_id": run_id,
        "notebook": str(book.path),
        "notebook_sha256": book.code_sha256,
        "parameters": dict(parameters),
        "outcome": executed.outcome,
        "error": executed.error,
        "strategies": summary.get("strategies"),
        "data": {
            "source": ", ".join(s["source"] for s in sources[:3]) + (f" and {len(sources) - 3} more" if len(sources) > 3 else ""),
            "rows": sum(s["rows"] for s in sources),
            "sha256": sources[0]["sha256"] if len(sources) == 1 else hashlib.sha256("".join(s["sha256"] for s in sources).encode()).hexdigest(),
            "start": summary.get("start"),
            "end": summary.get("end"),
            "symbols": summary.get("symbols"),
            "files": sources,
        },
        **{key: summary.get(key) for key in (
            "bars", "rows", "orders", "fills", "trades", "cash", "final_equity", "pnl", "fees", "metrics", "limits", "assumptions", "journal_sha256",
        )},
        "executed_notebook": str(executed.executed_notebook),
        "report_html": None,
    }  # fmt: skip
