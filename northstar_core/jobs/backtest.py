"""A backtest as a job: a notebook and its wiring in; an executed notebook, a tear sheet and a stored log out.

A run's seconds are mostly imports, so they are done side by side: the kernel boots while papermill is imported here,
the store opens meanwhile, and what renders the tear sheet is imported while the strategy runs.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from northstar_core.jobs.engine import Executed, execute, start_kernel
from northstar_core.jobs.lean import defer_slow_imports, without_hadoop
from northstar_core.jobs.notebook import Notebook, load_strategy
from northstar_core.jobs.notebook import parameters as default_parameters
from northstar_core.jobs.parameters import check_parameters
from northstar_core.jobs.provenance import provenance
from northstar_core.jobs.run_folder import absolute, new_folder, read_summary, report_of, run_name
from northstar_core.jobs.signals import handled
from northstar_core.model.errors import JournalError, NorthstarError, SettingsError
from northstar_core.research.spec import JOURNAL_FILE, SPEC_FILE, SPEC_VARIABLE, RunSpec, write_spec
from northstar_core.store.postgres import default_home

if TYPE_CHECKING:
    from northstar_core.jobs.carrier import Carrier
    from northstar_core.jobs.cells import Progress

REPORT_FILE = "report.json"


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
    book.only("run")
    checked = check_parameters(book, given, strategy=strategy)
    parameters = default_parameters(book) | checked
    spec = absolute(spec)
    folder = new_folder(out or (home or default_home()) / "runs", run_name(book, strategy, parameters, spec))
    spec = msgspec.structs.replace(
        spec, run_dir=str(folder), code={"strategy": book.strategy_sha256, "notebook": book.code_sha256}
    )
    env = {SPEC_VARIABLE: str(folder / SPEC_FILE)}
    stop, executing = threading.Event(), threading.Event()
    with _stoppable(stop, executing):
        kernel = carrier = None
        try:
            write_spec(spec, folder / SPEC_FILE)
            kernel = start_kernel(book, env)
            carrier = _carrier(book, parameters, env, home, folder, stop) if store else None
            _import_papermill(carrier)
            if carrier is not None:
                carrier.wait_ready()
        except BaseException as error:
            if kernel is not None:
                kernel.close()
            if carrier is not None:
                carrier.abandon()
            shutil.rmtree(folder, ignore_errors=True)  # nothing ran: nothing to keep
            if isinstance(error, OSError):
                raise SettingsError(f"{folder}: {error.strerror or error}; choose another folder with --out") from None
            raise
        executing.set()
        threading.Thread(target=_import_nbconvert, name="import-nbconvert", daemon=True).start()
        run_id = carrier.run_id if carrier is not None else folder.name
        executed, trouble = _execute(book, checked, folder, env, on_progress, kernel, stop)
        summary = read_summary(folder)
        status = _STATUS.get(executed.outcome, "failed")
        if carrier is not None:
            try:
                carrier.finish(status, summary)
                if summary and carrier.head.hex() != summary["journal_sha256"]:
                    raise JournalError(
                        f"run {run_id}: the stored log ends in {carrier.head.hex()[:16]}, "
                        f"the run's in {summary['journal_sha256'][:16]}"
                    )
            except NorthstarError as error:
                trouble = trouble if isinstance(trouble, NorthstarError) and not stop.is_set() else error
        report = report_of(run_id, book, parameters, summary, executed)
        try:
            if executed.executed_notebook.is_file():
                from northstar_core.jobs.report import export_html

                report["report_html"] = str(export_html(executed.executed_notebook, folder / f"{book.path.stem}.html"))
        except NorthstarError as error:
            trouble = trouble or error
        seconds = summary.get("seconds", {})
        report["timings"] = {
            "load": round(seconds.get("load", 0.0), 4),
            "run": round(seconds.get("run", 0.0), 4),
            "journal": round(carrier.wait_s if carrier is not None else 0.0, 4),
            "notebook": round(executed.seconds - seconds.get("load", 0.0) - seconds.get("run", 0.0), 4),
            "total": round(time.perf_counter() - started, 4),
        }
        try:
            (folder / REPORT_FILE).write_text(json.dumps(report, indent=1))
        except OSError as error:
            trouble = trouble or SettingsError(f"{folder / REPORT_FILE}: cannot be written: {error.strerror}")
    if trouble is not None:
        report["outcome"], report["error"] = "failed", str(trouble)
        raise RunFailed(f"{trouble}; evidence in {folder}", 3, report)
    if executed.outcome != "completed":
        raise RunFailed(f"{executed.error or executed.outcome}; evidence in {folder}", executed.exit_code, report)
    if not summary:
        name = strategy.name or strategy.__name__
        raise RunFailed(
            f"{book.path}: strategy {name} was never run; the run cell must await northstar.run(...)", 1, report
        )
    return report


_STATUS = {"completed": "completed", "interrupted": "stopped"}


def _execute(
    book: Notebook, given: Mapping[str, Any], folder: Path, env: Mapping[str, str],
    on_progress: Callable[[Progress], None] | None, kernel: Any, stop: threading.Event,
) -> tuple[Executed, NorthstarError | None]:  # fmt: skip
    """Execute the notebook; where not even its evidence could be kept, say why."""
    try:
        return execute(
            book, parameters=given, run_dir=folder, env=env, on_progress=on_progress, kernel=kernel, stop=stop
        ), None
    except NorthstarError as error:
        return Executed("failed", folder / book.path.name, 0.0, str(error)), error
    except OSError as error:
        trouble = SettingsError(f"{folder}: {error.strerror or error}")
        return Executed("failed", folder / book.path.name, 0.0, str(trouble)), trouble


@contextmanager
def _stoppable(stop: threading.Event, executing: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a start at once, and stop what executes in order; a second one ends that too."""

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set() or not executing.is_set():
            raise KeyboardInterrupt
        stop.set()

    with handled(on_signal):
        yield


def _import_papermill(carrier: Carrier | None) -> None:
    """Import what executes notebooks, while the kernel boots and the store opens."""
    defer_slow_imports()
    with without_hadoop():  # which holds only before there are threads
        if carrier is not None:
            carrier.start()
        import papermill.execute  # noqa: F401

        import northstar_core.jobs.cells  # noqa: F401


def _import_nbconvert() -> None:
    """Import what renders the tear sheet, while the strategy runs."""
    import nbconvert.exporters.templateexporter
    import nbconvert.filters  # noqa: F401

    import northstar_core.jobs.report  # noqa: F401


def _carrier(
    book: Notebook,
    parameters: Mapping[str, Any],
    env: Mapping[str, str],
    home: Path | None,
    folder: Path,
    stop: threading.Event,
) -> Carrier:
    from northstar_core.jobs.carrier import Carrier
    from northstar_core.store.events import NewRun

    run = NewRun(
        run_id=folder.name, notebook=str(book.path), notebook_sha256=book.code_sha256, parameters=parameters,
        provenance=provenance(book, parameters, env) | {"folder": str(folder)},
    )  # fmt: skip
    return Carrier(home, run, folder / JOURNAL_FILE, on_failure=stop.set)
