"""Every reason for which an order can be denied, from a real order; and where each limit lies, to the last lot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from northstar_core.engine.risk import sentence
from northstar_core.model import events as e
from northstar_core.model.account import SessionRule, TradingState
from northstar_core.model.denial import SENTENCES, Denial, DenialReason
from northstar_core.model.market import Halt
from tests.engine.desks import (
    BUY,
    CALL_100,
    CLOSE,
    MINUTE,
    OPEN,
    SECOND,
    SELL,
    VERTICAL,
    D,
    Desk,
)  # fmt: skip


class Blocks:
    """A rule that says no."""

    name = "no_fridays"

    def check(self, order: Any, state: Any) -> Denial:
        return Denial(DenialReason.RULE_BLOCKED, "it is Friday", D(3))


def _duplicate() -> Any:
    desk = Desk()
    order = desk.order()
    desk.give(order)
    (fact,) = desk.give(order)
    return fact


def _conflict() -> Any:
    desk = Desk()
    order = desk.order()
    desk.give(order)
    (fact,) = desk.give(msgspec.structs.replace(order, qty=D(11)))
    return fact


def _not_working() -> Any:
    desk = Desk()
    order_id = desk.working()
    desk.fill(order_id, "10")
    return desk.cancel(order_id)


def _halted(state: TradingState) -> Any:
    desk = Desk()
    desk.halt("desk", state)
    return desk.place()


def _symbol_halted() -> Any:
    desk = Desk()
    desk.give(Halt("SPY", desk.now, True))
    return desk.place()


def _stale() -> Any:
    desk = Desk()
    desk.now += 5 * SECOND + 1
    return desk.place()


def _rate() -> Any:
    desk = Desk(limits={"max_orders": 1})
    desk.place()
    return desk.place()


def _self_match() -> Any:
    desk = Desk()
    desk.working(SELL, limit="100", strategy="t")
    return desk.place(BUY, limit="100")


def _open_orders() -> Any:
    desk = Desk(limits={"max_open_orders": 1})
    desk.working()
    return desk.place()


#: Every reason, and a real order that meets it.
DENIED: dict[DenialReason, Callable[[], Any]] = {
    DenialReason.ORDER_ID_DUPLICATE: _duplicate,
    DenialReason.ORDER_ID_CONFLICT: _conflict,
    DenialReason.ORDER_FIELDS_INVALID: lambda: Desk().place(qty="0"),
    DenialReason.ORDER_UNKNOWN: lambda: Desk().cancel("s-1-99"),
    DenialReason.ORDER_NOT_WORKING: _not_working,
    DenialReason.GRANT_MISSING: lambda: Desk().place(strategy="u"),
    DenialReason.LIMIT_MISSING: lambda: Desk(limits={"max_notional": None}).place(),
    DenialReason.TRADING_HALTED: lambda: _halted(TradingState.HALTED),
    DenialReason.TRADING_REDUCING: lambda: _halted(TradingState.REDUCING),
    DenialReason.UNIVERSE_NOT_ALLOWED: lambda: Desk(symbols=("QQQ",)).place(),
    DenialReason.INSTRUMENT_EXPIRED: lambda: Desk().place(symbol="SPY231113C00100000"),
    DenialReason.SESSION_CLOSED: lambda: Desk(is_open=False).place(),
    DenialReason.SYMBOL_HALTED: _symbol_halted,
    DenialReason.PRICE_MISSING: lambda: Desk().place(symbol="IWM"),
    DenialReason.PRICE_STALE: _stale,
    DenialReason.PRICE_COLLAR: lambda: Desk().place(limit="110.01"),
    DenialReason.TICK_SIZE: lambda: Desk().place(limit="100.005"),
    DenialReason.LOT_SIZE: lambda: Desk().place(qty="1.5"),
    DenialReason.ORDER_QTY_CAP: lambda: Desk(limits={"max_order_qty": D(9)}).place(),
    DenialReason.ORDER_VALUE_CAP: lambda: Desk(limits={"max_order_value": D(1000)}).place(),
    DenialReason.OPEN_ORDERS_CAP: _open_orders,
    DenialReason.POSITION_QTY_CAP: lambda: Desk(limits={"max_position_qty": D(9)}).place(),
    DenialReason.SHORT_NOT_ALLOWED: lambda: Desk(limits={"allow_short": False}).place(SELL),
    DenialReason.OPTION_UNCOVERED: lambda: Desk().place(SELL, "1", CALL_100),
    DenialReason.REDUCE_ONLY: lambda: Desk().place(SELL, reduce_only=True),
    DenialReason.STRATEGY_NOTIONAL_CAP: lambda: Desk(limits={"max_notional": D(999)}).place(),
    DenialReason.ACCOUNT_GROSS_CAP: lambda: Desk(account_limits={"max_gross": D(999)}).place(),
    DenialReason.ACCOUNT_NET_CAP: lambda: Desk(account_limits={"max_net": D(999)}).place(),
    DenialReason.SYMBOL_CONCENTRATION_CAP: lambda: Desk(account_limits={"max_symbol_share": D("0.0009")}).place(),
    DenialReason.BUYING_POWER: lambda: Desk(account_limits={"leverage": D("0.001")}).place(),
    DenialReason.ORDER_RATE: _rate,
    DenialReason.SELF_MATCH: _self_match,
    DenialReason.RULE_BLOCKED: lambda: Desk(rules=(Blocks(),)).place(),
}


@pytest.mark.parametrize("reason", DenialReason)
def test_every_reason_is_given_by_a_real_order(reason: DenialReason) -> None:
    fact = DENIED[reason]()
    assert isinstance(fact, e.OrderDenied), fact
    assert fact.reason is reason, fact
    assert fact.detail
    assert sentence(Denial(fact.reason, fact.detail, fact.passes_at)).startswith(f"{reason}: {SENTENCES[reason]}")


@pytest.mark.parametrize("reason", DenialReason)
def test_a_denied_order_leaves_nothing_behind(reason: DenialReason) -> None:
    desks: list[Desk] = []
    made = Desk.__init__

    def remember(self: Desk, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        desks.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desk, "__init__", remember)
        fact = DENIED[reason]()
    (desk,) = desks
    twin = desk.restored()
    assert twin.books() == desk.engine.books()
    if reason not in (DenialReason.ORDER_UNKNOWN, DenialReason.ORDER_NOT_WORKING):
        submitted = [r for r in desk.journal.records if isinstance(r.event, e.OrderSubmitted)]
        assert len(desk.engine.state.blotter.orders) == len(submitted)
    assert fact.order_id not in desk.engine.state.blotter.working or reason in (
        DenialReason.ORDER_ID_DUPLICATE, DenialReason.ORDER_ID_CONFLICT,
    )  # fmt: skip


# ── where each limit lies ─────────────────────────────────────────────────────────────────────────────────────────────

#: name of the limit, its value, the largest order that passes, one that does not, and why not.
AT_CAP: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], DenialReason]] = [
    ("order quantity", {"max_order_qty": D(10)}, {"qty": "10"}, {"qty": "11"}, DenialReason.ORDER_QTY_CAP),
    ("order contracts", {"max_order_contracts": D(2)}, {"qty": "2", "symbol": CALL_100},
     {"qty": "3", "symbol": CALL_100}, DenialReason.ORDER_QTY_CAP),
    ("order value at the limit price", {"max_order_value": D(1010)}, {"limit": "101"}, {"limit": "101.01"},
     DenialReason.ORDER_VALUE_CAP),
    ("order value at the market reserve", {"max_order_value": D(1010)}, {"qty": "10"}, {"qty": "11"},
     DenialReason.ORDER_VALUE_CAP),
    ("position bought", {"max_position_qty": D(10)}, {"qty": "10"}, {"qty": "11"}, DenialReason.POSITION_QTY_CAP),
    ("position sold", {"max_position_qty": D(10)}, {"side": SELL, "qty": "10"}, {"side": SELL, "qty": "11"},
     DenialReason.POSITION_QTY_CAP),
    ("position in contracts", {"max_position_contracts": D(2)}, {"qty": "2", "symbol": CALL_100},
     {"qty": "3", "symbol": CALL_100}, DenialReason.POSITION_QTY_CAP),
    ("position in a leg", {"max_position_contracts": D(2)}, {"qty": "2", "symbol": VERTICAL},
     {"qty": "3", "symbol": VERTICAL}, DenialReason.POSITION_QTY_CAP),
    ("notional", {"max_notional": D(1000)}, {"qty": "10"}, {"qty": "11"}, DenialReason.STRATEGY_NOTIONAL_CAP),
    ("notional of a long option is its premium", {"max_notional": D(600)}, {"qty": "2", "symbol": CALL_100},
     {"qty": "3", "symbol": CALL_100}, DenialReason.STRATEGY_NOTIONAL_CAP),
    ("notional of a debit spread is its debit", {"max_notional": D(400)}, {"qty": "2", "symbol": VERTICAL},
     {"qty": "3", "symbol": VERTICAL}, DenialReason.STRATEGY_NOTIONAL_CAP),
    ("notional of a credit spread is its width", {"max_notional": D(1000)},
     {"side": SELL, "qty": "2", "symbol": VERTICAL}, {"side": SELL, "qty": "3", "symbol": VERTICAL},
     DenialReason.STRATEGY_NOTIONAL_CAP),
    ("collar of a buy", {"collar": D("0.05")}, {"limit": "105"}, {"limit": "105.01"}, DenialReason.PRICE_COLLAR),
    ("collar of a sale", {"collar": D("0.05")}, {"side": SELL, "limit": "95"}, {"side": SELL, "limit": "94.99"},
     DenialReason.PRICE_COLLAR),
]  # fmt: skip
AT_ACCOUNT_CAP: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], DenialReason]] = [
    ("gross", {"max_gross": D(1000)}, {"qty": "10"}, {"qty": "11"}, DenialReason.ACCOUNT_GROSS_CAP),
    ("net", {"max_net": D(1000)}, {"side": SELL, "qty": "10"}, {"side": SELL, "qty": "11"},
     DenialReason.ACCOUNT_NET_CAP),
    ("share of equity", {"max_symbol_share": D("0.001")}, {"qty": "10"}, {"qty": "11"},
     DenialReason.SYMBOL_CONCENTRATION_CAP),
    ("buying power at the limit price", {"leverage": D("0.00101")}, {"limit": "101"}, {"limit": "101.01"},
     DenialReason.BUYING_POWER),
    ("buying power at the market reserve", {"leverage": D("0.00101")}, {"qty": "10"}, {"qty": "11"},
     DenialReason.BUYING_POWER),
    ("buying power of a sale is its worst case", {"leverage": D("0.001")}, {"side": SELL, "limit": "101"},
     {"side": SELL, "limit": "101", "qty": "11"}, DenialReason.BUYING_POWER),
]  # fmt: skip


@pytest.mark.parametrize(("limits", "most", "more", "reason"), [row[1:] for row in AT_CAP], ids=[r[0] for r in AT_CAP])
def test_an_order_at_the_cap_passes_and_one_above_is_denied(
    limits: dict[str, Any], most: dict[str, Any], more: dict[str, Any], reason: DenialReason
) -> None:
    assert isinstance(Desk(limits=limits).place(**most), e.OrderSubmitted)
    fact = Desk(limits=limits).place(**more)
    assert isinstance(fact, e.OrderDenied)
    assert fact.reason is reason


@pytest.mark.parametrize(
    ("limits", "most", "more", "reason"), [row[1:] for row in AT_ACCOUNT_CAP], ids=[r[0] for r in AT_ACCOUNT_CAP]
)
def test_an_order_at_the_accounts_cap_passes_and_one_above_is_denied(
    limits: dict[str, Any], most: dict[str, Any], more: dict[str, Any], reason: DenialReason
) -> None:
    assert isinstance(Desk(account_limits=limits).place(**most), e.OrderSubmitted)
    fact = Desk(account_limits=limits).place(**more)
    assert isinstance(fact, e.OrderDenied)
    assert fact.reason is reason


def test_open_orders_and_rates_count_to_their_cap_and_no_further() -> None:
    desk = Desk(limits={"max_open_orders": 2})
    desk.working()
    desk.working()
    assert desk.place().reason is DenialReason.OPEN_ORDERS_CAP
    assert isinstance(desk.place(strategy="t"), e.OrderSubmitted), "another strategy has a count of its own"
    desk = Desk(limits={"max_orders": 2})
    assert [type(desk.place()).__name__ for _ in range(3)] == ["OrderSubmitted", "OrderSubmitted", "OrderDenied"]
    desk.now += MINUTE - 1
    desk.price("SPY", 100.0)
    assert desk.place().reason is DenialReason.ORDER_RATE
    desk.now += 1
    desk.price("SPY", 100.0)
    assert isinstance(desk.place(), e.OrderSubmitted), "a window later the first two no longer count"


def test_the_accounts_rate_counts_every_strategy() -> None:
    desk = Desk(account_limits={"max_orders": 2})
    desk.place()
    desk.place(strategy="t")
    fact = desk.place()
    assert fact.reason is DenialReason.ORDER_RATE
    assert fact.detail.startswith("account:")


def test_a_price_is_fresh_to_the_last_nanosecond_and_not_beyond() -> None:
    desk = Desk()
    desk.now += 5 * SECOND
    assert isinstance(desk.place(), e.OrderSubmitted)
    desk.now += 1
    assert desk.place().reason is DenialReason.PRICE_STALE
    desk.bar("SPY", 100.0, ts=desk.now)
    desk.now += 65 * SECOND
    assert isinstance(desk.place(), e.OrderSubmitted), "five seconds and one bar of a minute"
    desk.now += 1
    assert desk.place().reason is DenialReason.PRICE_STALE


def test_a_price_from_the_future_is_no_price() -> None:
    desk = Desk()
    desk.price("SPY", 100.0, ts=desk.now + 1)
    assert desk.place().reason is DenialReason.PRICE_STALE


def test_the_session_begins_with_its_open_and_ends_before_its_close() -> None:
    desk = Desk()
    for now, passes in ((OPEN, True), (CLOSE - 1, True), (CLOSE, False), (OPEN - 1, False)):
        desk.now = now
        desk.price("SPY", 100.0)
        assert isinstance(desk.place(), e.OrderSubmitted) is passes, now - OPEN


def test_a_queueing_strategy_may_order_outside_of_the_session() -> None:
    desk = Desk(limits={"session": SessionRule.QUEUE}, is_open=False)
    desk.now += 60 * MINUTE
    assert isinstance(desk.place(), e.OrderSubmitted), "nor does the price have to be fresh: it fills at the next open"
    desk = Desk(limits={"session": SessionRule.ALWAYS}, is_open=False)
    assert isinstance(desk.place(), e.OrderSubmitted)
    desk.now += 60 * MINUTE
    assert desk.place().reason is DenialReason.PRICE_STALE


def test_an_option_may_be_traded_until_its_last_session_closes() -> None:
    today = "SPY231114C00100000"
    desk = Desk(prices={"SPY": 100.0, today: 1.0}, limits={"session": SessionRule.ALWAYS})
    assert isinstance(desk.place(symbol=today, qty="1"), e.OrderSubmitted)
    desk.give(e.SessionClosed(desk.now, "2023-11-14"))
    assert desk.place(symbol=today, qty="1").reason is DenialReason.INSTRUMENT_EXPIRED


def test_a_sub_dollar_price_has_a_finer_tick() -> None:
    desk = Desk(prices={"SPY": 0.9})
    assert isinstance(desk.place(limit="0.9001"), e.OrderSubmitted)
    assert desk.place(limit="0.90001").reason is DenialReason.TICK_SIZE


@pytest.mark.parametrize("worth", ["nan", "inf"])
@pytest.mark.parametrize("strategy_side", [BUY, SELL])
def test_an_order_on_a_price_that_is_no_number_is_denied(worth: str, strategy_side: Any) -> None:
    desk = Desk(prices={"SPY": float(worth)})
    assert isinstance(desk.place(strategy_side), e.OrderDenied)
    assert isinstance(desk.place(strategy_side, limit="100"), e.OrderDenied)


def test_what_is_held_at_no_price_lets_nothing_new_in_but_lets_it_out() -> None:
    desk = Desk()
    desk.hold("10", "QQQ")
    desk.hold("10", "SPY")
    desk.bar("QQQ", float("nan"))
    assert isinstance(desk.place(symbol="SPY"), e.OrderDenied)
    assert isinstance(desk.place(SELL, "10", "SPY"), e.OrderSubmitted)


# ── the largest quantity that would have passed ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("limits", "order"), [
    ({"max_order_qty": D(7)}, {}), ({"max_order_value": D(555)}, {}), ({"max_position_qty": D(3)}, {}),
    ({"max_notional": D(850)}, {}), ({"max_notional": D(850)}, {"side": SELL}),
    ({"allow_short": True}, {"limit": "101"}),
    ({"max_notional": D(700)}, {"symbol": CALL_100, "qty": "9"}),
    ({"max_notional": D(700)}, {"symbol": VERTICAL, "qty": "9", "side": SELL}),
])  # fmt: skip
def test_the_quantity_that_would_have_passed_passes_and_one_more_does_not(
    limits: dict[str, Any], order: dict[str, Any]
) -> None:
    account = {"leverage": D("0.00095")} if "limit" in order else {}
    denied = Desk(limits=limits, account_limits=account).place(**order)
    assert isinstance(denied, e.OrderDenied)
    most = denied.passes_at
    assert most is not None
    assert isinstance(Desk(limits=limits, account_limits=account).place(**{**order, "qty": most}), e.OrderSubmitted)
    one_more = Desk(limits=limits, account_limits=account).place(**{**order, "qty": most + 1})
    assert isinstance(one_more, e.OrderDenied)


def test_where_no_quantity_would_pass_none_is_given() -> None:
    assert Desk(limits={"max_notional": D(99)}).place().passes_at is None
    assert Desk(limits={"max_orders": 0}).place().passes_at is None


def test_a_denial_carries_the_numbers_it_was_taken_on() -> None:
    desk = Desk(limits={"max_notional": D(1500)})
    desk.hold("10")
    fact = desk.place()
    assert fact.verdict.notional == 2000.0
    assert fact.verdict.legs[0].position == 10
    assert fact.passes_at == 5
    assert fact.detail == "notional=2000.00 cap=1500.00"
