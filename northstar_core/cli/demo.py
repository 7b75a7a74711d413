"""``northstar demo``: the shipped strategies over a generated market, end to end, with everything they leave behind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.model.errors import NorthstarError, SettingsError

SEED = 7
DAYS = 20


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Where executed notebooks and tear sheets go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(out: Path, as_json: bool) -> None:
    """Backtest every shipped strategy on a generated market, store and verify the timelines, show a summary."""
    from northstar_core.data import synthetic
    from northstar_core.jobs.backtest import run_backtest
    from northstar_core.research.spec import RunSpec

    notebooks = sorted(strategies_folder().glob("*.ipynb"))
    market = out / "market"
    say(
        f"Market: synthetic, generated from seed {SEED}, {DAYS} sessions. No real prices, no broker, no account.",
        as_json,
    )
    if not (market / "SYNTHETIC.md").exists():
        synthetic.synth(market, days=DAYS, seed=SEED)
    reports, failed = [], 0
    for notebook in notebooks:
        with show.progress_bar(notebook.stem, shown=sys.stderr.isatty() and not as_json) as on_progress:
            say(f"Running {notebook.name} …", as_json)
            report = run_backtest(notebook, {}, RunSpec(data=(str(market),)), out=out, on_progress=on_progress)
        reports.append(report)
    verdicts = asyncio.run(_verify([report["run_id"] for report in reports]))
    failed = sum(1 for verdict in verdicts if verdict.exit_code)
    if as_json:
        show.as_json(
            {
                "synthetic": True,
                "seed": SEED,
                "runs": reports,
                "verified": {r["run_id"]: v.exit_code for r, v in zip(reports, verdicts, strict=True)},
            }
        )
    else:
        show_runs(reports, verdicts)
        click.echo(
            "All data synthetic. Ask the log: northstar audit why ORDER_ID · northstar audit verify · northstar runs"
        )
    if failed:
        raise NorthstarError(f"{failed} of {len(reports)} logs do not verify; northstar audit verify RUN says where")


def say(text: str, quiet: bool) -> None:
    """Print a line on stderr, unless a program listens."""
    if not quiet:
        click.echo(text, err=True)


def strategies_folder() -> Path:
    """Return the folder of the shipped strategy notebooks.

    Raises
    ------
    SettingsError
        Outside of a checkout.
    """
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if list((folder / "strategies").glob("*.ipynb")) and (folder / "pyproject.toml").exists():
            return folder / "strategies"
    raise SettingsError("the shipped strategies are in the project's folder strategies/; run the demo from there")


def show_runs(reports: list[dict[str, Any]], verdicts: list[Any]) -> None:
    """Print the summary table."""
    columns = ["strategy", "bars", "orders", "fills", "P&L", "Sharpe", "max DD", "bars/s", "log", "report"]
    rows = [
        [
            ", ".join(r["strategies"]), _bars(r), f"{r['orders']:,}", f"{r['fills']:,}", show.money(r["pnl"]),
            show.ratio(r["metrics"].get("sharpe")), show.percent(r["metrics"].get("max_drawdown")),
            f"{r['rows'] / max(r['timings']['run'], 1e-9):,.0f}", "verified" if not v.exit_code else "VIOLATED",
            os.path.relpath(r["report_html"]),
        ]
        for r, v in zip(reports, verdicts, strict=True)
    ]  # fmt: skip
    show.table("Backtests on synthetic data", columns, rows, right=set(columns[1:8]))


def _bars(report: dict[str, Any]) -> str:
    """How many bars were consumed, and how many quotes and prints beside them."""
    ticks = report["rows"] - report["bars"]
    return f"{report['bars']:,}" + (f" + {ticks:,} ticks" if ticks else "")


async def _verify(run_ids: list[str]) -> list[Any]:
    from northstar_core.audit.verify import verify_batches
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async with open_database() as database, await Reader.open(database) as reader:
        out = []
        for run_id in run_ids:
            run = await reader.run(run_id)
            out.append(await verify_batches(reader.batches(run.stream), head=(run.head_seq, run.head_hash)))
        return out
