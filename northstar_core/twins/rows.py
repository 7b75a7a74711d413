"""Rows of a tape by time and symbol, as events."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.tape import BarTable, QuoteTable, Table, Tape, TradeTable


class Rows:
    """One table of a tape, asked for spans of time."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._codes = {symbol: code for code, symbol in enumerate(table.symbols)}
        self._of_symbol: dict[str, NDArray[np.int64]] = {}

    def next_ts(self, after: int) -> int | None:
        """Return the time of the first row after ``after``."""
        at = int(np.searchsorted(self.table.ts, after, side="right"))
        return int(self.table.ts[at]) if at < len(self.table) else None

    def between(self, after: int, until: int, symbols: Collection[str] | None) -> list[Any]:
        """Return the rows with ``after < ts <= until`` of these symbols (None: all) as events, in the table's order."""
        first, last = np.searchsorted(self.table.ts, (after, until), side="right")
        picked: slice | NDArray[np.int64] = slice(int(first), int(last))
        if symbols is not None:
            codes = [self._codes[symbol] for symbol in symbols if symbol in self._codes]
            picked = first + np.flatnonzero(np.isin(self.table.code[first:last], codes))
        return events(self.table, picked)

    def of_symbol(self, symbol: str, after: int, until: int) -> list[Any]:
        """Return one symbol's rows with ``after < ts <= until``, oldest first."""
        rows = self._rows(symbol)
        first, last = np.searchsorted(self.table.ts[rows], (after, until), side="right")
        return events(self.table, rows[first:last])

    def last(self, symbol: str, ts: int) -> Any | None:
        """Return a symbol's last row at or before ``ts``."""
        rows = self._rows(symbol)
        at = int(np.searchsorted(self.table.ts[rows], ts, side="right"))
        return events(self.table, rows[at - 1 : at])[0] if at else None

    def _rows(self, symbol: str) -> NDArray[np.int64]:
        rows = self._of_symbol.get(symbol)
        if rows is None:
            rows = self._of_symbol[symbol] = np.flatnonzero(self.table.code == self._codes.get(symbol, -1))
        return rows


def events(table: Table, rows: slice | NDArray[np.int64]) -> list[Any]:
    """Return rows of a table as events."""
    symbols = map(table.symbols.__getitem__, table.code[rows].tolist())
    if isinstance(table, BarTable):
        columns: tuple[Any, ...] = (
            table.start, table.ts, table.open, table.high, table.low, table.close, table.volume,
        )  # fmt: skip
        kind: type[MarketEvent] = Bar
    elif isinstance(table, QuoteTable):
        columns, kind = (table.ts, table.bid, table.ask, table.bid_size, table.ask_size), Quote
    else:
        assert isinstance(table, TradeTable)
        columns, kind = (table.ts, table.price, table.size, table.forms_price), Trade
    return list(map(kind, symbols, *(column[rows].tolist() for column in columns)))


def tables_of(tape: Tape) -> dict[str, Rows]:
    """Return the tape's tables that hold anything, by kind."""
    named = {"quotes": tape.quotes, "trades": tape.trades, "bars": tape.bars}
    return {name: Rows(table) for name, table in named.items() if table is not None and len(table)}


def symbols_of(table: Table) -> frozenset[str]:
    """Return the symbols of which a table has rows."""
    return frozenset(table.symbols[code] for code in np.unique(table.code))
