"""The desk's writer: queues without waiting, says what is durable, and is fenced off when another gateway takes over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from decimal import Decimal as D
from pathlib import Path

import pytest

from northstar_core.model import events as e
from northstar_core.model.errors import JournalError, StoreError
from northstar_core.model.market import MarketEvent, Quote, Trade
from northstar_core.model.order import Side
from northstar_core.store.desk import DeskWriter
from northstar_core.store.events import EventWriter, NewRun
from northstar_core.store.postgres import Database, Role, open_database
from northstar_core.store.reader import Reader
from tests.store.builders import T0, Lines, chained, run_id


class DeskLines(Lines):
    """Journal lines of one epoch; numbers go on where the writer's stream ends."""

    def __init__(self, writer: DeskWriter) -> None:
        super().__init__()
        self.epoch, self.seq = writer.epoch, writer.next_seq - 1

    def put(self, event: e.Event, cause: int = 0) -> int:
        super().put(event, cause)
        self.lines[-1] = self.lines[-1].replace(b" 0 ", b" %d " % self.epoch, 1)
        return self.seq

    def take(self) -> list[bytes]:
        taken, self.lines = self.lines, []
        return taken


def timer(n: int) -> e.SetTimer:
    return e.SetTimer(T0 + n, "sma", f"t{n}", T0 + n)


def quotes(count: int, first: int = 0) -> list[MarketEvent]:
    return [
        Quote(("SPY", "QQQ")[n % 2], T0 + n, 448.1, 448.2, 3.0, 5.0) if n % 3 else Trade("IWM", T0 + n, 200.5, 7.0)
        for n in range(first, first + count)
    ]


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen"
        await asyncio.sleep(0)


def test_what_is_put_is_durable_in_order_and_the_callback_says_so(database: Database) -> None:
    async def act() -> None:
        name, told = run_id(), list[int]()
        async with await DeskWriter.begin(database, name, on_durable=told.append) as writer:
            assert (writer.epoch, writer.next_seq, writer.head.seq) == (1, 1, 0)
            lines = DeskLines(writer)
            sent: list[bytes] = []
            ticks: list[tuple[int, MarketEvent]] = []
            for n in range(40):
                lines.put(timer(n))
                sent += (taken := lines.take())
                writer.put(taken)
                some = quotes(7, n)
                writer.put_ticks(lines.seq + 1, some)
                ticks += enumerate(some, lines.seq + 1)
                lines.seq += len(some)
                if n % 5 == 0:
                    await asyncio.sleep(0)
            assert writer.backlog > 0
            await writer.flush()
            assert writer.backlog == 0 and writer.durable == lines.seq and told[-1] == lines.seq
            assert told == sorted(told)
        async with await Reader.open(database) as reader:
            card = await reader.run(name)
            assert (card.kind, card.status, card.epoch) == ("desk", "running", 1)
            rows = [row async for row in reader.events(card.stream)]
            assert [(row.line, row.hash) for row in rows] == list(chained(sent))
            assert [item async for item in reader.ticks(card.stream)] == ticks

    asyncio.run(act())


def test_orders_fills_and_positions_are_projected_over_many_epochs_as_by_a_runs_writer(database: Database) -> None:
    async def act() -> None:
        desk, plain = run_id(), run_id()
        for n in range(1, 9):
            async with await DeskWriter.begin(database, desk) as writer:
                lines = DeskLines(writer)
                lines.order(n, Side.BUY if n % 2 else Side.SELL, qty=str(100 + n % 5), price="10.10")
                writer.put(lines.take())
        async with await DeskWriter.begin(database, desk) as writer:
            lines = DeskLines(writer)
            working = lines.order(9, fill=False)
            lines.put(e.OrderCanceled(T0, working, "sma", "backtest", "SPY", D(0), "end of\tday\n\\"))
            writer.put(lines.take())
        async with await EventWriter.start(database, NewRun(run_id=plain)) as other:
            same = Lines()
            for n in range(1, 9):
                same.order(n, Side.BUY if n % 2 else Side.SELL, qty=str(100 + n % 5), price="10.10")
            working = same.order(9, fill=False)
            same.put(e.OrderCanceled(T0, working, "sma", "backtest", "SPY", D(0), "end of\tday\n\\"))
            await other.append(same.lines)
        async with await Reader.open(database) as reader:
            for read in (reader.orders, reader.fills, reader.positions):
                ours, theirs = [
                    [{k: v for k, v in row.items() if k not in ("run_id", "stream")} for row in await read(w.stream)]
                    for w in (writer, other)
                ]
                assert ours == theirs and ours

    asyncio.run(act())


