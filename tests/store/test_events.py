"""Events are written once, in order, chained, and never changed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Coroutine
from decimal import Decimal as D
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from northstar_core.model import events as e
from northstar_core.model import journal
from northstar_core.model.errors import JournalError, StoreError
from northstar_core.model.market import Quote, Trade
from northstar_core.model.order import Side
from northstar_core.store.events import EventWriter, NewRun
from northstar_core.store.postgres import Database, Role, open_database
from northstar_core.store.reader import EventRow, Reader
from northstar_core.store.rows import EVENT_COLUMNS, keys
from tests.store.builders import MINUTE, T0, Lines, chained, day, run_id

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


async def stored(database: Database, run: str) -> tuple[Any, list[EventRow]]:
    async with await Reader.open(database) as reader:
        card = await reader.run(run)
        return card, [row async for row in reader.events(card.stream)]


async def write(database: Database, lines: list[bytes], run: str | None = None) -> str:
    run = run or run_id()
    async with await EventWriter.start(database, NewRun(run_id=run, parameters={"fast": 10})) as writer:
        for start in range(0, len(lines), 100):
            await writer.append(lines[start : start + 100])
        await writer.finish("completed", {"orders": len(lines)})
    return run


def test_what_was_written_is_read_back_byte_for_byte_with_its_chain(database: Database) -> None:
    lines = day(300)
    card, rows = run(stored(database, run(write(database, lines))))
    assert [(row.line, row.hash) for row in rows] == list(chained(lines))
    assert (card.head_seq, card.head_hash, card.events) == (rows[-1].seq, rows[-1].hash, len(lines))
    assert (card.status, card.parameters, card.summary) == ("completed", {"fast": 10}, {"orders": len(lines)})
    assert card.finished is not None and not card.writing


def test_key_columns_are_those_the_payload_gives(database: Database) -> None:
    _, rows = run(stored(database, run(write(database, day(3)))))
    assert [(row.kind, row.strategy, row.account, row.order_id) for row in rows] == [keys(row.payload) for row in rows]
    assert rows[2].kind == "OrderSubmitted" and rows[2].order_id == "sma-s1-1" and rows[2].account == "backtest"


def test_orders_fills_and_positions_are_projected(database: Database) -> None:
    async def act() -> None:
        lines = Lines()
        lines.order(1, qty="100", price="10.10")
        lines.order(2, Side.SELL, qty="40", price="11.10")
        working = lines.order(3, qty="5", price="9", fill=False)
        name = run_id()
        async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
            await writer.append(lines.lines)
            await writer.flush()
            done = len(lines.lines)
            ts = T0 + 5 * MINUTE  # in a later transaction: an update, not a new row
            lines.put(e.OrderFilled(ts, working, "sma", "backtest", "SPY", Side.BUY, D(2), D(9), D(1), "p", D(2), D(3)))
            lines.put(e.OrderCanceled(ts, working, "sma", "backtest", "SPY", D(2), "end of\tday\n"))
            await writer.append(lines.lines[done:])
            await writer.flush()
            async with await Reader.open(database) as reader:
                orders = await reader.orders(writer.stream)
                fills = await reader.fills(writer.stream)
                (position,) = await reader.positions(writer.stream)
                events = await reader.order_events(writer.stream, working)
        assert [(o["order_id"], o["status"], o["cum_qty"], o["leaves_qty"]) for o in orders] == [
            ("sma-s1-1", "FILLED", D(100), D(0)), ("sma-s1-2", "FILLED", D(40), D(0)),
            ("sma-s1-3", "CANCELED", D(2), D(0)),
        ]  # fmt: skip
        assert orders[2]["reason"] == "end of\tday\n" and orders[2]["limit_price"] == D(9)
        assert [(f["side"], f["qty"], f["price"], f["exec_id"]) for f in fills] == [
            ("BUY", D(100), D("10.10"), "x1"), ("SELL", D(40), D("11.10"), "x2"), ("BUY", D(2), D(9), "p"),
        ]  # fmt: skip
        assert (position["qty"], position["realized"], position["fees"]) == (D(62), D("40.00"), D("3.00"))
        assert position["cost"] == 60 * D("10.10") + 2 * D(9)
        assert [row.kind for row in events] == ["OrderSubmitted", "OrderAccepted", "OrderFilled", "OrderCanceled"]

    run(act())


def test_a_resumed_writer_goes_on_with_chain_and_projections(database: Database) -> None:
    async def act() -> None:
        lines = Lines()
        working = lines.order(1, fill=False)
        half = len(lines.lines)
        name = run_id()
        async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
            await writer.append(lines.lines)
        fill = e.OrderFilled(T0, working, "sma", "backtest", "SPY", Side.BUY, D(100), D(10), D(1), "x", D(100), D(0))
        lines.put(fill)
        async with await EventWriter.resume(database, name) as writer:
            await writer.append(lines.lines[half:])
            await writer.finish("completed")
        card, rows = await stored(database, name)
        assert [(row.line, row.hash) for row in rows] == list(chained(lines.lines))
        async with await Reader.open(database) as reader:
            assert [o["status"] for o in await reader.orders(card.stream)] == ["FILLED"]
            assert [p["qty"] for p in await reader.positions(card.stream)] == [D(100)]

    run(act())


def test_a_run_has_one_writer_at_a_time(database: Database) -> None:
    async def act() -> None:
        name = run_id()
        async with await EventWriter.start(database, NewRun(run_id=name)):
            with pytest.raises(StoreError, match="another process is writing"):
                await EventWriter.resume(database, name)
        with pytest.raises(StoreError, match="in the store already"):
            await EventWriter.start(database, NewRun(run_id=name))

    run(act())


def test_malformed_or_backward_lines_are_refused_whole(database: Database) -> None:
    async def act() -> None:
        good = day(2)
        name = run_id()
        async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
            for bad in (b"nonsense", b"9 0 1 0 {}", good[0], b'99 0 1 x {"type":"RunFinished"}'):
                with pytest.raises(JournalError):
                    await writer.append([*good, bad])
            await writer.append(good)
        _, rows = await stored(database, name)
        assert [row.line for row in rows] == good

    run(act())


# ── what the database itself refuses ──────────────────────────────────────────────────────────────────────────────────


def rows_of(stream: int, lines: list[bytes]) -> list[tuple[Any, ...]]:
    out = []
    for text, digest in chained(lines):
        line = journal.parse(text)
        out.append((stream, line.epoch, line.seq, line.ts, line.cause, *keys(line.payload), line.payload, digest))
    return out


async def attempt(database: Database, change: Any, sqlstate: str, *, epoch: bool = False) -> None:
    """Copy a day's rows, changed, into a new stream: the database must refuse with this code and keep nothing."""
    connection = await database.connect(Role.RUN_WRITER)
    stream = await connection.fetchval(
        "INSERT INTO northstar.run (run_id, kind) VALUES ($1, 'backtest') RETURNING stream", run_id()
    )
    if epoch:
        admin = await database.connect(Role.ADMIN)
        assert await admin.fetchval("SELECT northstar.take_epoch($1)", stream) == 1
        await admin.close()
    rows = rows_of(stream, day(5))
    change(rows)
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await connection.copy_records_to_table("event", schema_name="northstar", columns=EVENT_COLUMNS, records=rows)
    assert refusal.value.sqlstate == sqlstate
    assert await connection.fetchval("SELECT count(*) FROM northstar.event WHERE stream = $1", stream) == 0
    assert await connection.fetchval("SELECT seq FROM northstar.stream_head WHERE stream = $1", stream) == 0
    await connection.close()


