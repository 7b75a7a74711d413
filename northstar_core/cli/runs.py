"""``northstar runs``: what the event store holds."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from northstar_core.cli import show


def _status(run: Any) -> str:
    """How a run stands; one that says it runs but that nobody writes was killed."""
    return "killed" if run.status == "running" and not run.writing else str(run.status)


@click.command()
@click.option("-n", "limit", default=20, show_default=True, help="How many, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def runs(limit: int, as_json: bool) -> None:
    """List stored runs."""
    from northstar_core.store.postgres import open_database
    from northstar_core.store.reader import Reader

    async def read() -> list[Any]:
        async with open_database() as database, await Reader.open(database) as reader:
            return list(await reader.runs(limit=limit))

    found = asyncio.run(read())
    if as_json:
        import msgspec

        show.as_json(
            [
                {**msgspec.to_builtins(run, builtin_types=(bytes,), enc_hook=str), "head_hash": run.head_hash.hex()}
                for run in found
            ]
        )
        return
    show.table(
        "stored runs", ["run", "kind", "status", "started", "events", "P&L", "head"],
        [
            [
                r.run_id, r.kind, _status(r), f"{r.started:%Y-%m-%d %H:%M}", f"{r.events:,}",
                show.money(r.summary.get("pnl")), r.head_hash.hex()[:12],
            ]
            for r in found
        ],
        right={"events", "P&L"},
    )  # fmt: skip
