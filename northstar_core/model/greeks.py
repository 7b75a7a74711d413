"""What an option is worth and how that changes: price, implied volatility and Greeks, European and American.

European options by Black and Scholes (1973) with Merton's dividend yield; American ones by the binomial tree of Leisen and
Reimer (1996), corrected by what the same tree gets wrong about the European option.

Units, in all functions: ``years`` to expiry (calendar time: days / 365); ``rate`` and ``dividend_yield`` continuously
compounded a year (0.05 is 5 %); ``vol`` a year (0.20 is 20 %). Every Greek is the plain partial derivative in these
units, a share: theta a year, vega for 1.00 of vol, rho for 1.00 of rate. The properties of ``Greeks`` give the desk's units.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, inf, isfinite, log, pi, sqrt

import msgspec
import numpy as np

from northstar_core.model.errors import ParameterError
from northstar_core.model.instrument import Right

#: Steps of the coarse tree; the fine one has twice as many and one, and the two are extrapolated.
STEPS = 101

#: Implied volatilities are looked for in this range; outside it no listed option has a meaningful one.
VOL_LEAST, VOL_MOST = 1e-4, 10.0

#: Time value below this share of the spot price is rounding, not information.
TIME_VALUE_LEAST = 1e-9


class Greeks(msgspec.Struct, frozen=True):
    """Partial derivatives of an option's price, a share of the underlying."""

    delta: float  #: for one unit of spot
    gamma: float  #: of delta, for one unit of spot
    theta: float  #: for one year of passing time, usually negative
    vega: float  #: for 1.00 of volatility
    rho: float  #: for 1.00 of the rate

    @property
    def theta_per_day(self) -> float:
        """Theta for one calendar day."""
        return self.theta / 365

    @property
    def vega_per_point(self) -> float:
        """Vega for one percentage point of volatility."""
        return self.vega / 100

    @property
    def rho_per_point(self) -> float:
        """Rho for one percentage point of the rate."""
        return self.rho / 100


def black_scholes(
    spot: float, strike: float, years: float, rate: float, vol: float, right: Right | str, dividend_yield: float = 0.0
) -> float:
    """Return the price of a European option.

    At expiry (``years`` 0) what exercise pays; with ``vol`` 0 the discounted payoff at the forward.

    Raises
    ------
    ParameterError
        If an argument is not finite, spot or strike not positive, or time or volatility negative.
    """
    sign = _checked(spot, strike, years, rate, vol, right, dividend_yield)
    return _european(sign, spot, strike, years, rate, vol, dividend_yield)


def american(
    spot: float, strike: float, years: float, rate: float, vol: float, right: Right | str, dividend_yield: float = 0.0
) -> float:
    """Return the price of an American option with a continuous dividend yield.

    Within about 1e-5 of the strike of the limit of infinitely many steps for ordinary contracts (tested). A call that pays
    no dividend is never exercised early at a rate of zero or more (Merton 1973), so it is the European one, exactly.

    Raises
    ------
    ParameterError
        As ``black_scholes``.
    """
    sign = _checked(spot, strike, years, rate, vol, right, dividend_yield)
    return _american(sign, spot, strike, years, rate, vol, dividend_yield)


def greeks(
    spot: float, strike: float, years: float, rate: float, vol: float, right: Right | str, dividend_yield: float = 0.0,
    style: str = "european",
) -> Greeks:
    """Return the Greeks of a ``"european"`` or ``"american"`` option.

    European ones are closed formulas (Hull, *Options, Futures, and Other Derivatives*, the chapter on the Greek letters). At
    expiry and at zero volatility they are the limits: delta 0 or ±1 (discounted), and ±0.5 exactly at the strike; gamma, vega
    0. American ones are central differences of the price: spot ± 1 %, volatility ± 0.01, rate ± 0.001. Theta follows from the
    Black-Scholes equation, theta = rate × price - (rate - yield) × spot × delta - vol² × spot² × gamma / 2, which holds
    wherever the option is not to be exercised now; where it is, theta, vega and rho are 0 and delta is ±1.
    """
    sign = _checked(spot, strike, years, rate, vol, right, dividend_yield)
    if _american_style(style) and not _never_early(sign, rate, dividend_yield):
        return _american_greeks(sign, spot, strike, years, rate, vol, dividend_yield)
    return _european_greeks(sign, spot, strike, years, rate, vol, dividend_yield)


