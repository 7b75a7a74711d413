"""Reading the store: the registry of runs, events in order, projections, ticks; as a role that can only read views."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import asyncpg
import msgspec

from northstar_core.model.errors import StoreError
from northstar_core.model.market import MarketEvent
from northstar_core.store.postgres import Database, Role
from northstar_core.store.queries import SQL
from northstar_core.store.ticks import BLOCK, SLOTS, ticks_of, ticks_of_slot, ticks_of_symbol

LAST_SEQ = 2**63 - 1
FETCH = 5_000  #: rows a round trip


#: what moves books, orders and permissions: an engine that has folded these stands where the desk stood
FACTS = (
    "RunStarted", "AccountOpened", "GrantChanged", "LimitsChanged", "TradingStateChanged", "OrderDenied", "OrderSubmitted",
    "OrderAccepted", "OrderRejected", "OrderFilled", "CancelSubmitted", "ReplaceSubmitted", "OrderCanceled", "OrderReplaced",
    "OrderExpired", "RequestRejected", "OrderUnknown", "OrderResent", "PositionAdjusted", "AccountActivity", "SessionOpened",
    "SessionClosed", "SetTimer", "TimerFired", "StrategyStarted", "StrategyStopped", "SessionBegan", "SessionLost",
    "StateKept", "Halt",
)  # fmt: skip
#: what counts only within a session
OF_SESSION = ("PlaceOrder", "Signal", "NoSignal", "ExecutionReport")


class _Declared(msgspec.Struct):
    first_row: int
    rows: int


_declared = msgspec.json.Decoder(_Declared).decode


class EventRow(NamedTuple):
    """One stored event; ``payload`` is its JSON (``model.journal.decode``), the key columns are derived from it."""

    seq: int
    epoch: int
    ts: int
    cause: int
    kind: str
    strategy: str | None
    account: str | None
    order_id: str | None
    payload: bytes
    hash: bytes

    @property
    def line(self) -> bytes:
        """The journal line the row was made from, as the hash chain has it."""
        return b"%d %d %d %d %b" % (self.seq, self.epoch, self.ts, self.cause, self.payload)


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the registry."""

    stream: int
    run_id: str
    kind: str
    status: str  #: running, completed, stopped, failed
    started: Any  #: datetime, UTC
    finished: Any  #: datetime or None
    notebook: str
    notebook_sha256: str
    parameters: dict[str, Any]
    provenance: dict[str, Any]
    summary: dict[str, Any]
    epoch: int
    head_seq: int
    events: int  #: how many there are; ``head_seq`` also counts the market rows consumed
    head_hash: bytes
    writing: bool  #: a writer is connected; a run that is ``running`` without one was killed


