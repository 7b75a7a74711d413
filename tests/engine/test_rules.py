"""Plugged-in risk rules: they approve, modify or block, and none gets around the built-in checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from northstar_core.engine.state import State
from northstar_core.model import events as e
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.order import PlaceOrder
from tests.engine.desks import BUY, D, Desk

Check = Callable[[PlaceOrder], PlaceOrder | Denial | None]


class A:
    """A rule."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self._check = check
        self.saw: list[PlaceOrder] = []

    def check(self, order: PlaceOrder, state: State) -> PlaceOrder | Denial | None:
        self.saw.append(order)
        return self._check(order)


def changed(**fields: Any) -> Check:
    return lambda order: msgspec.structs.replace(order, **fields)


def test_a_rule_that_approves_leaves_no_trace() -> None:
    desk = Desk(rules=(A("fine", lambda order: None), A("same", lambda order: order)))
    fact = desk.place(BUY, "10")
    assert isinstance(fact, e.OrderSubmitted)
    assert fact.verdict.rules == ()
    desk.assert_clean()


def test_what_a_rule_modified_is_on_the_record_field_by_field() -> None:
    desk = Desk(rules=(A("smaller", changed(qty=D(5))), A("dearer", changed(limit_price=D("100.50")))))
    fact = desk.place(BUY, "10", limit="100")
    assert (fact.order.qty, fact.order.limit_price) == (5, D("100.50"))
    assert fact.verdict.rules == ("smaller: qty 10 -> 5", "dearer: limit_price 100 -> 100.50")
    assert desk.reserved() == (5, 0)
    desk.assert_clean()


def test_the_first_rule_that_blocks_has_the_word() -> None:
    last = A("last", lambda order: None)
    no = A("no", lambda order: Denial(DenialReason.RULE_BLOCKED, "not today", D(3)))
    fact = Desk(rules=(A("half", changed(qty=D(5))), no, last)).place(BUY, "10")
    assert (fact.reason, fact.detail, fact.passes_at) == (DenialReason.RULE_BLOCKED, "no: not today", 3)
    assert not last.saw


def test_what_a_rule_made_of_an_order_meets_the_built_in_checks() -> None:
    desk = Desk(rules=(A("larger", changed(qty=D(11))),), limits={"max_order_qty": D(10)})
    assert desk.place(BUY, "10").reason is DenialReason.ORDER_QTY_CAP
    desk = Desk(rules=(A("other symbol", changed(symbol="QQQ")),), symbols=("SPY",))
    assert desk.place(BUY, "10").reason is DenialReason.UNIVERSE_NOT_ALLOWED
    desk = Desk(rules=(A("nonsense", changed(qty=D("NaN"))),))
    assert desk.place(BUY, "10").reason is DenialReason.ORDER_FIELDS_INVALID


def test_a_rule_may_not_change_whose_order_it_is() -> None:
    for fields in ({"strategy": "t"}, {"account": "other"}, {"order_id": "s-1-77"}):
        fact = Desk(rules=(A("forger", changed(**fields)),)).place(BUY, "10")
        assert fact.reason is DenialReason.RULE_BLOCKED
        assert "forger" in fact.detail


def test_a_rule_sees_only_orders_that_make_sense() -> None:
    rule = A("fine", lambda order: None)
    desk = Desk(rules=(rule,))
    for qty in ("NaN", "sNaN", "-1", "Infinity"):
        assert desk.place(BUY, qty).reason is DenialReason.ORDER_FIELDS_INVALID
    assert not rule.saw
