"""A generated market: several days and symbols of minute bars, quotes and an option chain. Synthetic, and labelled so.

Real sessions (half days and DST included) of an invented market. Each symbol passes through regimes of one to three
days: rising and falling trends, reversion to an anchor, and quiet mornings that break out; volatility comes in
clusters, prices gap overnight, volume is U-shaped over the day, symbols share a market factor. So each kind of strategy
finds something to trade; what it earns on it means nothing.

The same arguments give the same bits: see ``draws``. Prices are whole cents. Bars and stock quotes use only additions,
multiplications and comparisons; option quotes also ``exp`` and ``erfc``, whose last bit is rounded away.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from northstar_core.data import calendar as calendars
from northstar_core.data.chain import Chain, ChainQuotes
from northstar_core.data.draws import Draws
from northstar_core.data.flatfiles import write
from northstar_core.data.walk import STEPS, Walk, walks
from northstar_core.model.errors import DataError
from northstar_core.model.tape import BarTable, Float64, Int64, QuoteTable, Session, Source, Tape

VERSION = 1  #: of the generator: the same seed gives another market in another version
MINUTE_NS, DAY_NS = 60_000_000_000, 86_400_000_000_000
SYMBOLS = ("ALFA", "BETA", "GAMA")
ATM_VOL = 0.24  #: of the options, a year, in the middle volatility state


def synthesize(
    *,
    symbols: Sequence[str] = SYMBOLS,
    days: int = 20,
    start: dt.date | str = "2024-01-02",
    seed: int = 7,
    calendar: str = calendars.DEFAULT,
    quotes: bool = True,
    options_on: str | None = "first",
    expiries: int = 2,
    strikes: int = 5,
) -> Tape:
    """Return a generated market.

    Parameters
    ----------
    symbols
        Equities; each has its own stream, so adding one does not change the others.
    days
        Sessions, from the first on or after ``start``.
    seed
        Same seed, same bits.
    quotes
        Whether there is a best bid and ask at the end of each minute.
    options_on
        The underlying of the option chain, "first" for the first symbol, None for no options.
    expiries, strikes
        Weekly expiries listed at a time, and strikes listed on each side of the money.

    Raises
    ------
    DataError
        If there is nothing to generate, or the underlying is not among the symbols.
    """
    names = tuple(sorted(set(symbols)))
    underlying = (symbols[0] if symbols else None) if options_on == "first" else options_on
    if not names or days < 1:
        raise DataError(f"{len(names)} symbols over {days} days is no market; ask for at least one of each")
    if underlying is not None and underlying not in names:
        raise DataError(f"options on {underlying}: not among the symbols {', '.join(names)}; name one of them")
    first = calendars.as_date(start)
    # Expiries lie up to a few weeks beyond the last generated day, so more sessions than days are needed.
    known = calendars.sessions(first, first + dt.timedelta(days=2 * days + 7 * expiries + 14), calendar)
    if len(known) < days:
        raise DataError(f"{calendar} has only {len(known)} sessions after {first}; choose fewer days")
    sessions = known[:days]
    minutes = [np.arange(s.open + MINUTE_NS, s.close + 1, MINUTE_NS, dtype=np.int64) for s in sessions]

    market = Draws("market", seed)
    factor = [market.normal(STEPS * len(ts)) for ts in minutes]
    paths = {name: walks(name, minutes, factor, seed) for name in names}
    bars = _bars(names, minutes, paths)
    parts: list[ChainQuotes] = []
    if quotes:
        parts += [
            _stock_quotes(name, ts, path, seed) for name in names for ts, path in zip(minutes, paths[name], strict=True)
        ]
    if underlying is not None:
        chain = Chain(underlying, known, expiries=expiries, strikes=strikes, seed=seed)
        for session, ts, path in zip(sessions, minutes, paths[underlying], strict=True):
            chain.list_near(session.label, int(path.open[0]) / 100)
            parts += chain.quotes(ts, path.close / 100, ATM_VOL * (0.6 + 0.4 * path.vol_state))
    table = _quotes(parts) if parts else None
    about = {
        "version": VERSION,
        "symbols": names,
        "days": days,
        "start": first.isoformat(),
        "seed": seed,
        "calendar": calendar,
        "quotes": quotes,
        "options_on": underlying,
        "expiries": expiries,
        "strikes": strikes,
    }
    return Tape(bars=bars, quotes=table, sessions=sessions, sources=(_source(about, len(bars)),), bar_ns=MINUTE_NS)


def bench_tape(symbols: int | Sequence[str], bars: int, seed: int = 1) -> Tape:
    """Return seeded minute bars in whole cents that never stop: ``bars`` of each symbol, one session a UTC day.

    A random walk of up to 10 cents a minute between 50 and 500 dollars, in integers throughout.
    """
    names = tuple(f"S{i:02d}" for i in range(symbols)) if isinstance(symbols, int) else tuple(sorted(set(symbols)))
    if not names or bars < 1:
        raise DataError(f"{len(names)} symbols with {bars} bars is no tape; ask for at least one of each")
    begin = int(np.datetime64("2020-01-01", "ns").astype(np.int64))
    low, span = 5_000, 45_000
    columns: dict[str, list[Int64]] = {name: [] for name in ("open", "high", "low", "close", "volume")}
    for name in names:
        draws = Draws("bench", seed, name)
        walk = np.cumsum(draws.below(21, bars) - 10) + draws.below(span, 1)
        folded = np.abs(np.mod(walk, 2 * span) - span) + low  # reflected at both ends, so no step is longer than 10
        opened = np.concatenate((folded[:1], folded[:-1]))
        columns["open"].append(opened)
        columns["close"].append(folded)
        columns["high"].append(np.maximum(opened, folded) + draws.below(5, bars))
        columns["low"].append(np.minimum(opened, folded) - draws.below(5, bars))
        columns["volume"].append(draws.below(9_000, bars) + 1_000)
    by_time = {name: np.stack(values, axis=1).ravel() for name, values in columns.items()}
    starts = np.repeat(begin + np.arange(bars, dtype=np.int64) * MINUTE_NS, len(names))
    table = BarTable(
        symbols=names,
        code=np.tile(np.arange(len(names), dtype=np.int32), bars),
        start=starts,
        ts=starts + MINUTE_NS,
        volume=by_time.pop("volume").astype(np.float64),
        **{name: cents / 100 for name, cents in by_time.items()},
    )
    days = -(-bars // 1440)
    sessions = tuple(
        Session(dt.date(2020, 1, 1) + dt.timedelta(days=day), begin + day * DAY_NS, begin + (day + 1) * DAY_NS)
        for day in range(days)
    )
    about = {"version": VERSION, "bench": names, "bars": bars, "seed": seed}
    return Tape(bars=table, sessions=sessions, sources=(_source(about, len(table)),), bar_ns=MINUTE_NS)


def synth(
    out: str | Path,
    *,
    symbols: Sequence[str] = SYMBOLS,
    days: int = 20,
    start: dt.date | str = "2024-01-02",
    seed: int = 7,
    calendar: str = calendars.DEFAULT,
    quotes: bool = True,
    options_on: str | None = "first",
    expiries: int = 2,
    strikes: int = 5,
) -> list[Path]:
    """Generate a market and write it as files, one a day: see ``synthesize`` and ``write``."""
    tape = synthesize(
        symbols=symbols, days=days, start=start, seed=seed, calendar=calendar, quotes=quotes, options_on=options_on,
        expiries=expiries, strikes=strikes,
    )  # fmt: skip
    return write(tape, out)


def _bars(names: tuple[str, ...], minutes: list[Int64], paths: dict[str, list[Walk]]) -> BarTable:
    ts = np.concatenate(minutes)

    def by_time(field: str) -> Float64:
        columns = [np.concatenate([getattr(path, field) for path in paths[name]]) for name in names]
        return np.stack(columns, axis=1).ravel().astype(np.float64)

    known = np.repeat(ts, len(names))
    return BarTable(
        symbols=names,
        code=np.tile(np.arange(len(names), dtype=np.int32), len(ts)),
        start=known - MINUTE_NS,
        ts=known,
        open=by_time("open") / 100,
        high=by_time("high") / 100,
        low=by_time("low") / 100,
        close=by_time("close") / 100,
        volume=by_time("volume"),
    )


def _stock_quotes(name: str, ts: Int64, path: Walk, seed: int) -> ChainQuotes:
    """Quotes around the close: one to four cents wide, wider when volatile."""
    n = len(ts)
    draws = Draws("quote", seed, name, int(ts[0]))
    below = draws.below(2 if path.vol_state < 1.5 else 3, n)
    above = 1 + draws.below(2 if path.vol_state < 1.5 else 3, n)
    sizes = 100.0 * (1 + draws.below(30, 2 * n)).astype(np.float64)
    return ChainQuotes(name, ts, (path.close - below) / 100, (path.close + above) / 100, sizes[:n], sizes[n:])


def _quotes(parts: list[ChainQuotes]) -> QuoteTable:
    symbols = tuple(sorted({part.symbol for part in parts}))
    position = {symbol: i for i, symbol in enumerate(symbols)}
    code = np.concatenate([np.full(len(part.ts), position[part.symbol], dtype=np.int32) for part in parts])
    ts = np.concatenate([part.ts for part in parts])
    order = np.lexsort((code, ts))
    values = {
        name: np.concatenate([getattr(p, name) for p in parts])[order]
        for name in ("bid", "ask", "bid_size", "ask_size")
    }
    return QuoteTable(symbols=symbols, code=code[order], ts=ts[order], **values)


def _source(about: dict[str, object], rows: int) -> Source:
    sha = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return Source(name="generated", layout="synthetic", sha256=sha, rows=rows)
