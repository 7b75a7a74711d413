"""The writer of one stream: journal lines in, durable and chained rows out.

Lines are turned into rows when they are handed over; a task of its own writes whatever has accumulated in one
transaction: one COPY of events, then intent keys (by the database's trigger) and the projections. So a batch is as
large as the database is slow, nothing waits for a timer, and rows are built while the database works on those before.

A commit whose answer was lost is not guessed at: the writer connects again, becomes the stream's one writer again
(which it can only when the lost session is gone) and reads the head. The head says whether the batch is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import asyncpg
import msgspec

from northstar_core.model.errors import JournalError, StoreError
from northstar_core.model.market import MarketEvent
from northstar_core.store.postgres import Database, Role
from northstar_core.store.projection import FILL_COLUMNS, ORDER_COLUMNS, POSITION_COLUMNS, Changes, Projection
from northstar_core.store.queries import SQL
from northstar_core.store.rows import COPY_HEADER, COPY_TRAILER, EVENT_COLUMNS, PROJECTED, Batch, Fact, RowBuilder, read
from northstar_core.store.ticks import COLUMNS as TICK_COLUMNS
from northstar_core.store.ticks import Block, blocks

if TYPE_CHECKING:
    pass

BACKLOG_MAX = 8_000_000  #: bytes of rows not yet written at which ``append`` waits
SLICE = 250  #: lines turned into rows in one go: under a millisecond
PATIENCE_S = 15.0  #: how long a database may be away: a crash of one session makes Postgres recover for a moment
LOST = (
    OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError, asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # what a COPY whose connection breaks under it may end in
)  # fmt: skip

_json = msgspec.json.Encoder(enc_hook=str).encode


class Head(NamedTuple):
    """The last event of a stream."""

    seq: int
    hash: bytes


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry says of a run. Wall-clock and paths belong here, never into events."""

    run_id: str
    kind: str = "backtest"  #: backtest, paper, shadow, live, desk, replay
    notebook: str = ""
    notebook_sha256: str = ""
    parameters: Mapping[str, Any] = {}
    provenance: Mapping[str, Any] = {}


class Parcel(NamedTuple):
    """What goes in one transaction."""

    batches: list[Batch]
    changes: Changes
    ticks: list[Block]
    end: Head  #: of the stream once it is in

    @property
    def spans(self) -> tuple[int, int]:
        """The lowest and the highest number in it."""
        lows = [b.first_seq for b in self.batches[:1]] + [t.first_seq for t in self.ticks[:1]]
        highs = [b.last_seq for b in self.batches[-1:]] + [t.first_seq + t.n - 1 for t in self.ticks[-1:]]
        return min(lows), max(highs)


