"""The auditor over the real store: what was written verifies; what a superuser changed afterwards is named."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from northstar_core.audit.report import Report
from northstar_core.audit.verify import verify_batches
from northstar_core.audit.why import why
from northstar_core.store.events import EventWriter, NewRun
from northstar_core.store.postgres import Database, Role
from northstar_core.store.reader import Reader

RUNS = count(1)

# One statement each, run with the triggers off: $1 stream, $2 and $3 numbers of rows.
CHANGED_BYTE = """
UPDATE northstar.event SET payload = overlay(payload PLACING '\\x39'::bytea FROM octet_length(payload) - 8 FOR 1)
 WHERE stream = $1 AND seq = $2 AND $3::bigint > 0"""
DELETED = "DELETE FROM northstar.event WHERE stream = $1 AND seq = $2 AND $3::bigint > 0"
SWAPPED = """
UPDATE northstar.event a SET payload = b.payload FROM northstar.event b
 WHERE a.stream = $1 AND b.stream = $1 AND a.seq IN ($2, $3) AND b.seq IN ($2, $3) AND a.seq <> b.seq"""


async def write(database: Database, log) -> str:
    name = f"audit-{next(RUNS)}"
    async with await EventWriter.start(database, NewRun(run_id=name)) as writer:
        await writer.append(log.lines())
        await writer.finish("completed")
    return name


async def audit(database: Database, run: str) -> Report:
    async with await Reader.open(database) as reader:
        card = await reader.run(run)
        return await verify_batches(reader.batches(card.stream), head=(card.head_seq, card.head_hash))


async def tamper(database: Database, run: str, statement: str, first: int, second: int) -> None:
    async with await Reader.open(database) as reader:
        stream = (await reader.run(run)).stream
    connection = await database.connect(Role.ADMIN)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement, stream, first, second)
    finally:
        await connection.close()


def test_a_stored_log_verifies_and_tells_why(database: Database, log) -> None:
    async def act() -> tuple[Report, list[bytes]]:
        run = await write(database, log)
        async with await Reader.open(database) as reader:
            lines = [row.line async for row in reader.events((await reader.run(run)).stream)]
        return await audit(database, run), lines

    report, lines = asyncio.run(act())
    assert report.exit_code == 0, "\n".join(report.lines())
    assert why(lines, "sma-s1-1").outcome == "submitted"


@pytest.mark.parametrize(
    ("statement", "invariant", "says"),
    [
        (CHANGED_BYTE, "L2", "this row was changed"),
        (DELETED, "L1", "events were deleted"),
        (SWAPPED, "L2", "were swapped"),
    ],
    ids=["byte", "deletion", "swap"],
)
def test_what_a_superuser_changed_in_the_store_is_named(
    database: Database, log, statement: str, invariant: str, says: str
) -> None:
    async def act() -> Report:
        run = await write(database, log)
        await tamper(database, run, statement, log.seq("fill1"), log.seq("fill2"))
        return await audit(database, run)

    report = asyncio.run(act())
    assert report.exit_code == 1
    assert report[invariant].first_seq == log.seq("fill1")
    assert says in report[invariant].detail, report.lines()
