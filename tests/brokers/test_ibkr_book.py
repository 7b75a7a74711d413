"""What rows and executions of Interactive Brokers lead to: the same claims whichever came first, twice or in pieces."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.brokers.base import Claim
from northstar_core.brokers.ibkr.book import Book
from northstar_core.brokers.ibkr.contracts import Contracts
from northstar_core.brokers.ibkr.life import Life
from northstar_core.brokers.ibkr.lives import SECOND, SETTLE_S
from northstar_core.brokers.ibkr.orders import Terms
from northstar_core.brokers.ibkr.wire import Unreadable
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecutionReport
from northstar_core.model.order import OrderType, PlaceOrder, Side
from northstar_core.model.order_ids import client_order_id
from northstar_core.model.world import AlertRaised, ExternalOrder

T0 = 1_780_320_600 * SECOND
ORDER = PlaceOrder(T0, "spy-20260601abc-1", "spy", "live-1", "SPY", Side.BUY, Decimal(10), OrderType.LIMIT, Decimal("600.10"))
REF = client_order_id(ORDER.order_id)
ID = 912_091_175
LATER = T0 + (SETTLE_S + 1) * SECOND


def book(*orders: PlaceOrder, sent: bool = True) -> Book:
    made = Book("live-1", "DU1", Contracts({"SPY": 756733}), {o.order_id: o for o in orders or (ORDER,)}.get, T0)
    for order in (orders or (ORDER,)) if sent else ():
        made.lives.begin(order, T0)
    return made


def row(**fields: Any) -> dict[str, Any]:
    """A partial row."""
    return {"acct": "DU1", "orderId": ID, **fields}


def full(status: str, filled: int = 0, **fields: Any) -> dict[str, Any]:
    """A whole row."""
    return row(
        status=status, filledQuantity=float(filled), totalSize=10.0, sizeAndFills=f"{filled}/10", price="600.10", order_ref=REF,
        conid=756733, ticker="SPY", side="BUY", orderDesc="Buy 10 SPY", **fields,
    )  # fmt: skip


def execution(n: int, qty: float, commission: str | None = None, revision: int = 1, price: str = "600.00", **fields: Any) -> dict[str, Any]:
    """One copy of an execution."""
    made = {
        "execution_id": f"0000e0d5.65a1b2c{n}.01.{revision:02d}", "symbol": "SPY", "side": "B", "size": qty, "price": price,
        "trade_time_r": (T0 // SECOND + n) * 1000, "order_ref": REF, "order_id": ID, "account": "DU1", "conid": 756733, "sec_type": "STK",
        **fields,
    }  # fmt: skip
    return made if commission is None else {**made, "commission": commission}


def told(made: Book, messages: list[dict[str, Any]], now: int = T0) -> list[Claim]:
    out: list[Claim] = []
    for message in messages:
        out += made.trade(message, now) if "execution_id" in message else made.row(message, now)
    return out


def summary(claims: list[Claim]) -> tuple[Any, ...]:
    """What claims amount to: what happened to the order, shares, and cash."""
    reports = [c for c in claims if isinstance(c, ExecutionReport)]
    acts = [c for c in claims if isinstance(c, AccountActivity)]
    assert len({c.exec_id for c in reports if c.exec_id}) == len([c for c in reports if c.exec_id])
    assert len({c.record_id for c in acts}) == len(acts)
    cash = sum((c.cash for c in acts), Decimal(0)) - sum((c.qty * c.price for c in reports), Decimal(0))
    shares = sum((c.qty for c in (*reports, *acts)), Decimal(0))
    return sorted((c.exec_type.value, c.exec_id) for c in reports), shares, cash


# ── any order ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PATH = [
    row(status="Inactive"), row(isEventTrading="0"), row(status="PendingSubmit"), row(status="PreSubmitted"), full("Submitted"),
]  # fmt: skip
FILLED = [row(filledQuantity=4.0), row(status="Filled", filledQuantity=10.0, sizeAndFills="10/10")]
CANCELLED = [row(filledQuantity=4.0), full("PendingCancel", 4), row(status="Cancelled", filledQuantity=4.0, order_ccp_status="Cancelled")]
FIRST = [execution(1, 4.0), execution(1, 4.0, "1.0")]
SECOND_FILL = [execution(2, 6.0), execution(2, 6.0, "0.5")]


@settings(max_examples=300, deadline=None)
@given(st.permutations([*PATH, *FILLED, *FIRST, *SECOND_FILL]), st.data())
def test_a_filled_order_is_the_same_whatever_came_first_or_twice(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    twice = data.draw(st.lists(st.sampled_from(messages), max_size=6))
    made = book()
    made.lives.bind(made.lives.lives[ORDER.order_id], ID)
    kinds, shares, cash = summary(told(made, [*messages, *twice]))
    assert [kind for kind, _ in kinds] == ["NEW", "TRADE", "TRADE"]
    assert (shares, cash) == (10, Decimal("-6001.5"))
    assert not made.open_orders()


@settings(max_examples=300, deadline=None)
@given(st.permutations([*PATH, *CANCELLED, *FIRST]), st.data())
def test_a_cancelled_order_is_the_same_whatever_came_first_or_twice(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    twice = data.draw(st.lists(st.sampled_from(messages), max_size=6))
    made = book()
    made.lives.bind(made.lives.lives[ORDER.order_id], ID)
    claims = told(made, [*messages, *twice])
    kinds, shares, cash = summary(claims)
    assert [kind for kind, _ in kinds] == ["CANCELED", "NEW", "TRADE"]
    assert (shares, cash) == (4, Decimal("-2401"))


@settings(max_examples=200, deadline=None)
@given(
    st.permutations(
        [execution(1, 10.0), execution(1, 10.0, "1.0"), execution(1, 10.0, None, 2, "599.90"), execution(1, 10.0, "1.0", 2, "599.90")]
    )
)
def test_a_correction_leads_to_the_corrected_books_whichever_copy_came_first(messages: list[dict[str, Any]]) -> None:
    claims = told(book(), messages)
    _, shares, cash = summary(claims)
    assert (shares, cash) == (10, Decimal("-6000"))
    assert [c for c in claims if isinstance(c, AlertRaised) and c.severity == "critical"]


@settings(max_examples=100, deadline=None)
@given(st.permutations([*PATH, *FILLED, *FIRST, *SECOND_FILL]), st.integers(0, 11))
def test_a_restart_anywhere_books_nothing_twice_and_loses_nothing(messages: list[dict[str, Any]], cut: int) -> None:
    first, second = book(), book(sent=False)
    claims = [*told(first, messages[:cut]), *told(second, [full("Filled", 10), *FIRST, *SECOND_FILL])]
    once: dict[Any, Claim] = {}
    for claim in claims:
        key = claim.record_id if isinstance(claim, AccountActivity) else getattr(claim, "exec_id", "") or id(claim)
        once.setdefault(key, claim)
    _, shares, cash = summary(list(once.values()))
    assert (shares, cash) == (10, Decimal("-6001.5"))


# ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def kinds(claims: list[Claim]) -> list[str]:
    return [c.exec_type.value for c in claims if isinstance(c, ExecutionReport)]


def life(made: Book) -> Life:
    return made.lives.lives[ORDER.order_id]


def test_partial_rows_are_merged_by_the_broker_s_id() -> None:
    made = book()
    assert kinds(told(made, [full("Submitted"), row(filledQuantity=4.0), row(avgPrice="600.00")])) == ["NEW"]
    assert (life(made).status, life(made).filled) == ("Submitted", 4)


def test_inactive_without_words_is_no_rejection() -> None:
    made = book()
    assert told(made, [full("Inactive")]) == []
    assert made.page(life(made), {"order_status": "Inactive"}, T0) == []
    assert kinds(made.page(life(made), {"order_status": "Inactive"}, LATER)) == ["UNKNOWN"]
    assert made.page(life(made), {"order_status": "Inactive"}, LATER) == []


@pytest.mark.parametrize("words", [f"order {ID}: no shares to borrow", "Your order was refused: no shares to borrow"])
def test_inactive_with_the_broker_s_words_is_a_rejection_once_it_was_asked_for(words: str) -> None:
    made = book()
    told(made, [full("Inactive")])
    made.notice({"id": "1", "text": words}, T0 + 1)
    assert made.wanted(T0 + 1).pages == (life(made),)
    (claim,) = made.page(life(made), {"order_status": "Inactive"}, T0 + 2)
    assert isinstance(claim, ExecutionReport)
    assert (claim.exec_type, claim.text) == ("REJECTED", words)


def test_words_about_another_order_reject_nothing() -> None:
    other = PlaceOrder(T0, "spy-20260601abc-2", "spy", "live-1", "SPY", Side.BUY, Decimal(10))
    made = book(ORDER, other)
    told(made, [full("Inactive"), {**full("Submitted"), "orderId": 7, "order_ref": client_order_id(other.order_id)}])
    made.notice({"id": "1", "text": "order 7: will be held until the open"}, T0 + 1)
    assert made.page(life(made), {"order_status": "Inactive"}, T0 + 2) == []


def test_the_end_waits_for_its_executions_but_not_for_ever() -> None:
    made = book()
    claims = told(made, [full("Submitted"), row(status="Cancelled", filledQuantity=4.0)])
    assert kinds(claims) == ["NEW"]
    assert made.wanted(T0).trades
    claims = made.tick(LATER)
    assert kinds(claims) == ["CANCELED"]
    assert any(isinstance(claim, AlertRaised) for claim in claims)


def test_a_fill_that_overtakes_a_cancel_fills_the_order() -> None:
    made = book()
    claims = told(made, [full("Submitted"), row(status="PendingCancel"), execution(1, 10.0), row(status="Filled")])
    assert kinds(claims) == ["NEW", "TRADE"]


def test_an_order_lost_sight_of_is_claimed_anew_by_the_first_row_that_shows_it() -> None:
    made = book()
    made.lives.lose(life(made), "submit", "no answer", T0)
    assert made.wanted(T0).rows
    assert kinds(told(made, [full("Submitted")])) == ["NEW"]


def test_a_cancel_in_doubt_is_decided_by_what_was_asked_for_only() -> None:
    made = book()
    told(made, [full("Submitted")])
    made.lives.lose(life(made), "cancel", "no answer", T0)
    assert told(made, [full("Submitted")]) == []
    assert kinds(made.row(full("Submitted"), T0, asked=True)) == ["CANCEL_REJECTED"]


def test_a_replace_holds_when_a_row_shows_its_terms() -> None:
    made = book()
    told(made, [full("Submitted")])
    made.lives.replace(life(made), Terms(Decimal(20), Decimal("601.00"), None), T0)
    assert told(made, [row(totalSize=20.0)]) == []
    assert kinds(told(made, [row(price="601.00")])) == ["REPLACED"]


def test_a_replace_that_shows_no_effect_is_refused_only_some_time_later() -> None:
    made = book()
    told(made, [full("Submitted")])
    made.lives.replace(life(made), Terms(Decimal(20), Decimal("601.00"), None), T0)
    assert made.row(full("Submitted"), T0 + SECOND, asked=True) == []
    assert kinds(made.row(full("Submitted"), T0 + 3 * SECOND, asked=True)) == ["REPLACE_REJECTED"]


def test_a_zero_commission_is_no_fee_and_a_commission_that_changes_is_an_alert() -> None:
    made = book()
    claims = told(made, [execution(1, 10.0, "0"), execution(1, 10.0, "0.0")])
    assert not [c for c in claims if isinstance(c, AccountActivity)]
    (alert,) = told(made, [execution(1, 10.0, "1.0")])
    assert isinstance(alert, AlertRaised)


def test_a_bust_takes_the_shares_back() -> None:
    claims = told(book(), [execution(1, 10.0), execution(1, 0.0, None, 2)])
    _, shares, cash = summary(claims)
    assert (shares, cash) == (0, 0)


def test_a_correction_made_while_nobody_listened_is_not_booked_on_a_guess() -> None:
    made = book()
    made.fills.known = {("live-1", "0000e0d5.65a1b2c1.01.01")}
    claims = told(made, [execution(1, 10.0, None, 2, "599.90")])
    assert not [c for c in claims if isinstance(c, AccountActivity)]
    assert any(isinstance(c, AlertRaised) and "while nobody listened" in c.text for c in claims)


def test_ids_that_count_no_corrections_are_whole_ids() -> None:
    one, two = execution(1, 4.0, execution_id="F-77.01"), execution(2, 6.0, execution_id="F-77.02")
    assert kinds(told(book(), [one, two])) == ["NEW", "TRADE", "TRADE"]


def test_rows_and_executions_of_another_account_are_passed_over() -> None:
    made = book()
    assert told(made, [{**full("Submitted"), "acct": "DU2"}, execution(1, 4.0, account="DU2")]) == []


def test_an_order_of_others_is_external_and_shown_when_it_changes() -> None:
    made = book()
    other = {**full("Submitted"), "orderId": 7, "order_ref": "somebody"}
    first = told(made, [other, other, {"acct": "DU1", "orderId": 7, "avgPrice": "1"}])
    second = told(made, [{"acct": "DU1", "orderId": 7, "status": "Cancelled"}])
    assert [type(c) for c in (*first, *second)] == [ExternalOrder, ExternalOrder]
    assert isinstance(second[0], ExternalOrder) and second[0].status == "Cancelled"


def test_a_row_without_an_id_of_its_client_waits_while_an_order_of_ours_is_on_its_way() -> None:
    made = book()
    made.submitting = 1
    nameless = {key: value for key, value in full("Submitted").items() if key != "order_ref"}
    assert told(made, [nameless]) == []
    assert kinds(made.placed(life(made), ID, "Submitted", "", T0)) == ["NEW"]


def test_executions_of_others_count_from_when_reading_began() -> None:
    made = book()
    old, new = execution(1, 4.0, order_ref="", order_id=7, trade_time_r=T0 // 10**6 - 1000), execution(2, 6.0, order_ref="", order_id=7)
    (claim,) = told(made, [old, new])
    assert isinstance(claim, AccountActivity)
    assert (claim.kind, claim.strategy, claim.qty, claim.cash) == (ActivityKind.EXTERNAL, "external", 6, Decimal(-3600))


def test_a_combo_is_booked_leg_by_leg_and_its_own_row_is_not() -> None:
    legs = "SPY260619C00600000", "SPY260619C00610000"
    symbol = f"1*{legs[0]},-2*{legs[1]}"
    order = PlaceOrder(T0, ORDER.order_id, "spy", "live-1", symbol, Side.BUY, Decimal(1), OrderType.LIMIT, Decimal(4))
    made = book(order)
    one = execution(1, 1.0, conid=1, sec_type="OPT", symbol="SPY")
    two = execution(2, 2.0, conid=2, sec_type="OPT", symbol="SPY", side="S")
    whole = execution(3, 1.0, conid=28812380, sec_type="BAG", conidEx="28812380;;;1/1,2/-2")
    assert kinds(told(made, [one, two, whole])) == []
    assert made.wanted(T0).conids == (1, 2)
    for conid, leg in zip((1, 2), legs, strict=True):
        made.contracts.learn(leg, conid)
    claims = made.named(T0)
    assert [c.symbol for c in claims if isinstance(c, ExecutionReport) and c.exec_id] == list(legs)
    assert made.fills.filled(order) == 1


def test_sizes_with_thousands_separators_are_read_and_nonsense_is_not() -> None:
    made = book()
    told(made, [{**full("Submitted"), "totalSize": "1,000"}])
    assert life(made).size == 1000
    for bad in ({"orderId": ID, "totalSize": "many"}, {"acct": "DU1"}, {"orderId": "x"}, {"orderId": ID, "filledQuantity": True}):
        with pytest.raises(Unreadable):
            made.row(bad, T0)
    for field, value in (("size", -1), ("side", "?"), ("price", "NaN"), ("execution_id", "")):
        with pytest.raises(Unreadable):
            made.trade(execution(9, 1.0, **{field: value}), T0)
