"""What fails while it runs: one line names the place, the registry says so, and what there is of the run is kept."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from northstar_core.audit.verify import read_lines, verify
from northstar_core.client.run import run as run_strategy
from northstar_core.jobs.notebook import Notebook, load_strategy
from northstar_core.model.events import RunFinished
from northstar_core.model.journal import decode, parse
from northstar_core.research.spec import SPEC_FILE, SPEC_VARIABLE, RunSpec, write_spec
from northstar_core.store.cluster import Cluster, processes_in
from northstar_core.store.reader import RunRow
from tests.cli.shell import HEADER, Ran, finished, row, rows

Northstar = Callable[..., Ran]
Start = Callable[..., subprocess.Popen[str]]
Notebooks = Callable[..., Path]
Registered = Callable[[str], RunRow]


def folder_of(complaint: str) -> Path:
    return Path(complaint.rpartition("evidence in ")[2])


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something has happened, while a command runs."""
    while not happened():
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"it ended before: {process.communicate()}")


def outcome(lines: list[bytes]) -> str:
    last = decode(parse(lines[-1]).payload)
    assert isinstance(last, RunFinished)
    return last.outcome


def test_a_strategys_exception_names_the_bar_and_the_log_ends_in_order(
    northstar: Northstar, notebook: Notebooks, market: Path, tmp_path: Path, home: Path, registered: Registered
) -> None:
    path = notebook("if self.n == 100: raise ValueError('kaboom')")
    ran = northstar("backtest", path, "--data", market, "--out", tmp_path / "out", "--json")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    for word in (str(path), "cell 3 [run]", "sma_cross.on_bar raised ValueError: kaboom", "SPY"):
        assert word in ran.err
    report = ran.json
    assert report["outcome"] == "failed" and report["bars"] == 100
    run = registered(report["run_id"])
    assert run.status == "failed" and run.head_hash.hex() == report["journal_sha256"]
    lines = list(read_lines(folder_of(ran.err.strip())))
    assert outcome(lines) == "failed" and verify(lines).exit_code == 0
    assert northstar("audit", "verify", report["run_id"]).code == 0


@pytest.mark.parametrize(
    ("trouble", "code", "says", "stored"),
    [
        ("if self.n == 9: raise SystemExit(3)", 1, "cell 3 [run]: called sys.exit(3)", True),
        ("if self.n == 9: __import__('os')._exit(3)", 138, "cell 3 [run]: the kernel ended with exit code 3", False),
        ("if self.n == 9: __import__('os').kill(__import__('os').getpid(), 9)", 138, "was killed by SIGKILL", False),
    ],
    ids=["exit", "_exit", "kill"],
)
def test_a_cell_that_ends_its_kernel_fails_the_run(
    northstar: Northstar, notebook: Notebooks, market: Path, tmp_path: Path, home: Path, registered: Registered,
    trouble: str, code: int, says: str, stored: bool,
) -> None:  # fmt: skip
    ran = northstar("backtest", notebook(trouble), "--data", market, "--out", tmp_path / "out")
    assert says in ran.complaint
    assert ran.code == code
    folder = folder_of(ran.complaint)
    assert registered(folder.name).status == "failed"
    executed = json.loads((folder / "cross.ipynb").read_text())
    assert executed["metadata"]["northstar"]["outcome"] in ("failed", "kernel-died")
    assert (folder / "cross.html").is_file()
    assert northstar("audit", "verify", folder.name).code == (0 if stored else 2)  # 2: there is nothing to verify


def test_bad_data_are_named_through_the_kernel_too(
    northstar: Northstar, notebook: Notebooks, tmp_path: Path, home: Path, registered: Registered
) -> None:
    file = tmp_path / "bars.csv"
    file.write_text("\n".join([HEADER, *rows(1), row(close="NaN")]) + "\n")
    ran = northstar("backtest", notebook(), "--data", file, "--out", tmp_path / "out")
    assert "bars.csv: row 2: close" in ran.complaint
    assert ran.code == 1
    assert registered(folder_of(ran.complaint).name).status == "failed"


