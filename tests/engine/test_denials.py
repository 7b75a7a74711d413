"""Every reason for which an order can be denied, from a real order; and where each limit lies, to the last lot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from northstar_core.engine.risk import sentence
from northstar_core.model import events as e
from northstar_core.model.account import SessionRule, TradingState
from northstar_core.model.denial import SENTENCES, Denial, DenialReason
from northstar_core.model.execution import ActivityKind
from northstar_core.model.market import Halt
from northstar_core.model.order import OrderType
from tests.engine.desks import (
    BUY,
    CALL_100,
    CALL_105,
    CLOSE,
    MARKET,
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


# ── what reduces passes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exit_passes_every_cap_on_exposure_that_was_lowered_below_what_is_held() -> None:
    desk = Desk()
    desk.hold("100")
    desk.set_limits("strategy:s", max_notional=D(1), max_position_qty=D(1))
    desk.set_limits("account:main", max_gross=D(1), max_net=D(1), max_symbol_share=D("0.0001"), leverage=D("0.0001"))
    assert isinstance(desk.place(BUY, "1"), e.OrderDenied)
    assert isinstance(desk.place(SELL, "60"), e.OrderSubmitted)
    assert isinstance(desk.place(SELL, "101"), e.OrderDenied), "more than is held opens the other way"
    assert isinstance(desk.place(SELL, "40"), e.OrderSubmitted)


def test_shares_that_a_split_multiplied_beyond_the_cap_can_be_sold_in_parts() -> None:
    desk = Desk(limits={"max_position_qty": D(100)})
    desk.hold("100")
    desk.activity(ActivityKind.SPLIT, "r1", qty="600", price="7")
    assert isinstance(desk.place(SELL, "200"), e.OrderSubmitted)
    assert desk.place(BUY, "1").reason is DenialReason.POSITION_QTY_CAP


# ── who, where, when ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["desk", "account:main", "strategy:s"])
@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.KILLED])
def test_nothing_is_placed_in_a_halted_scope_and_cancels_pass(scope: str, state: TradingState) -> None:
    desk = Desk()
    desk.hold("10")
    order_id = desk.working(BUY, limit="99")
    desk.halt(scope, state)
    assert desk.place().reason is DenialReason.TRADING_HALTED
    assert desk.place(SELL, "10", reduce_only=True).reason is DenialReason.TRADING_HALTED
    assert desk.replace(order_id, qty="5").reason is DenialReason.TRADING_HALTED
    assert isinstance(desk.cancel(order_id), e.CancelSubmitted)
    other = desk.place(strategy="t")
    assert isinstance(other, e.OrderSubmitted) is (scope == "strategy:s")
    desk.halt(scope, TradingState.ACTIVE)
    assert isinstance(desk.place(), e.OrderSubmitted)


def test_a_reducing_scope_takes_reduce_only_orders_and_sums_them() -> None:
    desk = Desk()
    desk.hold("10")
    desk.halt("strategy:s", TradingState.REDUCING)
    assert desk.place(SELL, "10").reason is DenialReason.TRADING_REDUCING
    assert isinstance(desk.place(SELL, "6", reduce_only=True), e.OrderSubmitted)
    assert desk.place(SELL, "5", reduce_only=True).reason is DenialReason.REDUCE_ONLY
    assert isinstance(desk.place(SELL, "4", reduce_only=True), e.OrderSubmitted)
    assert desk.place(BUY, "1", reduce_only=True).reason is DenialReason.REDUCE_ONLY


def test_the_strictest_scope_holds() -> None:
    desk = Desk()
    desk.hold("10")
    desk.halt("strategy:s", TradingState.REDUCING)
    desk.halt("account:main", TradingState.HALTED)
    assert desk.place(SELL, "1", reduce_only=True).reason is DenialReason.TRADING_HALTED


def test_an_option_is_in_the_universe_of_its_underlying() -> None:
    desk = Desk(symbols=("SPY",))
    assert isinstance(desk.place(symbol=CALL_100, qty="1"), e.OrderSubmitted)
    assert isinstance(desk.place(symbol=VERTICAL, qty="1"), e.OrderSubmitted)
    assert Desk(symbols=(CALL_100,)).place(symbol=VERTICAL, qty="1").reason is DenialReason.UNIVERSE_NOT_ALLOWED


def test_trading_resumes_in_a_symbol_after_its_halt() -> None:
    desk = Desk()
    desk.give(Halt("SPY", desk.now, True))
    assert isinstance(desk.place(symbol="QQQ"), e.OrderSubmitted)
    assert desk.place(symbol=VERTICAL, qty="1").reason is DenialReason.SYMBOL_HALTED, "as options do"
    desk.give(Halt("SPY", desk.now, False))
    assert isinstance(desk.place(), e.OrderSubmitted)


def test_an_order_that_would_meet_an_own_resting_order_is_denied() -> None:
    desk = Desk()
    desk.working(SELL, limit="101", strategy="t")
    assert isinstance(desk.place(BUY, limit="100.99"), e.OrderSubmitted)
    assert desk.place(BUY, limit="101").reason is DenialReason.SELF_MATCH
    assert desk.place(BUY).reason is DenialReason.SELF_MATCH, "a market order meets every price"
    assert isinstance(desk.place(BUY, symbol="QQQ"), e.OrderSubmitted)
    assert isinstance(desk.place(SELL, limit="101"), e.OrderSubmitted)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_covered_by_shares_or_by_a_call_and_by_nothing_else() -> None:
    desk = Desk()
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED
    desk.hold("199")
    assert isinstance(desk.place(SELL, "1", CALL_105), e.OrderSubmitted)
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED, "one is working already"
    desk = Desk()
    desk.hold("1", CALL_100, "3")
    assert isinstance(desk.place(SELL, "1", CALL_105), e.OrderSubmitted)
    assert isinstance(Desk(limits={"allow_uncovered": True}).place(SELL, "1", CALL_105), e.OrderSubmitted)


def test_shares_that_are_being_sold_cover_no_call() -> None:
    desk = Desk()
    desk.hold("100")
    desk.working(SELL, "1", limit="105")
    assert desk.place(SELL, "1", CALL_105).reason is DenialReason.OPTION_UNCOVERED


def test_a_call_that_covers_a_working_sale_covers_no_other() -> None:
    desk = Desk(prices={"SPY": 100.0, CALL_100: 3.0, CALL_105: 1.0, "SPY231117C00110000": 0.5})
    desk.hold("1", CALL_100, "3")
    desk.working(SELL, "1", CALL_105)
    assert desk.place(SELL, "1", "SPY231117C00110000").reason is DenialReason.OPTION_UNCOVERED


def test_a_spread_covers_itself_and_its_long_leg_cannot_be_sold_away() -> None:
    desk = Desk()
    order_id = desk.working(SELL, "2", VERTICAL)
    desk.fill(order_id, "2", "3", symbol=CALL_100, side=SELL)
    desk.fill(order_id, "2", "1", symbol=CALL_105, side=BUY)
    fact = desk.place(SELL, "1", CALL_105)
    assert fact.reason is DenialReason.OPTION_UNCOVERED
