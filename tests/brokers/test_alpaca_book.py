"""What an order's claims are, whatever is heard of it first, twice, late or never."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.brokers.alpaca.book import Book
from northstar_core.brokers.alpaca.wire import Event, Fill, Row
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.world import AlertRaised, ExternalOrder
from tests.brokers.alpaca_lives import SECOND, T0, Life, Piece, order

ACCOUNT = "live-1"


def book_of(*orders: PlaceOrder, since: int = 0) -> Book:
    known = {o.order_id: o for o in orders}
    book = Book(ACCOUNT, known.get, since)
    for o in orders:
        book.begin(o)
    return book


def heard(book: Book, pieces: Iterable[Piece]) -> list[object]:
    out: list[object] = []
    for piece in pieces:
        if isinstance(piece, Row):
            out += book.row(piece, T0)
        elif isinstance(piece, Event):
            out += book.event(piece)
        else:
            out += book.fill(piece)
    return out


def facts(claims: Iterable[object]) -> list[tuple[object, ...]]:
    """What was claimed, in any order, without the times at which an acknowledgement became known."""
    return sorted(
        (c.order_id, c.exec_type, c.exec_id, c.symbol, str(c.side), c.qty, c.price, c.text)
        for c in claims
        if isinstance(c, ExecutionReport)
    )


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """A random life: fills, replacements, an end; the whole of its quantity always what was asked for."""
    life = Life(order(qty=100))
    for _ in range(draw(st.integers(0, 6))):
        if not life.open:
            break
        what = draw(st.sampled_from(["fill", "fill", "replace", "answer", "canceled", "expired"]))
        if what == "fill":
            life.fill(draw(st.integers(1, life.leaves)), f"450.{draw(st.integers(10, 99))}")
        elif what == "replace" and life.n < 3:
            life.replace(life.leaves)
        elif what == "answer":
            life.answer()
        elif what in ("canceled", "expired"):
            life.end(what)
    return life


@settings(max_examples=150, deadline=None)
@given(lives(), st.data())
def test_any_order_of_answers_events_rows_and_activities_ends_in_the_same_claims(life: Life, data: st.DataObject) -> None:
    straight = facts(heard(book_of(life.ours), life.pieces))
    twice = data.draw(st.lists(st.sampled_from(life.pieces), max_size=5))
    mixed = data.draw(st.permutations([*life.pieces, *twice]))
    book = book_of(life.ours)
    assert facts(heard(book, mixed)) == straight
    assert not book.missing and not book.loose and not book.strangers
    filled = sum((c[5] for c in straight if c[1] is ExecType.TRADE), Decimal(0))  # type: ignore[misc]
    assert filled == sum((f.qty for f in life.fills), Decimal(0))


@settings(max_examples=150, deadline=None)
@given(lives(), st.data())
def test_lost_stream_events_are_made_up_for_by_rows_and_activities(life: Life, data: st.DataObject) -> None:
    events = [piece for piece in life.pieces if isinstance(piece, Event)]
    kept = data.draw(st.lists(st.sampled_from(events), max_size=len(events)))
    for order_id in life.rows:
        life.answer(order_id)
    others = [piece for piece in life.pieces if not isinstance(piece, Event)]
    mixed = data.draw(st.permutations([*kept, *others]))
    assert facts(heard(book_of(life.ours), mixed)) == facts(heard(book_of(life.ours), life.pieces))


@settings(max_examples=100, deadline=None)
@given(lives(), st.data())
def test_the_end_is_told_after_every_fill_the_total_speaks_of(life: Life, data: st.DataObject) -> None:
    claims = heard(book_of(life.ours), data.draw(st.permutations(life.pieces)))
    kinds = [c.exec_type for c in claims if isinstance(c, ExecutionReport)]
    ends = [k for k in kinds if k in (ExecType.CANCELED, ExecType.EXPIRED)]
    assert len(ends) <= 1
    if ends:
        total = sum(1 for f in life.fills)
        assert kinds[: kinds.index(ends[0])].count(ExecType.TRADE) == total


def test_a_fill_from_the_stream_and_from_activities_has_one_execution_id() -> None:
    life = Life(order())
    life.fill(40, "450.10")
    by_stream = heard(book_of(life.ours), [p for p in life.pieces if not isinstance(p, Fill)])
    by_list = heard(book_of(life.ours), [p for p in life.pieces if not (isinstance(p, Event) and p.fills)])
    ids = [[c.exec_id for c in claims if isinstance(c, ExecutionReport) and c.exec_id] for claims in (by_stream, by_list)]
    assert ids[0] == ids[1] != []


def test_a_fill_before_the_answer_to_the_order_acknowledges_it() -> None:
    life = Life(order())
    life.fill(100, "450.10")
    claims = heard(book_of(life.ours), [life.pieces[-2], *life.pieces])
    assert [c.exec_type for c in claims if isinstance(c, ExecutionReport)] == [ExecType.NEW, ExecType.TRADE]


def test_a_cancel_with_fills_still_missing_waits_for_them() -> None:
    life = Life(order())
    life.fill(40, "450.10")
    life.end("canceled")
    book = book_of(life.ours)
    claims = heard(book, [p for p in life.pieces if not isinstance(p, Fill) and not (isinstance(p, Event) and p.fills)])
    assert [c[1] for c in facts(claims)] == [ExecType.NEW]
    assert [seat.missing for seat in book.missing] == [[(Decimal(0), Decimal(40))]]
    assert [c.exec_type for c in heard(book, life.fills)] == [ExecType.TRADE, ExecType.CANCELED]  # type: ignore[attr-defined]


def test_a_total_without_executions_is_booked_in_the_end_at_its_average_with_an_alarm() -> None:
    life = Life(order())
    life.fill(40, "450.10")
    life.fill(60, "450.20")
    book = book_of(life.ours)
    heard(book, [p for p in life.pieces if not isinstance(p, Fill) and not (isinstance(p, Event) and p.fills)])
    heard(book, life.fills[:1])
    life.answer()
    heard(book, life.pieces[-1:])
    alarm, trade = book.give_up(book.missing[0], T0)
    assert isinstance(alarm, AlertRaised) and alarm.severity == "critical"
    assert isinstance(trade, ExecutionReport) and (trade.qty, trade.price) == (Decimal(60), Decimal("450.2"))
    assert heard(book, life.fills) == []


def test_a_fill_after_the_end_only_adds_quantity() -> None:
    life = Life(order())
    life.end("canceled")
    life.fill(30, "450.10")
    claims = heard(book_of(life.ours), life.pieces)
    assert [c.exec_type for c in claims if isinstance(c, ExecutionReport)] == [ExecType.NEW, ExecType.CANCELED, ExecType.TRADE]


def test_the_answer_to_a_replace_is_no_evidence_that_it_happened() -> None:
    life = Life(order())
    book = book_of(life.ours)
    heard(book, life.pieces)
    book.ask(life.ours.order_id, Decimal(50), Decimal("449"), None, T0)
    life.replace(50)
    answer = next(p for p in life.pieces if isinstance(p, Row) and p.replaces)
    assert book.answer_to_replace(answer, T0) == []
    replaced = [p for p in life.pieces if isinstance(p, Event) and p.event == "replaced"]
    assert [c.exec_type for c in heard(book, replaced)] == [ExecType.REPLACED]  # type: ignore[attr-defined]
    track = book.tracks[life.ours.order_id]
    assert track.order is not None and (track.order.qty, track.order.limit_price) == (Decimal(50), Decimal("449"))


def test_an_order_that_fills_while_it_is_replaced_rejects_the_replacement() -> None:
    life = Life(order())
    book = book_of(life.ours)
    asked = book.ask(life.ours.order_id, Decimal(100), Decimal("449"), None, T0)
    new = life._open(Decimal(100), asked.n, life.id)
    life.answer(new)
    life.fill(100, "450.10")
    life.rows[new]["status"] = "rejected"
    life.say("order_replace_rejected", new)
    claims = heard(book, life.pieces)
    assert [c[1] for c in facts(claims)] == sorted([ExecType.NEW, ExecType.REPLACE_REJECTED, ExecType.TRADE])


def test_a_second_copy_of_a_refused_cancel_says_nothing_of_a_later_one() -> None:
    life = Life(order())
    life.say("order_cancel_rejected")
    copies = [life.pieces[-1], life.pieces[-1]]
    book = book_of(life.ours)
    assert [c.exec_type for c in heard(book, copies)] == [ExecType.NEW, ExecType.CANCEL_REJECTED]  # type: ignore[attr-defined]


def test_silence_after_an_order_that_was_heard_of_is_no_unknown() -> None:
    life = Life(order())
    book = book_of(life.ours)
    heard(book, life.pieces)
    assert book.lost(life.ours.order_id, "order", "no answer", T0) == []


def test_an_unanswered_cancel_is_unknown_until_asked_for_anew() -> None:
    life = Life(order())
    book = book_of(life.ours)
    heard(book, life.pieces)
    [unknown] = book.lost(life.ours.order_id, "cancel", "no answer", T0)
    assert isinstance(unknown, ExecutionReport) and unknown.exec_type is ExecType.UNKNOWN
    old = life.pieces[-1]
    assert heard(book, [old, old]) == []  # a late copy of an old event is no evidence
    life.answer()
    row = life.pieces[-1]
    assert isinstance(row, Row)
    assert [c.exec_type for c in book.row(row, T0, fresh=True)] == [ExecType.NEW]  # type: ignore[union-attr]


def test_an_order_of_somebody_else_is_shown_and_its_fills_are_external() -> None:
    life = Life(order())
    book = Book(ACCOUNT, lambda order_id: None)
    life.fill(40, "450.10")
    claims = heard(book, life.pieces)
    shown = [c for c in claims if isinstance(c, ExternalOrder)]
    assert shown[-1].filled_qty == 40 and shown[-1].status == "partially_filled"
    [trade] = [c for c in claims if isinstance(c, AccountActivity)]
    assert (trade.kind, trade.strategy, trade.qty, trade.cash) == (ActivityKind.EXTERNAL, "external", 40, Decimal("-18004.0"))


def test_what_others_traded_before_we_came_is_not_told() -> None:
    life = Life(order())
    life.fill(100, "450.10")
    book = Book(ACCOUNT, lambda order_id: None, since=life.ts + SECOND)
    assert heard(book, life.pieces) == [] or all(isinstance(c, ExternalOrder) for c in heard(book, life.pieces))
    assert not book.missing


def test_an_unknown_event_is_read_for_its_order_and_said() -> None:
    life = Life(order())
    life.say("trade_bust")
    claims = heard(book_of(life.ours), life.pieces[-1:])
    assert [type(c).__name__ for c in claims] == ["ExecutionReport", "AlertRaised"]
    assert claims[-1].severity == "critical"  # type: ignore[attr-defined]


def test_open_orders_are_counted_in_what_was_asked_for() -> None:
    life = Life(order())
    life.fill(40, "450.10")
    book = book_of(life.ours)
    heard(book, life.pieces)
    [held] = book.open_orders()
    assert (held.order_id, held.status, held.leaves_qty) == (life.ours.order_id, OrderStatus.PARTIALLY_FILLED, 60)


def test_a_fill_of_an_order_not_heard_of_waits_for_its_row() -> None:
    life = Life(order())
    life.fill(40, "450.10")
    book = book_of(life.ours)
    assert heard(book, life.fills) == [] and list(book.strangers) == [life.id]
    told = [c.exec_type for c in heard(book, life.pieces[:1])]  # type: ignore[attr-defined]
    assert told == [ExecType.NEW, ExecType.TRADE] and not book.strangers


@pytest.mark.parametrize("carried", [True, False])
def test_a_replacement_counts_its_fills_from_zero_or_from_its_predecessors(carried: bool) -> None:
    life = Life(order())
    life.fill(40, "450.10")
    life.replace(100 if carried else 60)
    if carried:
        life.row["filled_qty"] = "40"
        life.row["value"] = Decimal("18004")
    life.fill(60, "450.20")
    book = book_of(life.ours)
    claims = heard(book, life.pieces)
    for _ in range(3):
        claims += book.read_through(T0)
    trades = [c for c in facts(claims) if c[1] is ExecType.TRADE]
    assert sum(c[5] for c in trades) == 100  # type: ignore[misc]
    assert not book.missing and not book.open_orders()
