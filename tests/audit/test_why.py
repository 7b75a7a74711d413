"""Why an order happened, and why none did."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from northstar_core.audit.why import Chain, why
from northstar_core.audit.why_not import why_not
from northstar_core.model import events as e
from northstar_core.model.order import PlaceOrder, Side
from northstar_core.model.tape import BarTable, Tape

D = Decimal
MINUTE = 60_000_000_000
OPEN = 1_700_000_000_000_000_000


def tape(missing: tuple[int, ...] = ()) -> Tape:
    """Nine minutes of SPY from the log's session open, closing at 100.0, 100.1 …; some may be missing."""
    starts = OPEN + np.array([k for k in range(9) if k not in missing], dtype=np.int64) * MINUTE
    n = len(starts)
    close = 100 + np.arange(n) / 10
    bars = BarTable(
        symbols=("SPY",),
        code=np.zeros(n, np.int32),
        start=starts,
        ts=starts + MINUTE,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.full(n, 1e6),
    )
    return Tape(bars=bars, bar_ns=MINUTE)


def texts(chain: Chain) -> list[str]:
    return [step.what for step in chain.steps]


# ── why ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_chain_of_an_order_goes_from_its_tick_to_its_last_fill(log) -> None:
    chain = why(log.lines(), "sma-s1-1")
    assert chain.outcome == "submitted"
    assert texts(chain)[:5] == ["tick", "signal", "intent", "verdict", "submit"]
    assert texts(chain)[5:7] == ["report", "accepted"]
    assert texts(chain)[-1] == "fill"
    assert "fast above slow" in chain.steps[1].text
    assert "100 in all, 0 left" in chain.steps[-1].text


def test_the_causing_tick_is_named_by_file_and_row(log) -> None:
    tick = why(log.lines(), "sma-s1-1").steps[0]
    assert tick.seq == 13
    assert "row 2 of the rows consumed" in tick.text
    assert "spy.csv" in tick.text and "cdcdcdcd" in tick.text


def test_with_the_tape_the_causing_tick_shows_its_values(log) -> None:
    tick = why(log.lines(), "sma-s1-1", tape=tape()).steps[0]
    assert tick.event is not None and tick.event["close"] == 100.2
    assert tick.ts == OPEN + 3 * MINUTE


def test_every_check_shows_its_number_its_limit_and_its_room(log) -> None:
    checks = {check.name: check for check in why(log.lines(), "sma-s1-1").checks}
    assert all(check.outcome == "passed" for check in checks.values())
    notional = checks["strategy's notional"]
    assert (notional.value, notional.limit, notional.headroom) == ("10,000", "50,000", "40,000")
    value = checks["order value at 102"]
    assert (value.value, value.limit, value.headroom) == ("10,200", "60,000", "49,800")
    share = checks["account's symbol exposure"]
    assert (share.value, share.limit, share.headroom) == ("10,000", "60,000", "50,000")
    assert checks["price age, s"].limit == "65"
    assert checks["open orders"].headroom == "9"


def test_a_refused_order_shows_the_check_that_refused_and_what_would_have_passed(log) -> None:
    chain = why(log.lines(), "sma-s1-2")
    assert (chain.outcome, chain.reason, chain.passes_at) == ("denied", "POSITION_QTY_CAP", "200")
    refused = [check for check in chain.checks if check.outcome == "refused"]
    assert [check.name for check in refused] == ["worst case of SPY"]
    assert (refused[0].value, refused[0].limit, refused[0].headroom) == ("550", "300", "-250")
    after = chain.checks[chain.checks.index(refused[0]) + 1 :]
    assert after and {check.outcome for check in after} == {"not reached"}


def test_a_refusal_before_any_price_says_its_detail(log) -> None:
    log.change("big-denied", reason="SYMBOL_HALTED", detail="symbol=SPY", verdict=None, passes_at=None)
    chain = why(log.lines(), "sma-s1-2")
    assert [check.name for check in chain.checks if check.outcome == "refused"] == ["halt"]


def test_requests_about_an_order_and_a_repeated_intent_are_in_its_chain(log) -> None:
    assert {"replace", "replaced", "cancel", "canceled"} <= set(texts(why(log.lines(), "sma-s1-3")))
    assert texts(why(log.lines(), "sma-s1-1")).count("denied") == 2


def test_a_bracket_exit_is_in_the_chain_of_its_entry(log) -> None:
    child = PlaceOrder(OPEN, "sma-s1-9", "sma", "sim-1", "SPY", Side.SELL, D(1), parent="sma-s1-1")
    log.insert("fill2", "exit", child, "fill2")
    assert any("exit of sma-s1-1" in step.text for step in why(log.lines(), "sma-s1-1").steps)


