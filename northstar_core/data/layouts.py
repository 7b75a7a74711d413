"""The layouts of market data files, recognised by their columns, and their columns in our words.

===============  ======================================================================================================
massive          ``ticker,volume,open,close,high,low,window_start,transactions``: minute, second or day aggregates
lean-trades      ``ticker,window_start,open,high,low,close,volume``
lean-quotes      ``ticker,window_start,bid_open…bid_close,bid_size,ask_open…ask_close,ask_size``
tick-trades      ``ticker,timestamp,price,size`` and, where known, ``condition_flags_hex,suspicious``
tick-quotes      ``ticker,timestamp,bid_price,bid_size,ask_price,ask_size`` and, where known, ``suspicious``
ohlcv            a time, open, high, low, close, volume under their common names; symbol and adjusted close optional
actions          ``symbol,ex_date,ratio,dividend``: corporate actions
reference        an option chain or open interest without times: not events, skipped in a folder, refused by name
===============  ======================================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from northstar_core.model.errors import DataError

_ALIASES: dict[str, tuple[str, ...]] = {
    "symbol": ("ticker", "symbol", "sym"),
    "time": ("window_start", "timestamp", "datetime", "date_time", "time", "ts", "ts_event", "t", "date", "index", ""),
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "close_price"),
    "volume": ("volume", "v", "vol"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close"),
    "price": ("price",),
    "size": ("size",),
    "flags": ("condition_flags_hex",),
    "suspicious": ("suspicious",),
    "bid": ("bid_close", "bid_price", "bid"),
    "ask": ("ask_close", "ask_price", "ask"),
    **{
        name: (name,)
        for name in ("bid_size", "ask_size", "bid_open", "bid_high", "bid_low", "ask_open", "ask_high", "ask_low")
    },
}
_REQUIRED = {
    "ohlcv": ("time", "open", "high", "low", "close", "volume"),
    "lean-quotes": (
        "symbol", "time", "bid_open", "bid_high", "bid_low", "bid", "bid_size",
        "ask_open", "ask_high", "ask_low", "ask", "ask_size",
    ),
    "tick-trades": ("time", "price", "size"),
    "tick-quotes": ("time", "bid", "bid_size", "ask", "ask_size"),
}  # fmt: skip
_REQUIRED["massive"] = _REQUIRED["lean-trades"] = ("symbol", *_REQUIRED["ohlcv"])
_OPTIONAL = {
    "ohlcv": ("symbol", "adj_close"),
    "tick-trades": ("symbol", "flags", "suspicious"),
    "tick-quotes": ("symbol", "suspicious"),
}
KINDS = {"tick-trades": "trades", "tick-quotes": "quotes", "lean-quotes": "quotes"}


class Layout(NamedTuple):
    """A recognised layout: its name, what its rows are, and the file's column for each of our words."""

    name: str
    kind: str  #: "bars", "quotes", "trades", "actions" or "reference"
    columns: dict[str, str]
    clock: str | None = None  #: the column of the time of day where ``time`` holds only the date


def normal(name: str) -> str:
    """Return a column name without case, spaces and punctuation: "Adj Close" is adj_close."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).strip().lower()).strip("_")


def detect(path: Path | str, names: Sequence[str]) -> Layout:
    """Return the layout of a file with these columns.

    Raises
    ------
    DataError
        If no layout fits, a column is missing, or a needed column is there twice.
    """
    seen: dict[str, str] = {}
    twice: set[str] = set()
    for name in names:
        key = normal(name)
        if key in seen:
            twice.add(key)
        seen.setdefault(key, name)
    layout = _name(path, set(seen), names)
    if layout in ("actions", "reference"):
        return Layout(layout, layout, {})
    columns: dict[str, str] = {}
    for role in (*_REQUIRED[layout], *_OPTIONAL.get(layout, ())):
        found = next((alias for alias in _ALIASES[role] if alias in seen), None)
        if found is None:
            continue
        if found in twice:
            raise DataError(f"{path}: has the column {seen[found]!r} twice; keep one")
        columns[role] = seen[found]
    missing = [
        "timestamp" if role == "time" else _ALIASES[role][0] for role in _REQUIRED[layout] if role not in columns
    ]
    if missing:
        raise DataError(
            f"{path}: missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)} (layout {layout}, "
            f"columns {', '.join(map(str, names))}); add {'them' if len(missing) > 1 else 'it'}"
        )
    clock = (
        seen["time"]
        if layout == "ohlcv" and {"date", "time"} <= set(seen) and columns["time"] == seen["time"]
        else None
    )
    if clock is not None:
        columns["time"] = seen["date"]
    return Layout(layout, KINDS.get(layout, "bars"), columns, clock)


def _name(path: Path | str, seen: set[str], names: Sequence[str]) -> str:
    if "ex_date" in seen:
        return "actions"
    timed = any(alias in seen for alias in _ALIASES["time"])
    if not timed and ({"expiration_date", "strike"} <= seen or "open_interest" in seen):
        return "reference"
    if "bid_close" in seen or "ask_close" in seen:
        return "lean-quotes"
    if {"bid_price", "ask_price"} & seen or {"bid", "ask"} <= seen:
        return "tick-quotes"
    prices = sum(any(alias in seen for alias in _ALIASES[role]) for role in ("open", "high", "low", "close"))
    if "price" in seen and prices < 2:
        return "tick-trades"
    if prices >= 2:
        if "window_start" not in seen:
            return "ohlcv"
        return "massive" if "transactions" in seen else "lean-trades"
    raise DataError(
        f"{path}: is not a supported layout (columns {', '.join(map(str, names))[:200]}); "
        "expected bars (time, open, high, low, close, volume), quotes (bid and ask) or trades (price, size)"
    )


def symbol_from_stem(path: Path) -> str | None:
    """Return the symbol a file is named after (``SPY.csv``, ``brk.b_daily.parquet``), None where its name is none."""
    stem = re.sub(r"\.(csv|txt|tsv|parquet|gz)", "", path.name, flags=re.IGNORECASE).split("_")[0].split(" ")[0].upper()
    return stem if re.fullmatch(r"[A-Z\^][A-Z0-9.\-^=/]{0,20}", stem) else None


def compact(symbol: str) -> str:
    """Return our form of a feed's symbol: no ``O:`` prefix, no OCC padding."""
    symbol = symbol.strip()
    return (symbol.removeprefix("O:") if symbol.startswith("O:") else symbol).replace(" ", "")
