"""What can be traded: equities, options and combos of up to four legs.

Messages carry symbols only; ``instrument(symbol)`` is the one way from a symbol to its instrument. An option's symbol is its
OCC code without padding (``SPY230901C00430000``), a combo's is its legs (``1*SPY230901C00430000,-1*SPY230901C00440000``).
"""

from __future__ import annotations

import re
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from functools import lru_cache
from math import gcd

import msgspec

from northstar_core.model.errors import DataError

CENT = Decimal("0.01")
SUB_DOLLAR_TICK = Decimal("0.0001")
MAX_LEGS = 4

_OCC = re.compile(r"([A-Z][A-Z0-9.]{0,5})([0-9]{2})([0-9]{2})([0-9]{2})([CP])([0-9]{8})")
_EQUITY = re.compile(r"[A-Z][A-Z0-9.\-/]{0,11}")


class Right(StrEnum):
    """What an option gives its holder the right to do."""

    CALL = "C"
    PUT = "P"


def exact(price: float) -> Decimal:
    """Return the shortest decimal that is this float: 448.04 gives ``Decimal('448.04')``."""
    return Decimal(repr(float(price)))


class Equity(msgspec.Struct, frozen=True, tag=True):
    """A share of stock or of a fund, in US dollars."""

    symbol: str
    tick: Decimal = CENT
    lot: Decimal = Decimal(1)  #: quantities are multiples of this

    @property
    def multiplier(self) -> int:
        """Shares a unit of quantity stands for."""
        return 1

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Itself, once."""
        return (Leg(self, 1),)

    def tick_at(self, price: Decimal) -> Decimal:
        """Return the price increment at this price: a cent, or 0.0001 below one dollar (Regulation NMS, Rule 612)."""
        return SUB_DOLLAR_TICK if self.tick == CENT and 0 < price < 1 else self.tick

    def round_price(self, price: float, toward: int = 0) -> Decimal:
        """Return the valid price nearest to an observed one; ``toward`` 1 rounds up, -1 down."""
        return _rounded(exact(price), self.tick_at(exact(price)), toward)


class Option(msgspec.Struct, frozen=True, tag=True):
    """A listed option on an equity; American exercise and physical delivery unless said otherwise."""

    symbol: str
    underlying: str
    expiry: date
    strike: Decimal
    right: Right
    multiplier: int = 100
    american: bool = True
    tick: Decimal = CENT
    lot: Decimal = Decimal(1)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Itself, once."""
        return (Leg(self, 1),)

    def tick_at(self, price: Decimal) -> Decimal:
        """Return the price increment; the same at every price."""
        return self.tick

    def round_price(self, price: float, toward: int = 0) -> Decimal:
        """Return the valid price nearest to an observed one; ``toward`` 1 rounds up, -1 down."""
        return _rounded(exact(price), self.tick, toward)

    def intrinsic(self, underlying_price: Decimal) -> Decimal:
        """Return what exercise is worth a share, never below zero."""
        gain = underlying_price - self.strike if self.right is Right.CALL else self.strike - underlying_price
        return max(gain, Decimal(0))


class Leg(msgspec.Struct, frozen=True):
    """One leg of an instrument: ``ratio`` units for each unit of the whole, negative when sold."""

    instrument: Equity | Option
    ratio: int


class Combo(msgspec.Struct, frozen=True, tag=True):
    """Two to four legs traded as one order; its price is the sum of ratio × leg price (negative: a credit to the buyer)."""

    legs: tuple[Leg, ...]
    tick: Decimal = CENT
    lot: Decimal = Decimal(1)

    @property
    def symbol(self) -> str:
        """The legs as text, in the order given."""
        return ",".join(f"{leg.ratio}*{leg.instrument.symbol}" for leg in self.legs)

    @property
    def multiplier(self) -> int:
        """Of its option legs; prices of a combo are quoted in the options' unit."""
        return max(leg.instrument.multiplier for leg in self.legs)

    def tick_at(self, price: Decimal) -> Decimal:
        """Return the price increment; the same at every price."""
        return self.tick

    def round_price(self, price: float, toward: int = 0) -> Decimal:
        """Return the valid price nearest to an observed one; ``toward`` 1 rounds up, -1 down."""
        return _rounded(exact(price), self.tick, toward)


Instrument = Equity | Option | Combo


def _rounded(price: Decimal, tick: Decimal, toward: int) -> Decimal:
    how = ROUND_CEILING if toward > 0 else ROUND_FLOOR if toward < 0 else ROUND_HALF_EVEN
    return ((price / tick).to_integral_value(how) * tick).quantize(tick)


def occ_symbol(underlying: str, expiry: date, right: Right | str, strike: Decimal) -> str:
    """Return the compact OCC symbol: root, yymmdd, C or P, strike × 1000 in eight digits."""
    thousandths = strike * 1000
    if thousandths != thousandths.to_integral_value() or not 0 < thousandths < 10**8:
        raise DataError(f"strike {strike} of {underlying}: not expressible in an OCC symbol; use 0.001 to 99999.999")
    return f"{underlying}{expiry:%y%m%d}{Right(right).value}{int(thousandths):08d}"


def combo(*legs: tuple[Equity | Option, int]) -> Combo:
    """Return a combo of ``(instrument, ratio)`` pairs; ratios are reduced by their common divisor.

    Raises
    ------
    DataError
        With fewer than two or more than four legs, a zero ratio, or a symbol used twice.
    """
    symbols = [leg.symbol for leg, _ in legs]
    if not 2 <= len(legs) <= MAX_LEGS or any(ratio == 0 for _, ratio in legs) or len(set(symbols)) != len(symbols):
        raise DataError(f"combo of {symbols}: give two to {MAX_LEGS} different legs with ratios other than zero")
    divisor = gcd(*(abs(ratio) for _, ratio in legs))
    return Combo(tuple(Leg(leg, ratio // divisor) for leg, ratio in legs))


@lru_cache(maxsize=65536)
def instrument(symbol: str) -> Instrument:
    """Return the instrument a symbol names.

    Raises
    ------
    DataError
        If it is neither an equity ticker, nor an OCC option symbol, nor a combo of those.
    """
    if "*" in symbol:
        legs = []
        for part in symbol.split(","):
            ratio, _, leg = part.partition("*")
            if not re.fullmatch(r"-?[1-9][0-9]{0,3}", ratio):
                raise DataError(f"symbol {symbol!r}: leg {part!r} does not start with a ratio such as 1* or -1*")
            found = instrument(leg)
            assert not isinstance(found, Combo)
            legs.append((found, int(ratio)))
        made = combo(*legs)
        if made.symbol != symbol:
            raise DataError(f"symbol {symbol!r}: ratios share a divisor; write {made.symbol}, a larger quantity")
        return made
    if found_occ := _OCC.fullmatch(symbol):
        root, year, month, day, right, strike = found_occ.groups()
        try:
            expiry = date(2000 + int(year), int(month), int(day))
        except ValueError:
            raise DataError(f"symbol {symbol!r}: {year}{month}{day} is not a date") from None
        return Option(symbol, root, expiry, Decimal(int(strike)) / 1000, Right(right))
    if _EQUITY.fullmatch(symbol):
        return Equity(symbol)
    raise DataError(f"symbol {symbol!r}: neither a ticker (SPY) nor an OCC option symbol (SPY230901C00430000)")
