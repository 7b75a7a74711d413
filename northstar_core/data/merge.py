"""Parts become one tape: filtered to the hours and dates asked for, in the order in which they became known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from northstar_core.data import calendar as calendars
from northstar_core.data.parts import Codes, Part
from northstar_core.model.errors import DataError
from northstar_core.model.tape import BarTable, Int64, QuoteTable, Table, TradeTable

_TABLES: dict[str, Any] = {"bars": BarTable, "quotes": QuoteTable, "trades": TradeTable}


class Window(NamedTuple):
    """Which rows to keep: all that happen in ``[start, end]`` and in these hours of the exchange's sessions."""

    calendar: str
    hours: str  #: "regular", "extended" or "all"
    start: int | None
    end: int | None


def within(part: Part, window: Window) -> Part:
    """Return the part's rows whose whole span lies in the window."""
    end: Int64 = part.columns["ts"] if part.columns else part.begin
    if len(part.begin) == 0:
        return part
    keep = np.ones(len(end), dtype=bool)
    if window.start is not None:
        keep &= part.begin >= window.start
    if window.end is not None:
        keep &= end <= window.end
    if window.hours != "all" and not part.daily:
        known = calendars.load_around(window.calendar, int(part.begin.min()), int(end.max()))
        keep &= (known.regular if window.hours == "regular" else known.extended)(part.begin, end)
    if keep.all():
        return part
    columns = {name: values[keep] for name, values in part.columns.items()}
    return part._replace(code=part.code[keep], begin=part.begin[keep], columns=columns)


def table_from_parts(kind: str, parts: Sequence[Part]) -> Table | None:
    """Return one table of all parts of a kind, sorted by (ts, symbol, source order); None without rows.

    Bars and quote windows that two files hold alike are taken once (files of neighbouring ranges overlap).

    Raises
    ------
    DataError
        If two files differ about the same bar or window, or hold bars of different lengths.
    """
    parts = [part for part in parts if part.kind == kind and len(part.code)]
    if not parts:
        return None
    _require_one_length(parts)
    symbols = tuple(sorted({part.symbols[c] for part in parts for c in np.unique(part.code)}))
    position = {symbol: i for i, symbol in enumerate(symbols)}
    coded = [np.array([position.get(s, 0) for s in part.symbols], dtype=np.int32)[part.code] for part in parts]
    names = _TABLES[kind].columns
    if len(parts) == 1:
        code, columns = coded[0], {name: parts[0].columns[name] for name in names}
    else:
        code = np.concatenate(coded)
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    ts = columns["ts"]
    step = np.diff(ts)
    if not np.all((step > 0) | ((step == 0) & (code[1:] >= code[:-1]))):
        order = np.lexsort((code, ts))
        code, columns = code[order], {name: values[order] for name, values in columns.items()}
    else:
        order = np.arange(len(ts))
    if len(parts) > 1 and all(part.interval_ns or part.daily for part in parts):
        code, columns = _without_overlap(parts, symbols, code, columns, order)
    table: Table = _TABLES[kind](symbols=symbols, code=code, **columns)
    return table


def _require_one_length(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.kind == "bars" and (part.daily, part.interval_ns) != (first.daily, first.interval_ns):
            raise DataError(
                f"{part.name}: holds {_length(part)} bars where {first.name} holds {_length(first)} bars; "
                "read them apart"
            )


def _length(part: Part) -> str:
    return "daily" if part.daily else f"{part.interval_ns / 1e9:g} s"


def _without_overlap(
    parts: Sequence[Part], symbols: tuple[str, ...], code: Codes, columns: dict[str, Any], order: Int64
) -> tuple[Codes, dict[str, Any]]:
    again = (code[1:] == code[:-1]) & (columns["ts"][1:] == columns["ts"][:-1])
    if not again.any():
        return code, columns
    differs = np.zeros(len(again), dtype=bool)
    for values in columns.values():
        differs |= values[1:] != values[:-1]
    if np.any(differs & again):
        row = int(np.argmax(differs & again))
        ends = np.cumsum([len(part.code) for part in parts])
        one, other = (parts[int(np.searchsorted(ends, order[at], side="right"))].name for at in (row, row + 1))
        when = np.datetime64(int(columns["ts"][row]), "ns").astype("datetime64[s]")
        raise DataError(
            f"{other}: differs from {one} about {symbols[code[row]]} at {when}Z; remove one of the two rows"
        )
    keep = np.concatenate(([True], ~again))
    return code[keep], {name: values[keep] for name, values in columns.items()}
