"""The newest ticks of each symbol, kept where they are found at once.

``tick_block`` holds ticks as they came, all symbols mixed: a symbol's last thousand lie in thousands of blocks. So the
desk's writer keeps them a second time, in a ring of slots for each symbol, written twice a second on a connection of its
own, only of what is in ``tick_block`` already. What is newer than the ring is read from the blocks.

Nothing depends on the ring but the speed of reading. If it cannot be written it falls behind, and is begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from northstar_core.model.errors import StoreError
from northstar_core.model.market import MarketEvent
from northstar_core.store.postgres import Database, Role
from northstar_core.store.session import Session
from northstar_core.store.ticks import BLOCK, SLOT, SLOTS, slot, ticks_of

EVERY_S = 0.5  #: how often the ring is written, while there are ticks
SLICE = 400  #: ticks sorted in one go: others get their turn after some hundred microseconds
SLOTS_A_SLICE = 8  #: slots made in one go
UNWRITTEN_MAX = 20_000  #: slots that wait for a database that does not take them
BEHIND_MAX = 4_000  #: blocks read to catch up when a gateway begins
AHEAD = 2**21  #: the partition of the number so far ahead is made in time

Ticks = tuple[int, Sequence[MarketEvent]]  #: consecutive, with the number of the first


class _Slot(NamedTuple):
    number: int
    ticks: list[tuple[int, MarketEvent]]


class RecentTicks:
    """Writes the ring of one stream. ``begin`` it, ``add`` to it, ``close`` it."""

    def __init__(self, database: Database, stream: int, epoch: int) -> None:
        self.stream, self.epoch = stream, epoch
        self.failures = 0  #: times it could not be written
        self._session = Session(database, Role.GATEWAY)
        self._fresh: list[Ticks] = []
        self._slots: dict[str, _Slot] = {}
        self._unwritten: dict[tuple[str, int], tuple[int, int, bytes]] = {}  #: (first, last, payload) of a symbol's slot
        self._dirty: set[str] = set()
        self._since = 0  #: the number from which on the ring is complete
        self._until = 0  #: and to which
        self._reset = False
        self._made = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def begin(self, tick_seq: int) -> None:
        """Go on where an earlier gateway's ring ended; ``tick_seq`` is the last tick stored."""
        for row in await self._session.rows("recent_slots", self.stream):
            if row["symbol"]:
                self._slots[row["symbol"]] = _Slot((row["slot"] + 1) % SLOTS, [])
            else:
                self._since, self._until = row["first_seq"], row["last_seq"]
        if self._until < tick_seq:
            behind = await self._session.rows("blocks_after", self.stream, self._until, BLOCK, BEHIND_MAX)
            if len(behind) == BEHIND_MAX:
                self._begin_anew(tick_seq)
            for block in behind if not self._reset else ():
                self.add([(block["first_seq"], ticks_of(block["payload"]))])
        self._task = asyncio.create_task(self._keep(), name=f"newest ticks of stream {self.stream}")

    def add(self, runs: Sequence[Ticks]) -> None:
        """Take ticks that are in the store."""
        self._fresh += runs
        self._wake.set()

    async def close(self) -> None:
        """Write what is left."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._session.close()

    def _begin_anew(self, since: int) -> None:
        self._since = self._until = since
        self._slots.clear()
        self._unwritten.clear()
        self._dirty.clear()
        self._reset = True

    async def _keep(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            await self._sort()
            try:
                await self._write()
            except StoreError:
                self.failures += 1
                if len(self._unwritten) > UNWRITTEN_MAX:
                    self._begin_anew(self._until)
                self._wake.set()
            if not self._closing:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        while not self._closing:  # whoever closes does not wait
                            await asyncio.sleep(EVERY_S / 10)
        with contextlib.suppress(StoreError):
            await self._sort()
            await self._write()

    async def _sort(self) -> None:
        """Put each new tick into its symbol's slot."""
        fresh, self._fresh = self._fresh, []
        done = 0
        for first, ticks in fresh:
            for seq, tick in enumerate(ticks, first):
                if seq <= self._until:
                    continue
                symbol = tick.symbol
                found = self._slots.get(symbol)
                if found is None:
                    found = self._slots[symbol] = _Slot(0, [])
                found.ticks.append((seq, tick))
                self._dirty.add(symbol)
                if len(found.ticks) == SLOT:
                    self._render(symbol, found)
                    self._slots[symbol] = _Slot((found.number + 1) % SLOTS, [])
                    done += SLICE // SLOTS_A_SLICE
            self._until = max(self._until, first + len(ticks) - 1)
            done += len(ticks)
            if done >= SLICE:
                done = 0
                await asyncio.sleep(0)
        for n, symbol in enumerate(self._dirty, 1):
            found = self._slots[symbol]
            if found.ticks:
                self._render(symbol, found)
            if n % SLOTS_A_SLICE == 0:
                await asyncio.sleep(0)
        self._dirty.clear()

    def _render(self, symbol: str, found: _Slot) -> None:
        self._unwritten[symbol, found.number] = (found.ticks[0][0], found.ticks[-1][0], slot(found.ticks))

    async def _write(self) -> None:
        if self._until + AHEAD > self._made:
            rows = await self._session.rows("ensure_partitions", self._until + AHEAD)
            self._made = int(rows[0][0])
        if self._reset:
            await self._session.rows("clear_recent", self.stream)
            self._reset = False
        elif not self._unwritten:
            return
        unwritten = {**self._unwritten, ("", 0): (self._since, self._until, b"")}
        symbols, numbers = zip(*unwritten, strict=True)
        columns = zip(*unwritten.values(), strict=True)
        await self._session.rows("put_recent", self.stream, self.epoch, symbols, numbers, *columns)
        for key, written in unwritten.items():
            if self._unwritten.get(key) is written:
                del self._unwritten[key]