class EventWriter:
    """Appends to one stream. Made by ``start`` or ``resume``; an asynchronous context manager.

    Everything after ``append`` may fail later: ``append``, ``flush`` and ``close`` raise the first failure as
    JournalError, and nothing is written after it. The desk's stream has a writer of its own kind (``desk``).
    """

    ROLE = Role.RUN_WRITER

    def __init__(self, database: Database, stream: int, run_id: str) -> None:
        self.database, self.stream, self.run_id = database, stream, run_id
        self.head = Head(0, bytes(32))  #: what is durable
        self.epoch = 0  #: that may write
        self._tail = self.head  #: what was handed over
        self._rows = RowBuilder(stream)
        self._projection = Projection(stream)
        self._connection: asyncpg.Connection | None = None
        self._pending: list[Batch] = []
        self._ticks: list[Block] = []
        self._backlog = 0
        self._partition_end = 0
        self._failure: JournalError | None = None
        self._work = asyncio.Event()
        self._done = asyncio.Condition()
        self._turn = asyncio.Lock()  #: one ``append`` at a time: each begins where the one before ended
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, database: Database, run: NewRun) -> EventWriter:
        """Register a run and return the writer of its stream.

        Raises
        ------
        StoreError
            If the run id is taken or the database cannot be reached.
        """
        connection = await database.connect(Role.RUN_WRITER)
        try:
            stream = await connection.fetchval(
                SQL["register_run"], run.run_id, run.kind, run.notebook, run.notebook_sha256,
                _json(run.parameters).decode(), _json(run.provenance).decode(),
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            await connection.close()
            raise StoreError(f"run {run.run_id} is in the store already; a run is written once") from None
        except asyncpg.PostgresError as error:
            await connection.close()
            raise StoreError(f"cannot register run {run.run_id}: {error}") from None
        return await cls(database, stream, run.run_id)._open(connection)

    @classmethod
    async def resume(cls, database: Database, run_id: str) -> EventWriter:
        """Return the writer of a stream that exists, to go on where it ends.

        Raises
        ------
        StoreError
            If there is no such run, or another process is writing it.
        """
        connection = await database.connect(Role.RUN_WRITER)
        stream = await connection.fetchval(SQL["stream_of"], run_id)
        if stream is None:
            await connection.close()
            raise StoreError(f"no run {run_id} in the store at {database.place}")
        return await cls(database, stream, run_id)._open(connection)

    async def _open(self, connection: asyncpg.Connection) -> EventWriter:
        try:
            await self._take(connection)
            head = await connection.fetchrow(SQL["head"], self.stream)
            self.head = self._tail = Head(head["seq"], head["hash"])
            self.epoch = head["epoch"]
            if self.head.seq:
                await self._take_up_projection(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._task = asyncio.create_task(self._write_all(), name=f"writer of {self.run_id}")
        return self

    async def _take_up_projection(self, connection: asyncpg.Connection) -> None:
        """Fold what earlier writers wrote; the tables have it all."""
        facts = []
        for row in await connection.fetch(SQL["order_events"], self.stream, list(PROJECTED)):
            fact = read(row["payload"])
            assert isinstance(fact, Fact)
            if fact.order is not None:
                fact.strategy, fact.account, fact.order_id = (
                    fact.order.strategy, fact.order.account, fact.order.order_id,
                )  # fmt: skip
            facts.append((row["seq"], row["ts"], fact))
        self._projection.apply(facts)
        self._projection.take()

    async def _take(self, connection: asyncpg.Connection, patience_s: float = 0.0) -> None:
        """Become the stream's one writer, and make what a session needs."""
        deadline = time.monotonic() + patience_s
        while not await connection.fetchval(SQL["lock_stream"], self.stream):
            if time.monotonic() >= deadline:
                raise StoreError(f"another process is writing run {self.run_id}; one writer a run")
            await asyncio.sleep(0.05)
        await connection.execute(SQL["make_changes"])

    async def append(self, lines: Iterable[bytes]) -> None:
        """Hand over journal lines that follow the last ones; returns before they are durable.

        Raises
        ------
        JournalError
            If a line is malformed or out of order (nothing of this call is written then), or an earlier write failed.
        """
        async with self._turn:
            self._raise_failure()
            batches: list[Batch] = []
            tail, left = self._tail, iter(lines)
            while part := list(islice(left, SLICE)):
                batch = self._rows.batch(part, *tail)
                tail = Head(batch.last_seq, batch.hash)
                batches.append(batch)
                await asyncio.sleep(0)  # the rows before these go to the database meanwhile
            self._raise_failure()
            if not batches:
                return
            self._tail = tail
            for batch in batches:
                self._projection.apply(batch.facts)
                self._backlog += len(batch.rows)
            self._pending += batches
            self._work.set()
        if self._backlog > BACKLOG_MAX:
            async with self._done:
                await self._done.wait_for(lambda: self._backlog <= BACKLOG_MAX // 2 or self._failure is not None)
            self._raise_failure()

    async def append_ticks(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """Hand over consecutive market events, stored in blocks; their numbers are theirs alone in this stream."""
        self._raise_failure()
        self._ticks.extend(blocks(first_seq, ticks))
        self._work.set()

    async def flush(self) -> Head:
        """Wait until everything handed over is durable, and return the head.

        Raises
        ------
        JournalError
            If it could not be written.
        """
        goal = self._tail.seq
        async with self._done:
            await self._done.wait_for(
                lambda: (self.head.seq >= goal and not self._ticks) or self._failure is not None
            )
        self._raise_failure()
        return self.head

    async def finish(self, status: str, summary: Mapping[str, Any] | None = None) -> Head:
        """Write what is left, and say in the registry how the run ended: completed, stopped or failed."""
        head = await self.flush()
        assert self._connection is not None
        try:
            await self._connection.execute(SQL["finish_run"], self.stream, status, _json(summary or {}).decode())
        except (asyncpg.PostgresError, *LOST) as error:
            raise JournalError(f"run {self.run_id}: its end was not recorded: {error}") from None
        return head

    async def close(self) -> None:
        """Write what is left and let go of the stream.

        Raises
        ------
        JournalError
            If it could not be written.
        """
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        await self._disconnect()
        self._raise_failure()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            # what was handed over is evidence too; but the exception under way is the news
            with contextlib.suppress(JournalError):
                await self.close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken; what counts was committed before
                await connection.close(timeout=5)

    # ── the task ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_all(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._has_work():
                    await self._write_some()
                if self._closing:
                    return
        except JournalError as error:
            self._fail(error)
        except Exception as error:  # whatever it was: everybody who waits must hear of it
            reason = f"{type(error).__name__}: {error}"
            failure = JournalError(f"run {self.run_id} after seq {self.head.seq}: {reason}")
            failure.__cause__ = error
            self._fail(failure)
        finally:
            async with self._done:
                self._done.notify_all()

    def _has_work(self) -> bool:
        return bool(self._pending or self._ticks)

    def _fail(self, error: JournalError) -> None:
        self._failure = error

    async def _write_some(self) -> None:
        """Write all that has accumulated, and know that it is in."""
        batches, ticks = self._pending, self._ticks[:]
        self._pending = []
        end = Head(batches[-1].last_seq, batches[-1].hash) if batches else self.head
        parcel = Parcel(batches, self._projection.take(), ticks, end)
        try:
            await self._transact(parcel)
        except LOST as error:
            await self._recover(parcel, error)
        except asyncpg.PostgresError as error:
            raise self._refused(error) from None
        self.head = end
        del self._ticks[: len(ticks)]
        self._backlog -= sum(len(batch.rows) for batch in batches)
        async with self._done:
            self._done.notify_all()

    async def _transact(self, parcel: Any) -> None:
        connection = self._connection
        if connection is None:
            raise ConnectionError("not connected")
        await self._ensure_partitions(connection, *parcel.spans)
        changes = parcel.changes
        async with connection.transaction():
            if parcel.batches:
                await self._copy("event", EVENT_COLUMNS, _binary(parcel.batches), binary=True)
            else:  # market data alone can be had again: its commit need not wait for the disk
                await connection.execute(SQL["commit_without_waiting"])
            if changes.new_orders:
                await self._copy("order_state", ORDER_COLUMNS, _once(changes.new_orders))
            if changes.fills:
                await self._copy("fill", FILL_COLUMNS, _once(changes.fills))
            if changes.changed_orders:
                await self._copy("order_change", ORDER_COLUMNS, _once(changes.changed_orders), schema=None)
                await connection.execute(SQL["merge_orders"])
            if changes.positions:
                await self._copy("position_change", POSITION_COLUMNS, _once(changes.positions), schema=None)
                await connection.execute(SQL["merge_positions"])
            if parcel.ticks:
                await connection.copy_records_to_table(
                    "tick_block", schema_name="northstar", columns=TICK_COLUMNS,
                    records=[(self.stream, *block) for block in parcel.ticks],
                )  # fmt: skip

    async def _ensure_partitions(self, connection: asyncpg.Connection, low: int, high: int) -> None:
        """Make the partitions that numbers up to ``high`` fall in, before the transaction that needs them."""
        while high >= self._partition_end:
            end = await connection.fetchval(SQL["ensure_partitions"], max(low, self._partition_end))
            self._partition_end = int(end)

    async def _copy(
        self, table: str, columns: Sequence[str], source: AsyncIterator[bytes], *, binary: bool = False,
        schema: str | None = "northstar",
    ) -> None:
        assert self._connection is not None
        await self._connection.copy_to_table(
            table, schema_name=schema, columns=list(columns), source=source, format="binary" if binary else "text"
        )

    async def _recover(self, parcel: Any, lost: BaseException) -> None:
        """Find out whether a parcel is in whose commit was not confirmed, and write it if it is not.

        Raises
        ------
        JournalError
            If the database does not come back, or its head is neither before nor after the parcel.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            await self._disconnect()
            try:
                self._connection = connection = await self._reconnect(deadline, lost)
                await self._take(connection, max(1.0, deadline - time.monotonic()))
                if await self._is_in(connection, parcel):
                    return
                await self._transact(parcel)
                return
            except LOST as error:
                lost = error
                if time.monotonic() > deadline:
                    raise self._gone(lost) from None
            except StoreError as error:
                raise JournalError(f"run {self.run_id} after seq {self.head.seq}: {error}") from None
            except asyncpg.PostgresError as error:
                raise self._refused(error) from None

    async def _is_in(self, connection: asyncpg.Connection, parcel: Any) -> bool:
        """Whether a parcel was committed; the stream's lock is ours, so nobody is still at it."""
        row = await connection.fetchrow(SQL["head"], self.stream)
        found = Head(row["seq"], row["hash"])
        if not parcel.batches:
            return bool(await connection.fetchval(SQL["has_block"], self.stream, parcel.ticks[0].first_seq))
        if found not in (self.head, parcel.end):
            raise JournalError(
                f"run {self.run_id}: the store ends at seq {found.seq}, not {self.head.seq} or {parcel.end.seq}; "
                "somebody else wrote to it or it was restored from a backup: stopped"
            )
        return bool(found == parcel.end)

    async def _reconnect(self, deadline: float, lost: BaseException) -> asyncpg.Connection:
        """Connect again. An embedded server that is gone is not started again under a run: that run has failed."""
        while True:
            try:
                return await self._connect_again()
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if self.database.url is None:
                    raise self._gone(lost) from error
                reason: BaseException = error
            except LOST as error:
                reason = error
            if time.monotonic() > deadline:
                raise self._gone(reason)
            await asyncio.sleep(0.1)

    async def _connect_again(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.database.dsn(self.ROLE), timeout=5)

    def _gone(self, error: BaseException) -> JournalError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if self.database.server is not None:
            reason = self.database.server.cluster.last_words() or reason
        return JournalError(
            f"run {self.run_id}: the database at {self.database.place} went away ({reason}); "
            f"events up to seq {self.head.seq} are stored and verify, what came after is not: run it again"
        )

    def _refused(self, error: asyncpg.PostgresError) -> JournalError:
        """Return the one line for a batch that the database said no to."""
        reason = str(error).splitlines()[0]
        return JournalError(f"run {self.run_id} after seq {self.head.seq}: the database refused: {reason}")


async def _binary(batches: list[Batch]) -> AsyncIterator[bytes]:
    yield COPY_HEADER
    for batch in batches:
        yield batch.rows
    yield COPY_TRAILER


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
