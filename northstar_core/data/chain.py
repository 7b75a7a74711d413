"""A generated option chain: Black and Scholes with a skewed smile, quoted with spreads, weekly expiries."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from northstar_core.data.draws import Draws
from northstar_core.model.greeks import black_scholes
from northstar_core.model.instrument import Right, occ_symbol
from northstar_core.model.tape import Float64, Int64, Session

RATE = 0.04  #: a year, continuously compounded
YEAR_NS = 365 * 86_400 * 1_000_000_000
HALF_SPREAD = 0.012  #: of the mid price, at least a cent
SKEW, CURVATURE, LEAST_VOL = 0.35, 2.5, 0.06


class Contract(NamedTuple):
    """One listed option, and how it is known."""

    symbol: str
    strike: float
    right: Right
    expires: int  #: ns UTC


class ChainQuotes(NamedTuple):
    """Quotes of one contract over one session, one a minute."""

    symbol: str
    ts: Int64
    bid: Float64
    ask: Float64
    bid_size: Float64
    ask_size: Float64


class Chain:
    """The contracts listed on one underlying; a contract stays listed, and quoted, until it expires."""

    def __init__(self, underlying: str, sessions: Sequence[Session], *, expiries: int, strikes: int, seed: int) -> None:
        self.underlying, self.expiries, self.strikes = underlying, expiries, strikes
        self._closes = {session.label: session.close for session in sessions}
        self._listed: dict[str, Contract] = {}
        self._draws = Draws("chain", seed, underlying)

    def list_near(self, day: dt.date, spot: float) -> None:
        """List what an exchange would before the open: some strikes around the money for the next weekly expiries."""
        step = strike_step(spot)
        middle = round(Decimal(repr(spot)) / step)
        for expiry in self._next_expiries(day):
            for offset in range(-self.strikes, self.strikes + 1):
                strike = (middle + offset) * step
                if strike <= 0:
                    continue
                for right in Right:
                    symbol = occ_symbol(self.underlying, expiry, right, strike)
                    contract = Contract(symbol, float(strike), right, self._closes[expiry])
                    self._listed.setdefault(symbol, contract)

    def _next_expiries(self, day: dt.date) -> list[dt.date]:
        """Fridays from this day on, or the last session before one that is a holiday, while sessions are known."""
        found: list[dt.date] = []
        friday = day + dt.timedelta(days=(4 - day.weekday()) % 7)
        last = max(self._closes)
        while len(found) < self.expiries and friday <= last:
            expiry = friday
            while expiry not in self._closes:
                expiry -= dt.timedelta(days=1)
            if expiry >= day:
                found.append(expiry)
            friday += dt.timedelta(days=7)
        return found

    def quotes(self, ts: Int64, spots: Float64, vol: float) -> list[ChainQuotes]:
        """Return one session's quotes of every listed contract that has not expired; ``vol`` is at the money."""
        self._listed = {symbol: c for symbol, c in self._listed.items() if c.expires >= int(ts[0])}
        return [self._quoted(contract, ts, spots, vol) for _, contract in sorted(self._listed.items())]

    def _quoted(self, contract: Contract, ts: Int64, spots: Float64, vol: float) -> ChainQuotes:
        strike, n = contract.strike, len(ts)
        bid, ask = np.zeros(n), np.zeros(n)
        for i, (at, spot) in enumerate(zip(ts.tolist(), spots.tolist(), strict=True)):
            years = (contract.expires - at) / YEAR_NS
            moneyness = (strike - spot) / spot
            smile = max(LEAST_VOL, vol - SKEW * moneyness * vol + CURVATURE * moneyness * moneyness)
            if years > 0:
                # Rounded before it is quoted, so that the last bit of a C library's exp and erfc cannot move a cent.
                mid = round(black_scholes(spot, strike, years, RATE, smile, contract.right), 6)
            else:
                mid = round(max(spot - strike if contract.right is Right.CALL else strike - spot, 0.0), 6)
            bid[i], ask[i] = spread(mid)
        sizes = 1.0 + self._draws.below(60, 2 * n).astype(np.float64)
        return ChainQuotes(contract.symbol, ts, bid, ask, np.where(bid > 0, sizes[:n], 0.0), sizes[n:])


def spread(mid: float) -> tuple[float, float]:
    """Return bid and ask around a mid price: in cents below 3 dollars, in nickels above; a bid of 0 is none."""
    tick = 1 if mid < 3 else 5
    half = max(1.0, HALF_SPREAD * mid * 100)
    low = math.floor(round((mid * 100 - half) / tick, 6)) * tick
    high = math.ceil(round((mid * 100 + half) / tick, 6)) * tick
    return max(low, 0) / 100, high / 100


def strike_step(spot: float) -> Decimal:
    """Return the distance of listed strikes, about 1 % of the price."""
    for below, step in ((25, "0.5"), (100, "1"), (250, "2.5"), (1000, "5")):
        if spot < below:
            return Decimal(step)
    return Decimal(10)
