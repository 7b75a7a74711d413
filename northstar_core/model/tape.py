"""A tape: market data as columns, in the order in which they became known.

The normalised schema every reader in ``data`` produces and every driver consumes. Columns, not rows: a backtest turns a
chunk at a time into ``Bar``, ``Quote`` and ``Trade`` events, so memory does not grow with the length of the run.

Order. Rows are sorted by the time they became known (``ts``), then by symbol, then as in the source. A bar is known at its
close: its ``ts`` is its closing time, its ``start`` the opening one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class Table:
    """Columns of one kind of market event; ``code`` indexes ``symbols``, which is sorted."""

    columns: ClassVar[tuple[str, ...]]
    symbols: tuple[str, ...]
    code: NDArray[np.int32]
    ts: Int64

    def __len__(self) -> int:
        return len(self.ts)

    def __init__(self, **columns: Any) -> None:
        raise NotImplementedError("a table has the columns of its kind")

    def take(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The same table with only these rows (views where numpy gives views)."""
        picked = {name: getattr(self, name)[rows] for name in ("code", *self.columns)}
        return type(self)(symbols=self.symbols, **picked)

    def digest(self, rows: slice = slice(None)) -> str:
        """sha256 of the rows' symbols and columns as little-endian bytes: what was consumed, wherever it was stored."""
        sha = hashlib.sha256("\x1f".join(self.symbols).encode())
        for name in ("code", *self.columns):
            column = getattr(self, name)[rows]
            sha.update(np.ascontiguousarray(column.astype(column.dtype.newbyteorder("<"), copy=False)).data)
        return sha.hexdigest()


class BarTable(Table):
    """OHLCV bars; prices in the instrument's currency, raw (not adjusted) unless the source says otherwise."""

    columns = ("start", "ts", "open", "high", "low", "close", "volume")

    def __init__(
        self, *, symbols: tuple[str, ...], code: NDArray[np.int32], start: Int64, ts: Int64, open: Float64, high: Float64,
        low: Float64, close: Float64, volume: Float64,
    ) -> None:
        self.symbols, self.code, self.start, self.ts = symbols, code, start, ts
        self.open, self.high, self.low, self.close, self.volume = open, high, low, close, volume


class QuoteTable(Table):
    """Best bid and ask; a price of 0 means that side is not given."""

    columns = ("ts", "bid", "ask", "bid_size", "ask_size")

    def __init__(
        self, *, symbols: tuple[str, ...], code: NDArray[np.int32], ts: Int64, bid: Float64, ask: Float64, bid_size: Float64,
        ask_size: Float64,
    ) -> None:
        self.symbols, self.code, self.ts = symbols, code, ts
        self.bid, self.ask, self.bid_size, self.ask_size = bid, ask, bid_size, ask_size


class TradeTable(Table):
    """Prints; ``forms_price`` is false where the sale condition counts for volume only."""

    columns = ("ts", "price", "size", "forms_price")

    def __init__(
        self, *, symbols: tuple[str, ...], code: NDArray[np.int32], ts: Int64, price: Float64, size: Float64,
        forms_price: NDArray[np.bool_],
    ) -> None:
        self.symbols, self.code, self.ts = symbols, code, ts
        self.price, self.size, self.forms_price = price, size, forms_price


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a table came from: enough to recognise the same data again, without saying where it is stored."""

    name: str  #: file name without folders, or "generated", or "dataframe"
    layout: str  #: "massive", "ohlcv", "lean-quotes", "dbn", "synthetic", …
    sha256: str  #: of the file's bytes; of the generator's parameters or the columns where there is no file
    rows: int
    path: str = ""  #: where it was read from; never part of an event


class CorporateAction(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A split or cash dividend of an equity, effective at the open of ``ex_date``."""

    symbol: str
    ex_date: date
    ratio: Decimal = Decimal(1)  #: new shares for one old share (7 for a 7:1 split); 1 = no split
    dividend: Decimal = Decimal(0)  #: cash a share held at the previous close


class Session(msgspec.Struct, frozen=True):
    """One trading session of the exchange: its label and its regular hours, ns UTC."""

    label: date
    open: int
    close: int


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backtest consumes: tables, sessions, corporate actions, and where they came from."""

    bars: BarTable | None = None
    quotes: QuoteTable | None = None
    trades: TradeTable | None = None
    sessions: tuple[Session, ...] = ()
    actions: tuple[CorporateAction, ...] = ()
    sources: tuple[Source, ...] = ()
    bar_ns: int = 0  #: the usual length of a bar: 60e9 for minutes; of daily bars the regular session; 0 without bars
    daily: bool = False  #: bars that span a whole session

    @property
    def tables(self) -> Iterator[Table]:
        """The tables that hold anything."""
        return (t for t in (self.bars, self.quotes, self.trades) if t is not None and len(t))

    @property
    def rows(self) -> int:
        """How many market events there are."""
        return sum(len(t) for t in self.tables)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol with at least one event, sorted."""
        return tuple(sorted({t.symbols[c] for t in self.tables for c in np.unique(t.code)}))
