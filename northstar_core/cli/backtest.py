"""``northstar backtest``: any strategy notebook over any supported data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.model.errors import SettingsError


def broker_options(command: Any) -> Any:
    """Options of how the broker is simulated, shared by the commands that simulate one."""
    fills = click.Choice(["next_open", "close", "quote"])
    touch = "Limit orders fill when the price touches them, not only when it trades through."
    share = "Largest part of a bar's volume orders may take; 'none' for no limit."
    costs = "none, us, regulatory, share:0.005, contract:0.65, percent:0.001, fixed:1; join with +."
    slips = "none, bps:2, ticks:1 or impact:0.1."
    options: dict[str, dict[str, Any]] = {
        "--fill-at": {"type": fills, "default": "next_open", "help": "Where market orders fill."},
        "--touch": {"is_flag": True, "show_default": False, "help": touch},
        "--volume-share": {"default": "0.1", "help": share},
        "--commission": {"default": "us", "help": costs},
        "--slippage": {"default": "none", "help": slips},
        "--latency-ms": {"type": float, "default": 0.0, "help": "From us to the broker, and back."},
    }
    for name, settings in reversed(options.items()):
        command = click.option(name, **{"show_default": True, **settings})(command)
    return command


def broker_of(fill_at: str, touch: bool, volume_share: str, commission: str, slippage: str, latency_ms: float) -> Any:
    """Return the simulated broker these options describe."""
    from northstar_core.research.spec import Broker

    share = (
        None if volume_share == "none" else show.number("--volume-share", volume_share, "a part such as 0.1, or none")
    )
    return Broker(
        fill_at=fill_at, touch=touch, volume_share=share, commission=commission, slippage=slippage,
        entry_latency_ms=latency_ms, response_latency_ms=latency_ms,
    )  # fmt: skip


@click.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--param",
    "params",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="A parameter of the notebook; JSON or plain text.",
)
@click.option(
    "--data",
    "data",
    multiple=True,
    metavar="PATH",
    help="File, folder or glob; may be given again. Default: the generated demo market.",
)
@click.option("--start", help="First day (YYYY-MM-DD).")
@click.option("--end", help="Last day, included.")
@click.option(
    "--hours",
    type=click.Choice(["regular", "extended", "all"]),
    default="regular",
    show_default=True,
    help="Which part of the day.",
)
@click.option("--calendar", default="XNYS", show_default=True, help="Exchange calendar.")
@click.option("--cash", default="100000", show_default=True, help="Opening cash, dollars.")
@click.option(
    "--limits",
    type=click.Path(path_type=Path),
    help="Limit set (TOML); default: research-default, see northstar limits.",
)
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="A plugged-in risk rule.")
@click.option("--simulator", metavar="NAME", help="A plugged-in simulated broker instead of ours.")
@click.option("--actions", metavar="FILE", help="Splits and dividends (CSV: symbol,ex_date,ratio,dividend).")
@broker_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder for this run's folder; default .northstar/runs.")
@click.option(
    "--no-store", is_flag=True, help="Do not write the timeline to the event store; it stays in the run's journal.log."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def backtest(
    notebook: Path, params: tuple[tuple[str, str], ...], data: tuple[str, ...], start: str | None, end: str | None,
    hours: str, calendar: str, cash: str, limits: Path | None, rules: tuple[str, ...], simulator: str | None,
    actions: str | None, out: Path | None, no_store: bool, as_json: bool, **broker: Any,
) -> None:  # fmt: skip
    """Run a strategy NOTEBOOK over historical data, through the whole order path."""
    from northstar_core.jobs.backtest import RunFailed, run_backtest
    from northstar_core.model.limit_sets import parse_limits
    from northstar_core.research.plugins import load_rules, plugin
    from northstar_core.research.spec import RunSpec

    money = show.number("--cash", cash, "an amount of dollars above zero")
    text = None
    if limits is not None:
        text = show.text_of("--limits", limits)
        parse_limits(text, money, where=str(limits))
    load_rules(rules)
    if simulator is not None:
        plugin("broker", simulator)
    twice = sorted({name for name, _ in params if [n for n, _ in params].count(name) > 1})
    if twice:
        raise SettingsError(f"-p {twice[0]}: given twice")
    spec = RunSpec(
        data=data, start=start, end=end, hours=hours, calendar=calendar, cash=money, limits=text,
        limits_name=str(limits) if limits else "research-default", broker=broker_of(**broker), rules=rules,
        simulator=simulator, actions=actions,
    )  # fmt: skip
    spec.check()
    try:
        with show.progress_bar(notebook.stem, shown=sys.stderr.isatty()) as on_progress:
            report = run_backtest(notebook, dict(params), spec, out=out, store=not no_store, on_progress=on_progress)
    except RunFailed as failed:
        if as_json:
            show.as_json(failed.report)
        raise
    if as_json:
        show.as_json(report)
    else:
        show_report(report)


def denied(report: dict[str, Any]) -> str:
    """Say how many orders were refused, and why."""
    reasons = report.get("denied") or {}
    if not reasons:
        return ""
    return f" · {sum(reasons.values()):,} denied ({', '.join(f'{reason} {n:,}' for reason, n in reasons.items())})"


def show_report(report: dict[str, Any]) -> None:
    """Print a run's report for people."""
    metrics, timings, data = report["metrics"], report["timings"], report["data"]
    cash, equity, pnl, fees = (show.money(report[name]) for name in ("cash", "final_equity", "pnl", "fees"))
    sharpe = show.ratio(metrics.get("sharpe"))
    drawdown, wins = (show.percent(metrics.get(name)) for name in ("max_drawdown", "win_rate"))
    speed = report["rows"] / max(timings["run"], 1e-9)
    done = f"{report['orders']:,} · {report['fills']:,} fills · {report['trades']:,} round trips"
    rows = [
        ("run", report["run_id"]),
        ("data", f"{data['source']} · {report['rows']:,} rows · {data['start']} to {data['end']}"),
        ("limits", report["limits"]),
        ("orders", f"{done}{denied(report)}"),
        ("equity", f"{cash} → {equity} (P&L {pnl}, fees {fees})"),
        ("Sharpe", f"{sharpe} · max drawdown {drawdown} · win rate {wins}"),
        ("speed", f"{speed:,.0f} rows/s ({timings['run']:.2f} s of {timings['total']:.2f} s)"),
        ("notebook", report["executed_notebook"]),
        ("report", report["report_html"]),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
