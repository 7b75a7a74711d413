"""How a run did: returns, risk, drawdowns, trades, costs; each with its formula and conventions.

Conventions. Returns are simple returns of equity from one session's close to the next (the first from the opening cash;
the last session's close is the last mark where the run stopped before). A year has 252 of them. ``ddof`` is 1 for
volatility. A nan among returns is left out. What cannot be measured (too few returns, a ratio whose denominator is
zero) is nan, never an infinity: an absent loss is not an infinite merit.

Why not a library: ``empyrical-reloaded`` 0.7.1 has the right formulas, but brings scipy, bottleneck, peewee and pytz,
and gives infinities where this gives nan; ``quantstats`` 0.0.86 brings matplotlib, seaborn and a downloader. These are
one-liners, tested against empyrical's published answers. Functions take numpy arrays, or pandas Series; pandas itself
is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import instrument
from northstar_core.research.trades import Fill as Fill
from northstar_core.research.trades import OpenLot as OpenLot
from northstar_core.research.trades import RoundTrip as RoundTrip
from northstar_core.research.trades import open_lots as open_lots
from northstar_core.research.trades import round_trips as round_trips
from northstar_core.research.trades import round_trips_of as round_trips_of

if TYPE_CHECKING:
    from northstar_core.research.result import Result

Array = NDArray[np.float64]

YEAR = 252  #: returns a year
DAY_NS = 86_400_000_000_000

#: One sentence for each metric of ``summary``, in the order of a tear sheet.
DEFINITIONS: dict[str, str] = {
    "total_return": "Final equity over opening equity, less one.",
    "cagr": "Total return compounded to one year of 252 sessions.",
    "annual_volatility": "Sample standard deviation of session returns, times √252.",
    "sharpe": "Mean session return over its sample standard deviation, times √252; the risk-free rate is taken as 0.",
    "sortino": "Mean session return over the root mean square of the negative ones (among all), times √252.",
    "calmar": "CAGR over the size of the maximum drawdown.",
    "max_drawdown": "Deepest fall of equity below its highest value so far, at any mark, as a share of that value.",
    "max_drawdown_days": "Longest time equity stayed below a highest value, until recovery or the end, in days.",
    "trades": "Round trips: entry orders matched with exit orders, first in first out.",
    "win_rate": "Share of round trips that gained after fees.",
    "profit_factor": "Sum of the gains over the sum of the losses of round trips, after fees.",
    "expectancy": "Mean profit of a round trip after fees, in dollars.",
    "average_win": "Mean profit of the round trips that gained, in dollars.",
    "average_loss": "Mean profit of the round trips that lost, in dollars (negative).",
    "average_hold_hours": "Mean time from entry to exit of a round trip, in hours of the clock.",
    "exposure": "Mean of gross position value over equity, over all marks.",
    "time_in_market": "Share of marks at which a position was held.",
    "turnover": "Half of the value bought and sold over mean equity, a year of 252 sessions.",
    "fees": "Commissions and regulatory fees paid, in dollars.",
    "fees_bps": "Fees over the value bought and sold, in hundredths of a percent.",
}


class Drawdown(msgspec.Struct, frozen=True):
    """The deepest fall of a series and the longest stay below a peak; times are in the unit of the times given."""

    depth: float  #: 0 or negative: -0.2 is a fall of 20 %
    peak: int  #: when the fall began
    trough: int  #: when it was deepest
    longest: int  #: longest time from a peak to its recovery, or to the end where there was none


# ── returns ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def daily_returns(
    equity: Any, closes: Sequence[int] | NDArray[np.int64], start: float, ts: ArrayLike | None = None
) -> Array:
    """Return the simple returns of equity from session close to session close.

    Parameters
    ----------
    equity
        Equity at each mark, in order: a pandas Series with a tz-aware index, or an array with ``ts`` beside it.
    closes
        Closing times of the sessions, ns UTC, increasing. One with no mark at or before it is left out, and all after
        the first that lies at or beyond the last mark: there the run ended.
    start
        Equity before the first mark: the opening cash.
    ts
        Times of the marks, ns UTC; taken from the index of a Series.

    Returns
    -------
    Shape (sessions,).

    Raises
    ------
    DataError
        If times are naive, missing or go backward.
    """
    times, values = _marks(equity, ts)
    if not len(times):
        return np.array([])
    ends = np.asarray(closes, dtype=np.int64)
    ends = ends[ends >= times[0]]
    ends = ends[: int(np.searchsorted(ends, times[-1])) + 1]
    if not len(ends) or ends[-1] < times[-1]:  # marks after the last close belong to it
        ends = np.append(ends[:-1], times[-1])
    at = np.concatenate([[start], values[np.searchsorted(times, ends, side="right") - 1]])
    return np.asarray(at[1:] / at[:-1] - 1)


def total_return(returns: ArrayLike) -> float:
    """Return the compounded return: prod(1 + r) - 1; 0 for none."""
    return float(np.prod(1 + _clean(returns)) - 1)


def cagr(returns: ArrayLike, periods: int = YEAR) -> float:
    """Return the compound annual growth rate: (1 + total) ** (periods / n) - 1; -1 once all is lost, nan for none."""
    r = _clean(returns)
    if not len(r):
        return nan
    growth = 1 + total_return(r)
    return float(growth ** (periods / len(r)) - 1) if growth > 0 else -1.0


def annual_volatility(returns: ArrayLike, periods: int = YEAR) -> float:
    """Return the sample standard deviation (ddof 1) times sqrt(periods); nan for fewer than two returns."""
    r = _clean(returns)
    return float(np.std(r, ddof=1) * sqrt(periods)) if len(r) > 1 else nan


def sharpe(returns: ArrayLike, rate: float = 0.0, periods: int = YEAR) -> float:
    """Return mean(x) / std(x, ddof 1) * sqrt(periods), x = returns - rate / periods; nan where the deviation is zero.

    Sharpe, "The Sharpe ratio", *Journal of Portfolio Management* 21 (1994). ``rate`` is risk-free, a year, simple.
    """
    x = _clean(returns) - rate / periods
    if len(x) < 2:
        return nan
    return _ratio(float(np.mean(x)) * sqrt(periods), _deviation(x))


def sortino(returns: ArrayLike, rate: float = 0.0, periods: int = YEAR) -> float:
    """Return mean(x) / sqrt(mean(min(x, 0)²)) * sqrt(periods), x = returns - rate / periods; nan without a loss.

    The mean of squares is over all returns, not only the negative ones (Sortino and Price, *Journal of Investing* 3,
    1994).
    """
    x = _clean(returns) - rate / periods
    if len(x) < 2:
        return nan
    return _ratio(float(np.mean(x)) * sqrt(periods), sqrt(float(np.mean(np.minimum(x, 0) ** 2))))


def calmar(growth: float, depth: float) -> float:
    """Return growth (a CAGR) over the size of a drawdown (Young 1991); nan without a drawdown."""
    return _ratio(growth, abs(depth))


def drawdown(equity: Any, start: float | None = None, ts: ArrayLike | None = None) -> Drawdown:
    """Return the deepest fall, min(equity / running maximum - 1), and the longest time below a maximum.

    ``start`` is equity before the first mark, at its time; without ``ts`` (and without a Series) times count marks.
    """
    if ts is None and not hasattr(equity, "iloc"):
        ts = np.arange(len(equity))
    times, values = _marks(equity, ts)
    if start is not None and len(values):
        times, values = np.concatenate([times[:1], times]), np.concatenate([[start], values])
    if not len(values):
        return Drawdown(nan, 0, 0, 0)
    peaks = np.maximum.accumulate(values)
    below = values / peaks - 1
    trough = int(np.argmin(below))
    # the last time the peak of each mark was seen, and from it to the first mark at or above it, or the end
    held = np.maximum.accumulate(np.where(values >= peaks, np.arange(len(values)), 0))
    back = np.flatnonzero((values[1:] >= peaks[1:]) & (values[:-1] < peaks[:-1])) + 1  # marks of recovery
    spans = np.concatenate([times - times[held], times[back] - times[held[back - 1]]])
    longest = int(spans.max())
    return Drawdown(float(below[trough]), int(times[held[trough]]), int(times[trough]), longest)


# ── trades ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def win_rate(profits: ArrayLike) -> float:
    """Return the share of profits above zero; nan for none. A profit of zero is no win."""
    p = _clean(profits)
    return float(np.mean(p > 0)) if len(p) else nan


def profit_factor(profits: ArrayLike) -> float:
    """Return the sum of gains over the sum of losses; nan where nothing was lost."""
    p = _clean(profits)
    return _ratio(float(p[p > 0].sum()), float(-p[p < 0].sum()))


def expectancy(profits: ArrayLike) -> float:
    """Return the mean profit; nan for none. Equal to win rate × average win + loss rate × average loss."""
    return _mean(_clean(profits))


def turnover(traded: float, mean_equity: float, sessions: int, periods: int = YEAR) -> float:
    """Return half of the value bought and sold over mean equity, a year: 1 is the whole book replaced once a year."""
    return _ratio(traded / 2 * periods, mean_equity * sessions) if mean_equity > 0 else nan


def exposure(gross: ArrayLike, equity: ArrayLike) -> float:
    """Return the mean of gross position value over equity; marks with no equity left are left out."""
    g, v = np.asarray(gross, dtype=np.float64), np.asarray(equity, dtype=np.float64)
    return _mean(g[v > 0] / v[v > 0])


# ── all at once ───────────────────────────────────────────────────────────────────────────────────────────────────────


def summary(
    equity: Any,
    closes: Sequence[int] | NDArray[np.int64],
    start: float,
    *,
    ts: ArrayLike | None = None,
    gross: ArrayLike | None = None,
    trips: Sequence[RoundTrip] = (),
    traded: Decimal | float = 0.0,
    fees: Decimal | float = 0.0,
) -> dict[str, float]:
    """Return every metric of ``DEFINITIONS``, in its order.

    Parameters
    ----------
    equity, closes, start, ts
        As ``daily_returns``.
    gross
        Gross position value at each mark; without it exposure and time in market are nan.
    trips
        Round trips.
    traded, fees
        Value bought plus value sold, and fees paid, in dollars.
    """
    times, values = _marks(equity, ts)
    returns = daily_returns(values, closes, start, times)
    growth, fall = cagr(returns), drawdown(values, start, times)
    profits = np.array([float(trip.pnl) for trip in trips])
    held = np.array([trip.exit_ts - trip.entry_ts for trip in trips]) / 3.6e12
    value, paid = float(traded), float(fees)
    found = {
        "total_return": total_return(returns) if len(returns) else nan,
        "cagr": growth,
        "annual_volatility": annual_volatility(returns),
        "sharpe": sharpe(returns),
        "sortino": sortino(returns),
        "calmar": calmar(growth, fall.depth),
        "max_drawdown": fall.depth,
        "max_drawdown_days": fall.longest / DAY_NS if len(values) else nan,
        "trades": float(len(trips)),
        "win_rate": win_rate(profits),
        "profit_factor": profit_factor(profits),
        "expectancy": expectancy(profits),
        "average_win": _mean(profits[profits > 0]),
        "average_loss": _mean(profits[profits < 0]),
        "average_hold_hours": _mean(held),
        "exposure": nan if gross is None else exposure(gross, values),
        "time_in_market": nan if gross is None else _mean(np.asarray(gross, dtype=np.float64) > 0),
        "turnover": turnover(value, _mean(values), len(returns)),
        "fees": paid,
        "fees_bps": _ratio(paid * 1e4, value),
    }
    return {name: found[name] for name in DEFINITIONS}


def summary_of(result: Result) -> dict[str, float]:
    """Return ``summary`` of a backtest's result."""
    ts, equity, _, gross = result.equity_arrays()
    traded = sum((f.qty * f.price * instrument(f.symbol).multiplier for f in result.fill_events), Decimal(0))
    closes = [session.close for session in result.tape.sessions]
    return summary(
        equity, closes, float(result.cash), ts=ts, gross=gross, trips=result.round_trips, traded=abs(traded),
        fees=result.fees,
    )  # fmt: skip


