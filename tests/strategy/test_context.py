"""What a strategy may ask for, in which words, and what is refused at once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.model.errors import ParameterError, StrategyError
from northstar_core.model.instrument import combo, instrument
from northstar_core.model.market import Bar, Quote
from northstar_core.model.order import CancelOrder, OrderType, PlaceOrder, ReplaceOrder, Side, TimeInForce
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.context import Context
from northstar_core.strategy.host import StrategyHost

D = Decimal
MINUTE = 60 * 10**9
OPEN = 1_699_972_200 * 10**9  # 2023-11-14 09:30 in New York
CLOSE = OPEN + 390 * MINUTE
CALL, PUT = "SPY231117C00100000", "SPY231117P00095000"


class Desk:
    """A strategy's host at ten o'clock, with SPY at 100.00."""

    def __init__(self) -> None:
        self.marks: dict[str, Any] = {}
        made = {"account": "main", "session": "1", "cash": D(10_000)}
        self.host = StrategyHost(Strategy(), marks=self.marks, seq=lambda: 7, **made)
        self.host.deliver(e.SessionOpened(OPEN, "2023-11-14", CLOSE))
        self.bar = Bar("SPY", OPEN + 29 * MINUTE, OPEN + 30 * MINUTE, 99.0, 101.0, 98.0, 100.0, 5.0)
        self.marks["SPY"] = self.bar
        self.host.deliver(self.bar)
        self.ctx: Context = self.host.ctx

    @property
    def asked(self) -> list[Any]:
        out, self.host.outbox[:] = list(self.host.outbox), []
        return out

    @property
    def order(self) -> PlaceOrder:
        (order,) = self.asked
        assert isinstance(order, PlaceOrder)
        return order

    def hold(self, symbol: str, qty: int, price: str = "100") -> None:
        side = Side.BUY if qty > 0 else Side.SELL
        self.host.deliver(
            e.OrderFilled(self.bar.ts, "x", "s", "main", symbol, side, D(abs(qty)), D(price), D(0), "x", D(1), D(0))
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_prices_choose_the_order_type(desk: Desk) -> None:
    for prices, kind in (
        ({}, OrderType.MARKET), ({"limit_price": "99"}, OrderType.LIMIT), ({"stop_price": 101}, OrderType.STOP),
        ({"stop_price": 101, "limit_price": D("101.5")}, OrderType.STOP_LIMIT),
    ):  # fmt: skip
        desk.ctx.buy("SPY", 10, **prices)
        order = desk.order
        assert order.order_type is kind
        assert all(isinstance(p, Decimal | None) for p in (order.limit_price, order.stop_price))
    assert (order.ts, order.basis_seq, order.account) == (OPEN + 30 * MINUTE, 7, "main")


def test_a_float_price_goes_to_the_nearest_tick_and_an_exact_one_stays(desk: Desk) -> None:
    desk.ctx.buy("SPY", 10, limit_price=99.12499)
    assert desk.order.limit_price == D("99.12")
    desk.ctx.buy("SPY", 10, limit_price="99.12499")
    assert desk.order.limit_price == D("99.12499"), "it is for the engine to refuse it: nothing is rounded silently"


@pytest.mark.parametrize("qty", [1.5, float("nan"), float("inf"), "many", None, 0, -1])
def test_a_quantity_that_is_none_is_refused_with_its_symbol(desk: Desk, qty: Any) -> None:
    with pytest.raises(ParameterError, match="order of SPY: quantity"):
        desk.ctx.buy("SPY", qty)
    assert not desk.asked


@pytest.mark.parametrize("price", [float("nan"), float("inf"), "cheap"])
def test_a_price_that_is_none_is_refused_with_its_symbol(desk: Desk, price: Any) -> None:
    with pytest.raises(ParameterError, match=r"order of SPY: price .* is not a number"):
        desk.ctx.buy("SPY", 1, limit_price=price)


@pytest.mark.parametrize("qty", [10, 10.0, "10", D(10)])
def test_quantities_are_exact_however_they_are_given(desk: Desk, qty: Any) -> None:
    desk.ctx.sell("SPY", qty)
    order = desk.order
    assert (order.qty, type(order.qty), order.side) == (10, Decimal, Side.SELL)


def test_dollars_buy_whole_units(desk: Desk) -> None:
    desk.ctx.buy("SPY", dollars=1_234.56)
    assert desk.order.qty == 12
    desk.marks[CALL] = Quote(CALL, 0, 2.9, 3.1, 1, 1)
    desk.ctx.buy(CALL, dollars=1_000)
    assert desk.order.qty == 3


def test_a_bracket_is_an_entry_and_two_exits_that_know_it(desk: Desk) -> None:
    entry, target, stop = desk.ctx.bracket("SPY", Side.BUY, 10, take_profit=105, stop_loss=95.004)
    orders = desk.asked
    assert [o.order_id for o in orders] == [entry.order_id, target.order_id, stop.order_id]
    assert [(o.side, o.order_type, o.parent, o.reduce_only, o.tif) for o in orders[1:]] == [
        (Side.SELL, OrderType.LIMIT, entry.order_id, True, TimeInForce.GTC),
        (Side.SELL, OrderType.STOP, entry.order_id, True, TimeInForce.GTC),
    ]
    assert orders[2].stop_price == 95


def test_a_target_orders_the_difference_with_what_works_counted(desk: Desk) -> None:
    desk.hold("SPY", 30)
    desk.ctx.target("SPY", 50)
    assert (desk.order.side, desk.host.tickets["strategy-1-1"].qty) == (Side.BUY, 20)
    assert desk.ctx.target("SPY", 50) is None, "twenty are on their way"
    desk.ctx.target("SPY", -5)
    order = desk.order
    assert (order.side, order.qty) == (Side.SELL, 55)


def test_a_target_in_percent_of_equity_is_in_whole_units(desk: Desk) -> None:
    desk.ctx.target_percent("SPY", 0.555)
    assert desk.order.qty == 55
    with pytest.raises(ParameterError, match="no price yet"):
        desk.ctx.target_percent("QQQ", 0.5)


def test_flatten_closes_what_is_held_at_once_or_after_its_orders_have_ended(desk: Desk) -> None:
    desk.hold("SPY", 30)
    desk.hold("QQQ", -5)
    working = desk.ctx.sell("SPY", 10, limit_price=110)
    desk.host.outbox.clear()
    desk.ctx.flatten()
    cancel, close = sorted(desk.asked, key=lambda m: type(m).__name__)
    assert isinstance(cancel, CancelOrder)
    assert cancel.order_id == working.order_id
    assert (close.symbol, close.side, close.qty, close.reduce_only) == ("QQQ", Side.BUY, 5, True)
    head = (working.order_id, "strategy", "main", "SPY")
    (close,) = desk.host.handle(e.OrderCanceled(desk.bar.ts, *head, D(0)))
    assert (close.symbol, close.side, close.qty, close.reduce_only) == ("SPY", Side.SELL, 30, True)


def test_a_replace_keeps_what_is_not_given(desk: Desk) -> None:
    ticket = desk.ctx.buy("SPY", 10, limit_price=99)
    desk.host.outbox.clear()
    desk.ctx.replace(ticket, limit_price=98.996)
    desk.ctx.replace(ticket.order_id, qty=5)
    first, second = desk.asked
    assert isinstance(first, ReplaceOrder)
    assert (first.qty, first.limit_price, first.stop_price) == (None, D("99.00"), None)
    assert (second.qty, second.limit_price) == (5, None)


@pytest.mark.parametrize(("name", "given", "when"), [
    ("open+30m", {}, OPEN + 30 * MINUTE), ("close-5m", {}, CLOSE - 5 * MINUTE), ("close", {}, CLOSE),
    ("late", {"at": "close - 1h"}, CLOSE - 60 * MINUTE), ("soon", {"seconds": 1.5}, OPEN + 30 * MINUTE + 1_500_000_000),
    ("then", {"at": OPEN + 7}, OPEN + 7),
])  # fmt: skip
def test_a_timer_is_given_in_words_or_numbers(desk: Desk, name: str, given: dict[str, Any], when: int) -> None:
    desk.ctx.set_timer(name, **given)
    (timer,) = desk.asked
    assert (timer.name, timer.at, timer.ts) == (name, when, OPEN + 30 * MINUTE)


def test_a_timer_nobody_understands_is_refused(desk: Desk) -> None:
    with pytest.raises(ParameterError, match="give ns"):
        desk.ctx.set_timer("lunch")
    before = StrategyHost(Strategy(), account="main", session="1", marks={}, seq=lambda: 0, cash=D(0))
    before.ctx.event = e.StrategyStarted(0, "s", "main", "1")
    with pytest.raises(ParameterError, match="session is known"):
        before.ctx.set_timer("close-5m")


def test_time_is_that_of_the_event_and_never_runs_backwards(desk: Desk) -> None:
    assert desk.ctx.now == OPEN + 30 * MINUTE
    assert str(desk.ctx.time) == "2023-11-14 10:00:00-05:00"
    assert (desk.ctx.minutes_since_open, desk.ctx.minutes_to_close) == (30.0, 360.0)
    seen = []
    desk.host.strategy.on_fill = lambda ctx, fill: seen.append(ctx.now)
    desk.host._wants_fill = True
    earlier = e.OrderFilled(OPEN, "x", "s", "main", "SPY", Side.BUY, D(1), D(1), D(0), "x", D(1), D(0))
    desk.host.deliver(earlier)
    assert seen == [OPEN + 30 * MINUTE]


def test_prices_and_positions_of_a_combo_are_of_its_legs(desk: Desk) -> None:
    desk.marks[CALL] = Quote(CALL, 0, 2.0, 4.0, 1, 1)
    spread = combo((instrument(CALL), 1), (instrument(PUT), -2))
    assert desk.ctx.price(spread) != desk.ctx.price(spread), "nan: a leg has no price yet"
    desk.marks[PUT] = Quote(PUT, 0, 1.0, 0.0, 1, 0)
    assert desk.ctx.price(spread) == 3.0 - 2 * 1.0
    desk.hold(CALL, 3, "3")
    assert desk.ctx.position(spread) == 0
    desk.hold(PUT, -4, "1")
    assert desk.ctx.position(spread) == desk.ctx.position(spread.symbol) == 2
    assert set(desk.ctx.positions) == {CALL, PUT}
    assert [option.symbol for option in desk.ctx.options("SPY")] == [CALL, PUT]


def test_equity_is_the_bankroll_and_what_is_held_at_the_latest_price(desk: Desk) -> None:
    desk.hold("SPY", 10, "90")
    desk.hold("QQQ", 1, "50")
    assert desk.ctx.bankroll == D(10_000) - 900 - 50
    assert desk.ctx.equity_value == 9_050 + 1_000 + 50, "without a price at what it cost"


def test_instruments_are_made_by_their_terms(desk: Desk) -> None:
    call = desk.ctx.option("SPY", date(2023, 11, 17), 100, "C")
    assert call.symbol == CALL
    other = desk.ctx.option("SPY", date(2023, 11, 17), "105", "C")
    assert desk.ctx.vertical(call, other).symbol == f"1*{CALL},-1*{other.symbol}"
    with pytest.raises(ParameterError, match="is no equity"):
        desk.ctx.equity(CALL)


def test_an_error_of_the_context_in_a_handler_is_the_strategys(desk: Desk) -> None:
    desk.host.strategy.on_bar = lambda ctx, bar: ctx.buy("SPY", 0.5)
    with pytest.raises(StrategyError, match="has a fraction"):
        desk.host.deliver(desk.bar)
