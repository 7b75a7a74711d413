"""Execute a notebook headlessly with papermill: ``execute`` for programs, ``NorthstarEngine`` for papermill.

papermill reads the notebook, injects the parameters and names the engine (entry point ``papermill.engine``, name
``northstar``); the engine runs the cells in a kernel of its own (``kernel``, ``cells``). So ``papermill --engine
northstar in.ipynb out.ipynb`` does the same as ``execute``, with the same evidence.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from northstar_core.jobs.kernel import Kernel, kernel_environment
from northstar_core.jobs.lean import defer_slow_imports, without_hadoop
from northstar_core.jobs.notebook import INJECTED, Notebook
from northstar_core.jobs.notebook import parameters as default_parameters
from northstar_core.jobs.parameters import refuse_secret
from northstar_core.jobs.redaction import Redactor
from northstar_core.jobs.signals import handled
from northstar_core.model.errors import NotebookError

if TYPE_CHECKING:
    from northstar_core.jobs.cells import CellRun, Outcome, Progress
    from northstar_core.jobs.long_run import LongRun

#: The exit code that tells a shell how a run ended; 130 and 138 are what shells and papermill use themselves.
EXIT_CODES = {"completed": 0, "failed": 1, "interrupted": 130, "kernel-died": 138}

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Executed:
    """How an execution ended, and where its evidence is."""

    outcome: Outcome
    executed_notebook: Path
    seconds: float
    error: str | None  #: one line: notebook, cell, line, exception; None when completed
    timings: Mapping[str, float] = field(default_factory=dict)  #: seconds: ``kernel_ready``, then each cell by name
    stopped: bool = False  #: a session was asked to end, and ended; its ``on-stop`` cells were executed

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


class ExecutionFailed(NotebookError):
    """A notebook did not complete; ``executed`` says how and keeps the partial evidence."""

    def __init__(self, executed: Executed) -> None:
        self.executed = executed
        super().__init__(executed.error or executed.outcome)


@dataclass
class Job:
    """What ``execute`` hands to the engine through papermill."""

    notebook: Notebook
    parameters: Mapping[str, Any]
    output: Path | None
    env: Mapping[str, str]
    run_dir: Path | None = None
    kernel: Kernel | None = None
    research: bool = False
    on_progress: Callable[[Progress], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    long_run: LongRun | None = None
    executed: Executed | None = None


def execute(
    notebook: Path | str | Notebook,
    *,
    parameters: Mapping[str, Any],
    run_dir: Path,
    env: Mapping[str, str],
    on_progress: Callable[[Progress], None] | None = None,
    kernel: Kernel | None = None,
    stop: threading.Event | None = None,
    research: bool = False,
    long_run: LongRun | None = None,
) -> Executed:
    """Execute a notebook's cells with a role (``parameters``, ``strategy``, ``run``, ``report``) and keep the evidence.

    The input file is never written. The executed notebook is ``run_dir/<name>.ipynb``, saved after each cell.

    Parameters
    ----------
    parameters
        Plain values to inject, as ``parameters.check_parameters`` returns them; names must be in the ``parameters``
        cell.
    env
        Added to the kernel's environment, for example ``NORTHSTAR_RUN_SPEC``; nothing secret.
    on_progress
        Called in this thread when a cell starts and when ``run_dir/progress.json`` changes.
    kernel
        One started before with ``start_kernel``, to save its start-up time. Ended here, whatever happens.
    stop
        Set it from another thread to stop the run. In the main thread SIGINT and SIGTERM do the same; a second one
        kills.
    research
        Also execute untagged code cells, as for a tutorial.
    long_run
        What a run of hours has beyond this: a stop that the session is asked for, ``on-stop`` cells, saves on the way.

    Returns
    -------
    Also for a notebook that failed, was interrupted or lost its kernel: look at ``outcome``.

    Raises
    ------
    NotebookError
        If the notebook cannot be read, has nothing to run or has other parameters; nothing has been executed then.
    """
    started = time.perf_counter()
    try:
        if not isinstance(notebook, Notebook):
            notebook = Notebook.read(notebook)
        _require_runnable(notebook, parameters, research)
        run_dir.mkdir(parents=True, exist_ok=True)
        output = run_dir / notebook.path.name
        if output.resolve() == notebook.path.resolve():
            raise NotebookError(
                f"{notebook.path}: would be overwritten by its executed copy; choose another run directory"
            )
        if kernel is None:
            kernel = start_kernel(notebook, env)
        stop = stop or threading.Event()
        job = Job(notebook, parameters, output, env, run_dir, kernel, research, on_progress, stop, long_run)
        with _stopped_by_signals(job):
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                executed = _through_papermill(job)
            else:  # called in a coroutine or a notebook: nbclient needs a loop of its own
                with ThreadPoolExecutor(1) as thread:
                    executed = thread.submit(_through_papermill, job).result()
    finally:
        if kernel is not None:
            kernel.close()
    return replace(executed, executed_notebook=output, seconds=time.perf_counter() - started)


def start_kernel(notebook: Notebook | Path | str, env: Mapping[str, str]) -> Kernel:
    """Start the kernel that ``execute`` will use; it boots while the caller does something else.

    Its folder is the notebook's, as in JupyterLab. Call ``close`` on it if it is not handed to ``execute``.
    """
    path = notebook.path if isinstance(notebook, Notebook) else Path(notebook)
    return Kernel.start(path.resolve().parent, kernel_environment(env))


def _require_runnable(notebook: Notebook, given: Mapping[str, Any], research: bool) -> None:
    if not research:
        notebook.only("run")
    known = default_parameters(notebook)
    for name, value in given.items():
        refuse_secret(name, value)
        if name not in known:
            raise NotebookError(f"{notebook.path}: has no parameter {name}; it has {', '.join(known) or 'none'}")


def _through_papermill(job: Job) -> Executed:
    defer_slow_imports()
    with without_hadoop():
        from papermill.engines import papermill_engines
        from papermill.execute import execute_notebook

    papermill_engines.register("northstar", NorthstarEngine)  # also where the package is not installed
    # papermill fills {braces} in paths, and writes its output in place: so it gets an escaped path and no output.
    escaped = str(job.notebook.path).replace("{", "{{").replace("}", "}}")
    try:
        execute_notebook(
            escaped,
            None,
            dict(job.parameters),
            engine_name="northstar",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            northstar_job=job,
        )
    except ExecutionFailed as failed:
        return failed.executed
    assert job.executed is not None, "papermill returned without having asked the engine"
    return job.executed


class NorthstarEngine:
    """A papermill engine: three functions and no base class of papermill's, so that nothing heavy is imported here."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, output_path: str | None = None, input_path: str | None = None, **options: Any
    ) -> Any:
        """Execute ``nb`` in place and return it.

        Raises
        ------
        ExecutionFailed
            If it does not complete; the partial notebook has been saved.
        """
        job: Job | None = options.get("northstar_job")
        if job is None:
            if not input_path:
                raise NotebookError("the northstar engine needs the path of the notebook; give papermill a file")
            read = Notebook.read(input_path)
            given = dict(nb.metadata.get("papermill", {}).get("parameters", {}))
            _require_runnable(read, given, research=False)
            job = Job(read, given, Path(output_path) if output_path else None, {})
            with _stopped_by_signals(job):
                executed = _execute(nb, job)
        else:
            executed = _execute(nb, job)
        job.executed = executed
        if executed.outcome != "completed":
            raise ExecutionFailed(executed)
        return nb

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        return name or "python3"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        return language or "python"


