"""``northstar backtest``: a notebook, real bars, an auditable run; in real kernels, into a real store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from northstar_core.store.reader import RunRow
from tests.cli.shell import Ran, Recorded, finished

Northstar = Callable[..., Ran]

#: What a program that reads ``--json`` relies on.
KEYS = {
    "run_id", "notebook", "notebook_sha256", "parameters", "data", "bars", "orders", "fills", "trades", "final_equity",
    "metrics", "executed_notebook", "report_html", "timings",
}  # fmt: skip
MONEY = ("cash", "final_equity", "pnl", "fees")


def test_json_is_one_object_with_the_keys_programs_rely_on(recorded: Recorded, market: Path) -> None:
    assert recorded.ran.err == ""
    report = json.loads(recorded.ran.out)
    assert report.keys() >= KEYS
    assert report["data"].keys() >= {"source", "rows", "sha256", "start", "end", "symbols"}
    assert report["timings"].keys() == {"load", "run", "journal", "notebook", "total"}
    assert report["parameters"] == {"symbols": ["SPY"], "fast": 4, "slow": 15, "qty": "50", "note": ""}
    assert report["notebook"] == str(recorded.notebook) and len(report["notebook_sha256"]) == 64
    assert report["data"]["source"] == market.name and report["data"]["rows"] == 390
    assert report["data"]["symbols"] == ["SPY"]
    assert report["data"]["start"].startswith("2023-08-03T13:30")
    assert report["data"]["end"].startswith("2023-08-03T20:00")
    assert report["bars"] == 390 and report["orders"] >= report["fills"] >= 2 * report["trades"] - 1 > 0
    assert all(isinstance(report[name], str) and Decimal(report[name]).is_finite() for name in MONEY)
    assert Decimal(report["cash"]) == Decimal("50000.50")
    assert Decimal(report["final_equity"]) - Decimal(report["cash"]) == Decimal(report["pnl"])
    assert all(isinstance(value, float | None) for value in report["metrics"].values())
    assert all(isinstance(value, float) and value >= 0 for value in report["timings"].values())


def test_the_run_leaves_an_executed_notebook_a_tear_sheet_and_the_report(recorded: Recorded) -> None:
    executed, html = (Path(recorded.report[name]) for name in ("executed_notebook", "report_html"))
    folder = recorded.notebook.parent / "out here" / recorded.run_id
    assert executed.parent == html.parent == folder
    facts = json.loads(executed.read_text())["metadata"]["northstar"]
    assert facts["outcome"] == "completed" and facts["parameters"] == {"fast": 4, "qty": "50"}
    assert html.read_text().lstrip().lower().startswith("<!doctype html")
    kept = json.loads((folder / "report.json").read_text())
    assert kept == recorded.report


def test_the_store_has_the_whole_journal(recorded: Recorded, registered: Callable[[str], RunRow]) -> None:
    run = registered(recorded.run_id)
    assert run.status == "completed" and not run.writing
    assert run.head_hash.hex() == recorded.report["journal_sha256"]
    folder = Path(recorded.report["executed_notebook"]).parent
    assert run.events == len((folder / "journal.log").read_bytes().splitlines())
    assert run.parameters == recorded.report["parameters"]


def test_the_same_run_elsewhere_gives_the_same_bytes_under_its_own_id(
    recorded: Recorded, start: Callable[..., subprocess.Popen[str]], market: Path, tmp_path: Path
) -> None:
    arguments = ["-p", "fast", "4", "-p", "qty", "50", "--cash", "50000.50", "--data", market, "--out"]
    both = [start("backtest", recorded.notebook, *arguments, tmp_path / name, "--json") for name in ("a", "b")]
    again = [finished(process) for process in both]  # at the same time
    assert [ran.code for ran in again] == [0, 0], [ran.err for ran in again]
    reports = [recorded.report, *(ran.json for ran in again)]
    assert len({report["run_id"] for report in reports}) == 3
    assert len({report["journal_sha256"] for report in reports}) == 1


def test_people_read_a_summary(
    northstar: Northstar, notebook: Callable[..., Path], market: Path, tmp_path: Path, home: Path
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text('name = "no collar"\n[strategy]\nmax_order_value = "50%"\n')
    ran = northstar("backtest", notebook(), "--data", market, "--limits", limits, "--out", tmp_path / "out")
    assert ran.code == 0 and ran.err == ""
    lines = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert lines["limits"] == "no collar"
    assert "LIMIT_MISSING" in lines["orders"] and " 0 fills" in lines["orders"]
    assert Path(lines["report"]).is_file() and Path(lines["notebook"]).is_file()


def test_dates_choose_a_part_of_the_demo_market(
    northstar: Northstar, notebook: Callable[..., Path], tmp_path: Path, home: Path
) -> None:
    arguments = ["-p", "symbols", '["ALFA"]', "--start", "2024-01-04", "--end", "2024-01-05", "--no-store", "--json"]
    report = northstar("backtest", notebook(), *arguments, "--out", tmp_path).json
    assert report["bars"] == 2 * 390
    assert report["data"]["start"].startswith("2024-01-04") and report["data"]["end"].startswith("2024-01-05")
    assert report["data"]["source"] == "generated"