# ── small change ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _marks(equity: Any, ts: ArrayLike | None) -> tuple[NDArray[np.int64], Array]:
    """Times and values of a Series or of two arrays."""
    values = np.asarray(equity, dtype=np.float64)
    if ts is None:
        index = getattr(equity, "index", None)
        if getattr(index, "tz", None) is None:
            raise DataError("equity: its times are missing or naive; give a Series with a tz-aware index, or ts")
        times = np.asarray(index.as_unit("ns").asi8, dtype=np.int64)  # type: ignore[union-attr]
    else:
        times = np.asarray(ts, dtype=np.int64)
    if len(times) != len(values):
        raise DataError(f"equity: {len(values)} values but {len(times)} times")
    backward = np.flatnonzero(np.diff(times) < 0)
    if len(backward):
        raise DataError(f"equity: times go backward at row {int(backward[0]) + 1}; sort it by time")
    return times, values


def _clean(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]


def _deviation(x: Array) -> float:
    """Sample standard deviation; exactly 0 where it is only the rounding of equal numbers."""
    found = float(np.std(x, ddof=1))
    return found if found > 1e-14 * float(np.max(np.abs(x), initial=0.0)) else 0.0


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else nan


def _ratio(over: float, under: float) -> float:
    return over / under if under else nan
