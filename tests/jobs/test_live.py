"""Runs at the desk, in real processes: how each end comes about, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from northstar_core.client import session as client_session
from northstar_core.jobs import launcher
from northstar_core.jobs.backtest import RunFailed
from northstar_core.jobs.live import LiveJob, LiveRun, Ticket, mode_of, run_live
from northstar_core.jobs.notebook import Notebook, code_hashes
from northstar_core.model.errors import ParameterError
from tests.jobs.desk import SESSION, TOKEN, TestDesk
from tests.jobs.notebooks import PARAMETERS, STRATEGY, code, cross, markdown, read, texts, write


def notebook(path: Path, run: str, *more: dict[str, Any]) -> Path:
    return write(
        path,
        markdown("# Cross"),
        code(PARAMETERS, "parameters"),
        code(STRATEGY, "strategy"),
        code("raise RuntimeError('research')"),
        code(run, "run"),
        *more,
    )


def job(path: Path, home: Path, **options: Any) -> LiveJob:
    options = {
        "parameters": {"fast": "12"},
        "account": "paper-1",
        "day": "20261120",
    } | options
    return LiveJob(notebook=path, home=home, socket=home / "gateway" / "session.sock", **options)


async def ticket(strategy: str) -> Ticket:
    assert strategy == "cross"
    return Ticket(token=TOKEN, broker="paper", simulated=True)


def run(work: Callable[[LiveRun], Any], of: LiveJob) -> dict[str, Any]:
    """Start a run, do something to it in another thread, and return its report."""

    async def main() -> dict[str, Any]:
        started = await LiveRun.start(of, ticket)
        try:
            await asyncio.to_thread(work, started)
            return await asyncio.wait_for(started.wait(), 60)
        finally:
            started.kill()

    return asyncio.run(main())


def until(true: Callable[[], Any], what: str) -> None:
    pause = threading.Event()
    for _ in range(1200):
        if true():
            return
        pause.wait(0.05)
    raise AssertionError(f"{what}: not in 60 s")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "h"


def test_a_stop_lets_the_session_leave_and_the_rest_of_the_notebook_follow(tmp_path: Path, home: Path) -> None:
    source = f"{SESSION}\nprint('kept', wiring['token'][:5], wiring['token'])\nmode = path.name\nreason = await session()\nprint(reason)"
    path = notebook(
        tmp_path / "a.ipynb",
        source,
        code("print('stopped by', reason)", "on-stop"),
        code("print('report', fast + slow)", "report"),
    )
    with TestDesk(home) as desk:

        def work(started: LiveRun) -> None:
            desk.wait_for("beat", 2)
            until(lambda: started.progress().get("seq", 0) > 100, "progress")
            letter = f"/proc/{started.process.pid}"
            for place in ("cmdline", "environ"):
                assert TOKEN.encode() not in Path(letter, place).read_bytes()
            kernel = json.loads((started.folder / "pids.json").read_text())["kernel"]
            environment = Path(f"/proc/{kernel}/environ").read_bytes()
            assert b"NORTHSTAR_SESSION=" in environment and TOKEN.encode() not in environment
            assert not (started.folder / "session.json").exists(), "the kernel removed it as it read it"
            started.ask_to_stop()

        report = run(work, job(path, home))
        assert desk.of("stop") == [
            {"strategy": "cross", "account": "paper-1", "reason": "the run was asked to stop", "grace_s": 28.0}
        ]
        assert desk.of("leave") == ["stopped"]
    assert (report["outcome"], report["stopped"], report["error"], report["exit_code"]) == ("completed", True, None, 0)
    assert report["run_id"] == "cross-paper-1-20261120-1"
    assert (report["broker"], report["simulated"], report["mode"], report["account"]) == (
        "paper",
        True,
        "paper",
        "paper-1",
    )
    assert report["parameters"] == {"fast": 12}
    assert report["code_cells"] == code_hashes(path) == code_hashes(report["executed_notebook"])
    assert list(report["code_cells"]) == [
        "cell 2 [parameters]", "cell 3 [strategy]", "cell 5 [run]", "cell 6 [on-stop]", "cell 7 [report]",
    ]  # fmt: skip
    assert report["notebook_sha256"] == Notebook.read(path).code_sha256
    kept = read(Path(report["executed_notebook"]))
    assert texts(kept, "on-stop") == "stopped by the run was asked to stop\n"
    assert texts(kept, "report") == "report 42\n"
    facts = kept["metadata"]["northstar"]
    assert (facts["account"], facts["broker"], facts["run_id"]) == ("paper-1", "paper", report["run_id"])
    assert texts(kept, "run").startswith("kept token [redacted]\n")
    folder = Path(report["executed_notebook"]).parent
    for file in folder.iterdir():
        assert TOKEN.encode() not in file.read_bytes(), file
    assert "kept token [redacted]" in (folder / "output.log").read_text()
    assert Path(report["report_html"]).is_file()
    assert json.loads((folder / "report.json").read_text()) == report


def test_a_killed_launcher_takes_its_kernel_and_the_kernels_children_along(tmp_path: Path, home: Path) -> None:
    source = (
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '3600'])\n"
        "open('pid.new', 'w').write(str(child.pid))\nos.rename('pid.new', 'pid')\n"
        "while True:\n    pass"
    )
    path = notebook(tmp_path / "a.ipynb", source)
    pids: list[int] = []

    def work(started: LiveRun) -> None:
        until((tmp_path / "pid").exists, "the child")
        pids.extend(
            [json.loads((started.folder / "pids.json").read_text())["kernel"], int((tmp_path / "pid").read_text())]
        )
        assert all(is_running(pid) for pid in pids)
        os.kill(started.process.pid, signal.SIGKILL)

    report = run(work, job(path, home))
    until(lambda: not any(is_running(pid) for pid in pids), "the end of kernel and child")
    assert report["outcome"] == "launcher-died"
    assert report["error"] == f"{path}: the launcher was killed by SIGKILL"
    kept = read(Path(report["executed_notebook"]))
    assert kept["metadata"]["northstar"]["outcome"] == "launcher-died", "the notebook does not claim to be running"
    assert report["code_cells"] == code_hashes(path)
    assert not (Path(report["executed_notebook"]).parent / "session.json").exists()


def test_a_cell_that_does_not_leave_is_interrupted_then_killed(tmp_path: Path, home: Path) -> None:
    source = (
        "import signal\nprint('began', flush=True)\n"
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except KeyboardInterrupt:\n        print('no', flush=True)"
    )
    path = notebook(tmp_path / "a.ipynb", source, code("1", "report"))
    with TestDesk(home) as desk:

        def work(started: LiveRun) -> None:
            until(lambda: (started.folder / "output.log").exists(), "output")
            started.ask_to_stop()

        report = run(work, job(path, home, grace_s=0.5, interrupt_s=0.5))
        assert len(desk.of("stop")) == 1
    assert (report["outcome"], report["stopped"], report["exit_code"]) == ("interrupted", False, 130)
    kept = read(Path(report["executed_notebook"]))
    assert texts(kept, "run") == "began\nno\n"
    assert kept["cells"][-1]["metadata"]["northstar"]["status"] == "not-run"


def test_a_session_that_hangs_is_ended_and_says_how_far_it_got(tmp_path: Path, home: Path) -> None:
    source = f"{SESSION}\nimport time\nasyncio.get_running_loop().call_later(0.5, time.sleep, 3600)\nawait session()"
    path = notebook(tmp_path / "a.ipynb", source)
    with TestDesk(home):
        report = run(lambda started: None, job(path, home, silent_s=1.0))
    assert (report["outcome"], report["exit_code"]) == ("kernel-died", 138)
    assert "its session has reported no progress for 1 s (last number handled: 10" in report["error"]


def test_a_run_that_ends_by_itself_keeps_the_beginning_and_the_end_of_its_prints_and_skips_on_stop(
    tmp_path: Path, home: Path
) -> None:
    source = (
        "import sys\nfor i in range(200_000):\n    print('line', i, 'of a long day at the desk')\n"
        "    if i % 20 == 0:\n        print('x', file=sys.stderr)"
    )
    path = notebook(tmp_path / "a.ipynb", source, code("1 / 0", "on-stop"), code("print('report')", "report"))
    report = run(lambda started: None, job(path, home))
    assert (report["outcome"], report["stopped"], report["error"]) == ("completed", False, None)
    kept = Path(report["executed_notebook"])
    assert [c["metadata"]["northstar"]["status"] for c in read(kept)["cells"] if c["cell_type"] == "code"] == [
        "completed", "completed", "completed", "skipped", "completed", "skipped", "completed",
    ]  # fmt: skip
    assert kept.stat().st_size < 1_500_000
    cell = next(c for c in read(kept)["cells"] if "run" in c["metadata"].get("tags", []))
    shown = "".join("".join(o["text"]) for o in cell["outputs"])
    printed = "".join("".join(o["text"]) for o in cell["outputs"] if o["name"] == "stdout")
    assert printed.startswith("line 0 of")  # which of two streams a kernel flushes first is its own affair
    assert "line 199999 of a long day at the desk\n" in shown[-100_000:]
    assert "more characters of text were not kept" in shown
    assert (kept.parent / "output.log").stat().st_size > 6_000_000, "the log has what the notebook has not"


def test_a_notebook_is_saved_while_its_cell_runs_and_says_truthfully_that_its_kernel_was_killed(
    tmp_path: Path, home: Path
) -> None:
    source = f"import asyncio, os\nprint('began {TOKEN}', flush=True)\nawait asyncio.sleep(3600)"
    path = notebook(tmp_path / "a.ipynb", source)

    def work(started: LiveRun) -> None:
        saved = started.folder / "a.ipynb"
        until(lambda: saved.exists() and texts(read(saved), "run"), "a partial notebook")
        kept = read(saved)
        assert texts(kept, "run") == "began [redacted]\n"
        assert kept["metadata"]["northstar"]["outcome"] == "running"
        assert TOKEN not in saved.read_text()
        os.kill(json.loads((started.folder / "pids.json").read_text())["kernel"], signal.SIGKILL)

    report = run(work, job(path, home, save_s=0.1))
    assert (report["outcome"], report["exit_code"], report["stopped"]) == ("kernel-died", 138, False)
    assert report["error"] == f"{path}: cell 5 [run]: the kernel was killed by SIGKILL (out of memory?)"
    kept = read(Path(report["executed_notebook"]))
    assert texts(kept, "run") == "began [redacted]\n"
    assert kept["metadata"]["northstar"]["outcome"] == "kernel-died"


def test_launcher_and_kernel_mean_the_same_variable() -> None:
    assert launcher.SESSION_VARIABLE == client_session.SESSION_VARIABLE


def test_what_cannot_run_is_refused_before_there_is_a_folder(tmp_path: Path, home: Path) -> None:
    path = cross(tmp_path / "a.ipynb")
    with pytest.raises(ParameterError, match="fast = '1'"):
        run(lambda started: None, job(path, home, parameters={"fast": "1"}))
    with pytest.raises(ParameterError, match="no such parameter; did you mean fast"):
        run(lambda started: None, job(path, home, parameters={"fasst": "1"}))
    assert not home.exists()


def test_run_live_returns_the_report_and_raises_with_it_where_the_run_failed(tmp_path: Path, home: Path) -> None:
    seen: list[dict[str, Any]] = []
    path = notebook(tmp_path / "a.ipynb", "import time, os, json\nprint(1)\n1 / 0")
    with pytest.raises(
        RunFailed, match=r"cell 5 \[run\], line 3: ZeroDivisionError: division by zero; evidence in "
    ) as failed:
        run_live(path, {}, account="live-7", home=home, token=TOKEN, leased=False, on_progress=seen.append)
    assert failed.value.exit_code == 1
    assert failed.value.report["mode"] == "live"
    folder = home / "runs" / "cross-live-7-1"
    assert stat.S_IMODE((folder / "output.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("account", "real", "mode"),
    [("live-ib", False, "live"), ("shadow-ib", False, "shadow"), ("x", True, "live"), ("x", False, "paper")],
)
def test_the_account_says_the_mode(account: str, real: bool, mode: str) -> None:
    assert mode_of(account, real) == mode
