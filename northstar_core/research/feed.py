"""A tape as events: columns in, a chunk of ``Bar``, ``Quote`` and ``Trade`` objects out, in the order in which they became known.

Order: by the time a row became known; at one instant quotes, then trades, then bars; then as in the tables (by symbol).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from northstar_core.model.errors import DataError
from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.tape import BarTable, QuoteTable, Table, Tape, TradeTable

CHUNK = 8192
BLOCK = 1 << 16  #: rows after which a run declares what it consumed; no chunk reaches over two blocks


class Chunk:
    """Some consecutive rows; ``bars`` where every one is a bar."""

    __slots__ = ("_make", "bars", "first")

    def __init__(self, first: int, bars: list[Bar] | None, make: Callable[[], list[MarketEvent]]) -> None:
        self.first = first
        self.bars = bars
        self._make = make

    def events(self) -> list[MarketEvent]:
        """Return the rows as events."""
        return list(self.bars) if self.bars is not None else self._make()


class Feed:
    """Numbers the rows of a tape in consumption order, from 0, and makes events of them when asked."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.tables: list[Table] = [t for t in (tape.quotes, tape.trades, tape.bars) if t is not None and len(t)]
        if not self.tables:
            raise DataError("the data hold no rows; widen the dates or choose other symbols")
        self.rows = sum(len(t) for t in self.tables)
        self.first_ts = int(min(t.start[0] if isinstance(t, BarTable) else t.ts[0] for t in self.tables))
        self.table = "bars" if self.tables == [tape.bars] else "ticks"
        self._of_symbol: dict[str, NDArray[np.int64]] = {}
        if len(self.tables) == 1:
            self._kind: NDArray[np.int8] | None = None
            self._ts = self.tables[0].ts
        else:
            ts = np.concatenate([t.ts for t in self.tables])
            kind = np.repeat(np.arange(len(self.tables), dtype=np.int8), [len(t) for t in self.tables])
            order = np.lexsort((kind, ts))  # stable: rows of a table keep their order
            self._kind, self._ts = kind[order], ts[order]
            self._rows_of = [np.flatnonzero(self._kind == k) for k in range(len(self.tables))]

    def chunks(self, size: int = CHUNK) -> Iterator[Chunk]:
        """Yield the rows in order; a chunk never ends between two rows of the same instant."""
        first, ts = 0, self._ts
        while first < self.rows:
            last = min(first + size, (first // BLOCK + 1) * BLOCK, self.rows)
            if last < self.rows:
                last = int(np.searchsorted(ts, ts[last - 1], side="right"))
            yield self._chunk(first, last)
            first = last

    def _chunk(self, first: int, last: int) -> Chunk:
        if self._kind is None:
            made = _events(self.tables[0], first, last)
            if isinstance(self.tables[0], BarTable):
                return Chunk(first, made, list)
            return Chunk(first, None, lambda: made)
        kinds = self._kind[first:last]

        def mixed() -> list[MarketEvent]:
            parts = [iter(_events(t, *self._slice(k, first, last))) for k, t in enumerate(self.tables)]
            return [next(parts[k]) for k in kinds.tolist()]

        return Chunk(first, None, mixed)

    def _slice(self, table: int, first: int, last: int) -> tuple[int, int]:
        """The rows of one table among the consumed rows [first, last)."""
        if self._kind is None:
            return first, last
        before, after = np.searchsorted(self._rows_of[table], (first, last))
        return int(before), int(after)

    def digest(self, first: int, last: int) -> str:
        """Return the sha256 of consumed rows [first, last): of one table its own digest, else of the tables' digests in turn."""
        if len(self.tables) == 1:
            return self.tables[0].digest(slice(first, last))
        sha = sha256()
        for k, table in enumerate(self.tables):
            sha.update(table.digest(slice(*self._slice(k, first, last))).encode())
        return sha.hexdigest()

    def row(self, n: int) -> MarketEvent:
        """Return consumed row ``n`` as an event."""
        table = 0 if self._kind is None else int(self._kind[n])
        at, end = self._slice(table, n, n + 1)
        event: MarketEvent = _events(self.tables[table], at, end)[0]
        return event

    def history(self, symbol: str, n: int, consumed: int) -> list[Bar]:
        """Return the last ``n`` bars of a symbol among the first ``consumed`` rows, oldest first."""
        bars = self.tape.bars
        if bars is None or symbol not in bars.symbols or n <= 0:
            return []
        rows = self._of_symbol.get(symbol)
        if rows is None:
            rows = self._of_symbol[symbol] = np.flatnonzero(bars.code == bars.symbols.index(symbol))
        _, known = self._slice(len(self.tables) - 1, 0, consumed)
        picked = rows[: int(np.searchsorted(rows, known))][-n:]
        return _events(bars.take(picked), 0, len(picked))


def _events(table: Table, first: int, last: int) -> list[Any]:
    """Rows [first, last) of a table as events; a column at a time, so a row costs one object."""
    rows = slice(first, last)
    symbols: Any
    if len(table.symbols) == 1:
        symbols = repeat(table.symbols[0], last - first)
    else:
        symbols = map(table.symbols.__getitem__, table.code[rows].tolist())
    if isinstance(table, BarTable):
        columns: tuple[Any, ...] = (
            table.start, table.ts, table.open, table.high, table.low, table.close, table.volume,
        )  # fmt: skip
        kind: type = Bar
    elif isinstance(table, QuoteTable):
        columns, kind = (table.ts, table.bid, table.ask, table.bid_size, table.ask_size), Quote
    else:
        assert isinstance(table, TradeTable)
        columns, kind = (table.ts, table.price, table.size, table.forms_price), Trade
    return list(map(kind, symbols, *(column[rows].tolist() for column in columns)))
