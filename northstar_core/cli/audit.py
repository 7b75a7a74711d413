"""``northstar audit``: believe the log because it adds up, and ask it why."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from northstar_core.cli import show
from northstar_core.model.errors import NorthstarError, SettingsError


@click.group()
def audit() -> None:
    """Verify stored logs, and explain orders and their absence."""


def recorded_run(run: Any, started: Any) -> Any:
    """Return a backtest's run as its folder keeps it."""
    from northstar_core.jobs.rerun import Recorded

    return Recorded(Path(run.provenance.get("folder", "")), started)


async def started_of(reader: Any, run: Any) -> Any:
    """The run's first event."""
    from northstar_core.model.events import RunStarted
    from northstar_core.model.journal import decode

    row = await reader.event(run.stream, 1)
    event = decode(row.payload) if row is not None else None
    if isinstance(event, RunStarted):
        return event
    raise SettingsError(
        f"run {run.run_id}: its log does not begin with RunStarted; northstar audit verify {run.run_id} says more"
    )


@audit.command()
@click.argument("run", required=False)
@click.option(
    "--data/--no-data",
    "with_data",
    default=True,
    show_default=True,
    help="Also compare with the market data, where they are at hand.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(run: str | None, with_data: bool, as_json: bool) -> None:
    """Check the invariants of a stored log with the auditor's own fold.

    RUN: its id or the beginning of it; the newest by default. A desk's stored ticks are read back with its events.

    Exit status: 0 clean, 1 violated, 2 could not run.
    """
    report = asyncio.run(_verify(run, with_data))
    if as_json:
        show.as_json(report.as_dict())
    else:
        for line in report.lines():
            click.echo(line)
    sys.exit(report.exit_code)


async def _verify(run_id: str | None, with_data: bool) -> Any:
    import msgspec

    from northstar_core.audit.desk import verify_desk
    from northstar_core.audit.verify import verify_batches
    from northstar_core.research.feed import Feed
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async with open_database() as database, await Reader.open(database) as reader:
        run = await reader.run(run_id)
        if run.kind == "desk" and with_data:
            return await verify_desk(database, run.run_id)
        tape, missing = None, "not asked for"
        if with_data and run.events:
            tape, missing = _tape(run, await started_of(reader, run))
        digest = None
        if tape is not None:
            feed = Feed(tape)
            digest = lambda first, rows: feed.digest(first, first + rows)  # noqa: E731
        head = (run.head_seq, run.head_hash)
        report = await verify_batches(reader.batches(run.stream), head=head, tape_digest=digest)
    if tape is None and not report.error:
        note = f"the rows were not compared with the market data: {missing}"
        report = msgspec.structs.replace(report, notes=(*report.notes, note))
    return report


@audit.command()
@click.argument("order_id")
@click.option("--run", help="Run id or its beginning; the strategy's newest by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why(order_id: str, run: str | None, as_json: bool) -> None:
    """Explain an order: tick, signal, intent, every check with its numbers and head-room, broker, fills."""
    chain = asyncio.run(_why(order_id, run))
    if as_json:
        show.as_json(chain.as_dict())
    else:
        for line in chain.lines():
            click.echo(line)


async def _run_of(reader: Any, run_id: str | None, strategy: str, order_id: str | None = None) -> Any:
    """The run asked for; without one the desk that has the order, then the newest run of the strategy, then a desk of it.

    Where none is known to be its, the newest of all.
    """
    if run_id is None:
        desks = await reader.runs("desk")
        for desk in desks if order_id is not None else ():
            if await reader.mentions(desk.stream, order_id=order_id):
                return desk
        for run in await reader.runs(limit=1000):
            if strategy in run.summary.get("strategies", ()):
                return run
        for desk in desks:
            if await reader.mentions(desk.stream, strategy=strategy):
                return desk
    return await reader.run(run_id)


async def _why(order_id: str, run_id: str | None) -> Any:
    from northstar_core.audit.desk import why_order
    from northstar_core.audit.why import WhyOrder
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async with open_database() as database, await Reader.open(database) as reader:
        run = await _run_of(reader, run_id, order_id.rsplit("-", 2)[0], order_id)
        if run.kind == "desk":
            chain = await why_order(reader, run.stream, order_id)
        else:
            with WhyOrder(order_id, _tape(run, await started_of(reader, run))[0]) as asked:
                async for row in reader.events(run.stream):
                    asked.feed(row.line)
                chain = asked.chain()
        if chain.outcome == "unknown":
            orders = await reader.orders(run.stream)
            such = f", such as {orders[0]['order_id']}" if orders else ""
            raise SettingsError(f"run {run.run_id} has no order {order_id}; ids are strategy-session-number{such}")
        return chain


def _tape(run: Any, started: Any) -> tuple[Any, str]:
    """The market data the run consumed; where they are not at hand, None and why."""
    try:
        return recorded_run(run, started).again().tape, ""
    except NorthstarError as error:
        return None, str(error)


@audit.command("why-not")
@click.argument("strategy")
@click.argument("symbol")
@click.argument("time")
@click.option("--run", help="Run id or its beginning; the strategy's newest by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def why_not(strategy: str, symbol: str, time: str, run: str | None, as_json: bool) -> None:
    """Explain why STRATEGY placed no order in SYMBOL at TIME (2024-01-05T10:31, New York unless it has a zone)."""
    answer = asyncio.run(_why_not(strategy, symbol, time_ns(time), run))
    if as_json:
        show.as_json(answer.as_dict())
    else:
        for line in answer.lines():
            click.echo(line)


async def _why_not(strategy: str, symbol: str, ts: int, run_id: str | None) -> Any:
    from northstar_core.audit.desk import why_not_at
    from northstar_core.audit.why_not import WhyNot
    from northstar_core.research.replay import reason_at
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async with open_database() as database, await Reader.open(database) as reader:
        run = await _run_of(reader, run_id, strategy)
        if run.kind == "desk":
            return await why_not_at(reader, run.stream, strategy, symbol, ts)
        started = await started_of(reader, run)
        if strategy not in started.strategies:
            raise SettingsError(
                f"run {run.run_id} has no strategy {strategy!r}; it has {', '.join(started.strategies)}"
            )
        if symbol not in started.symbols:
            raise SettingsError(f"run {run.run_id} has no data of {symbol!r}; it has {', '.join(started.symbols[:12])}")
        tape, _ = _tape(run, started)

        def replay(at: int) -> Any:
            return reason_at(recorded_run(run, started).again(), strategy, symbol, at)

        with WhyNot(strategy, symbol, ts, tape=tape, replay=replay if tape is not None else None) as asked:
            async for row in reader.events(run.stream):
                asked.feed(row.line)
            return asked.answer()


def time_ns(text: str) -> int:
    """Return a time as ns UTC; without a zone it is New York's.

    Raises
    ------
    SettingsError
        If it is no time.
    """
    if text.isdigit() and len(text) >= 18:
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"time {text!r}: give ISO 8601 such as 2024-01-05T10:31, or ns") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo("America/New_York"))
    return round(found.timestamp() * 1000) * 10**6
