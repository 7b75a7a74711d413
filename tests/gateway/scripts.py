"""Strategies for sessions: they order on every bar, keep what they did, and can be asked to fail."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from northstar_core.strategy.base import Params, Strategy


class Talker(Strategy):
    """Asks for something of every kind: an order every bar, a cancel of the one before, a timer every other one."""

    name = "trend"

    class Params(Params, frozen=True, kw_only=True):
        symbols: tuple[str, ...] = ("SPY",)
        fail_at: int = 0  #: raises at this bar
        flip: bool = False  #: what a later version of the code does otherwise

    @property
    def warm_up(self) -> int:
        return 2

    bars, started, stopped = 0, False, False

    def on_start(self, ctx: Any) -> None:
        self.started = True
        self.timers: list[str] = []
        ctx.state.setdefault("runs", 0)
        ctx.state["runs"] += 1

    def on_bar(self, ctx: Any, bar: Any) -> None:
        self.bars += 1
        if self.bars == self.params.fail_at:
            raise ValueError("on purpose")
        ctx.state["bars"] = self.bars
        ctx.cancel_all()
        price = Decimal("90") if self.bars % 3 or self.params.flip else None
        if price is None:
            ctx.buy(bar.symbol, 1)
        else:
            ctx.buy(bar.symbol, 1, limit_price=price)
        if self.bars % 2:
            ctx.set_timer(f"t{self.bars}", seconds=1)

    def on_timer(self, ctx: Any, timer: Any) -> None:
        self.timers.append(timer.name)

    def on_stop(self, ctx: Any) -> None:
        self.stopped = True


class Quoter(Strategy):
    """Listens to quotes, and orders when a price is round."""

    name = "trend"

    class Params(Params, frozen=True, kw_only=True):
        symbols: tuple[str, ...] = ("SPY", "QQQ")

    seen, started = 0, False

    def on_start(self, ctx: Any) -> None:
        self.started = True

    def on_quote(self, ctx: Any, quote: Any) -> None:
        self.seen += 1
        ctx.state["seen"] = self.seen
        if not self.seen % 10:
            ctx.buy(quote.symbol, 1, limit_price=Decimal("90"))
