"""Numbers nobody should send and limits nobody set: each is a denial, none an exception."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.model.denial import DenialReason
from northstar_core.model.order import OrderType
from tests.engine.desks import BUY, CALL_100, MARKET, SELL, VERTICAL, D, Desk

# ── numbers nobody should send ────────────────────────────────────────────────────────────────────────────────────────

STRANGE = ["NaN", "sNaN", "Infinity", "-Infinity", "1E+1000000", "-1", "0", "1E-1000000", "1E+30", "999999999999"]


@pytest.mark.parametrize("number", STRANGE)
def test_a_strange_quantity_is_denied_and_never_raises(number: str) -> None:
    fact = Desk().place(qty=Decimal(number))
    assert isinstance(fact, e.OrderDenied)


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("number", STRANGE)
def test_a_strange_price_is_denied_and_never_raises(number: str, side: Any) -> None:
    desk = Desk()
    for order_type, limit, stop in (
        (OrderType.LIMIT, number, None), (OrderType.STOP, None, number), (OrderType.STOP_LIMIT, "100", number),
        (OrderType.STOP_LIMIT, number, "100"),
    ):  # fmt: skip
        fact = desk.place(side, order_type=order_type, limit=limit, stop=stop)
        assert isinstance(fact, e.OrderDenied), fact
    fact = desk.place(side, "1", VERTICAL, limit=number)
    assert isinstance(fact, e.OrderDenied) or number in ("0", "-1"), "a combo may be worth nothing, or less"


@pytest.mark.parametrize("number", STRANGE)
def test_a_strange_replace_is_denied_and_never_raises(number: str) -> None:
    desk = Desk()
    order_id = desk.working(limit="99")
    assert isinstance(desk.replace(order_id, qty=number), e.OrderDenied)
    assert isinstance(desk.replace(order_id, limit_price=number), e.OrderDenied)
    assert isinstance(desk.replace(order_id, stop_price=number), e.OrderDenied)
    assert desk.reserved() == (D(10), D(0))


def test_the_fields_have_to_fit_the_order_type() -> None:
    desk = Desk()
    for more in (
        {"order_type": MARKET, "limit": "100"}, {"order_type": OrderType.LIMIT}, {"order_type": OrderType.STOP},
        {"order_type": OrderType.STOP, "limit": "100", "stop": "100"},
        {"order_type": OrderType.STOP_LIMIT, "stop": "9"},
        {"symbol": VERTICAL, "stop": "1", "qty": "1"}, {"symbol": "no ticker"}, {"symbol": "SPY231332C00100000"},
    ):  # fmt: skip
        assert desk.place(**more).reason is DenialReason.ORDER_FIELDS_INVALID, more


@pytest.mark.parametrize("field", [f for f in e.StrategyLimits.__struct_fields__])
def test_a_limit_of_a_strategy_that_is_not_set_denies_the_orders_that_need_it(field: str) -> None:
    options = {"max_order_contracts", "max_position_contracts", "allow_uncovered"}
    equities = {"max_order_qty", "max_position_qty", "allow_short"}
    share, option = (Desk(limits={field: None}).place(symbol=s, qty="1") for s in ("SPY", CALL_100))
    for fact, exempt in ((share, options), (option, equities)):
        if field in exempt:
            assert isinstance(fact, e.OrderSubmitted), fact
        else:
            assert fact.reason is DenialReason.LIMIT_MISSING
            assert field in fact.detail


@pytest.mark.parametrize("field", [f for f in e.AccountLimits.__struct_fields__])
def test_a_limit_of_an_account_that_is_not_set_denies_every_order(field: str) -> None:
    fact = Desk(account_limits={field: None}).place()
    assert fact.reason is DenialReason.LIMIT_MISSING
    assert field in fact.detail