def test_a_second_gateway_is_refused_while_the_first_lives_and_goes_on_after_it(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        async with await DeskWriter.begin(database, name) as first:
            lines = DeskLines(first)
            lines.put(timer(1))
            first.put(lines.take())
            first.put_ticks(2, quotes(3))
            with pytest.raises(StoreError, match=f"another gateway is running on {name}"):
                await DeskWriter.begin(database, name)
        async with await DeskWriter.begin(database, name) as second:
            assert (second.epoch, second.next_seq, second.head.seq) == (2, 5, 1)
            lines = DeskLines(second)
            lines.put(timer(2))
            second.put(lines.take())
            assert (await second.flush()).seq == 5

    asyncio.run(act())


def test_a_gateway_that_was_replaced_hears_of_it_at_once_and_writes_nothing_more(database: Database) -> None:
    async def act() -> None:
        name, heard = run_id(), list[JournalError]()
        first = await DeskWriter.begin(database, name, on_failed=heard.append)
        lines = DeskLines(first)
        lines.put(timer(1))
        first.put(lines.take())
        await first.flush()
        async with await DeskWriter.begin(database, name, take_over=True) as second:
            await until(lambda: bool(heard))
            assert "epoch 2 has begun, this gateway's is 1" in str(heard[0]) and first.failed is heard[0]
            with pytest.raises(JournalError, match="epoch 2 has begun"):
                first.put_ticks(2, quotes(1))
            assert (second.epoch, second.next_seq) == (2, 2)
        with pytest.raises(JournalError, match="epoch 2"):
            await first.close()
        assert len(heard) == 1

    asyncio.run(act())


def test_a_desk_at_a_server_by_dsn_is_taken_over_alike(database: Database) -> None:
    async def act() -> None:
        name, heard = run_id(), list[JournalError]()
        async with open_database(url=database.dsn(Role.ADMIN)) as other:
            first = await DeskWriter.begin(other, name, on_failed=heard.append)
            async with await DeskWriter.begin(other, name, take_over=True) as second:
                await until(lambda: bool(heard))
                assert "epoch 2 has begun" in str(heard[0]) and second.epoch == 2
            with pytest.raises(JournalError):
                await first.close()

    asyncio.run(act())


@pytest.mark.parametrize("what", ["event", "ticks"])
def test_the_database_itself_refuses_an_earlier_epoch(database: Database, what: str) -> None:
    async def act() -> None:
        name = run_id()
        first = await DeskWriter.begin(database, name)
        admin = await database.connect(Role.ADMIN)
        assert await admin.fetchval("SELECT northstar.take_epoch($1)", first.stream) == 2
        await admin.close()
        if what == "event":
            lines = DeskLines(first)
            lines.put(timer(1))
            first.put(lines.take())
        else:
            first.put_ticks(1, quotes(3))
        with pytest.raises(JournalError, match="written in epoch 1, but epoch 2 has begun"):
            await first.flush()
        with pytest.raises(JournalError):
            await first.close()
        async with await Reader.open(database) as reader:
            assert (await reader.run(name)).events == 0
            assert [tick async for tick in reader.ticks(first.stream)] == []

    asyncio.run(act())


def test_bad_lines_are_refused_at_once_and_leave_the_queue_as_it_was(database: Database) -> None:
    async def act() -> None:
        async with await DeskWriter.begin(database, run_id()) as writer:
            good = DeskLines(writer)
            good.put(timer(1))
            other_epoch = b"2 7 %d 0 {}" % T0
            for bad in (b"junk", other_epoch, good.lines[0]):
                with pytest.raises(JournalError):
                    writer.put([*good.lines, bad])
            writer.put(good.lines)
            assert (await writer.flush()).seq == 1

    asyncio.run(act())


def test_a_tick_number_is_stored_once(database: Database) -> None:
    async def act() -> None:
        writer = await DeskWriter.begin(database, run_id())
        writer.put_ticks(1, quotes(5))
        await writer.flush()
        writer.put_ticks(4, quotes(5))
        with pytest.raises(JournalError, match="do not follow the tick of seq 5"):
            await writer.flush()
        with pytest.raises(JournalError):
            await writer.close()

    asyncio.run(act())


def test_a_run_that_is_no_desk_is_refused(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        async with await EventWriter.start(database, NewRun(run_id=name)):
            pass
        with pytest.raises(StoreError, match="is a backtest, not a desk"):
            await DeskWriter.begin(database, name)

    asyncio.run(act())


def test_sessions_killed_at_any_moment_lose_and_double_nothing(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        killer = await database.connect(Role.ADMIN)
        async with await DeskWriter.begin(database, name) as writer:
            lines, sent, ticks = DeskLines(writer), list[bytes](), list[tuple[int, MarketEvent]]()
            for n in range(1, 400):
                lines.order(n)
                sent += (taken := lines.take())
                writer.put(taken)
                some = quotes(5, n)
                writer.put_ticks(lines.seq + 1, some)
                ticks += enumerate(some, lines.seq + 1)
                lines.seq += 5
                await asyncio.sleep(0)
                if n % 60 == 0 and writer._connection is not None:
                    await killer.execute("SELECT pg_terminate_backend($1)", writer._connection.get_server_pid())
            await writer.flush()
        await killer.close()
        async with await Reader.open(database) as reader:
            card = await reader.run(name)
            rows = [row async for row in reader.events(card.stream)]
            assert [(row.line, row.hash) for row in rows] == list(chained(sent))
            assert [item async for item in reader.ticks(card.stream)] == ticks
            assert {o["status"] for o in await reader.orders(card.stream)} == {"FILLED"}

    asyncio.run(act())


def pid_in(file: Path) -> int:
    """The pid in a server's file, 0 while there is none."""
    try:
        return int(file.read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return 0


def test_a_server_killed_under_a_desk_is_started_again_and_not_a_tick_is_missing(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_database(tmp_path) as database:
            assert database.server is not None
            pid_file = database.server.cluster.data / "postmaster.pid"
            async with await DeskWriter.begin(database) as writer:
                lines, sent, ticks = DeskLines(writer), list[bytes](), list[tuple[int, MarketEvent]]()
                killed = set[int]()
                for n in range(200):
                    if n % 20 == 0:
                        lines.put(timer(n))
                        sent += (taken := lines.take())
                        writer.put(taken)
                    some = quotes(5, n)
                    writer.put_ticks(lines.seq + 1, some)
                    ticks += enumerate(some, lines.seq + 1)
                    lines.seq += 5
                    if n in (55, 130):
                        # what was written to the server that was killed before went on until its session noticed
                        await until(lambda: pid_in(pid_file) not in {0, *killed})
                        await until(lambda: writer.durable == lines.seq)  # in, but perhaps not on the disk
                        killed.add(pid := pid_in(pid_file))
                        os.kill(pid, signal.SIGKILL)
                    await asyncio.sleep(0)
                await writer.flush()
            async with await Reader.open(database) as reader:
                card = await reader.run("desk")
                rows = [row async for row in reader.events(card.stream)]
                assert [(row.line, row.hash) for row in rows] == list(chained(sent))
                assert [item async for item in reader.ticks(card.stream)] == ticks
        assert database.server.wait_stopped()

    asyncio.run(act())


def test_a_new_epoch_goes_on_with_orders_and_positions_where_the_last_ended(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        async with await DeskWriter.begin(database, name) as writer:
            lines = DeskLines(writer)
            working = lines.order(1, fill=False)
            writer.put(lines.take())
        async with await DeskWriter.begin(database, name) as writer:
            lines = DeskLines(writer)
            fill = e.OrderFilled(T0, working, "sma", "backtest", "SPY", Side.BUY, D(100), D(10), D(1), "x", D(100), D(0))
            lines.put(fill)
            writer.put(lines.take())
        async with await Reader.open(database) as reader:
            assert [o["status"] for o in await reader.orders(writer.stream)] == ["FILLED"]
            assert [p["qty"] for p in await reader.positions(writer.stream)] == [D(100)]

    asyncio.run(act())
