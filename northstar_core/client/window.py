"""A part of a tape: from one date or time to another, as ``--start`` and ``--end`` say it of files."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.tape import BarTable, Tape


def between(tape: Tape, start: str | None, end: str | None, calendar: str) -> Tape:
    """Return the rows of a tape that lie wholly between two dates at the exchange, or times with a zone, inclusive.

    Raises
    ------
    DataError
        If none is left; says which dates there are.
    """
    if start is None and end is None:
        return tape
    first = _bound_ns(start, calendar, last=False) if start is not None else -(1 << 62)
    last = _bound_ns(end, calendar, last=True) if end is not None else 1 << 62

    def cut(table: Any) -> Any:
        if table is None:
            return None
        begin = table.start if isinstance(table, BarTable) else table.ts
        kept = table.take((begin >= first) & (table.ts <= last))
        return kept if len(kept) else None

    part = msgspec.structs.replace(
        tape,
        bars=cut(tape.bars),
        quotes=cut(tape.quotes),
        trades=cut(tape.trades),
        sessions=tuple(s for s in tape.sessions if s.close >= first and s.open <= last),
    )
    if not part.rows:
        span = f"; they go from {tape.sessions[0].label} to {tape.sessions[-1].label}" if tape.sessions else ""
        raise DataError(f"no data from {start or 'the first row'} to {end or 'the last row'}{span}")
    return part


def _bound_ns(text: str, calendar: str, *, last: bool) -> int:
    """ns UTC of a bound; of a date its first instant at the exchange, or the first of the next day for an end."""
    from northstar_core.data.calendar import midnight_ns

    when = datetime.fromisoformat(text)
    if len(text) > 10:
        return round(when.timestamp() * 10**6) * 1000
    return midnight_ns(calendar, (when + timedelta(days=1) if last else when).date())
