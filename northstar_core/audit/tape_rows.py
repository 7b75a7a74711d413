"""Which row of the tape a number of the log is, and what it says.

Numbers that no event has are consumed rows, in the tape's order: by the time they became known; at one instant
quotes, then trades, then bars; then as in their table. Only rows of the run's own symbols count.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from northstar_core.model.market import Bar, MarketEvent, Quote, Trade
from northstar_core.model.tape import BarTable, QuoteTable, Table, Tape, TradeTable


class Numbering:
    """The numbers that are events; all others are rows."""

    def __init__(self) -> None:
        self._events = array("q")

    def event(self, seq: int) -> None:
        """Take note of an event's number; numbers grow."""
        self._events.append(seq)

    def is_event(self, seq: int) -> bool:
        """Whether a number is an event's."""
        at = bisect_left(self._events, seq)
        return at < len(self._events) and self._events[at] == seq

    def row_of(self, seq: int) -> int | None:
        """Return which consumed row a number is, from 0; None if it is an event."""
        at = bisect_left(self._events, seq)
        if at < len(self._events) and self._events[at] == seq:
            return None
        return seq - 1 - at


class TapeRows:
    """A tape's rows in the order in which a run with these symbols consumed them."""

    def __init__(self, tape: Tape, symbols: Sequence[str] = ()) -> None:
        wanted = set(symbols or tape.symbols)
        self.bar_ns = tape.bar_ns
        self.tables: list[Table] = []
        for table in (tape.quotes, tape.trades, tape.bars):
            if table is not None and len(table):
                codes = [code for code, symbol in enumerate(table.symbols) if symbol in wanted]
                kept = table if len(codes) == len(table.symbols) else table.take(np.isin(table.code, codes))
                if len(kept):
                    self.tables.append(kept)
        ts = np.concatenate([t.ts for t in self.tables]) if self.tables else np.zeros(0, np.int64)
        kind = np.repeat(np.arange(len(self.tables)), [len(t) for t in self.tables])
        place = np.concatenate([np.arange(len(t)) for t in self.tables]) if self.tables else np.zeros(0, np.int64)
        order = np.lexsort((kind, ts))
        self._kind, self._place = kind[order], place[order]

    def __len__(self) -> int:
        return len(self._kind)

    def row(self, n: int) -> MarketEvent | None:
        """Return consumed row ``n`` as an event; None beyond the tape."""
        if not 0 <= n < len(self):
            return None
        return _event(self.tables[int(self._kind[n])], int(self._place[n]))

    def digest(self, first: int, rows: int) -> str:
        """Return the digest a ``TapeRead`` of these rows must have, where the run consumed the tables whole."""
        if len(self.tables) == 1:
            return self.tables[0].digest(slice(first, first + rows))
        sha = sha256()
        for number, table in enumerate(self.tables):
            before = int(np.count_nonzero(self._kind[:first] == number))
            among = int(np.count_nonzero(self._kind[first : first + rows] == number))
            sha.update(table.digest(slice(before, before + among)).encode())
        return sha.hexdigest()

    def latest(self, symbol: str, ts: int) -> MarketEvent | None:
        """Return the last row of a symbol that was known at a time."""
        found: MarketEvent | None = None
        for table in self.tables:
            if symbol not in table.symbols:
                continue
            known = bisect_right(table.ts, ts)
            rows = np.flatnonzero(table.code[:known] == table.symbols.index(symbol))
            if len(rows):
                event = _event(table, int(rows[-1]))
                if found is None or event.ts >= found.ts:
                    found = event
        return found

    def bars(self, symbol: str, after: int, until: int) -> int:
        """Return how many bars of a symbol closed in ``(after, until]``."""
        return sum(
            int(
                np.count_nonzero((table.code == table.symbols.index(symbol)) & (table.ts > after) & (table.ts <= until))
            )
            for table in self.tables
            if isinstance(table, BarTable) and symbol in table.symbols
        )


def _event(table: Table, row: int) -> MarketEvent:
    symbol, ts = table.symbols[int(table.code[row])], int(table.ts[row])
    if isinstance(table, BarTable):
        prices = (float(column[row]) for column in (table.open, table.high, table.low, table.close, table.volume))
        return Bar(symbol, int(table.start[row]), ts, *prices)
    if isinstance(table, QuoteTable):
        sides = (float(column[row]) for column in (table.bid, table.ask, table.bid_size, table.ask_size))
        return Quote(symbol, ts, *sides)
    assert isinstance(table, TradeTable)
    return Trade(symbol, ts, float(table.price[row]), float(table.size[row]), bool(table.forms_price[row]))
