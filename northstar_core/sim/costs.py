"""What a fill costs: commissions and regulatory fees, composable, exact to the cent.

A cost model answers with what one execution costs, given what the order had already traded (``Tally``), so that
minimums and maximums *an order* hold over partial fills: each execution pays the difference between what is due after
it and what was due before it. Rounding: commissions are rounded to the cent, half up, on the order's running total;
regulatory fees are rounded up to the cent on each execution, as brokers pass them on. In a combo each leg is charged
as an order of its own.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Protocol, runtime_checkable

import msgspec

from northstar_core.model.instrument import CENT, Equity, Option

ZERO = Decimal(0)


class Tally(msgspec.Struct, frozen=True):
    """What an order (or a leg of it) has traded so far."""

    qty: Decimal = ZERO
    value: Decimal = ZERO  #: quantity × price × multiplier, absolute


NOTHING = Tally()


@runtime_checkable
class Costs(Protocol):
    """What a cost model is; third parties may bring their own."""

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return what this execution costs, positive = paid."""
        ...

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        ...


def cents(amount: Decimal) -> Decimal:
    """Return an amount rounded to the cent, half up."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def cents_up(amount: Decimal) -> Decimal:
    """Return an amount rounded up to the cent."""
    return amount.quantize(CENT, ROUND_UP)


class PerShare(msgspec.Struct, frozen=True, tag=True):
    """A rate a share, a minimum an order, a maximum as a part of the order's value; options pay nothing here."""

    rate: Decimal
    minimum: Decimal = ZERO
    maximum: Decimal | None = None  #: part of the traded value, 0.01 = 1 %; it also caps the minimum

    def due(self, qty: Decimal, value: Decimal) -> Decimal:
        """Return what an order of this size owes."""
        if not qty:
            return ZERO
        owed = max(self.rate * qty, self.minimum)
        return cents(owed if self.maximum is None else min(owed, self.maximum * value))

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return what is due after this execution less what was due before it."""
        if type(instrument) is not Equity:
            return ZERO
        return self.due(before.qty + qty, before.value + qty * price) - self.due(before.qty, before.value)

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        cap = "" if self.maximum is None else f", at most {self.maximum * 100:f} % of the value"
        return f"${self.rate:f} a share, at least ${self.minimum:f} an order{cap}"


class PerContract(msgspec.Struct, frozen=True, tag=True):
    """A rate an option contract, with a minimum an order; shares pay nothing here."""

    rate: Decimal
    minimum: Decimal = ZERO

    def due(self, qty: Decimal) -> Decimal:
        """Return what an order of this size owes."""
        return cents(max(self.rate * qty, self.minimum)) if qty else ZERO

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return what is due after this execution less what was due before it."""
        if type(instrument) is not Option:
            return ZERO
        return self.due(before.qty + qty) - self.due(before.qty)

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"${self.rate:f} an option contract, at least ${self.minimum:f} an order"


class Percent(msgspec.Struct, frozen=True, tag=True):
    """A part of the traded value, 0.001 = 0.1 %, with a minimum an order."""

    rate: Decimal
    minimum: Decimal = ZERO

    def due(self, value: Decimal) -> Decimal:
        """Return what an order of this value owes."""
        return cents(max(self.rate * value, self.minimum)) if value else ZERO

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return what is due after this execution less what was due before it."""
        return self.due(before.value + qty * price * instrument.multiplier) - self.due(before.value)

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"{self.rate * 100:f} % of the value, at least ${self.minimum:f} an order"


class Fixed(msgspec.Struct, frozen=True, tag=True):
    """The same amount for every order, charged with its first execution."""

    amount: Decimal

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return the amount for an order's first execution, nothing after."""
        return ZERO if before.qty else self.amount

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return f"${self.amount:f} an order"


class AllOf(msgspec.Struct, frozen=True, tag=True):
    """Several cost models together."""

    parts: tuple[Costs, ...]

    def fee(
        self, instrument: Equity | Option, buy: bool, qty: Decimal, price: Decimal, ts: int, before: Tally
    ) -> Decimal:
        """Return the sum of the parts."""
        return sum((part.fee(instrument, buy, qty, price, ts, before) for part in self.parts), ZERO)

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        return "; ".join(part.describe() for part in self.parts)


def per_share_and_contract() -> AllOf:
    """Return a fixed-rate broker's commissions: $0.005 a share, at least $1 an order and at most 1 % of its value;
    $0.65 a contract.

    The US "fixed" schedule of Interactive Brokers: 100 shares at $25 cost $1.00, 1,000 cost $5.00, 1,000 at $0.25
    cost $2.50.
    """
    return AllOf((PerShare(Decimal("0.005"), Decimal(1), Decimal("0.01")), PerContract(Decimal("0.65"), Decimal(1))))