class Reader:
    """A read-only session. Made by ``open``."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, database: Database) -> Reader:
        """Connect to a database as the reader.

        Raises
        ------
        StoreError
            If it cannot be reached.
        """
        connection = await database.connect(Role.READER)
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(
                kind, schema="pg_catalog", encoder=lambda value: msgspec.json.encode(value).decode(),
                decoder=msgspec.json.decode,
            )
        return cls(connection)

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session."""
        await self._connection.close()

    async def runs(self, kind: str | None = None, limit: int = 100) -> list[RunRow]:
        """Return runs, the newest first."""
        return [RunRow(**row) for row in await self._connection.fetch(SQL["runs"], kind, limit)]

    async def run(self, run_id: str | None = None) -> RunRow:
        """Return a run by its id or the beginning of it; without one, the newest.

        Raises
        ------
        StoreError
            If there is none, or several begin so.
        """
        if run_id is None:
            found = await self.runs(limit=1)
            if not found:
                raise StoreError("there is no run in the store yet; northstar backtest makes one")
            return found[0]
        found = [RunRow(**row) for row in await self._connection.fetch(SQL["run"], run_id)]
        if not found:
            raise StoreError(f"no run {run_id} in the store")
        if len(found) > 1 and found[0].run_id != run_id:
            names = ", ".join(run.run_id for run in found)
            raise StoreError(f"several runs begin with {run_id}: {names}; give more of it")
        return found[0]

    async def batches(
        self, stream: int, first: int = 1, last: int = LAST_SEQ, kinds: Sequence[str] | None = None, size: int = FETCH
    ) -> AsyncGenerator[list[EventRow]]:
        """Yield a stream's events in order, in lists; one consistent view of the log, and memory for one list."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            wanted = None if kinds is None else list(kinds)
            cursor = await self._connection.cursor(SQL["events"], stream, first, last, wanted)
            while rows := await cursor.fetch(size):
                yield [EventRow(*row.values()) for row in rows]

    async def events(
        self, stream: int, first: int = 1, last: int = LAST_SEQ, kinds: Sequence[str] | None = None
    ) -> AsyncGenerator[EventRow]:
        """Yield a stream's events in order."""
        async with contextlib.aclosing(self.batches(stream, first, last, kinds)) as batches:
            async for batch in batches:
                for row in batch:
                    yield row

    async def restorable(self, stream: int, last: int = LAST_SEQ) -> AsyncGenerator[list[tuple[int, bytes]]]:
        """Yield what an engine is restored from, in order, in lists of (number, payload).

        Every fact; of what strategies said and asked for only the newest session, whose ids are still counted; nothing of
        feeds, links, snapshots and declarations. The next list is read while the caller folds one.
        """
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            since = await self._connection.fetchval(SQL["session_since"], stream)
            cursor = await self._connection.cursor(SQL["restorable"], stream, list(FACTS), list(OF_SESSION), since, last)
            coming = asyncio.ensure_future(cursor.fetch(FETCH))
            try:
                while rows := await coming:
                    coming = asyncio.ensure_future(cursor.fetch(FETCH))
                    await asyncio.sleep(0)  # the request goes out before the caller begins
                    yield [(row[0], row[1]) for row in rows]
            finally:
                if not coming.done():
                    await asyncio.wait([coming])

    async def undeclared(self, stream: int) -> tuple[int, list[tuple[int, MarketEvent]]]:
        """Return how many ticks a desk has declared (``TapeRead``), and those stored after the last declaration."""
        row = await self._connection.fetchrow(SQL["last_declared"], stream)
        rows, seq = 0, 0
        if row is not None:
            seq, read = row["seq"], _declared(row["payload"])
            rows = read.first_row + read.rows
        return rows, [item async for item in self.ticks(stream, seq + 1)]

    async def event(self, stream: int, seq: int) -> EventRow | None:
        """Return one event; None if the number is a market row's or not there."""
        row = await self._connection.fetchrow(SQL["events"], stream, seq, seq, None)
        return None if row is None else EventRow(*row.values())

    async def order_events(self, stream: int, order_id: str) -> list[EventRow]:
        """Return the events of one order from its submission on, in order; empty where it was never submitted."""
        span = await self._connection.fetchrow(SQL["order_span"], stream, order_id)
        if span is None:
            return []
        rows = await self._connection.fetch(SQL["events"], stream, span["submitted_seq"], span["last_seq"], None)
        return [EventRow(*row.values()) for row in rows if row["order_id"] == order_id]

    async def orders(self, stream: int) -> list[dict[str, Any]]:
        """Return a stream's orders as they stand; one dictionary a row of the view ``orders``."""
        return [dict(row) for row in await self._connection.fetch(SQL["orders"], stream)]

    async def fills(self, stream: int) -> list[dict[str, Any]]:
        """Return a stream's fills, oldest first."""
        return [dict(row) for row in await self._connection.fetch(SQL["fills"], stream)]

    async def positions(self, stream: int) -> list[dict[str, Any]]:
        """Return a stream's positions, flat ones too."""
        return [dict(row) for row in await self._connection.fetch(SQL["positions"], stream)]

    async def denials(self, stream: int) -> list[dict[str, Any]]:
        """Return what was refused in a stream."""
        return [dict(row) for row in await self._connection.fetch(SQL["denials"], stream)]

    async def ticks(self, stream: int, first: int = 1, last: int = LAST_SEQ) -> AsyncGenerator[tuple[int, MarketEvent]]:
        """Yield stored market events with their numbers, in order."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._connection.cursor(SQL["ticks_between"], stream, first, last, BLOCK, prefetch=200):
                for seq, tick in enumerate(ticks_of(row["payload"]), row["first_seq"]):
                    if first <= seq <= last:
                        yield seq, tick

    async def tick_blocks(
        self, stream: int, first: int = 1, last: int = LAST_SEQ
    ) -> AsyncGenerator[tuple[int, list[MarketEvent]]]:
        """Yield stored market events in order, some at a time: consecutive ones, with the number of the first.

        Whole blocks: the first and the last may reach beyond the range.
        """
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._connection.cursor(SQL["ticks_between"], stream, first, last, BLOCK, prefetch=500):
                yield row["first_seq"], ticks_of(row["payload"])

    async def last_ticks(self, stream: int, symbol: str, n: int = 1) -> list[tuple[int, MarketEvent]]:
        """Return the newest stored market events of a symbol with their numbers, oldest first.

        Up to about a thousand are found at once where a desk wrote them; for more, blocks of all symbols are searched.
        """
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            since = until = 0  # where no ring is kept, everything is newer than it
            ring: list[tuple[int, MarketEvent]] = []
            slots = 0
            for row in await self._connection.fetch(SQL["recent"], stream, symbol):
                if row["symbol"]:
                    ring += ticks_of_slot(symbol, row["payload"])
                    slots += 1
                else:
                    since, until = row["first_seq"], row["last_seq"]
            found = await self._newest(stream, symbol, n, until + 1, LAST_SEQ)
            found = [*ring, *found]
            # a ring that has not gone round holds all there is since it was begun
            before = ring[0][0] if slots == SLOTS else since + 1
            if len(found) < n and before > 1:
                found = [*await self._newest(stream, symbol, n - len(found), 1, before - 1), *found]
        return found[-n:]

    async def _newest(self, stream: int, symbol: str, n: int, first: int, last: int) -> list[tuple[int, MarketEvent]]:
        """Return a symbol's newest events between two numbers, from the blocks."""
        found: list[list[tuple[int, MarketEvent]]] = []
        missing = n
        async for row in self._connection.cursor(SQL["blocks_with"], stream, symbol, first, last, BLOCK, prefetch=100):
            block = ticks_of_symbol(row["first_seq"], row["payload"], symbol)
            found.append([(seq, tick) for seq, tick in block if first <= seq <= last])
            missing -= len(found[-1])
            if missing <= 0:
                break
        return [item for part in reversed(found) for item in part]

    async def ticks_until(self, stream: int, symbol: str, ts: int, n: int) -> list[tuple[int, MarketEvent]]:
        """Return a symbol's last ``n`` stored market events known by a time, oldest first, with their numbers.

        The time is searched for by halves: ticks are numbered as they come, so their times grow but for late ones.
        """
        span = await self._connection.fetchrow(SQL["tick_span"], stream)
        if span["low"] is None:
            return []
        low, high = span["low"], span["high"] + 1
        while low < high:  # the first block that ends after the time
            middle = (low + high) // 2
            row = await self._connection.fetchrow(SQL["block_at"], stream, middle)
            if row is None or row["last_ts"] > ts:
                high = middle
            else:
                low = row["first_seq"] + 1
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            found = await self._newest(stream, symbol, n + BLOCK, 1, low + BLOCK)
        return [item for item in found if item[1].ts <= ts][-n:]

    async def mentions(self, stream: int, *, strategy: str | None = None, order_id: str | None = None) -> bool:
        """Whether a stream has an event of a strategy, or of an order."""
        found: bool = await self._connection.fetchval(SQL["mentions"], stream, strategy, order_id)
        return found

    async def kept_ticks(self) -> list[tuple[int, int]]:
        """Return the ranges of numbers, in order, whose ticks retention has not dropped or that were never written."""
        return [tuple(row) for row in await self._connection.fetch(SQL["tick_partitions"])]