def with_field(index: int, column: str, value: Any) -> Any:
    def change(rows: list[tuple[Any, ...]]) -> None:
        row = list(rows[index])
        row[EVENT_COLUMNS.index(column)] = value
        rows[index] = tuple(row)

    return change


@pytest.mark.parametrize("column, value, sqlstate", [
    ("hash", bytes(32), "NS004"), ("payload", b'{"type":"OrderAccepted","ts":1}', "NS004"), ("ts", 5, "NS004"),
    ("kind", "OrderFilled", "NS002"), ("cause", 10**9, "NS002"), ("cause", -1, "NS002"), ("epoch", 1, "NS003"),
    ("seq", 1, "NS002"), ("stream", 10**6, "NS002"),
])  # fmt: skip
def test_a_changed_field_is_refused(database: Database, column: str, value: Any, sqlstate: str) -> None:
    run(attempt(database, with_field(3 if column != "kind" else 1, column, value), sqlstate))


def test_a_missing_row_a_swapped_row_and_a_wrong_start_are_refused(database: Database) -> None:
    run(attempt(database, lambda rows: rows.pop(4), "NS004"))
    run(attempt(database, lambda rows: rows.pop(0), "NS004"))
    run(attempt(database, lambda rows: rows.insert(2, rows.pop(3)), "NS004"))


def test_an_old_epoch_is_refused(database: Database) -> None:
    run(attempt(database, lambda rows: None, "NS003", epoch=True))


