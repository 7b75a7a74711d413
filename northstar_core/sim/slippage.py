"""How much worse than the price on the tape a fill is.

A slippage model answers with dollars a share, never below zero; the broker adds it for buys, takes it off for sells and
rounds the result to the tick against the trader. It is paid where liquidity is taken (market and stop orders, limits
that are marketable on arrival) and never carries a limit order beyond its limit.
"""

from __future__ import annotations

from decimal import Decimal
from math import sqrt
from typing import Protocol, runtime_checkable

import msgspec

from northstar_core.model.instrument import exact

BPS = Decimal("0.0001")


@runtime_checkable
class Slippage(Protocol):
    """What a slippage model is; third parties may bring their own."""

    def amount(self, price: Decimal, qty: Decimal, volume: float, tick: Decimal) -> Decimal:
        """Return dollars a share for taking ``qty`` at ``price``; ``volume`` is the bar's, or the size shown."""
        ...

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        ...


class BpsSlippage(msgspec.Struct, frozen=True, tag=True):
    """A fixed part of the price, in basis points (0.01 %)."""

    bps: Decimal

    def amount(self, price: Decimal, qty: Decimal, volume: float, tick: Decimal) -> Decimal:
        """Return price × bps / 10,000."""
        return abs(price) * self.bps * BPS

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"{self.bps} bps of the price, rounded to the tick against the trader"


class TickSlippage(msgspec.Struct, frozen=True, tag=True):
    """A fixed number of ticks."""

    ticks: int

    def amount(self, price: Decimal, qty: Decimal, volume: float, tick: Decimal) -> Decimal:
        """Return ticks × tick size."""
        return self.ticks * tick

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"{self.ticks} tick{'' if self.ticks == 1 else 's'} against the trader"


class ImpactSlippage(msgspec.Struct, frozen=True, tag=True):
    """Square-root impact: price × coefficient × sqrt(quantity / volume).

    The square-root law of market impact (Torre, BARRA Market Impact Model Handbook, 1997; Almgren et al., "Direct
    Estimation of Equity Market Impact", 2005, find an exponent near 0.6). ``coefficient`` stands for the volatility
    over the bar times a constant near one: 0.001 moves the price 10 bps for an order as large as the bar. Without
    volume it is charged as if the order were the whole of it.
    """

    coefficient: float

    def amount(self, price: Decimal, qty: Decimal, volume: float, tick: Decimal) -> Decimal:
        """Return price × coefficient × sqrt(qty / volume)."""
        part = float(qty) / volume if volume > 0 else 1.0
        return abs(price) * exact(self.coefficient * sqrt(part))

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"{self.coefficient:g} × price × sqrt(quantity / volume), rounded to the tick against the trader"
