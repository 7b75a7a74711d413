"""A desk's stream asked: verified in step with the ticks it stored, and why an order happened or none did."""

from __future__ import annotations

import contextlib

from northstar_core.audit.report import Report
from northstar_core.audit.verify import verify_batches
from northstar_core.audit.why import Chain, WhyOrder
from northstar_core.audit.why_not import Answer, WhyNot
from northstar_core.model.market import Bar, MarketEvent
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader

LOOK_BACK = 5_000  #: ticks of a symbol among which its last bar is looked for


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


async def why_order(reader: Reader, stream: int, order_id: str) -> Chain:
    """Return why an order of a desk happened or was refused, with the tick that led to it as it was stored."""
    with WhyOrder(order_id) as asked:
        async for row in reader.events(stream):
            asked.feed(row.line)
        seq = asked.origin()
        asked.stored = {number: tick async for number, tick in reader.ticks(stream, seq, seq)} if seq else {}
        return asked.chain()


class DeskRows:
    """What a desk had seen of one symbol by a time: its last bar, or its last tick where it saw no bars."""

    def __init__(self, ticks: list[tuple[int, MarketEvent]]) -> None:
        bars = [tick for _, tick in ticks if isinstance(tick, Bar)]
        self.last: MarketEvent | None = bars[-1] if bars else ticks[-1][1] if ticks else None
        self.bar_ns = bars[-1].ts - bars[-1].start if bars else 0

    def latest(self, symbol: str, ts: int) -> MarketEvent | None:
        """Return the last one; there is only this symbol."""
        return self.last

    def bars(self, symbol: str, after: int, until: int) -> int:
        """Return more than any warm-up: a desk's strategies get their history before they start."""
        return 2**31


async def why_not_at(reader: Reader, stream: int, strategy: str, symbol: str, ts: int) -> Answer:
    """Return why a strategy on a desk placed no order in a symbol at a time.

    The bar that was known then is the one that is asked about, and what was decided on it until the next one: on a desk
    a decision comes a moment after its bar.
    """
    rows = DeskRows(await reader.ticks_until(stream, symbol, ts, LOOK_BACK))
    if rows.last is not None and rows.bar_ns and ts < rows.last.ts + rows.bar_ns:
        ts = rows.last.ts + rows.bar_ns - 1
    with WhyNot(strategy, symbol, ts, rows=rows) as asked:
        async for row in reader.events(stream):
            asked.feed(row.line)
        return asked.answer()
