"""Why an order happened on a desk, or none did: from its events and the ticks it stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from click.testing import CliRunner

from northstar_core.audit.desk import why_not_at, why_order
from northstar_core.cli.main import northstar
from northstar_core.model.market import Bar
from northstar_core.store.postgres import Database
from northstar_core.store.reader import Reader
from tests.audit.desk_day import DAY, MINUTE, OPEN, Day, two_days

T = TypeVar("T")
NAME = "desk-why"


@pytest.fixture(scope="module")
def days(database: Database) -> tuple[Day, ...]:
    return tuple(asyncio.run(two_days(database, NAME)))


def ask(database: Database, question: Callable[[Reader, int], Awaitable[T]]) -> T:
    async def act() -> T:
        async with await Reader.open(database) as reader:
            return await question(reader, (await reader.run(NAME)).stream)

    return asyncio.run(act())


def test_an_order_is_explained_from_its_stored_tick_to_its_fills(database: Database, days: tuple[Day, ...]) -> None:
    chain = ask(database, lambda reader, stream: why_order(reader, stream, "sma-20231115-2"))
    assert chain.outcome == "submitted"
    assert [step.what for step in chain.steps] == [
        "tick", "signal", "intent", "verdict", "submit", "report", "accepted", "report", "fill", "report", "report", "fill",
        "report",
    ]  # fmt: skip
    tick = chain.steps[0]
    stored = dict(days[0].stored)[tick.seq]
    assert isinstance(stored, Bar) and tick.ts == stored.ts and tick.event is not None
    assert tick.event["close"] == stored.close and "row" not in tick.text
    assert {check.outcome for check in chain.checks} == {"passed"}


def test_a_refusal_names_its_check_and_an_order_of_the_second_day_its_own_tick(database: Database, days: tuple[Day, ...]) -> None:
    denied = ask(database, lambda reader, stream: why_order(reader, stream, "rsi-20231115-10"))
    assert (denied.outcome, denied.reason) == ("denied", "ORDER_QTY_CAP")
    later = ask(database, lambda reader, stream: why_order(reader, stream, "sma-20231116-4"))
    assert later.steps[0].ts == days[2].stored[-1][1].ts - MINUTE
    assert ask(database, lambda reader, stream: why_order(reader, stream, "sma-1-1")).outcome == "unknown"


@pytest.mark.parametrize(
    ("strategy", "ts", "kind", "says"),
    [
        ("sma", OPEN + MINUTE, "order placed", "sma-20231115-2"),
        ("sma", OPEN + MINUTE + 30 * 10**9, "order placed", "sma-20231115-2"),
        ("rsi", OPEN + 4 * MINUTE, "denied", "ORDER_QTY_CAP"),
        ("sma", OPEN - 6 * MINUTE, "not started", "the run begins"),
        ("sma", OPEN - MINUTE, "not started", "sma starts at"),
        ("sma", OPEN + 200 * MINUTE, "ended", "session was lost"),
        ("nobody", OPEN + MINUTE, "unknown", "no strategy 'nobody'"),
        ("sma", OPEN + DAY + 30 * MINUTE, "no data", "did not trade"),
    ],
)
def test_why_no_order_happened_on_a_desk(
    database: Database, days: tuple[Day, ...], strategy: str, ts: int, kind: str, says: str
) -> None:
    answer = ask(database, lambda reader, stream: why_not_at(reader, stream, strategy, "SPY", ts))
    assert (answer.kind, says in answer.text + answer.order_id) == (kind, True), answer


def test_the_command_line_asks_the_desk(database: Database, days: tuple[Day, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.server is not None
    monkeypatch.setenv("NORTHSTAR_HOME", str(database.server.cluster.folder.parent))
    runner = CliRunner()
    verified = runner.invoke(northstar, ["audit", "verify", NAME])
    assert verified.exit_code == 0 and "every invariant holds" in verified.output, verified.output
    found = runner.invoke(northstar, ["audit", "why", "sma-20231115-2", "--run", NAME])
    assert found.exit_code == 0 and "tick" in found.output and "submitted" in found.output, found.output
    asked = runner.invoke(northstar, ["audit", "why-not", "sma", "SPY", "2023-11-15T09:31", "--run", NAME])
    assert asked.exit_code == 0 and asked.output.startswith("order placed"), asked.output
