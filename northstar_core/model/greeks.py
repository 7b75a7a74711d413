"""What an option is worth and how that changes: price, implied volatility and Greeks, European and American.

European options by Black and Scholes (1973) with Merton's dividend yield; American ones add what early exercise is
worth, which is ``model.american``'s business.

Units, in all functions: ``years`` to expiry (calendar time: days / 365); ``rate`` and ``dividend_yield`` continuously
compounded a year (0.05 is 5 %); ``vol`` a year (0.20 is 20 %). Every Greek is the plain partial derivative in these
units, a share: theta a year, vega for 1.00 of vol, rho for 1.00 of rate. The properties of ``Greeks`` give the desk's
units.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, erfc, exp, isfinite, log, log2, pi, sqrt

import msgspec

from northstar_core.model.american import early_exercise_premium, exercise_below
from northstar_core.model.errors import ParameterError
from northstar_core.model.instrument import Right

#: Implied volatilities are looked for in this range; outside it no listed option has a meaningful one.
VOL_LEAST, VOL_MOST = 1e-4, 10.0

#: Time value below this share of the spot price is rounding, not information.
TIME_VALUE_LEAST = 1e-9

#: A rate or yield below this is none: what it could earn by exercise is below a billionth of the price a year.
NEVER_EARLY = 1e-9


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

    Within about 1e-6 of the strike for ordinary contracts (checked against fine trees), and never below the European
    price or what exercise pays now. A call without dividends is never exercised early (Merton 1973), so it is the
    European one, exactly. Discrete dividends are not modelled.

    Raises
    ------
    ParameterError
        As ``black_scholes``; and for a negative ``rate`` or ``dividend_yield``.
    """
    sign = _checked(spot, strike, years, rate, vol, right, dividend_yield)
    _american_style("american", rate, dividend_yield)
    return _american(sign, spot, strike, years, rate, vol, dividend_yield)


def greeks(
    spot: float, strike: float, years: float, rate: float, vol: float, right: Right | str, dividend_yield: float = 0.0,
    style: str = "european",
) -> Greeks:
    """Return the Greeks of a ``"european"`` or ``"american"`` option.

    European ones are closed formulas (Hull, *Options, Futures, and Other Derivatives*, the chapter on the Greek
    letters). At expiry and at zero volatility they are the limits: delta 0 or ±1 (discounted) and ±0.5 exactly at the
    strike; gamma and vega 0.

    American ones are central differences of the price: spot ± 0.1 %, volatility ± 0.001, rate ± 0.0001. Theta follows
    from the Black-Scholes equation, ``theta = rate * price - (rate - dividend_yield) * spot * delta - vol**2 * spot**2
    * gamma / 2``, which holds wherever the option is not to be exercised now. Where it is to be, delta is ±1 and the
    others are 0.
    """
    sign = _checked(spot, strike, years, rate, vol, right, dividend_yield)
    if _american_style(style, rate, dividend_yield) and not _never_early(sign, rate, dividend_yield):
        return _american_greeks(sign, spot, strike, years, rate, vol, dividend_yield)
    return _european_greeks(sign, spot, strike, years, rate, vol, dividend_yield)


def implied_volatility(
    price: float, spot: float, strike: float, years: float, rate: float, right: Right | str,
    dividend_yield: float = 0.0, style: str = "european",
) -> float | None:
    """Return the volatility at which the option is worth ``price``, or None if no volatility explains it.

    None: the price is at or below what the option is worth without any volatility (for an American one, at or below
    what exercise pays now), or at or above what no volatility can exceed, or only explained by less than 0.01 % or more
    than 1000 % a year, or the option has expired. Deep in the money close to expiry that is usual: the mid price
    carries less time value than its own rounding. Solved to 1e-10 (European) or 1e-8 (American) in volatility; American
    prices are those of ``american``.
    """
    sign = _checked(spot, strike, years, rate, 0.0, right, dividend_yield)
    early = _american_style(style, rate, dividend_yield) and not _never_early(sign, rate, dividend_yield)
    if not isfinite(price) or price <= 0 or years == 0:
        return None
    floor = (_american if early else _european)(sign, spot, strike, years, rate, 0.0, dividend_yield)
    if price - floor <= TIME_VALUE_LEAST * spot:
        return None
    if early:
        def worth(vol: float) -> float:
            return _american(sign, spot, strike, years, rate, vol, dividend_yield) - price

        return _root(worth, VOL_LEAST, VOL_MOST, 1e-8)
    # In the money the answer is that of the option at the same strike out of the money, worth the time value alone:
    # solving that one loses no digits to the intrinsic value.
    in_money = sign * (spot * exp(-dividend_yield * years) - strike * exp(-rate * years)) > 0
    side, target = (-sign, price - floor) if in_money else (sign, price)

    def excess(vol: float) -> float:
        value = _european(side, spot, strike, years, rate, vol, dividend_yield)
        return log(max(value, 1e-300) / target)

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


