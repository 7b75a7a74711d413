"""A symbol's price over generated sessions: regimes, clustered volatility, overnight gaps, U-shaped volume.

Only additions, multiplications and comparisons of floats, in a fixed order, so every machine makes the same bits.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from northstar_core.data.draws import Draws
from northstar_core.model.tape import Float64, Int64

# A year's volatility of 24 % spread over 252 * 390 minutes: 0.24 / sqrt(98280).
MINUTE_VOL = 0.000765
STEPS = 4  # of the path inside a minute, each with half of the minute's volatility
MARKET, OWN = 0.5, 0.8660254037844386  # weights of the common factor and the symbol's own; squares sum to 1
VOL_STATES = (0.7, 1.0, 1.6)


class Regime(NamedTuple):
    """How a symbol moves in a day: drift a minute (in volatilities), pull to its anchor, noise, quiet minutes."""

    name: str
    drift: float
    pull: float
    noise: float
    quiet_minutes: int = 0


REGIMES = (
    Regime("rising", 0.06, 0.0, 0.9),
    Regime("falling", -0.06, 0.0, 0.9),
    Regime("reverting", 0.0, 0.04, 1.5),
    Regime("breakout up", 0.12, 0.0, 1.2, 90),
    Regime("breakout down", -0.12, 0.0, 1.2, 90),
)


class Walk(NamedTuple):
    """One symbol's bars of one session, in cents, and its volatility state."""

    open: Int64
    high: Int64
    low: Int64
    close: Int64
    volume: Int64
    vol_state: float


def walks(name: str, minutes: list[Int64], factor: list[Float64], seed: int) -> list[Walk]:
    """Return one symbol's sessions, one after the other: each begins where the last ended, plus a gap.

    ``minutes`` are the closing times of each session's bars; ``factor`` the market's shocks in each, ``STEPS`` a
    minute.
    """
    plan = Draws("plan", seed, name)
    regimes = itertools.chain.from_iterable(_blocks(plan) for _ in itertools.count())
    price = float(40 + int(plan.below(260, 1)[0]))
    volume_base = float(8_000 + int(plan.below(60_000, 1)[0]))
    state = 1
    days = []
    for day, (ts, common) in enumerate(zip(minutes, factor, strict=True)):
        regime = next(regimes)
        draws = Draws("day", seed, name, day)
        change = draws.uniform(1)[0]
        state = state if change < 0.75 else (state + 1 + (change > 0.875)) % 3
        vol = MINUTE_VOL * VOL_STATES[state]
        price = price * (1 + 8.0 * vol * float(draws.normal(1)[0]))
        path, price = _session(price, regime, vol, common, draws, len(ts), volume_base, VOL_STATES[state])
        days.append(path)
    return days


def _blocks(plan: Draws) -> list[Regime]:
    """Every regime once, in drawn order, each for one to three days."""
    order = np.argsort(plan.raw(len(REGIMES)), kind="stable")
    return [REGIMES[i] for i, n in zip(order, plan.below(3, len(REGIMES)), strict=True) for _ in range(int(n) + 1)]


def _session(
    price: float, regime: Regime, vol: float, common: Float64, draws: Draws, n: int, volume_base: float, state: float
) -> tuple[Walk, float]:
    shocks = (MARKET * common + OWN * draws.normal(STEPS * n)).tolist()
    chance = draws.uniform(n).tolist()
    anchor, drift, quiet = price, regime.drift, regime.quiet_minutes
    opened, high, low, close, volume = ([0] * n for _ in range(5))
    for minute in range(n):
        x = 2.0 * minute / n - 1.0
        smile = 0.7 + 0.8 * x * x  # more happens near the open and the close
        calm = minute < quiet
        scale = 0.5 * vol * smile * (0.3 if calm else regime.noise)
        push = 0.0 if calm else drift * vol / STEPS
        path = []
        for step in range(STEPS):
            move = push + scale * shocks[STEPS * minute + step] + regime.pull / STEPS * (anchor - price) / price
            price = max(price * (1.0 + move), 5.0)
            path.append(int(price * 100 + 0.5))
        opened[minute], close[minute] = path[0], path[-1]
        high[minute], low[minute] = max(path), min(path)
        busy = smile * smile * (0.4 + 1.2 * chance[minute]) * (0.4 if calm else 1.0) * state
        volume[minute] = int(volume_base * busy) + 1
        if not calm and minute == quiet and quiet:
            volume[minute] *= 3  # a breakout draws a crowd
    o, h, lo, c, v = (np.array(values, dtype=np.int64) for values in (opened, high, low, close, volume))
    return Walk(o, h, lo, c, v, state), price