def test_ctrl_c_stops_the_run_in_order_and_keeps_what_it_had_done(
    start: Start, northstar: Northstar, notebook: Notebooks, market: Path, tmp_path: Path, registered: Registered
) -> None:
    marker = tmp_path / "at work"
    path = notebook(
        f"import pathlib, time\nif self.n > 200:\n    pathlib.Path({str(marker)!r}).touch()\n    time.sleep(0.2)"
    )
    process = start("backtest", path, "--data", market, "--out", tmp_path / "out")
    wait_until(marker.exists, process)
    process.send_signal(signal.SIGINT)
    ran = finished(process)
    assert ran.code == 130
    assert "cell 3 [run] was interrupted; what it had done is kept" in ran.complaint
    folder = folder_of(ran.complaint)
    lines = list(read_lines(folder))
    assert outcome(lines) == "stopped" and verify(lines).exit_code == 0
    run = registered(folder.name)
    assert run.status == "stopped" and run.events == len(lines) and run.summary["bars"] > 200
    assert json.loads((folder / "cross.ipynb").read_text())["metadata"]["northstar"]["outcome"] == "interrupted"
    assert json.loads((folder / "report.json").read_text())["outcome"] == "interrupted"
    assert northstar("audit", "verify", folder.name).code == 0


def test_an_interrupt_between_two_bars_waits_for_the_end_of_the_chunk(
    notebook: Notebooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = notebook("if self.n == 100: __import__('os').kill(__import__('os').getpid(), 2)")
    write_spec(RunSpec(run_dir=str(tmp_path)), tmp_path / SPEC_FILE)
    monkeypatch.setenv(SPEC_VARIABLE, str(tmp_path / SPEC_FILE))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    strategy = load_strategy(Notebook.read(path))(symbols=["ALFA", "BETA", "GAMA"])
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(run_strategy(strategy))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    lines = list(read_lines(tmp_path))
    assert outcome(lines) == "stopped" and verify(lines).exit_code == 0
    assert 100 < json.loads((tmp_path / "summary.json").read_text())["bars"] < 3 * 20 * 390


def test_a_disk_that_fills_up_fails_the_run_and_says_where(
    start: Start, notebook: Notebooks, tmp_path: Path, registered: Registered
) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    arguments = ["-p", "symbols", '["ALFA"]', "--start", "2024-01-02", "--end", "2024-01-10"]
    process = start("backtest", notebook(), *arguments, "--out", tmp_path / "out", preexec_fn=little_room)
    ran = finished(process)
    assert ran.code not in (0, 130)
    assert "journal.log: the journal cannot be written: File too large" in ran.complaint
    (folder,) = (tmp_path / "out").iterdir()
    assert registered(folder.name).status == "failed"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc")
def test_a_database_that_dies_fails_the_run_and_what_was_committed_verifies(
    start: Start, northstar: Northstar, notebook: Notebooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, marker, go = (tmp_path / name for name in ("home", "at work", "go on"))
    path = notebook(
        f"import pathlib, time\n"
        f"if self.n == 9000:\n"  # in the second chunk: what came before is on its way into the store
        f"    pathlib.Path({str(marker)!r}).touch()\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)"
    )
    process = start("backtest", path, "-p", "symbols", '["ALFA", "BETA", "GAMA"]', home=home)
    monkeypatch.setenv("NORTHSTAR_HOME", str(home))
    wait_until(marker.exists, process)
    wait_until(lambda: northstar("runs", "--json").json[0]["events"], process)
    for pid in processes_in(Cluster(home / "postgres").data):
        os.kill(pid, signal.SIGKILL)
    go.touch()
    ran = finished(process)
    assert ran.code == 3
    assert "went away" in ran.complaint and "are stored and verify" in ran.complaint
    folder = folder_of(ran.complaint)
    verified = northstar("audit", "verify", folder.name)
    assert verified.code == 0, verified.out
    (run,) = northstar("runs", "--json").json
    assert 0 < run["events"] < len((folder / "journal.log").read_bytes().splitlines())
    assert " killed " in northstar("runs").out


def test_ctrl_c_before_anything_ran_leaves_no_folder(
    start: Start, notebook: Notebooks, market: Path, tmp_path: Path
) -> None:
    process = start("backtest", notebook(), "--data", market, "--out", tmp_path / "out")
    wait_until(lambda: list((tmp_path / "out").glob("*/spec.json")), process)
    process.send_signal(signal.SIGINT)
    ran = finished(process)
    assert (ran.out, ran.err.strip(), ran.code) == ("", "northstar: interrupted", 130)
    assert not list((tmp_path / "out").iterdir())