def implied_volatility(
    price: float, spot: float, strike: float, years: float, rate: float, right: Right | str, dividend_yield: float = 0.0,
    style: str = "european",
) -> float | None:
    """Return the volatility at which the option is worth ``price``, or None if no volatility explains it.

    None: the price is at or below what the option is worth without any volatility (for an American one, at or below what
    exercise pays now), or at or above what no volatility can exceed, or only explained by less than 0.01 % or more than 1000 %
    a year, or the option has expired. Deep in the money close to expiry that is usual: the mid price carries less time value than
    its own rounding. Solved to 1e-10 (European) or 1e-8 (American) in volatility; American prices are those of ``american``.
    """
    sign = _checked(spot, strike, years, rate, 0.0, right, dividend_yield)
    early = _american_style(style) and not _never_early(sign, rate, dividend_yield)
    if not isfinite(price) or price <= 0 or years == 0:
        return None
    floor = (_american if early else _european)(sign, spot, strike, years, rate, 0.0, dividend_yield)
    if price - floor <= TIME_VALUE_LEAST * spot:
        return None
    if early:
        def worth(vol: float) -> float:
            return _american(sign, spot, strike, years, rate, vol, dividend_yield) - price

        return _root(worth, VOL_LEAST, VOL_MOST, 1e-8)
    # In the money the answer is that of the option at the same strike out of the money, worth the time value alone: solving
    # that one loses no digits to the intrinsic value.
    in_money = sign * (spot * exp(-dividend_yield * years) - strike * exp(-rate * years)) > 0
    side, target = (-sign, price - floor) if in_money else (sign, price)

    def excess(vol: float) -> float:
        value = _european(side, spot, strike, years, rate, vol, dividend_yield)
        return log(value / target) if value > 0 else -inf

    return _root(excess, VOL_LEAST, VOL_MOST, 1e-10)


def _checked(
    spot: float, strike: float, years: float, rate: float, vol: float, right: Right | str, dividend_yield: float
) -> int:
    """Return 1 for a call, -1 for a put, once every argument makes sense."""
    for name, value in (("spot", spot), ("strike", strike)):
        if not (isfinite(value) and value > 0):
            raise ParameterError(f"option {name} must be positive and finite, got {value!r}")
    for name, value in (("years", years), ("vol", vol)):
        if not (isfinite(value) and value >= 0):
            raise ParameterError(f"option {name} must be finite and not negative, got {value!r}")
    if not (isfinite(rate) and isfinite(dividend_yield)):
        raise ParameterError(f"option rate and dividend_yield must be finite, got {rate!r} and {dividend_yield!r}")
    if right not in ("C", "P"):
        raise ParameterError(f"option right must be 'C' or 'P', got {right!r}")
    return 1 if right == "C" else -1


def _american_style(style: str) -> bool:
    if style not in ("european", "american"):
        raise ParameterError(f"option style must be 'european' or 'american', got {style!r}")
    return style == "american"


def _never_early(sign: int, rate: float, dividend_yield: float) -> bool:
    """Whether exercise before expiry never pays: a call without dividends, or a put without interest to earn on its strike."""
    return dividend_yield <= 0 <= rate if sign > 0 else rate <= 0 <= dividend_yield


def _cdf(x: float) -> float:
    return 0.5 * erfc(-x / sqrt(2.0))


def _pdf(x: float) -> float:
    return exp(-0.5 * x * x) / sqrt(2 * pi)


def _d1(spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float) -> float:
    return (log(spot / strike) + (rate - dividend_yield + vol * vol / 2) * years) / (vol * sqrt(years))


def _european(
    sign: int, spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float
) -> float:
    asset, bond = spot * exp(-dividend_yield * years), strike * exp(-rate * years)
    deviation = vol * sqrt(years)
    if deviation == 0:
        return max(sign * (asset - bond), 0.0)
    d1 = _d1(spot, strike, years, rate, vol, dividend_yield)
    return max(sign * (asset * _cdf(sign * d1) - bond * _cdf(sign * (d1 - deviation))), 0.0)


def _european_greeks(
    sign: int, spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float
) -> Greeks:
    carry, discount = exp(-dividend_yield * years), exp(-rate * years)
    deviation = vol * sqrt(years)
    if deviation == 0:
        ahead = sign * (spot * carry - strike * discount)
        exercised = 1.0 if ahead > 0 else 0.5 if ahead == 0 else 0.0
        asset, bond, density = carry * exercised, strike * discount * exercised, 0.0
    else:
        d1 = _d1(spot, strike, years, rate, vol, dividend_yield)
        asset, bond = carry * _cdf(sign * d1), strike * discount * _cdf(sign * (d1 - deviation))
        density = carry * _pdf(d1)
    decay = spot * density * vol / (2 * sqrt(years)) if years else 0.0
    return Greeks(
        delta=sign * asset,
        gamma=density / (spot * deviation) if deviation else 0.0,
        theta=sign * (dividend_yield * spot * asset - rate * bond) - decay if years else 0.0,
        vega=spot * density * sqrt(years),
        rho=sign * years * bond,
    )


