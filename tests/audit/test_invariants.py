"""One corrupted log an invariant: the right one is named, at the right place."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from northstar_core.audit.report import INVARIANTS
from northstar_core.audit.verify import verify
from northstar_core.model import events as e
from northstar_core.model.account import SessionRule
from northstar_core.model.denial import DenialReason
from northstar_core.model.execution import HeldPosition, OpenOrder
from northstar_core.model.journal import books_digest
from northstar_core.model.order import OrderStatus, Side

D = Decimal
STRATEGY_SCOPE, ACCOUNT_SCOPE = "limits strategy:sma", "limits account:sim-1"
CASES: list[tuple[str, str, Callable, str]] = []


def corrupts(invariant: str, place: str) -> Callable[[Callable], Callable]:
    """Register a corruption: the invariant it breaks first at the entry of this name."""

    def register(corrupt: Callable) -> Callable:
        CASES.append((invariant, place, corrupt, f"{invariant}-{corrupt.__name__}"))
        return corrupt

    return register


def limit(log, **limits) -> None:
    log.change(STRATEGY_SCOPE, **{f"strategy_limits__{name}": value for name, value in limits.items()})


def account_limit(log, **limits) -> None:
    log.change(ACCOUNT_SCOPE, **{f"account_limits__{name}": value for name, value in limits.items()})


# ── L ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@corrupts("L1", "read1")
def more_rows_declared_than_numbers(log):
    log.change("read1", rows=5)


@corrupts("L1", "read2")
def rows_do_not_follow_on(log):
    log.change("read2", first_row=7)


@corrupts("L6", "snapshot")
def snapshot_with_other_cash(log):
    books = msgspec.structs.replace(log.entries["snapshot"].event.books, cash={"sim-1": D(1)})
    log.change("snapshot", books=books, digest=books_digest(books))


@corrupts("L6", "snapshot")
def snapshot_with_another_digest(log):
    log.change("snapshot", digest="0" * 64)


@corrupts("L6", "snapshot")
def snapshot_without_its_working_order(log):
    books = msgspec.structs.replace(log.entries["snapshot"].event.books, orders=())
    log.change("snapshot", books=books, digest=books_digest(books))


@corrupts("L7", "fill1")
def fact_without_a_cause(log):
    log.entries["fill1"].cause = 0


@corrupts("L7", "a-intent")
def cause_that_comes_later(log):
    log.entries["a-intent"].cause = "end"


# ── O ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def copy(log, name: str, after: str, **fields) -> None:
    log.insert(after, "copy", log.entries[name].event, log.entries[name].cause)
    log.change("copy", **fields)


@corrupts("O1", "copy")
def order_submitted_twice(log):
    copy(log, "sma-s1-1-submit", "sma-s1-1-accepted")


@corrupts("O1", "broker")
def broker_works_an_order_of_nobody(log):
    log.change("broker", orders=(OpenOrder("manual-7", OrderStatus.NEW, D(5)),))


@corrupts("O2", "sma-s1-3-accepted")
def order_that_was_never_submitted(log):
    log.remove("sma-s1-3-submit", "sma-s1-3-new")
    log.entries["sma-s1-3-accepted"].cause = 1


@corrupts("O3", "sma-s1-1-submit")
def submitted_with_another_quantity(log):
    log.change("sma-s1-1-submit", order__qty=D(99))


@corrupts("O3", "copy")
def sent_again_with_other_content(log):
    copy(log, "sma-s1-1-submit", "sma-s1-1-accepted", order__qty=D(99))


@corrupts("O4", "copy")
def sent_again_after_the_broker_had_it(log):
    copy(log, "sma-s1-1-submit", "sma-s1-1-accepted")


@corrupts("O5", "copy")
def accepted_after_it_was_filled(log):
    copy(log, "sma-s1-1-accepted", "fill2")


@corrupts("O6", "copy")
def cancelled_twice(log):
    copy(log, "canceled", "canceled")


@corrupts("O6", "late")
def fill_after_the_end_not_marked_late(log):
    log.change("late", late=False)


@corrupts("O6", "copy")
def submitted_after_it_had_ended(log):
    copy(log, "sma-s1-1-submit", "fill2")


@corrupts("O7", "other-denied")
def other_content_passed_for_a_duplicate(log):
    log.change("other-denied", reason=DenialReason.ORDER_ID_DUPLICATE)


@corrupts("O7", "again-denied")
def decided_twice(log):
    log.change("again-denied", reason=DenialReason.BUYING_POWER)


@corrupts("O9", "canceled")
def cancelled_without_the_brokers_word(log):
    log.entries["canceled"].cause = "cancel"


@corrupts("O9", "expired")
def expired_on_a_report_of_something_else(log):
    log.entries["expired"].cause = "sma-s1-4-new"


# ── P ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@corrupts("P1", "fill2")
def fill_on_the_other_side(log):
    log.change("fill2", side=Side.SELL)


@corrupts("P1", "fill2")
def fill_at_another_price_than_reported(log):
    log.change("fill2", price=D("100.3"))


@corrupts("P1", "fill2")
def fill_of_another_symbol(log):
    log.change("fill2", symbol="QQQ")


@corrupts("P2", "fill2")
def execution_booked_twice(log):
    log.change("fill2-report", exec_id="x-fill1")
    log.change("fill2", exec_id="x-fill1")


@corrupts("P3", "fill2")
def filled_beyond_what_was_ordered(log):
    log.change("fill2-report", qty=D(70))
    log.change("fill2", qty=D(70), cum_qty=D(110), leaves_qty=D(-10))


@corrupts("P3", "canceled")
def ended_with_another_filled_quantity(log):
    log.change("canceled", cum_qty=D(31))


@corrupts("P4", "reconciled")
def broker_has_two_cents_more(log):
    log.change("broker", cash=log.entries["broker"].event.cash + D("0.02"))


@corrupts("P4", "reconciled")
def broker_has_another_position(log):
    log.change("broker", positions=(HeldPosition("SPY", D(61)),))


@corrupts("P5", "fill2")
def fill_booked_to_another_account(log):
    log.change("fill2", account="sim-2")


@corrupts("P5", "snapshot")
def snapshot_with_a_strategy_that_holds_more(log):
    held = (e.Holding("sim-1", "sma", "SPY", D(60)), e.Holding("sim-1", "zeta", "SPY", D(1)))
    books = msgspec.structs.replace(log.entries["snapshot"].event.books, holdings=held)
    log.change("snapshot", books=books, digest=books_digest(books))


# ── R ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@corrupts("R1", "sma-s1-1-submit")
def notional_stored_too_low(log):
    log.change("sma-s1-1-submit", verdict__notional=9999.999999)


@corrupts("R1", "sma-s1-1-submit")
def notional_over_the_cap(log):
    limit(log, max_notional=D(9_999))


@corrupts("R1", "sma-s1-4-submit")
def verdict_with_another_position(log):
    legs = log.entries["sma-s1-3-submit"].event.verdict.legs
    log.change("sma-s1-4-submit", verdict__legs=legs)


@corrupts("R1", "sma-s1-1-submit")
def price_left_out(log):
    log.change("sma-s1-1-submit", verdict__prices={})


@corrupts("R2", "sma-s1-1-submit")
def position_over_its_limit(log):
    limit(log, max_position_qty=D(99))


@corrupts("R3", "sma-s1-1-submit")
def gross_stored_too_low(log):
    log.change("sma-s1-1-submit", verdict__gross=1.0)


@corrupts("R3", "sma-s1-1-submit")
def gross_over_the_cap(log):
    account_limit(log, max_gross=D(9_999))


@corrupts("R3", "sma-s1-1-submit")
def net_over_the_cap(log):
    account_limit(log, max_net=D(9_999))


@corrupts("R3", "sma-s1-1-submit")
def symbol_over_its_share(log):
    account_limit(log, max_symbol_share=D("0.0999"))


@corrupts("R3", "sma-s1-1-submit")
def more_than_buying_power(log):
    # The order's 100 shares at 102, the reserve included, need 10,200 of 100,000.
    account_limit(log, leverage=D("0.1019"))


@corrupts("R3", "sma-s1-3-submit")
def equity_stored_too_high(log):
    log.change("sma-s1-3-submit", verdict__equity=1e9)


@corrupts("R4", "sma-s1-1-submit")
def order_over_its_quantity(log):
    limit(log, max_order_qty=D(99))


@corrupts("R4", "sma-s1-1-submit")
def order_over_its_value(log):
    limit(log, max_order_value=D(10_199))


@corrupts("R4", "sma-s1-3-submit")
def limit_beyond_the_collar(log):
    for name in ("b-intent", "sma-s1-3-submit"):
        fields = {"limit_price": D("89.75")}
        log.change(
            name, **(fields if name == "b-intent" else {f"order__{key}": value for key, value in fields.items()})
        )
    log.change("sma-s1-3-submit", verdict__worst_price=D("89.75"), verdict__value=D("4487.50"))


@corrupts("R4", "sma-s1-3-submit")
def price_between_ticks(log):
    log.change("b-intent", limit_price=D("101.253"))
    log.change(
        "sma-s1-3-submit",
        order__limit_price=D("101.253"),
        verdict__worst_price=D("101.253"),
        verdict__value=D("5062.65"),
    )


@corrupts("R4", "sma-s1-1-submit")
def reference_price_too_old(log):
    log.change("sma-s1-1-submit", verdict__ref_ts=log.entries["sma-s1-1-submit"].event.verdict.ref_ts - 66 * 10**9)


@corrupts("R4", "sma-s1-1-submit")
def reference_price_from_the_future(log):
    log.change("sma-s1-1-submit", verdict__ref_ts=log.entries["sma-s1-1-submit"].event.verdict.ref_ts + 1)


@corrupts("R4", "sma-s1-1-submit")
def reference_price_of_another_moment(log):
    log.change("sma-s1-1-submit", verdict__ref=99.0)


@corrupts("R4", "sma-s1-1-submit")
def outside_the_session(log):
    log.remove("open")


@corrupts("R4", "sma-s1-1-submit")
def outside_the_universe(log):
    log.change("granted", symbols=("QQQ",))


@corrupts("R4", "sma-s1-1-submit")
def order_between_lots(log):
    log.change("a-intent", qty=D("99.5"))
    log.change("sma-s1-1-submit", order__qty=D("99.5"))


@pytest.mark.parametrize(("invariant", "place", "corrupt"), [c[:3] for c in CASES], ids=[c[3] for c in CASES])
def test_a_corrupted_log_names_the_invariant_and_the_place(log, invariant, place, corrupt) -> None:
    corrupt(log)
    report = verify(log.lines(), head=log.head)
    assert report.exit_code == 1
    assert report[invariant].first_seq == log.seq(place), "\n".join(report.lines())
    assert report[invariant].detail


def test_every_invariant_but_the_chain_has_a_corrupted_log() -> None:
    assert {case[0] for case in CASES} | {"L2"} == set(INVARIANTS)


# ── what is allowed ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_honest_log_holds_every_invariant(log) -> None:
    for rows in (log.lines(), log.rows()):
        report = verify(rows, head=log.head)
        assert report.exit_code == 0, "\n".join(report.lines())
        assert all(finding.checked for finding in report.findings)
        assert not report.notes


def test_an_order_a_rule_changed_is_what_was_intended(log) -> None:
    log.change("a-intent", qty=D(120))
    log.change("sma-s1-1-submit", verdict__rules=("half-size: qty 120 -> 100",))
    for name in ("again", "other"):
        log.remove(name, f"{name}-denied")
    report = verify(log.lines(), head=log.head)
    assert report["O3"].violated == 0


def test_a_reducing_order_may_leave_while_its_strategy_is_over_the_cap(log) -> None:
    log.insert("quiet", "tighter", log.entries[STRATEGY_SCOPE].event, "quiet")
    log.change("tighter", strategy_limits__max_notional=D(5_000))
    log.remove("open-intent", "sma-s1-4-submit", "sma-s1-4-new", "sma-s1-4-accepted", "expired-report", "expired")
    report = verify(log.lines(), head=log.head)
    assert report["R1"].violated == 0


def test_with_daily_bars_an_order_is_queued_outside_the_session_on_an_older_price(log) -> None:
    limit(log, session=SessionRule.QUEUE)
    log.remove("open")
    log.change("sma-s1-1-submit", verdict__ref_ts=log.entries["sma-s1-1-submit"].event.verdict.ref_ts - 3600 * 10**9)
    report = verify(log.lines(), head=log.head)
    assert report["R4"].violated == 0


def test_the_digest_of_the_tape_is_compared_where_the_tape_is_at_hand(log) -> None:
    of_rows = {(0, 4): "d1", (4, 5): "other"}
    report = verify(log.lines(), head=log.head, tape_digest=lambda first, rows: of_rows[first, rows])
    assert report["L2"].first_seq == log.seq("read2")
    assert "rows 4 to 8" in report["L2"].detail


def test_a_run_that_was_cut_off_verifies_as_far_as_it_got(log) -> None:
    report = verify(log.lines()[:20])
    assert report.exit_code == 0
    assert any("tail" in note for note in report.notes)


@pytest.mark.parametrize("rows", [[], [b"not a journal line"]])
def test_what_is_no_log_could_not_be_verified(rows) -> None:
    assert verify(rows).exit_code == 2
