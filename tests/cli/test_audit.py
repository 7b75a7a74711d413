"""``northstar audit`` and ``replay`` over a stored run: clean logs verify, changes are named, orders explained."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from northstar_core.store.postgres import Database, Role
from northstar_core.store.reader import Reader
from tests.cli.shell import Ran, Recorded

Northstar = Callable[..., Ran]

# One statement each, by a superuser with the triggers off: $1 stream, $2 and $3 numbers of two events.
CHANGED_BYTE = """
UPDATE northstar.event SET payload = overlay(payload PLACING '\\x39'::bytea FROM octet_length(payload) - 8 FOR 1)
 WHERE stream = $1 AND seq = $2 AND $3::bigint > 0"""
DELETED = "DELETE FROM northstar.event WHERE stream = $1 AND seq = $2 AND $3::bigint > 0"
SWAPPED = """
UPDATE northstar.event a SET payload = b.payload FROM northstar.event b
 WHERE a.stream = $1 AND b.stream = $1 AND a.seq IN ($2, $3) AND b.seq IN ($2, $3) AND a.seq <> b.seq"""


@contextmanager
def tampered(database: Database, run_id: str, statement: str, kind: str) -> Iterator[tuple[int, int]]:
    """Change the log at the second and third event of a kind; put back as it was afterwards."""

    async def stream_and_places() -> tuple[int, list[int]]:
        async with await Reader.open(database) as reader:
            stream = (await reader.run(run_id)).stream
            return stream, [row.seq async for row in reader.events(stream, kinds=[kind])][1:3]

    async def execute(*statements: tuple[str, ...]) -> None:
        connection = await database.connect(Role.ADMIN)
        try:
            await connection.execute("SET session_replication_role = replica")
            for text, *values in statements:
                await connection.execute(text, *values)
        finally:
            await connection.close()

    stream, (first, second) = asyncio.run(stream_and_places())
    saved = f"tampered_{stream}"
    asyncio.run(execute((f"CREATE TABLE {saved} AS SELECT * FROM northstar.event WHERE stream = {stream}",)))
    try:
        asyncio.run(execute((statement, stream, first, second)))
        yield first, second
    finally:
        asyncio.run(execute(
            (f"DELETE FROM northstar.event WHERE stream = {stream}",),
            (f"INSERT INTO northstar.event SELECT * FROM {saved}",),
            (f"DROP TABLE {saved}",),
        ))  # fmt: skip


def test_a_clean_log_verifies_and_every_invariant_is_on_a_line(northstar: Northstar, recorded: Recorded) -> None:
    ran = northstar("audit", "verify", recorded.run_id)
    assert ran.code == 0
    invariants = "L1 L2 L6 L7 O1 O2 O3 O4 O5 O6 O7 O9 P1 P2 P3 P4 P5 R1 R2 R3 R4".split()
    assert [line.split()[0] for line in ran.out.splitlines()[1 : 1 + len(invariants)]] == invariants
    report = northstar("audit", "verify", recorded.run_id, "--json").json
    assert report["exit_code"] == 0 and report["head"] == recorded.report["journal_sha256"]


@pytest.mark.parametrize(
    ("statement", "invariant", "says"),
    [(CHANGED_BYTE, "L2", "this row was changed"), (DELETED, "L1", "deleted"), (SWAPPED, "L2", "were swapped")],
    ids=["byte", "deletion", "swap"],
)
def test_a_change_in_the_store_is_named_by_its_place(
    northstar: Northstar, recorded: Recorded, database: Database, statement: str, invariant: str, says: str
) -> None:
    with tampered(database, recorded.run_id, statement, "OrderFilled") as (first, _):
        ran = northstar("audit", "verify", recorded.run_id)
        report = northstar("audit", "verify", recorded.run_id, "--json").json
    assert ran.code == 1
    assert f"seq {first}" in ran.out and says in ran.out
    (found,) = (finding for finding in report["findings"] if finding["invariant"] == invariant)
    assert found["violated"] and found["first_seq"] == first
    assert northstar("audit", "verify", recorded.run_id).code == 0


def test_what_cannot_be_verified_is_exit_2(northstar: Northstar, home: Path) -> None:
    ran = northstar("audit", "verify", "nowhere")
    assert ran.complaint == "no run nowhere in the store" and ran.code == 2


def test_why_walks_from_the_tick_to_the_fill(northstar: Northstar, recorded: Recorded, database: Database) -> None:
    async def orders() -> list[dict[str, object]]:
        async with await Reader.open(database) as reader:
            return await reader.orders((await reader.run(recorded.run_id)).stream)

    order = next(o for o in asyncio.run(orders()) if o["status"] == "FILLED")
    chain = northstar("audit", "why", order["order_id"], "--run", recorded.run_id, "--json").json
    kinds = [step["what"] for step in chain["steps"]]
    wanted = ["tick", "signal", "intent", "verdict", "submit", "report", "accepted", "fill"]
    assert [kind for kind in dict.fromkeys(kinds) if kind in wanted] == wanted
    assert len(chain["checks"]) > 15 and any("room" in str(check) or check.get("headroom") for check in chain["checks"])
    text = northstar("audit", "why", order["order_id"], "--run", recorded.run_id).out
    assert "bar SPY" in text and "room" in text
    ran = northstar("audit", "why", "nowhere-1", "--run", recorded.run_id)
    assert "has no order nowhere-1; ids are strategy-session-number, such as sma_cross-20230803-" in ran.complaint
    assert ran.code == 2


def test_why_not_answers_for_bars_between_two_records(northstar: Northstar, recorded: Recorded) -> None:
    def ask(time: str, *more: str) -> Ran:
        return northstar("audit", "why-not", "sma_cross", "SPY", time, "--run", recorded.run_id, *more)

    between = ask("2023-08-03T12:00", "--json").json
    assert between["kind"] in ("re-derived", "no signal") and between["reason"] == "no cross"
    assert between["inputs"].keys() == {"fast", "slow"}
    assert ask("2023-08-03T16:00:00Z", "--json").json == between  # the same instant, said in UTC
    assert "warming up" in ask("2023-08-03T09:35").out
    assert "session" in ask("2023-08-03T08:00").out or "not started" in ask("2023-08-03T08:00").out
    strange = northstar("audit", "why-not", "other", "SPY", "2023-08-03T12:00", "--run", recorded.run_id)
    assert "has no strategy 'other'; it has sma_cross" in strange.complaint
    strange = northstar("audit", "why-not", "sma_cross", "QQQ", "2023-08-03T12:00", "--run", recorded.run_id)
    assert "has no data of 'QQQ'; it has SPY" in strange.complaint


def test_a_replay_is_identical_and_another_strategy_is_found_out(northstar: Northstar, recorded: Recorded) -> None:
    ran = northstar("replay", recorded.run_id)
    assert ran.code == 0 and "decisions identical" in ran.out
    executed = Path(recorded.report["executed_notebook"])
    original = executed.with_suffix(".kept")
    shutil.copy(executed, original)
    try:
        executed.write_text(executed.read_text().replace("fast > slow and", "fast >= slow + 0.5 and"))
        ran = northstar("replay", recorded.run_id)
        assert ran.code == 1
        assert "identical lines" in ran.out and "recorded" in ran.out and "replayed" in ran.out
        comparison = northstar("replay", recorded.run_id, "--json").json
        assert not comparison["identical"] and comparison["difference"]["seq"] > 1
        executed.unlink()
        assert "the executed notebook is gone" in northstar("replay", recorded.run_id).complaint
    finally:
        original.rename(executed)
    assert northstar("replay", recorded.run_id).code == 0


def test_data_that_changed_since_are_not_replayed(northstar: Northstar, recorded: Recorded, market: Path) -> None:
    kept = market.read_bytes()
    try:
        market.write_bytes(kept.replace(b"SPY,5000,", b"SPY,5001,", 1))
        ran = northstar("replay", recorded.run_id)
        assert f"data {market.name}: no longer what the run read" in ran.complaint and ran.code == 2
        verified = northstar("audit", "verify", recorded.run_id)
        assert verified.code == 0 and "the rows were not compared with the market data" in verified.out
    finally:
        market.write_bytes(kept)


def test_runs_lists_what_is_stored(northstar: Northstar, recorded: Recorded) -> None:
    found = {run["run_id"]: run for run in northstar("runs", "-n", "1000", "--json").json}
    assert found[recorded.run_id]["status"] == "completed"
    assert found[recorded.run_id]["head_hash"] == recorded.report["journal_sha256"]
    assert json.dumps(found)
    assert recorded.run_id in northstar("runs", "-n", "1000").out