def _american(
    sign: int, spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float
) -> float:
    if _never_early(sign, rate, dividend_yield):
        return _european(sign, spot, strike, years, rate, vol, dividend_yield)
    now = max(sign * (spot - strike), 0.0)
    deviation = vol * sqrt(years)
    certain = _without_vol(sign, spot, strike, years, rate, dividend_yield)
    # Beyond ten deviations the rest of the distribution is worth nothing that a float can show.
    if deviation == 0 or abs(log(spot / strike)) + abs(rate - dividend_yield) * years > 10 * deviation + deviation**2:
        return certain
    exact = _european(sign, spot, strike, years, rate, vol, dividend_yield)
    premium = [
        _premium(sign, spot, strike, years, rate, vol, dividend_yield, steps) for steps in (STEPS, 2 * STEPS + 1)
    ]
    # the early-exercise premium of a tree is wrong by about 1 / steps: two trees give the limit
    fine = 2 * premium[1] - premium[0]
    return max(exact + max(fine, 0.0), now)


def _without_vol(sign: int, spot: float, strike: float, years: float, rate: float, dividend_yield: float) -> float:
    """Return the best that exercise at any one time pays when the spot grows at rate less yield for sure."""
    times = [0.0, years]
    if dividend_yield * rate > 0 and rate != dividend_yield:
        times.append(min(max(log(rate * strike / (dividend_yield * spot)) / (rate - dividend_yield), 0.0), years))
    return max(0.0, *(sign * (spot * exp(-dividend_yield * t) - strike * exp(-rate * t)) for t in times))


def _premium(
    sign: int, spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float, steps: int
) -> float:
    """Return what the right to exercise early is worth on a Leisen-Reimer tree: its American less its European price."""
    dt = years / steps
    d1 = _d1(spot, strike, years, rate, vol, dividend_yield)
    up, up_asset = _peizer_pratt(d1 - vol * sqrt(years), steps), _peizer_pratt(d1, steps)
    growth, discount = exp((rate - dividend_yield) * dt), exp(-rate * dt)
    u, d = growth * up_asset / up, growth * (1 - up_asset) / (1 - up)
    ups = np.arange(steps + 1)
    spots = spot * np.exp(ups * log(u) + (steps - ups) * log(d))
    payoff = sign * (spots - strike)
    free = np.maximum(payoff, 0.0)
    held = free.copy()
    weight_up, weight_down = discount * up, discount * (1 - up)
    for n in range(steps, 0, -1):
        spots = spots[:n] / d
        free = weight_up * free[1:] + weight_down * free[:-1]
        held = np.maximum(weight_up * held[1:] + weight_down * held[:-1], sign * (spots - strike))
    return float(held[0] - free[0])


def _peizer_pratt(z: float, n: int) -> float:
    """Return the binomial probability whose upper half of ``n`` (odd) draws is the normal's at ``z`` (method 2)."""
    share = 1 - exp(-((z / (n + 1 / 3 + 0.1 / (n + 1))) ** 2) * (n + 1 / 6))
    return 0.5 + (0.5 if z >= 0 else -0.5) * sqrt(share)


def _american_greeks(
    sign: int, spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float
) -> Greeks:
    def worth(s: float = spot, v: float = vol, r: float = rate) -> float:
        return _american(sign, s, strike, years, r, v, dividend_yield)

    price = worth()
    if price <= sign * (spot - strike):
        return Greeks(delta=float(sign), gamma=0.0, theta=0.0, vega=0.0, rho=0.0)
    if years == 0 or vol == 0:
        return _european_greeks(sign, spot, strike, years, rate, vol, dividend_yield)
    ds, dv, dr = spot * 0.01, min(0.01, vol / 2), 0.001
    above, below = worth(s=spot + ds), worth(s=spot - ds)
    delta, gamma = (above - below) / (2 * ds), (above - 2 * price + below) / ds**2
    return Greeks(
        delta=delta,
        gamma=gamma,
        theta=rate * price - (rate - dividend_yield) * spot * delta - (vol * spot) ** 2 * gamma / 2,
        vega=(worth(v=vol + dv) - worth(v=vol - dv)) / (2 * dv),
        rho=(worth(r=rate + dr) - worth(r=rate - dr)) / (2 * dr),
    )


def _root(f: Callable[[float], float], low: float, high: float, tolerance: float) -> float | None:
    """Return where the increasing ``f`` crosses zero, by bisection sped up by chords (ITP, Oliveira and Takahashi 2020)."""
    at_low, at_high = f(low), f(high)
    if at_low >= 0 or at_high <= 0:
        return None
    raise NotImplementedError