def _american_style(style: str, rate: float, dividend_yield: float) -> bool:
    if style not in ("european", "american"):
        raise ParameterError(f"option style must be 'european' or 'american', got {style!r}")
    # below zero there may be two boundaries (Andersen and Lake, "Fast American option pricing: the double-boundary
    # case")
    if style == "american" and (rate < 0 or dividend_yield < 0):
        raise ParameterError(
            f"an American option needs a rate and a dividend_yield of at least 0, got {rate!r} and {dividend_yield!r}"
        )
    return style == "american"


def _never_early(sign: int, rate: float, dividend_yield: float) -> bool:
    """Whether exercise before expiry never pays: a call without dividends, a put without interest on its strike."""
    return (dividend_yield if sign > 0 else rate) < NEVER_EARLY


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
    european = _european(sign, spot, strike, years, rate, vol, dividend_yield)
    if _never_early(sign, rate, dividend_yield):
        return european
    deviation = vol * sqrt(years)
    # Where ten deviations do not reach the strike, or a deviation is nothing, chance is worth less than a float can
    # show.
    reach = abs(log(spot / strike)) - abs(rate - dividend_yield) * years
    if deviation < 1e-6 or reach > 10 * deviation + deviation**2 / 2:
        return max(european, _without_vol(sign, spot, strike, years, rate, dividend_yield))
    if sign > 0:  # a call is the put with its two sides exchanged
        spot, strike, rate, dividend_yield = strike, spot, dividend_yield, rate
    # now, as a put
    if spot <= exercise_below(strike, years, rate, vol, dividend_yield):
        return strike - spot
    premium = early_exercise_premium(spot, strike, years, rate, vol, dividend_yield)
    return max(european + max(premium, 0.0), strike - spot)


def _without_vol(sign: int, spot: float, strike: float, years: float, rate: float, dividend_yield: float) -> float:
    """Return the best that exercise at any one time pays when the spot grows at rate less yield for sure."""
    times = [0.0, years]
    if dividend_yield * rate > 0 and rate != dividend_yield:
        best = log(rate * strike / (dividend_yield * spot)) / (rate - dividend_yield)
        times.append(min(max(best, 0.0), years))
    return max(0.0, *(sign * (spot * exp(-dividend_yield * t) - strike * exp(-rate * t)) for t in times))


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
    ds, dv, dr = spot * 0.001, min(0.001, vol / 2), 0.0001
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
    """Return where the increasing ``f`` crosses zero; None if not between (ITP method, Oliveira and Takahashi 2020)."""
    at_low, at_high = f(low), f(high)
    if at_low >= 0 or at_high <= 0:
        return None
    most = ceil(log2((high - low) / (2 * tolerance))) + 1  # evaluations: one more than bisection alone would take
    flat = 0.2 / (high - low)
    for n in range(most + 1):
        if high - low <= 2 * tolerance:
            break
        middle, half = (low + high) / 2, (high - low) / 2
        chord = (at_high * low - at_low * high) / (at_high - at_low)
        toward = 1.0 if middle >= chord else -1.0
        nudge = flat * (high - low) ** 2
        x = chord + toward * nudge if nudge <= abs(middle - chord) else middle
        room = max(tolerance * 2.0 ** (most - n) - half, 0.0)
        if abs(x - middle) > room:
            x = middle - toward * room
        at = f(x)
        if at > 0:
            high, at_high = x, at
        elif at < 0:
            low, at_low = x, at
        else:
            return x
    return (low + high) / 2
