"""The strategy's side of the wall: a ticket that follows its order, own books, warm-up, and errors that say where."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from northstar_core.model import events as e
from northstar_core.model.denial import DenialReason
from northstar_core.model.errors import StrategyError
from northstar_core.model.execution import ActivityKind
from northstar_core.model.market import Bar
from northstar_core.model.order import OrderStatus, PlaceOrder, Side
from northstar_core.strategy.base import Params, Strategy
from northstar_core.strategy.context import Context
from northstar_core.strategy.host import StrategyHost, Ticket

D = Decimal
S = OrderStatus
HEAD = ("told-1-1", "told", "main", "SPY")


class Told(Strategy):
    """Does as it is told on each bar and remembers what it was handed."""

    class Params(Params):
        symbols: tuple[str, ...] = ("SPY",)
        need: int = 0

    warm_up = property(lambda self: self.params.need)

    def __init__(self, act: Any = None, **params: Any) -> None:
        super().__init__(**params)
        self.act, self.seen = act, []

    def on_bar(self, ctx: Context, bar: Bar) -> None:
        if self.act is not None:
            self.act(ctx)

    def remember(self, ctx: Context, event: Any) -> None:
        self.seen.append((type(event).__name__, ctx.position("SPY")))

    on_fill = on_order = on_position = remember


def bar(n: int = 0, close: float = 100.0, symbol: str = "SPY") -> Bar:
    return Bar(symbol, n, n + 1, close, close, close, close, 1.0)


def host_of(strategy: Strategy) -> StrategyHost:
    return StrategyHost(strategy, account="main", session="1", marks={}, seq=lambda: 7, cash=D(1000))


def placed(side: Side = Side.BUY) -> tuple[StrategyHost, Ticket]:
    """A host whose strategy asked for ten shares."""
    strategy = Told(lambda ctx: ctx.order("SPY", side, 10))
    host = host_of(strategy)
    (order,) = host.handle(bar())
    strategy.act = None
    assert isinstance(order, PlaceOrder)
    return host, host.tickets[order.order_id]


def submitted(order: PlaceOrder) -> e.OrderSubmitted:
    return e.OrderSubmitted(1, order, None)  # type: ignore[arg-type]


def fill(qty: str, cum: str, leaves: str, price: str = "10", *, late: bool = False, fees: str = "0") -> e.OrderFilled:
    return e.OrderFilled(
        1, *HEAD, Side.BUY, D(qty), D(price), D(fees), f"x{cum}", D(cum), D(leaves), late
    )  # fmt: skip


def test_ids_are_derived_from_strategy_session_and_a_count() -> None:
    def act(ctx: Context) -> None:
        ctx.signal("SPY", "because")
        ctx.buy("SPY", 1)
        ctx.buy("SPY", 2)

    first, second = host_of(Told(act)).handle(bar()), host_of(Told(act)).handle(bar())
    assert first == second
    assert [getattr(m, "order_id", None) for m in first] == [None, "told-1-2", "told-1-3"]
    assert [m.signal for m in first[1:]] == [1, 1], "orders of this event follow from its signal"
    assert {m.basis_seq for m in first} == {7}


def test_a_ticket_follows_its_order() -> None:
    host, ticket = placed()
    assert (ticket.status, ticket.is_working, ticket.leaves_qty) == (None, True, 10)
    steps: list[tuple[Any, OrderStatus, int]] = [
        (submitted(ticket.order), S.PENDING_NEW, 10), (e.OrderUnknown(1, *HEAD, "silence"), S.UNKNOWN, 10),
        (e.OrderAccepted(1, *HEAD), S.NEW, 10), (fill("4", "4", "6"), S.PARTIALLY_FILLED, 6),
        (e.ReplaceSubmitted(1, *HEAD, D(20)), S.PENDING_REPLACE, 6),
        (e.OrderReplaced(1, *HEAD, D(20)), S.PARTIALLY_FILLED, 16),
        (e.CancelSubmitted(1, *HEAD), S.PENDING_CANCEL, 16), (fill("1", "5", "15"), S.PENDING_CANCEL, 15),
        (e.RequestRejected(1, *HEAD, "cancel", "no"), S.PARTIALLY_FILLED, 15),
        (e.OrderUnknown(1, *HEAD, "silence"), S.UNKNOWN, 15), (e.OrderAccepted(1, *HEAD), S.PARTIALLY_FILLED, 15),
        (e.CancelSubmitted(1, *HEAD), S.PENDING_CANCEL, 15), (e.OrderReplaced(1, *HEAD, D(30)), S.PENDING_CANCEL, 25),
        (e.OrderCanceled(1, *HEAD, D(5)), S.CANCELED, 0), (fill("1", "6", "0", late=True), S.CANCELED, 0),
    ]  # fmt: skip
    for event, status, leaves in steps:
        host.deliver(event)
        assert (ticket.status, ticket.leaves_qty) == (status, leaves), event
    assert (ticket.filled_qty, host.positions["SPY"].qty) == (6, 6), "a late fill is held all the same"
    assert not host.working


@pytest.mark.parametrize("end", [
    e.OrderRejected(1, *HEAD, "no"), e.OrderCanceled(1, *HEAD, D(0)), e.OrderExpired(1, *HEAD, D(0)),
    e.OrderDenied(1, *HEAD, DenialReason.SESSION_CLOSED, "rule=regular"),
])  # fmt: skip
def test_an_order_that_ends_works_no_more(end: Any) -> None:
    host, ticket = placed()
    if not isinstance(end, e.OrderDenied):
        host.deliver(submitted(ticket.order))
    host.deliver(end)
    assert (ticket.is_working, ticket.leaves_qty, host.working) == (False, 0, {})
    if isinstance(end, e.OrderDenied):
        assert ticket.denied == "SESSION_CLOSED: the exchange is closed (rule=regular)"
        assert "denied: SESSION_CLOSED" in repr(ticket)


def test_a_denied_cancel_does_not_deny_the_order() -> None:
    host, ticket = placed()
    host.deliver(submitted(ticket.order))
    host.deliver(e.OrderDenied(1, *HEAD, DenialReason.ORDER_NOT_WORKING))
    assert ticket.is_working
    assert not ticket.denied


def test_own_books_are_up_to_date_when_the_strategy_hears_of_a_fill() -> None:
    host, ticket = placed()
    host.deliver(submitted(ticket.order))
    host.deliver(fill("10", "10", "0", fees="0.35"))
    assert host.strategy.seen == [("OrderSubmitted", 0), ("OrderFilled", 10), ("OrderFilled", 10)]
    assert (host.cash, host.positions["SPY"].qty, host.ctx.bankroll) == (D("899.65"), 10, D("899.65"))
    host.deliver(e.PositionAdjusted(2, "told", "main", "SPY", ActivityKind.SPLIT, "r", D(10), D(0), D(2)))
    host.deliver(e.PositionAdjusted(2, "told", "main", "SPY", ActivityKind.DIVIDEND, "r2", D(0), D(5), D(0)))
    assert (host.positions["SPY"].qty, host.positions["SPY"].avg_price, host.cash) == (20, 5, D("904.65"))


def test_a_reason_is_recorded_when_it_changes_and_shown_to_a_probe_always() -> None:
    reasons = iter(["calm", "calm", "busy", "calm"])
    host, heard = host_of(Told(lambda ctx: ctx.no_signal("SPY", next(reasons)))), []
    host.probe = heard.append
    said = [[m.reason for m in host.handle(bar(n))] for n in range(4)]
    assert said == [["calm"], [], ["busy"], ["calm"]]
    assert [record.reason for record in heard] == ["calm", "calm", "busy", "calm"]


def test_a_signal_ends_a_reason() -> None:
    acts = iter(["no_signal", "signal", "no_signal"])
    host = host_of(Told(lambda ctx: getattr(ctx, next(acts))("SPY", "calm")))
    assert [type(m).__name__ for n in range(3) for m in host.handle(bar(n))] == ["NoSignal", "Signal", "NoSignal"]


def test_numbers_that_are_none_are_left_out_of_the_record() -> None:
    host = host_of(Told(lambda ctx: ctx.signal("SPY", "go", float("nan"), a=float("inf"), b=D("1.5"))))
    (signal,) = host.handle(bar())
    assert (signal.value, signal.inputs) == (0.0, {"b": 1.5})


def test_while_a_symbol_warms_up_orders_stay_here() -> None:
    host = host_of(Told(lambda ctx: ctx.buy("SPY", 1), need=2))
    asked = [[type(m).__name__ for m in host.handle(bar(n))] for n in range(4)]
    assert asked == [["NoSignal"], [], ["PlaceOrder"], ["PlaceOrder"]]
    assert not host.warming


def test_one_symbol_may_be_warm_before_another() -> None:
    host = host_of(Told(lambda ctx: ctx.buy(ctx.event.symbol, 1), need=1, symbols=("SPY", "QQQ")))
    kinds = [type(m).__name__ for n in range(2) for m in host.handle(bar(n))]
    assert kinds == ["NoSignal", "PlaceOrder"]
    assert host.warming, "QQQ has had no bar yet"
    assert [type(m).__name__ for n in range(2) for m in host.handle(bar(n, symbol="QQQ"))] == ["NoSignal", "PlaceOrder"]
    assert not host.warming


@pytest.mark.parametrize(("event", "handler"), [
    (bar(), "on_bar"), (fill("1", "1", "9"), "on_fill"), (e.OrderAccepted(1, *HEAD), "on_order"),
    (e.PositionAdjusted(1, "told", "main", "SPY", ActivityKind.FEE, "r", D(0), D(0), D(0)), "on_position"),
])  # fmt: skip
def test_an_authors_error_carries_the_event_and_the_handler(event: Any, handler: str) -> None:
    class Fails(Told):
        def on_bar(self, ctx: Context, bar: Bar) -> None:
            raise KeyError("price")

        def fail(self, ctx: Context, event: Any) -> None:
            raise KeyError("price")

        on_fill = on_order = on_position = fail

    with pytest.raises(StrategyError) as caught:
        host_of(Fails()).deliver(event)
    assert (caught.value.event, caught.value.handler, type(caught.value.error)) == (event, handler, KeyError)
    assert caught.value.strategy_id == "fails"
