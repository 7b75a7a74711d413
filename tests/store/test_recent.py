"""The newest ticks of a symbol are found whether they are in its ring, newer than it, or older."""

from __future__ import annotations

import asyncio
import random

import pytest

from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade
from northstar_core.store import recent
from northstar_core.store.desk import DeskWriter
from northstar_core.store.postgres import Database, Role
from northstar_core.store.reader import Reader
from northstar_core.store.ticks import SLOT, SLOTS
from tests.store.builders import T0, run_id

RARE, NEVER = "RARE", "NEVER"
SYMBOLS = ("SPY", "QQQ", "IWM")


def ticks(count: int, seed: int) -> list[MarketEvent]:
    """Market events of every kind, mostly of three symbols."""
    draw = random.Random(seed)
    out: list[MarketEvent] = []
    for n in range(count):
        symbol, price = draw.choice(SYMBOLS) if draw.random() > 0.01 else RARE, 100 + draw.random()
        out.append(
            draw.choice(
                (
                    Quote(symbol, T0 + n, price, price + 0.01, 3.0, 5.0), Trade(symbol, T0 + n, price, 10.0, n % 2 == 0),
                    Bar(symbol, T0 + n - 60, T0 + n, price, price, price, price, 1e5), Halt(symbol, T0 + n, True, "news"),
                )
            )
        )  # fmt: skip
    return out


class Tape:
    """What was stored, to compare with."""

    def __init__(self) -> None:
        self.all: list[tuple[int, MarketEvent]] = []

    async def put(self, writer: DeskWriter, some: list[MarketEvent]) -> None:
        first = (self.all[-1][0] if self.all else 0) + 1
        self.all += enumerate(some, first)
        for start in range(0, len(some), 37):
            writer.put_ticks(first + start, some[start : start + 37])
        await writer.flush()

    async def check(self, database: Database, stream: int) -> None:
        async with await Reader.open(database) as reader:
            for symbol in (*SYMBOLS, RARE, NEVER):
                for n in (1, 7, 1000, 5000):
                    own = [(seq, tick) for seq, tick in self.all if tick.symbol == symbol][-n:]
                    assert await reader.last_ticks(stream, symbol, n) == own, (symbol, n)


def test_newest_ticks_are_whole_before_the_ring_is_written_after_it_and_by_the_next_gateway(database: Database) -> None:
    async def act() -> None:
        name, tape = run_id(), Tape()
        for epoch in (1, 2, 3):
            async with await DeskWriter.begin(database, name) as writer:
                await tape.put(writer, ticks(700, epoch))
                await tape.check(database, writer.stream)
                assert writer._recent is not None
                await writer._recent._sort()
                await writer._recent._write()
                await tape.put(writer, ticks(60, 10 * epoch))
                await tape.check(database, writer.stream)
            await tape.check(database, writer.stream)

    asyncio.run(act())


def test_a_ring_that_went_round_gives_what_it_has_and_blocks_the_rest(database: Database) -> None:
    async def act() -> None:
        name, tape = run_id(), Tape()
        async with await DeskWriter.begin(database, name) as writer:
            await tape.put(writer, ticks(4 * SLOT * SLOTS, 5))
        await tape.check(database, writer.stream)
        admin = await database.connect(Role.ADMIN)
        assert await admin.fetchval("SELECT max(slot) FROM northstar.recent_ticks WHERE stream = $1", writer.stream) == SLOTS - 1
        await admin.close()

    asyncio.run(act())


def test_a_ring_too_far_behind_is_begun_anew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        name, tape = run_id(), Tape()
        async with await DeskWriter.begin(database, name) as writer:
            await tape.put(writer, ticks(500, 1))
        admin = await database.connect(Role.ADMIN)
        await admin.execute("DELETE FROM northstar.recent_ticks WHERE stream = $1", writer.stream)
        monkeypatch.setattr(recent, "BEHIND_MAX", 3)
        async with await DeskWriter.begin(database, name) as writer:
            await tape.put(writer, ticks(500, 2))
        await tape.check(database, writer.stream)
        since = "SELECT first_seq FROM northstar.recent_ticks WHERE stream = $1 AND symbol = ''"
        assert await admin.fetchval(since, writer.stream) == 500
        await admin.close()

    asyncio.run(act())


def test_a_gateway_that_was_replaced_does_not_touch_the_ring(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        async with await DeskWriter.begin(database, name) as first:
            pass
        async with await DeskWriter.begin(database, name):
            admin = await database.connect(Role.ADMIN)
            for epoch, rows in ((first.epoch, 0), (first.epoch + 1, 5)):  # a slot for each symbol, and how far it reaches
                ring = recent.RecentTicks(database, first.stream, epoch)
                await ring.begin(0)
                ring.add([(1, ticks(400, 1))])
                await ring.close()
                slots = "SELECT count(DISTINCT symbol) FROM northstar.recent_ticks WHERE stream = $1"
                assert await admin.fetchval(slots, first.stream) == rows
            await admin.close()

    asyncio.run(act())
