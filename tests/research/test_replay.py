"""A replay derives the record again, or says where it left it."""

from __future__ import annotations

from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.research.backtest import Backtest
from northstar_core.research.replay import compare, reason_at, replayed_lines
from northstar_core.strategy.context import Context
from tests.research.markets import FIRST, FREE, MINUTE, Told, at, market

UP = {"SPY": [(100.0 + k, 100.5 + k) for k in range(6)]}


def made(act: Any = None) -> Backtest:
    return Backtest(Told(act or at(1, lambda ctx: ctx.buy("SPY", 10))), market(UP), model=FREE)


def recorded(act: Any = None) -> list[bytes]:
    return list(replayed_lines(made(act)))


def test_the_same_run_is_derived_again_decision_by_decision() -> None:
    lines = recorded()
    comparison = compare(lines, replayed_lines(made()))
    assert comparison.identical
    assert (comparison.lines, comparison.decisions, comparison.difference) == (len(lines), 2, None)
    assert lines == made_lines()


def made_lines() -> list[bytes]:
    test = made()
    test.run()
    return test.journal.lines()


def test_the_first_difference_is_named() -> None:
    comparison = compare(recorded(), replayed_lines(made(at(1, lambda ctx: ctx.buy("SPY", 11)))))
    assert not comparison.identical
    assert comparison.difference is not None
    assert '"qty":"10"' in comparison.difference.recorded
    assert '"qty":"11"' in comparison.difference.replayed
    assert comparison.decisions == 0


@pytest.mark.parametrize("short", ["recorded", "replayed"])
def test_a_log_that_ends_early_differs_where_it_ends(short: str) -> None:
    lines = recorded()
    ours, theirs = (lines[:-1], lines) if short == "recorded" else (lines, lines[:-1])
    difference = compare(ours, theirs).difference
    assert difference is not None
    assert getattr(difference, short) == ""
    assert difference.seq == int(lines[-1].split(b" ")[0])


def says(ctx: Context, event: Any) -> None:
    """Calm, calm, a signal on the third bar, and tired ever after."""
    if type(event).__name__ != "Bar":
        return
    minute = (event.ts - FIRST) // MINUTE
    if minute == 3:
        ctx.no_signal("SPY", "calm", close=event.close)
        ctx.signal("SPY", "now", event.close)
    else:
        ctx.no_signal("SPY", "calm" if minute < 3 else "tired", close=event.close)


@pytest.mark.parametrize(("minute", "kind", "reason", "close"), [
    (1, e.NoSignal, "calm", 100.5), (2, e.NoSignal, "calm", 101.5), (3, e.Signal, "now", 102.5),
    (4, e.NoSignal, "tired", 103.5), (6, e.NoSignal, "tired", 105.5), (99, e.NoSignal, "tired", 105.5),
])  # fmt: skip
def test_what_a_strategy_last_said_is_derived_also_where_it_was_not_written_down(
    minute: int, kind: type, reason: str, close: float
) -> None:
    said = reason_at(made(says), "told", "SPY", FIRST + minute * MINUTE)
    assert isinstance(said, kind)
    assert said.reason == reason
    assert (said.value if isinstance(said, e.Signal) else said.inputs["close"]) == close


def test_a_strategy_that_said_nothing_by_then_has_no_reason() -> None:
    assert reason_at(made(says), "told", "SPY", FIRST) is None
    assert reason_at(made(says), "told", "QQQ", FIRST + 9 * MINUTE) is None


def test_listening_to_reasons_changes_nothing_on_the_record() -> None:
    probed = made(says)
    probed.hosts["told"].probe = lambda record: None
    probed.run()
    assert probed.journal.lines() == recorded(says)
