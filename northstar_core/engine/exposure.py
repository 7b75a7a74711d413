"""Worst-case exposure: what positions and working orders could come to, at given prices.

Exposures are observed values (float). Quantities are exact until they are multiplied by a price; every sum is ``math.fsum``, so it
does not depend on the order of its terms.

Equities. With position p, working buys B and working sells L of a symbol, the worst case is ``max(|p + B|, |p - L|) × price``.

Options. The legs of one underlying and expiry offset each other, so they are taken together. The exposure of a set of legs is
``max(0, V) + max(0, -M)`` where V is its net market value and M the least it can be worth at expiry, over underlying prices of 0
and of every strike. So a long option counts its premium, a short put its strike, a debit spread its debit, a credit spread its
width. Calls sold net of calls bought have no least value beyond the last strike: each such uncovered call counts
``max(strike, underlying price)`` instead, at the highest strike sold short. Where the underlying has no price, the strike stands.
The worst case over the group's working orders is the largest exposure over all subsets of them that could fill while there are at
most six, else the exposure of the position plus that of each order alone (never less, as exposure is convex).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from itertools import product
from math import fsum

from northstar_core.model.instrument import Option, Right

Group = tuple[str, date]
MAX_SUBSET_ORDERS = 6


def group_of(option: Option) -> Group:
    """Return what an option offsets with: its underlying and expiry."""
    return option.underlying, option.expiry


def option_exposure(legs: Mapping[Option, Decimal], prices: Mapping[str, float]) -> float:
    """Return the exposure of signed contracts of one underlying and expiry, in dollars; see the module's words.

    Parameters
    ----------
    legs
        Signed contracts by option.
    prices
        Marks by symbol, of the options and of their underlying.
    """
    held = [(option, float(qty)) for option, qty in legs.items() if qty]
    if not held:
        return 0.0
    value = fsum(qty * option.multiplier * prices.get(option.symbol, 0.0) for option, qty in held)
    strikes = sorted({float(option.strike) for option, _ in held})
    least = min(_payoff(held, spot) for spot in (0.0, *strikes))
    naked = -fsum(qty for option, qty in held if option.right is Right.CALL)
    uncovered = 0.0
    if naked > 0:
        short = [option for option, qty in held if option.right is Right.CALL and qty < 0]
        top = max(short, key=lambda option: option.strike)
        uncovered = naked * top.multiplier * max(float(top.strike), prices.get(top.underlying, 0.0))
    return max(0.0, value) + max(0.0, -least) + uncovered


def _payoff(held: list[tuple[Option, float]], spot: float) -> float:
    """What the legs are worth at expiry with the underlying at ``spot``."""
    return fsum(
        qty * option.multiplier * max(0.0, spot - float(option.strike) if option.right is Right.CALL else float(option.strike) - spot)
        for option, qty in held
    )


def worst_option_exposure(
    position: Mapping[Option, Decimal], orders: Iterable[Mapping[Option, Decimal]], prices: Mapping[str, float]
) -> float:
    """Return the largest exposure of a group over what its working orders may still do to it."""
    pending = list(orders)
    if len(pending) > MAX_SUBSET_ORDERS:
        return option_exposure(position, prices) + fsum(option_exposure(order, prices) for order in pending)
    worst = 0.0
    for filled in product((False, True), repeat=len(pending)):
        legs = dict(position)
        for order, counts in zip(pending, filled, strict=True):
            if counts:
                for option, qty in order.items():
                    legs[option] = legs.get(option, Decimal(0)) + qty
        worst = max(worst, option_exposure(legs, prices))
    return worst