def test_a_second_order_with_the_same_intent_is_refused(database: Database) -> None:
    async def act() -> None:
        lines = Lines()
        lines.order(7)
        lines.order(7)
        writer = await EventWriter.start(database, NewRun(run_id=run_id()))
        await writer.append(lines.lines)
        for use in (writer.flush, lambda: writer.append(lines.lines), writer.close):
            with pytest.raises(JournalError, match="intent_key"):
                await use()
        async with await Reader.open(database) as reader:
            assert (await reader.run(writer.run_id)).events == 0

    run(act())


FORBIDDEN_TO_ALL = [
    "UPDATE northstar.event SET payload = ''",
    "UPDATE northstar.event_00000 SET payload = ''",
    "DELETE FROM northstar.event",
    "DELETE FROM northstar.event_00000 WHERE seq = 1",
    "TRUNCATE northstar.event",
    "TRUNCATE northstar.event_00000",
    "TRUNCATE northstar.run CASCADE",
    "DELETE FROM northstar.run",
    "DELETE FROM northstar.stream_head",
    "DELETE FROM northstar.intent_key",
    "UPDATE northstar.tick_block SET payload = ''",
    "TRUNCATE northstar.tick_block_00000",
]
TAKE_EPOCH = "SELECT northstar.take_epoch(1)"
FORBIDDEN_TO_ROLES = [
    *FORBIDDEN_TO_ALL,
    "DROP TRIGGER check_append ON northstar.event",
    "DROP TRIGGER refuse_change ON northstar.event",
    "ALTER TABLE northstar.event DISABLE TRIGGER ALL",
    "DROP TABLE northstar.event",
    "DROP SCHEMA northstar CASCADE",
    "CREATE TABLE northstar.mine ()",
    "CREATE OR REPLACE FUNCTION northstar.check_append() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TABLE public.mine ()",
    "UPDATE northstar.stream_head SET seq = 0",
    "UPDATE northstar.run SET run_id = 'other'",
    "INSERT INTO northstar.intent_key VALUES (1, 'a', 'b', 1)",
    "INSERT INTO northstar.event_00000 VALUES (1, 0, 1, 1, 0, 'k', null, null, null, '', '')",
    TAKE_EPOCH,
    "UPDATE northstar.stream_head SET epoch = 0, tick_seq = 0",
    "INSERT INTO northstar.tick_block_00000 VALUES (1, 1, 1, 1, '{}', '', 0)",
    "DELETE FROM northstar.lease",
    "DELETE FROM northstar.job_run",
    "SELECT northstar.drop_ticks(100)",
    "SELECT northstar.open_stream()",
    "SET session_replication_role = replica",
    "SET ROLE northstar_owner",
    "SET ROLE northstar_admin",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY northstar.event TO '/tmp/events'",
    "ALTER SYSTEM SET fsync = off",
    "ALTER ROLE northstar_reader SUPERUSER",
    "CREATE ROLE mine",
    "CREATE EXTENSION dblink",
    "DELETE FROM northstar.alembic_version",
]
FORBIDDEN_TO_READERS = [
    *FORBIDDEN_TO_ROLES,
    "SELECT * FROM northstar.event",
    "SELECT * FROM northstar.run",
    "SELECT * FROM northstar.order_state",
    "INSERT INTO northstar.run (run_id, kind) VALUES ('x', 'backtest')",
    "SET default_transaction_read_only = off; INSERT INTO northstar.run (run_id, kind) VALUES ('x', 'backtest')",
    "SELECT northstar.ensure_partitions(1)",
]


@pytest.mark.parametrize("role, statement", [
    *((Role.RUN_WRITER, s) for s in FORBIDDEN_TO_ROLES), *((Role.READER, s) for s in FORBIDDEN_TO_READERS),
    *((Role.GATEWAY, s) for s in FORBIDDEN_TO_ROLES if s != TAKE_EPOCH), *((Role.ADMIN, s) for s in FORBIDDEN_TO_ALL),
    (Role.RUN_WRITER, "INSERT INTO northstar.recent_ticks VALUES (1, 'SPY', 1, 1, 1, '')"),
])  # fmt: skip
def test_forbidden_statement_is_refused(database: Database, role: Role, statement: str) -> None:
    async def act() -> None:
        lines = day(1)
        name = await write(database, lines)
        connection = await database.connect(role)
        with pytest.raises(asyncpg.PostgresError) as refusal:
            await connection.execute(statement)
        # refused by grant, by the append-only trigger, or because the session can only read
        assert refusal.value.sqlstate in {"42501", "NS001", "25006"} or "must be owner" in str(refusal.value)
        await connection.close()
        _, rows = await stored(database, name)
        assert [row.line for row in rows] == lines

    run(act())


# ── ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ticks_are_stored_in_blocks_and_read_back_with_their_numbers(database: Database) -> None:
    async def act() -> None:
        ticks = [
            Quote("SPY", T0 + n, 1.0 + n, 2.0 + n, 3.0, 4.0) if n % 3 else Trade("QQQ", T0 + n, 5.5, 10.0, n % 2 == 0)
            for n in range(120)
        ]
        async with await EventWriter.start(database, NewRun(run_id=run_id())) as writer:
            await writer.append_ticks(1, ticks)
            await writer.flush()
            async with await Reader.open(database) as reader:
                assert [pair async for pair in reader.ticks(writer.stream)] == list(enumerate(ticks, 1))
                assert [seq async for seq, _ in reader.ticks(writer.stream, 49, 52)] == [49, 50, 51, 52]
                newest = await reader.last_ticks(writer.stream, "QQQ", 30)
                assert newest == [(n, t) for n, t in enumerate(ticks, 1) if t.symbol == "QQQ"][-30:]
                assert await reader.last_ticks(writer.stream, "NONE") == []

    run(act())


# ── when the server dies ──────────────────────────────────────────────────────────────────────────────────────────────


def test_server_killed_in_the_middle_of_a_run_leaves_a_log_that_verifies(tmp_path: Path) -> None:
    async def act() -> None:
        lines, name = day(3000), run_id()
        async with open_database(tmp_path) as database:
            writer = await EventWriter.start(database, NewRun(run_id=name))
            with pytest.raises(JournalError, match=r"went away .* events up to seq \d+ are stored") as failure:
                for start in range(0, len(lines), 50):
                    await writer.append(lines[start : start + 50])
                    if start == 5000:
                        await writer.flush()
                        assert database.server is not None
                        pid = int((database.server.cluster.data / "postmaster.pid").read_text().split()[0])
                        os.kill(pid, signal.SIGKILL)
                await writer.flush()
            assert "\n" not in str(failure.value)
            acknowledged = writer.head
            with pytest.raises(JournalError):
                await writer.close()
        async with open_database(tmp_path) as database:
            card, rows = await stored(database, name)
            assert [(row.line, row.hash) for row in rows] == list(chained(lines))[: len(rows)]
            assert len(rows) == card.events and card.head_seq >= acknowledged.seq > 0
            assert card.status == "running" and not card.writing

    run(act())


def test_session_killed_at_any_moment_loses_and_doubles_nothing(database: Database) -> None:
    async def act() -> None:
        lines, name = day(1500), run_id()
        killer = await database.connect(Role.ADMIN)
        async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
            for start in range(0, len(lines), 50):
                await writer.append(lines[start : start + 50])
                await asyncio.sleep(0)
                if start % 500 == 0 and writer._connection is not None:
                    await killer.execute("SELECT pg_terminate_backend($1)", writer._connection.get_server_pid())
            await writer.finish("completed")
        await killer.close()
        card, rows = await stored(database, name)
        assert [(row.line, row.hash) for row in rows] == list(chained(lines))
        async with await Reader.open(database) as reader:
            assert len(await reader.fills(card.stream)) == 1500
            assert {o["status"] for o in await reader.orders(card.stream)} == {"FILLED"}

    run(act())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_that_fills_up_in_a_run_leaves_a_log_that_verifies(tmp_path: Path) -> None:
    def mount(size: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"{'remount,' * disk.is_mount()}size={size}", "none", disk]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("150m"):
        pytest.skip("this machine lets nobody mount")

    async def act() -> None:
        lines, name = day(8_000), run_id()
        with pytest.raises((JournalError, StoreError)) as failure:
            async with open_database(disk / "home") as database:
                async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
                    for start in range(0, len(lines), 5000):
                        await writer.append(lines[start : start + 5000])
                    for copy in range(2, 40):  # other runs, until the disk is full
                        await write(database, lines, f"{name}-{copy}")
        assert "\n" not in str(failure.value) and "No space left" in str(failure.value)
        assert mount("600m")
        async with open_database(disk / "home") as database:
            async with await Reader.open(database) as reader:
                runs = await reader.runs()
            for run in runs:
                _, rows = await stored(database, run.run_id)
                assert [(row.line, row.hash) for row in rows] == list(chained(lines))[: len(rows)]
                assert len(rows) == run.events
            assert database.server is not None
        assert database.server.wait_stopped()

    try:
        run(act())
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
