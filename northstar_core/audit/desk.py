"""A desk's stream verified: its events, and in step with them the ticks it stored."""

from __future__ import annotations

import contextlib

from northstar_core.audit.report import Report
from northstar_core.audit.verify import verify_batches
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader


async def verify_desk(database: Database, run_id: str = "desk") -> Report:
    """Verify a desk up to the event that is its last now; the desk may go on meanwhile.

    Events and ticks are read side by side, each once, in order: memory does not grow with the log.

    Raises
    ------
    StoreError
        If there is no such run, or the database cannot be reached.
    """
    async with await Reader.open(database) as reader, await Reader.open(database) as beside:
        run = await reader.run(run_id)
        kept = await reader.kept_ticks()
        async with (
            contextlib.aclosing(reader.batches(run.stream, last=run.head_seq)) as batches,
            contextlib.aclosing(beside.tick_blocks(run.stream, last=run.head_seq)) as ticks,
        ):
            return await verify_batches(batches, head=(run.head_seq, run.head_hash), ticks=ticks, kept=kept)
