"""The writer of the desk's stream: what the gateway hands over without waiting is durable one wait for the disk later.

Two things differ from a run's writer. The hot path is synchronous: ``put`` and ``put_ticks`` only queue, and the gateway
hears of what became durable by a callback. And a gateway may be replaced while it still believes to be the one: each takes
an epoch, and the database refuses events and ticks of every earlier one.

Everything that waits goes in one transaction, so what comes first in numbering is never stored later. A commit that
holds events waits for the disk. One of ticks alone does not: the events after them will. Until then they are kept here,
and written again if the server crashes and has lost them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg

from northstar_core.model.errors import JournalError, StoreError
from northstar_core.model.market import MarketEvent
from northstar_core.store.events import LOST, EventWriter, Head
from northstar_core.store.parts import Events, Statement, statement
from northstar_core.store.postgres import Database, Role
from northstar_core.store.projection import Changes
from northstar_core.store.queries import SQL
from northstar_core.store.recent import RecentTicks, Ticks
from northstar_core.store.standing import take_up
from northstar_core.store.ticks import Block, Blocks

LINGER_S = 0.003  #: ticks alone wait so long for others to come along, or for an event, which takes them with it
LOOSE_MAX = 2_000  #: blocks written without waiting for the disk, before one of them waits after all
TICK_BYTES = 60  #: what a waiting tick is counted as
PATIENCE_S = 2.0  #: for the lock of a gateway that has just ended
TAKE_OVER_S = 10.0  #: for the lock of one whose session was just ended


class DeskParcel(NamedTuple):
    """What goes in one transaction."""

    events: Events
    changes: Changes
    ticks: list[Block]
    runs: list[Ticks]
    end: Head  #: of the events once it is in
    last: int  #: highest number in it
    size: int


class DeskWriter(EventWriter):
    """Appends to the desk's stream. Made by ``begin``; an asynchronous context manager.

    ``head`` is the last durable event, ``epoch`` this writer's, ``next_seq`` the first number that is free, ``durable``
    the highest number known to be in the store, ``backlog`` how many bytes wait, ``failed`` why nothing is written any more.
    """

    ROLE = Role.GATEWAY

    def __init__(
        self, database: Database, stream: int, run_id: str, on_durable: Callable[[int], None] | None,
        on_failed: Callable[[JournalError], None] | None,
    ) -> None:
        super().__init__(database, stream, run_id)
        self.on_durable, self.on_failed = on_durable, on_failed
        self.next_seq = 1  #: when the epoch began; the gateway counts from there
        self.durable = 0
        self.backlog = 0
        self._events = Events()
        self._blocks = Blocks()
        self._size = 0  #: of what waits for the next parcel
        self._last = 0  #: highest number handed over
        self._due = False  #: the ticks that wait have waited long enough
        self._timer: asyncio.TimerHandle | None = None
        self._loose: list[Block] = []  #: committed, perhaps not on the disk
        self._again: list[Block] = []  #: of those, what a crash has lost
        self._look = False  #: the session has ended
        self._settled = 0  #: highest number known to be on the disk
        self._settle = False  #: somebody waits until all is
        self._recent: RecentTicks | None = None
        self._statements: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def settled(self) -> int:
        """The highest number known to be on the disk: what a commit that waited for it holds, and all before."""
        return self._settled

    @property
    def failed(self) -> JournalError | None:
        """Why nothing is written any more; None while all is well."""
        return self._failure

    # ── becoming the desk's writer ────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def begin(
        cls,
        database: Database,
        run_id: str = "desk",
        *,
        on_durable: Callable[[int], None] | None = None,
        on_failed: Callable[[JournalError], None] | None = None,
        take_over: bool = False,
    ) -> DeskWriter:
        """Begin a new epoch of the desk's stream, which is made if there is none.

        Parameters
        ----------
        on_durable
            Called in the loop after each commit with the highest number that is in the store.
        on_failed
            Called once when writing has failed for good: nothing may be sent to a broker after it.
        take_over
            End another gateway's session instead of refusing while it lives.

        Raises
        ------
        StoreError
            If another gateway is at it, the run is no desk, or the database cannot be reached.
        """
        connection = await database.connect(Role.GATEWAY)
        try:
            row = await connection.fetchrow(SQL["desk_of"], run_id)
            if row is None:
                await connection.execute(SQL["register_desk"], run_id)
                row = await connection.fetchrow(SQL["desk_of"], run_id)
            if row["kind"] != "desk":
                raise StoreError(f"run {run_id} is a {row['kind']}, not a desk; give the desk another name")
            writer = cls(database, row["stream"], run_id, on_durable, on_failed)
            await writer._begin(connection, take_over)
        except asyncpg.PostgresError as error:
            await connection.close()
            raise StoreError(f"cannot open the desk's stream {run_id}: {error}") from None
        except BaseException:
            await connection.close()
            raise
        return writer

    async def _begin(self, connection: asyncpg.Connection, take_over: bool) -> None:
        if take_over:
            self.epoch = await connection.fetchval(SQL["take_epoch"], self.stream)  # the other is fenced from here on
            admin = await self.database.connect(Role.ADMIN)
            try:
                await admin.execute(SQL["end_holder"], self.stream)
            finally:
                await admin.close()
            await self._take(connection, TAKE_OVER_S)
        else:
            await self._lock(connection, PATIENCE_S)
            self.epoch = await connection.fetchval(SQL["take_epoch"], self.stream)
            await connection.execute(SQL["plan_once"])
        head = await connection.fetchrow(SQL["desk_head"], self.stream)
        self.head = self._tail = Head(head["seq"], head["hash"])
        self._last = self.durable = self._settled = max(head["seq"], head["tick_seq"])
        self.next_seq = self.durable + 1
        await self._ensure_partitions(connection, self.next_seq, self.next_seq)
        if self.head.seq:
            await take_up(connection, self._projection)
        self._recent = RecentTicks(self.database, self.stream, self.epoch)
        await self._recent.begin(head["tick_seq"])
        self._use(connection)
        self._task = asyncio.create_task(self._write_all(), name=f"writer of {self.run_id}")

    def _use(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        connection.add_termination_listener(self._session_ended)

    def _session_ended(self, connection: asyncpg.Connection) -> None:
        """Find out why at once: a gateway that was replaced must not send until its next event tells it."""
        if connection is self._connection and not self._closing:
            self._look = True
            self._work.set()

    async def _take(self, connection: asyncpg.Connection, patience_s: float = 0.0) -> None:
        """Have the stream's lock again, if this epoch has not ended.

        Raises
        ------
        StoreError
            If another gateway has begun a later epoch, or holds the lock.
        """
        deadline = time.monotonic() + patience_s
        while True:
            head = await connection.fetchrow(SQL["desk_head"], self.stream)
            if head["epoch"] != self.epoch:
                raise StoreError(f"epoch {head['epoch']} has begun, this gateway's is {self.epoch}: it was replaced")
            left = deadline - time.monotonic()
            try:
                await self._lock(connection, min(left, 0.2))
                await connection.execute(SQL["plan_once"])
                return
            except StoreError:
                if left <= 0:
                    raise

    async def _lock(self, connection: asyncpg.Connection, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not await connection.fetchval(SQL["lock_stream"], self.stream):
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"another gateway is running on {self.run_id} at {self.database.place}; stop it first (northstar down)"
                )
            await asyncio.sleep(0.02)

    async def _connect_again(self) -> asyncpg.Connection:
        self._statements.clear()
        # a desk goes on: an embedded server that died is started again, also one that died while it started
        try:
            connection = await self.database.attempt(self.ROLE)
        except (StoreError, ConnectionRefusedError, FileNotFoundError) as error:
            raise ConnectionError(str(error)) from error
        self._use(connection)
        return connection

    # ── the hot path ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, lines: Iterable[bytes]) -> None:
        """Queue journal lines that follow the last ones; ``on_durable`` tells when they are in.

        Raises
        ------
        JournalError
            If a line is malformed or out of order (nothing of this call is written then), or an earlier write failed.
        """
        if self._failure is not None:
            raise self._failure
        events = self._events
        known, size = len(events.facts), events.size
        self._tail = Head(*events.put(lines, self.epoch, *self._tail))
        self._projection.apply(events.facts[known:])
        self._count(self._tail.seq, events.size - size)
        self._work.set()

    def put_ticks(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """Queue consecutive market events; their numbers are theirs alone in this stream.

        Raises
        ------
        JournalError
            If an earlier write failed.
        """
        if self._failure is not None:
            raise self._failure
        if not ticks:
            return
        self._blocks.add(first_seq, ticks)
        self._count(first_seq + len(ticks) - 1, TICK_BYTES * len(ticks))
        if self._timer is None:
            self._timer = self._loop.call_later(LINGER_S, self._ticks_due)

    def _count(self, last: int, size: int) -> None:
        self._last = max(self._last, last)
        self._size += size
        self.backlog += size

    def _ticks_due(self) -> None:
        self._timer = None
        self._due = True
        self._work.set()

    async def append(self, lines: Iterable[bytes]) -> None:
        """As ``put``; a desk's writer never waits."""
        self.put(lines)

    async def append_ticks(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """As ``put_ticks``."""
        self.put_ticks(first_seq, ticks)

    async def flush(self) -> Head:
        """Wait until everything handed over is on the disk, ticks too, and return the last event.

        Raises
        ------
        JournalError
            If it could not be written.
        """
        goal, self._settle = self._last, True
        if self._timer is not None:
            self._timer.cancel()
        self._ticks_due()
        async with self._done:
            await self._done.wait_for(lambda: self._settled >= goal or self._failure is not None)
        self._raise_failure()
        return self.head

    async def close(self) -> None:
        """Write what is left and let go of the stream.

        Raises
        ------
        JournalError
            If it could not be written.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._due = True
        try:
            await super().close()
        finally:
            if self._recent is not None:
                await self._recent.close()

    # ── the task ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _has_work(self) -> bool:
        if len(self._events) or self._look or ((self._due or self._closing) and self._blocks):
            return True
        return bool(self._loose) and (self._settle or self._closing)

    def _fail(self, error: JournalError) -> None:
        super()._fail(error)
        if self._timer is not None:
            self._timer.cancel()
        if self.on_failed is not None:
            self.on_failed(error)

    async def _write_some(self) -> None:
        """Write all that has accumulated, know that it is in, and say so."""
        events, self._events = self._events, Events()
        size, self._size, self._due = self._size, 0, False
        settle, self._settle, self._look = self._settle, False, False
        end = Head(events.columns[0][-1], events.columns[8][-1]) if len(events) else self.head
        parcel = DeskParcel(events, self._projection.take(), *self._blocks.take(), end, self._last, size)
        waits = bool(len(events)) or not parcel.ticks or settle or len(self._loose) > LOOSE_MAX
        try:
            await self._transact(parcel, waits)
        except LOST as error:
            await self._recover(parcel, error)
            waits = True
        except asyncpg.PostgresError as error:
            raise self._refused(error) from None
        self.head, self.durable = end, parcel.last
        self.backlog -= size
        if waits:
            self._loose.clear()
            self._settled = self.durable
        else:
            self._loose += parcel.ticks
        if self.on_durable is not None:
            self.on_durable(self.durable)
        if parcel.runs and self._recent is not None:
            self._recent.add(parcel.runs)
        async with self._done:
            self._done.notify_all()

    async def _transact(self, parcel: DeskParcel, wait: bool = True) -> None:
        connection = self._connection
        if connection is None:
            raise ConnectionError("not connected")
        await self._ensure_partitions(connection, self._partition_end, parcel.last)
        ticks = [*self._again, *parcel.ticks]
        if ticks or len(parcel.events):
            what = statement(self.stream, self.epoch, parcel.events, parcel.changes, ticks, wait)
            await self._run(connection, what)
        else:
            await connection.execute(SQL["settle"])
        self._again.clear()

    async def _run(self, connection: asyncpg.Connection, what: Statement) -> None:
        prepared = self._statements.get(what.text)
        if prepared is None:
            prepared = self._statements[what.text] = await connection.prepare(what.text)
        await prepared.fetch(*what.arguments)

    async def _is_in(self, connection: asyncpg.Connection, parcel: DeskParcel) -> bool:
        """Whether a parcel was committed; the stream's lock is ours, so nobody is still at it."""
        row = await connection.fetchrow(SQL["desk_head"], self.stream)
        found, tick_seq = Head(row["seq"], row["hash"]), row["tick_seq"]
        if found not in (self.head, parcel.end):
            raise JournalError(
                f"run {self.run_id}: the store ends at seq {found.seq}, not {self.head.seq} or {parcel.end.seq}; "
                "somebody else wrote to it or it was restored from a backup: stopped"
            )
        if len(parcel.events):
            there = found == parcel.end
        else:
            there = bool(parcel.ticks) and tick_seq >= parcel.ticks[-1].first_seq
        self._again = [] if there else [block for block in self._loose if block.first_seq > tick_seq]
        return there

