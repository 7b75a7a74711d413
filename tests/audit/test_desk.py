"""A desk's stream, with several accounts, restarts and ticks, verifies; what was changed in it is named with its place."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from northstar_core.audit.desk import verify_desk
from northstar_core.audit.report import INVARIANTS, Report, Tally
from northstar_core.audit.stored_ticks import StoredTicks
from northstar_core.engine.engine import Engine
from northstar_core.model.journal import decode
from northstar_core.store.postgres import Database, Role, open_database
from northstar_core.store.reader import Reader
from northstar_core.store.retention import drop_ticks
from tests.audit.desk_day import two_days
from tests.store.test_desk import quotes

NAMES = count(1)


def test_two_days_of_a_desk_hold_every_invariant_and_each_was_checked(database: Database) -> None:
    async def act() -> None:
        name = f"desk-audit-{next(NAMES)}"
        days = await two_days(database, name)
        report = await verify_desk(database, name)
        assert not report.violated, "\n".join(report.lines())
        assert {f.invariant for f in report.findings if f.checked} == set(INVARIANTS)
        stored = [item for day in days for item in day.stored]
        assert report.ticks == len(stored) > 100
        async with await Reader.open(database) as reader:
            assert [item async for item in reader.ticks((await reader.run(name)).stream)] == stored
            assert (await reader.run(name)).epoch == 3

    asyncio.run(act())


def test_an_engine_stands_where_the_desk_stood_from_the_restorable_events_alone(database: Database) -> None:
    async def act() -> None:
        name = f"desk-audit-{next(NAMES)}"
        desk = (await two_days(database, name))[-1].desk
        restored, events = Engine(), 0
        async with await Reader.open(database) as reader:
            run = await reader.run(name)
            async for batch in reader.restorable(run.stream):
                restored.restore(decode(payload) for _, payload in batch)
                assert [seq for seq, _ in batch] == sorted(seq for seq, _ in batch)
                events += len(batch)
        assert restored.books() == desk.engine.books()
        ours, theirs = restored.state, desk.engine.state
        assert ours.blotter.exec_ids == theirs.blotter.exec_ids and ours.blotter.denied == theirs.blotter.denied
        assert ours.blotter.orders.keys() == theirs.blotter.orders.keys()
        assert (ours.grants, ours.states) == (theirs.grants, theirs.states)
        assert {k: (c.name, c.limits) for k, c in ours.caps.items()} == {k: (c.name, c.limits) for k, c in theirs.caps.items()}
        assert (ours.today, ours.session_close) == (theirs.today, theirs.session_close)
        assert 0 < events < run.events

    asyncio.run(act())


# ── what was changed ──────────────────────────────────────────────────────────────────────────────────────────────────

# One statement each, run with the triggers off: $1 stream, $2 a number.
OTHER_TICK = """
UPDATE northstar.tick_block SET payload = overlay(payload PLACING '\\x41'::bytea FROM octet_length(payload) - 3 FOR 1)
 WHERE stream = $1 AND first_seq = $2"""
NO_TICK = "DELETE FROM northstar.tick_block WHERE stream = $1 AND first_seq = $2"
MOVED_TICK = "UPDATE northstar.tick_block SET first_seq = first_seq + 1 WHERE stream = $1 AND first_seq = $2"
NO_EVENT = "DELETE FROM northstar.event WHERE stream = $1 AND seq = $2"
EPOCH_BACK = "UPDATE northstar.event SET epoch = 1 WHERE stream = $1 AND seq = $2"


async def changed(database: Database, statement: str, seq: int | str) -> tuple[int, Report]:
    """A desk that a superuser changed in one place, verified."""
    name = f"desk-audit-{next(NAMES)}"
    await two_days(database, name)
    admin = await database.connect(Role.ADMIN)
    try:
        stream = await admin.fetchval("SELECT stream FROM northstar.run WHERE run_id = $1", name)
        place = await admin.fetchval(seq, stream) if isinstance(seq, str) else seq
        await admin.execute("SET session_replication_role = replica")
        await admin.execute(statement, stream, place)
    finally:
        await admin.close()
    return place, await verify_desk(database, name)


A_BLOCK = "SELECT first_seq FROM northstar.tick_block WHERE stream = $1 ORDER BY first_seq OFFSET 3 LIMIT 1"
A_FACT = "SELECT seq FROM northstar.event WHERE stream = $1 AND kind = 'FeedDown' ORDER BY seq LIMIT 1"
A_LATE_FACT = "SELECT max(seq) FROM northstar.event WHERE stream = $1 AND kind = 'AlertRaised'"


@pytest.mark.parametrize(
    ("statement", "place", "invariant", "says"),
    [
        (OTHER_TICK, A_BLOCK, "L2", "the ticks stored are not those declared"),
        (NO_TICK, A_BLOCK, "L1", "neither an event nor a stored tick"),
        (MOVED_TICK, A_BLOCK, "L1", "neither an event nor a stored tick"),
        (NO_EVENT, A_FACT, "L1", "neither an event nor a stored tick"),
        (EPOCH_BACK, A_LATE_FACT, "L1", "written in epoch 1 after epoch 3 had begun"),
    ],
    ids=["changed tick", "deleted ticks", "moved ticks", "deleted event", "fenced writer"],
)
def test_what_was_changed_in_a_desks_stream_is_named(
    database: Database, statement: str, place: str, invariant: str, says: str
) -> None:
    seq, report = asyncio.run(changed(database, statement, place))
    assert report.exit_code == 1
    found = report[invariant]
    assert any(says in detail for _, detail in found.places), "\n".join(report.lines())
    if invariant == "L1":
        assert any(at == seq for at, detail in found.places if says in detail)


def test_ticks_that_retention_dropped_are_not_checkable_and_no_violation(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_database(tmp_path) as database:
            await two_days(database, "desk")
            assert await drop_ticks(database, 2**24) == [0]
            assert await drop_ticks(database, 2**24) == []
            report = await verify_desk(database)
            assert report.exit_code == 0, "\n".join(report.lines())
            (note,) = [note for note in report.notes if "retention" in note]
            assert note.startswith(f"{report.ticks} ticks were dropped by retention") and "not checkable" in note
        assert database.server is not None and database.server.wait_stopped()

    asyncio.run(act())


def test_numbers_missing_inside_a_kept_range_are_told_from_those_dropped() -> None:
    tally = Tally()
    ticks = StoredTicks(tally, [(11, 20), (31, 40)])
    ticks.event(1)
    ticks.event(15)  # 2 to 10 were dropped, 11 to 14 are missing
    ticks.block(16, quotes(3))  # 16 to 18
    ticks.event(33)  # 19 and 20 missing, 21 to 30 dropped, 31 and 32 missing
    ticks.event(45)  # 34 to 40 missing, 41 to 44 dropped
    ticks.finish()
    assert ticks.dropped == 9 + 10 + 4
    assert [detail.split(" neither")[0] for _, detail in tally.places["L1"]] == [
        "numbers 11 to 14 are", "numbers 19 to 20 are", "numbers 31 to 32 are", "numbers 34 to 40 are",
    ]  # fmt: skip