def test_a_chain_prints_as_text_and_as_json(log) -> None:
    chain = why(log.lines(), "sma-s1-1")
    assert "strategy's notional" in "\n".join(chain.lines())
    assert json.loads(json.dumps(chain.as_dict()))["steps"][3]["what"] == "verdict"


def test_an_order_nobody_asked_for_is_unknown(log) -> None:
    chain = why(log.lines(), "sma-s1-99")
    assert chain.outcome == "unknown"
    assert chain.lines() == ["order sma-s1-99: the log has no such order"]


# ── why not ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(log, minutes: float, *, strategy: str = "sma", symbol: str = "SPY", **more):
    return why_not(log.lines(), strategy, symbol, OPEN + int(minutes * MINUTE), **more)


def test_an_order_that_was_placed_is_pointed_at(log) -> None:
    answer = ask(log, 3)
    assert answer.kind == "order placed"
    assert answer.order_id == "sma-s1-1"


def test_a_refused_order_says_which_check_and_at_which_quantity_it_would_have_passed(log) -> None:
    log.remove("b-intent", "sma-s1-3-submit")
    answer = ask(log, 6)
    assert (answer.kind, answer.reason, answer.passes_at) == ("denied", "POSITION_QTY_CAP", "200")
    assert "200 would have passed" in answer.text
    assert answer.seq == log.seq("big-denied")
    assert any("held 100 SPY" in line for line in answer.context)


def test_no_signal_gives_its_reason_and_the_values_seen(log) -> None:
    log.remove("big-intent", "big-denied", "b-intent", "sma-s1-3-submit")
    answer = ask(log, 6)
    assert (answer.kind, answer.reason) == ("no signal", "fast below slow")
    assert answer.inputs == {"fast": 99.0, "slow": 99.4}


def test_between_two_records_the_reason_still_holds(log) -> None:
    log.remove("big-intent", "big-denied", "b-intent", "sma-s1-3-submit", "open-intent", "sma-s1-4-submit")
    answer = ask(log, 6.9)
    assert answer.kind == "no signal"
    assert "since 2023-11-14" in answer.text


def test_between_two_records_a_replay_is_asked(log) -> None:
    log.remove("big-intent", "big-denied", "b-intent", "sma-s1-3-submit", "open-intent", "sma-s1-4-submit")
    asked = []

    def replay(ts: int) -> e.NoSignal:
        asked.append(ts)
        return e.NoSignal(ts, "sma", "SPY", 3, "fast below slow", {"fast": 98.0, "slow": 99.3})

    log.change("end", ts=OPEN + 9 * MINUTE)
    log.change("stopped", ts=OPEN + 9 * MINUTE)
    answer = ask(log, 8.5, replay=replay, tape=tape())
    assert answer.kind == "re-derived"
    assert answer.inputs == {"fast": 98.0, "slow": 99.3}
    assert asked == [OPEN + 8 * MINUTE]  # the bar that was known then


def test_a_signal_without_an_order_is_told_apart(log) -> None:
    log.remove("a-intent", "sma-s1-1-submit", "again", "other")
    answer = ask(log, 3)
    assert (answer.kind, answer.reason) == ("signal without order", "fast above slow")


def test_while_warming_up_the_bars_seen_are_counted(log) -> None:
    answer = ask(log, 2, tape=tape())
    assert answer.kind == "warm-up"
    assert "2 bars of SPY seen, 2 wanted" in answer.text


def test_a_bar_that_is_missing_is_no_data(log) -> None:
    log.remove("big-intent", "big-denied", "b-intent", "sma-s1-3-submit", "quiet", "open-intent", "sma-s1-4-submit")
    for name in ("cancel-intent", "replace-intent"):
        log.entries[name].cause = 13
    answer = ask(log, 6.5, tape=tape(missing=(5,)))
    assert answer.kind == "no data"
    assert "did not trade" in answer.text


@pytest.mark.parametrize(
    ("minutes", "more", "kind"),
    [
        (-1, {}, "not started"),
        (500, {}, "ended"),
        (3, {"strategy": "nobody"}, "unknown"),
        (3, {"symbol": "QQQ"}, "unknown"),
        (0.5, {"tape": tape()}, "no data"),
        (1, {}, "nothing recorded"),
    ],
)
def test_other_times_and_names_are_answered_for_what_they_are(log, minutes, more, kind) -> None:
    assert ask(log, minutes, **more).kind == kind


def test_outside_the_session_it_was_closed(log) -> None:
    for name in ("stopped", "end", "read2"):
        log.change(name, ts=OPEN + 400 * MINUTE)
    assert ask(log, 395).kind == "session closed"


def test_an_answer_prints_as_text_and_as_json(log) -> None:
    answer = ask(log, 3)
    assert answer.lines()[0].startswith("order placed: ")
    assert msgspec.json.decode(msgspec.json.encode(answer.as_dict()))["order_id"] == "sma-s1-1"