def _execute(nb: Any, job: Job) -> Executed:
    defer_slow_imports()
    _require_same(nb, job.notebook)
    started = time.perf_counter()
    job.kernel = job.kernel or start_kernel(job.notebook, job.env)
    with job.kernel as kernel:
        run = _cell_run(nb, job, kernel)
        outcome = asyncio.run(run.run())
        # For the cells' exit handlers. ipykernel sometimes hangs at exit, and the evidence is saved already.
        kernel.close(patience_s=0.4 if outcome == "completed" else 0.0)
    return Executed(outcome, job.output or Path(), time.perf_counter() - started, run.error, run.timings, getattr(run, "stopped", False))


def _cell_run(nb: Any, job: Job, kernel: Kernel) -> CellRun:
    from northstar_core.jobs.cells import CellRun
    from northstar_core.jobs.provenance import provenance

    environment, long_run = kernel_environment(job.env), job.long_run
    facts = dict(long_run.facts) if long_run else {}
    options: dict[str, Any] = {
        "kernel": kernel,
        "label": str(job.notebook.path),
        "output": job.output,
        "metadata": lambda: {**provenance(job.notebook, job.parameters, environment), **facts},
        "redactor": Redactor.from_environment(os.environ, long_run.secrets if long_run else ()),
        "research": job.research,
        "progress_file": job.run_dir / PROGRESS_FILE if job.run_dir else None,
        "on_progress": job.on_progress,
        "stop": job.stop,
    }
    if long_run is None:
        return CellRun(nb, **options)
    from northstar_core.jobs.long_run import LongCellRun

    return LongCellRun(nb, long_run=long_run, **options)


def _require_same(nb: Any, notebook: Notebook) -> None:
    """Refuse if the file changed between our reading (which the hashes are of) and papermill's."""
    cells = [cell for cell in nb.cells if INJECTED not in cell.metadata.get("tags", [])]
    if [cell.source.replace("\r\n", "\n") for cell in cells] != [
        c.source for c in notebook.cells if INJECTED not in c.tags
    ]:
        raise NotebookError(f"{notebook.path}: changed while the run was starting; nothing was executed, start again")


@contextmanager
def _stopped_by_signals(job: Job) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the run in order, and a second one at once; only the main thread can."""

    def on_signal(number: int, frame: object) -> None:
        if job.stop.is_set() and job.kernel is not None and job.kernel.alive:
            os.killpg(job.kernel.process.pid, signal.SIGKILL)
        job.stop.set()

    with handled(on_signal):
        yield
