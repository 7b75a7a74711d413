"""The value of exercising early: American options by their exercise boundary.

Andersen, Lake and Offengenden, "High-performance American option pricing", *Journal of Computational Finance* 20
(2016): the boundary solves a fixed-point equation (their system B), is interpolated on Chebyshev nodes in the square
root of time, and gives the premium over the European option as one integral (Kim 1990). Unlike a tree's, the answer is
smooth in every argument, so that differences of prices are good Greeks.

Everything here is for the put; a call is the put with spot and strike, and rate and yield, exchanged (McDonald and
Schroder 1998). Units as in ``model.greeks``.
"""

from __future__ import annotations

from functools import lru_cache
from math import erfc, exp, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NODES = 12  #: Chebyshev intervals of the boundary
BOUNDARY_POINTS = 24  #: Gauss-Legendre points of the integrals in the boundary's equation
PREMIUM_POINTS = 48  #: and of the premium's
ITERATIONS = 60
TOLERANCE = 1e-7  #: of the boundary, relative to the strike; the price feels only its square

_erfc = np.frompyfunc(erfc, 1, 1)


def _cdf(x: Array) -> Array:
    return np.asarray(0.5 * _erfc(x * -sqrt(0.5)), dtype=np.float64)


def early_exercise_premium(
    spot: float, strike: float, years: float, rate: float, vol: float, dividend_yield: float
) -> float:
    """Return what an American put is worth over the European one while it is not exercised.

    For ``rate``, ``vol`` and ``years`` above zero and a spot above ``exercise_below``; below that the put is worth what
    exercise pays.
    """
    ratio = _boundary(years, rate, vol, dividend_yield)
    y, weights = _legendre(PREMIUM_POINTS)
    t = years * y * y  # time from now to the exercise, denser towards now
    at = strike * _interpolated(ratio, np.sqrt(1 - y * y), rate, dividend_yield)
    deviation = vol * np.sqrt(t)
    plus = (np.log(spot / at) + (rate - dividend_yield + vol * vol / 2) * t) / deviation
    gain = rate * strike * np.exp(-rate * t) * _cdf(deviation - plus)
    lost = dividend_yield * spot * np.exp(-dividend_yield * t) * _cdf(-plus)
    return float(np.sum(weights * 2 * years * y * (gain - lost)))


def exercise_below(strike: float, years: float, rate: float, vol: float, dividend_yield: float) -> float:
    """Return the spot price at and below which the put is exercised now."""
    ratio = _boundary(years, rate, vol, dividend_yield)
    return strike * float(_limit(rate, dividend_yield) * exp(-sqrt(max(ratio[-1], 0.0))))


def _limit(rate: float, dividend_yield: float) -> float:
    """The boundary just before expiry, as a share of the strike."""
    return min(1.0, rate / dividend_yield) if dividend_yield > 0 else 1.0


@lru_cache(maxsize=1024)
def _boundary(years: float, rate: float, vol: float, dividend_yield: float) -> Array:
    """Return ln²(boundary / its limit at expiry) on the nodes, from expiry (0) to ``years``, for a strike of 1."""
    limit = _limit(rate, dividend_yield)
    x = _nodes()[1:]
    tau = years * x * x
    y, weights = _legendre(BOUNDARY_POINTS)
    t = np.outer(tau, y * y)  # from the node's time to the exercise
    elapsed = tau[:, None] - t
    drift = rate - dividend_yield
    weight = np.outer(2 * tau, weights * y)
    earn, pay = rate * np.exp(rate * elapsed) * weight, dividend_yield * np.exp(dividend_yield * elapsed) * weight
    deviation, deviation_all = vol * np.sqrt(t), vol * np.sqrt(tau)
    shift, shift_all = (drift + vol * vol / 2) * t, (drift + vol * vol / 2) * tau
    inner = _interpolation(x[:, None] * np.sqrt(1 - y * y))

    # first guess: from the limit towards the boundary of the perpetual put (Merton 1973), as Bjerksund and Stensland
    # (1993)
    slope = drift / vol**2 - 0.5
    root = -slope - sqrt(slope * slope + 2 * rate / vol**2)
    forever = min(root / (root - 1), limit * (1 - 1e-12))
    decay = np.minimum(drift * tau - 2 * vol * np.sqrt(tau), 0.0) * limit / (limit - forever)
    boundary = forever + (limit - forever) * np.exp(decay)
    for _ in range(ITERATIONS):
        squares = np.concatenate([[0.0], np.log(boundary / limit) ** 2])
        at = limit * np.exp(-np.sqrt(np.maximum(inner @ squares, 0.0)))
        plus = (np.log(boundary[:, None] / at) + shift) / deviation
        plus_all = (np.log(boundary) + shift_all) / deviation_all
        above = _cdf(plus_all - deviation_all) + np.sum(earn * _cdf(plus - deviation), axis=1)
        below = _cdf(plus_all)
        if dividend_yield:
            below = below + np.sum(pay * _cdf(plus), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            solved = np.exp(-drift * tau) * above / below
        solved = np.where((above > 0) & (below > 0), np.clip(solved, forever, limit), boundary)
        moved = float(np.max(np.abs(solved - boundary)))
        boundary = solved
        if moved < TOLERANCE:
            break
    squares = np.concatenate([[0.0], np.log(boundary / limit) ** 2])
    squares.flags.writeable = False
    return squares


def _interpolated(squares: Array, x: Array, rate: float, dividend_yield: float) -> Array:
    """The boundary as a share of the strike at square roots of time ``x``, as shares of the whole."""
    shares = _interpolation(x) @ squares
    return np.asarray(_limit(rate, dividend_yield) * np.exp(-np.sqrt(np.maximum(shares, 0.0))))


@lru_cache
def _nodes() -> Array:
    """Chebyshev points of the second kind on [0, 1], ascending."""
    return np.asarray((1 - np.cos(np.pi * np.arange(NODES + 1) / NODES)) / 2)


def _interpolation(x: Array) -> Array:
    """The matrix from values on the nodes to values at ``x`` (barycentric formula; Berrut and Trefethen 2004)."""
    nodes = _nodes()
    signs = (-1.0) ** np.arange(NODES + 1)
    signs[[0, -1]] /= 2
    gaps = x[..., None] - nodes
    hit = gaps == 0
    terms = signs / np.where(hit, 1.0, gaps)
    matrix = terms / terms.sum(axis=-1, keepdims=True)
    return np.where(hit.any(axis=-1, keepdims=True), hit.astype(float), matrix)


@lru_cache
def _legendre(points: int) -> tuple[Array, Array]:
    """Gauss-Legendre points and weights on [0, 1]."""
    y, weights = np.polynomial.legendre.leggauss(points)
    return np.asarray((y + 1) / 2), np.asarray(weights / 2)
