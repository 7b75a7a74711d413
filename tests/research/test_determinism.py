"""The same run is the same bytes: again, in another process, with other hashes, in other chunks, by either path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.model import events as e
from northstar_core.research import backtest as module
from northstar_core.research import feed
from northstar_core.research.backtest import Backtest
from northstar_core.sim.latency import Latency
from northstar_core.sim.model import SimModel
from northstar_core.strategy.host import StrategyHost
from tests.audit.test_real_runs import ACTIONS, EQUITIES, OPTIONS, Restless, World, tape
from tests.research.markets import audited

LATE = SimModel(latency=Latency(entry_ns=90 * 10**9, response_ns=90 * 10**9))
WORLDS = {
    "equities": World(),
    "slow broker, splits": World(model=LATE, actions=ACTIONS),
    "two strategies": World(strategies=2, actions=ACTIONS),
    "options": World(symbols=OPTIONS, strategies=2),
}


def lines_of(test: Backtest) -> list[bytes]:
    for _ in test.steps():
        pass
    return test.journal.lines()


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_run_again_is_the_same_bytes(world: World) -> None:
    first, second = world.run(11), world.run(11)
    assert first.journal.lines() == second.journal.lines()
    assert first.journal.head == second.journal.head
    assert world.run(12).journal.head != first.journal.head
    audited(first)


PROGRAM = """
from tests.audit.test_real_runs import ACTIONS, OPTIONS, World
print(World(symbols=OPTIONS, strategies=2, actions=ACTIONS).run(3).journal.head.hex())
"""


def test_another_process_with_other_hashes_writes_the_same_bytes() -> None:
    here = World(symbols=OPTIONS, strategies=2, actions=ACTIONS).run(3).journal.head.hex()
    root = Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=root, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "TZ": zone},
        )
        for seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"), ("42", "America/New_York"))
    ]  # fmt: skip
    assert {run.communicate()[0].strip() for run in runs} == {here}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_size_of_chunks_does_not_change_the_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (feed, module):
        monkeypatch.setattr(where, "BLOCK", 100)
    chunks, seen = feed.Feed.chunks, set()
    for size in (1, 7, 100, 8192):
        monkeypatch.setattr(feed.Feed, "chunks", lambda self, size=size: chunks(self, size))
        test = world.run(21)
        seen.add(test.journal.head)
        assert sum(isinstance(r.event, e.TapeRead) for r in test.journal.records) > 5
    assert len(seen) == 1


def test_blocks_are_declared_wherever_an_instant_straddles_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (feed, module):
        monkeypatch.setattr(where, "BLOCK", 5)
    test = World().run(2)
    audited(test)
    reads = [r.event for r in test.journal.records if isinstance(r.event, e.TapeRead)]
    assert sum(read.rows for read in reads) == test.journal.ticks == test.feed.rows
    assert [read.first_row for read in reads] == [sum(r.rows for r in reads[:n]) for n in range(len(reads))]
    assert all(not read.rows % 2 for read in reads), "two symbols close at each instant"


@pytest.mark.parametrize("model", [SimModel(), LATE], ids=["at once", "slow broker"])
@pytest.mark.parametrize("symbols", [EQUITIES, ("SPY",)], ids=["two symbols", "one symbol"])
def test_the_fast_path_and_the_general_one_write_the_same_bytes(
    model: SimModel, symbols: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []
    fast = module.Backtest._play_bars
    monkeypatch.setattr(module.Backtest, "_play_bars", lambda self, *args: (played.append("fast"), fast(self, *args)))
    world = World(symbols=symbols, model=model)
    head = world.run(31).journal.head
    assert played
    monkeypatch.setattr(StrategyHost, "warming", property(lambda self: True))
    count = len(played)
    assert world.run(31).journal.head == head
    assert len(played) == count


WHOLE = tape(EQUITIES, 41, 400)


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(cut=st.integers(20, len(WHOLE.bars.ts) - 2), two=st.booleans(), late=st.booleans())
def test_nothing_that_was_decided_depends_on_what_came_later(cut: int, two: bool, late: bool) -> None:
    cut -= cut % 2  # both symbols of an instant

    def play(rows: int) -> list[bytes]:
        played = module.msgspec.structs.replace(WHOLE, bars=WHOLE.bars.take(slice(0, rows)))
        strategies = [Restless(symbols=list(EQUITIES), seed=n) for n in range(1 + two)]
        return lines_of(Backtest(strategies, played, model=LATE if late else SimModel()))

    whole, part = play(len(WHOLE.bars.ts)), play(cut)
    # What was written before the last instant's rows were consumed: numbers run over events and rows.
    known = [line for n, line in enumerate(part, 1) if int(line.split(b" ", 1)[0]) - n < cut - 2]
    assert len(known) > 8
    assert known == whole[: len(known)]
