"""A strategy that begins with what it held and had working before."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from northstar_core.model import events as e
from northstar_core.model.market import Bar
from northstar_core.model.order import OrderStatus, OrderType, PlaceOrder, Side
from northstar_core.model.world import Held, SessionBegan, Works
from northstar_core.strategy.base import Params, Strategy
from northstar_core.strategy.seat import FedSeat

MINUTE = 60_000_000_000
OPEN = 1_704_465_000_000_000_000  #: 2024-01-05 09:30 New York
RESTING = PlaceOrder(
    OPEN, "restless-20240105-7", "restless", "paper-1", "SPY", Side.BUY, Decimal(10), OrderType.LIMIT, Decimal(99)
)  # fmt: skip


class Restless(Strategy):
    """On each bar gives up, changes or flattens what works."""

    class Params(Params):
        symbols: tuple[str, ...] = ("SPY",)
        deed: str = "cancel"

    warm_up = 2

    def on_bar(self, ctx: Any, bar: Bar) -> None:
        self.seen = [ticket.order_id for ticket in ctx.working("SPY")]
        if self.params.deed == "cancel":
            ctx.cancel_all("SPY")
        elif self.params.deed == "replace" and ctx.working("SPY"):
            ctx.replace(ctx.working("SPY")[0], limit_price=98)
        else:
            ctx.flatten("SPY")
            ctx.buy("SPY", 1)


def bar(n: int) -> Bar:
    start = OPEN + n * MINUTE
    return Bar("SPY", start, start + MINUTE, 100.0, 100.0, 100.0, 100.0, 1000.0)


def begun(deed: str) -> tuple[FedSeat, Restless]:
    """A seat that holds ten, has ten more working, and has seen three bars from before its session."""
    strategy = Restless(deed=deed)
    began = SessionBegan(
        ts=OPEN, strategy="restless", account="paper-1", session="20240105", author="restless", bar_ns=MINUTE, cash=Decimal(5000), n=7,
        held=(Held("SPY", ((Decimal(10), Decimal(100)),)),), works=(Works(RESTING, RESTING.qty, Decimal(0), OrderStatus.NEW),),
    )  # fmt: skip
    seat = FedSeat(strategy, began, 100)
    seat.before([bar(n) for n in range(3)])
    assert seat.take([(101, e.StrategyStarted(OPEN, "restless", "paper-1", "20240105", 2))]) == []
    return seat, strategy


def test_what_works_is_still_known_after_a_warm_up_in_which_the_strategy_would_have_cancelled_it() -> None:
    for deed in ("cancel", "replace", "flatten"):
        seat, strategy = begun(deed)
        assert [ticket.order_id for ticket in seat.host.working.values()] == [RESTING.order_id]
        asked = seat.take([(102, bar(3))])
        assert strategy.seen == [RESTING.order_id]
        assert [message.order_id for message in asked if type(message) is not PlaceOrder] == [RESTING.order_id]


def test_what_a_strategy_would_have_closed_while_it_warmed_up_is_not_closed_later() -> None:
    seat, _ = begun("flatten")
    gone = e.OrderCanceled(OPEN + 4 * MINUTE, RESTING.order_id, "restless", "paper-1", "SPY", Decimal(0))
    assert seat.take([(102, gone)]) == []
    assert not seat.host.working
