"""``northstar replay``: a recorded run decided again, decision by decision, and compared."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from northstar_core.cli import show
from northstar_core.cli.audit import recorded_run, started_of


@click.command()
@click.argument("run", required=False)
@click.option("--strategy", default="", help="Of a desk: only this strategy, by its name on the desk.")
@click.option(
    "--notebooks", type=click.Path(path_type=Path), default=None,
    help="Of a desk: folder with the strategies' notebooks; by default strategies/ of the project.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(run: str | None, strategy: str, notebooks: Path | None, as_json: bool) -> None:
    """Re-derive a recorded RUN, decision by decision, and compare. Exit status 0: identical; 1: not.

    Of a backtest, every line of its log. Of a desk (RUN: desk), what every session's strategy asked for, fed again what it was given.
    """
    told = asyncio.run(_replay(run, strategy, notebooks))
    if as_json:
        show.as_json(told["json"])
    else:
        for line in told["lines"]:
            click.echo(line)
    sys.exit(0 if told["identical"] else 1)


async def _replay(run_id: str | None, strategy: str, notebooks: Path | None) -> dict[str, Any]:
    import msgspec

    from northstar_core.research.replay import compare, replayed_lines
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async with open_database() as database, await Reader.open(database) as reader:
        run = await reader.run(run_id)
        if run.kind == "desk":
            async with await Reader.open(database) as second:
                return await _replay_desk(reader, second, run, strategy, notebooks)
        started = await started_of(reader, run)
        recorded = [row.line async for row in reader.events(run.stream)]
    found = compare(recorded, replayed_lines(recorded_run(run, started).again()))
    if found.identical:
        lines = [f"{found.decisions} of {found.decisions} decisions identical, {found.lines} lines byte for byte"]
    else:
        assert found.difference is not None
        lines = [
            f"after {found.lines} identical lines ({found.decisions} decisions), at seq {found.difference.seq}:",
            f"  recorded {found.difference.recorded or 'nothing'}",
            f"  replayed {found.difference.replayed or 'nothing'}",
        ]
    return {"json": msgspec.to_builtins(found), "lines": lines, "identical": found.identical}


async def _replay_desk(reader: Any, second: Any, run: Any, strategy: str, notebooks: Path | None) -> dict[str, Any]:
    import msgspec

    from northstar_core.cli.demo import strategies_folder
    from northstar_core.jobs.rerun import DeskCode
    from northstar_core.model.journal import decode
    from northstar_core.research.desk_replay import DeskReplay, skipped_in

    skips = [(row.seq, decode(row.payload)) async for row in reader.events(run.stream, kinds=["TicksSkipped"])]
    code = DeskCode(notebooks or strategies_folder())
    again = DeskReplay(code.make, strategy=strategy, skipped=skipped_in(skips))
    ticks = second.ticks(run.stream)
    tick = await anext(ticks, None)
    async for row in reader.events(run.stream):
        while tick is not None and tick[0] < row.seq:
            again.feed(*tick)
            tick = await anext(ticks, None)
        again.feed(row.seq, decode(row.payload))
    while tick is not None:
        again.feed(*tick)
        tick = await anext(ticks, None)
    sessions = again.results()
    identical = all(session.identical for session in sessions)
    lines = []
    for session in sessions:
        where = f"{session.strategy} in {session.account}, session {session.session}"
        equal = f"{session.intents} intents and {session.signals} signals identical"
        lines.append(f"{where}: {equal}" + ("" if session.identical else f", {len(session.differences)} different:"))
        for difference in session.differences[:3]:
            lines.append(f"  seq {difference.seq}")
            lines.append(f"    recorded {difference.recorded or 'nothing'}")
            lines.append(f"    replayed {difference.replayed or 'nothing'}")
    for author, (then, now) in sorted(code.changed.items()):
        lines.append(f"the strategy cell of {author} has changed since: {then[:16]} ran, {now[:16]} was replayed")
    if not sessions:
        lines.append(f"run {run.run_id} has no session{f' of {strategy}' if strategy else ''}")
    lines.append(
        f"{sum(s.intents for s in sessions)} intents and {sum(s.signals for s in sessions)} signals over {len(sessions)} sessions, "
        + ("all identical" if identical else f"{sum(len(s.differences) for s in sessions)} different")
    )
    json = {"identical": identical, "sessions": msgspec.to_builtins(sessions), "changed": sorted(code.changed)}
    return {"json": json, "lines": lines, "identical": identical}
