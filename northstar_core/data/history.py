"""Market data of files and DataFrames as one ``Tape``: ``read`` takes anything supported, ``write_parquet`` keeps it.

All or nothing: a file with one impossible row is refused whole, with one line that names file, row, field and the way
out. Layouts are recognised by content (see ``layouts``); the rules for bars, quotes and prints are stated in ``parts``.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from northstar_core.data import calendar as calendars
from northstar_core.data import files, layouts, native
from northstar_core.data.actions import actions_from_text, csv_from_actions, relevant
from northstar_core.data.frames import part_from_frame
from northstar_core.data.merge import Window, table_from_parts, within
from northstar_core.data.parts import DAY_NS, MINUTE_NS, SECOND_NS, Choice, Part, part_from_table
from northstar_core.model.errors import DataError
from northstar_core.model.tape import BarTable, CorporateAction, QuoteTable, Source, Tape, TradeTable

if TYPE_CHECKING:
    import pandas as pd

Hours = Literal["regular", "extended", "all"]
When = dt.date | dt.datetime | str | int


def read(
    source: str | Path | Sequence[str | Path] | pd.DataFrame,
    *,
    symbols: Sequence[str] | str | None = None,
    start: When | None = None,
    end: When | None = None,
    calendar: str = calendars.DEFAULT,
    session: Hours = "regular",
    actions: str | Path | Iterable[CorporateAction] | None = None,
    symbol: str | None = None,
    tz: str | None = None,
    interval: str | None = None,
    adjusted: bool = False,
) -> Tape:
    """Return market data as a tape.

    Parameters
    ----------
    source
        A file, a folder (with its subfolders), a glob pattern, several of these, or a DataFrame. Files of one call
        merge: bars, quotes and trades side by side, days one after the other.
    symbols
        Keep these only; all by default.
    start, end
        Keep what lies between; a date means its whole day at the exchange, so both ends are included. Times need a
        zone; an integer is ns UTC.
    calendar
        The exchange whose sessions apply, by its name in ``exchange_calendars``.
    session
        "regular" keeps what lies in regular hours, "extended" adds pre-market and after hours, "all" keeps everything.
        Options that trade until 16:15 keep those minutes with "extended".
    actions
        Corporate actions: a csv ``symbol,ex_date,ratio,dividend`` or the actions themselves.
    symbol
        Whose the rows are, where the data name no symbol; by default the file's name.
    tz
        The zone of intraday times that have none, as "America/New_York"; without it they are refused.
    interval
        The length of intraday bars ("1s", "5min", "1h"), where the data do not tell it.
    adjusted
        Multiply prices by adjusted close / close; by default adjusted closes are ignored.

    Raises
    ------
    DataError
        If anything cannot be market data, or nothing is left of what was asked for.
    """
    wanted = _wanted(symbols)
    choice = Choice(
        wanted,
        layouts.compact(symbol) if symbol else None,
        calendar,
        tz,
        _interval_ns(interval) if interval else None,
        adjusted,
    )
    if session not in ("regular", "extended", "all"):
        raise DataError(f"session {session!r} is not known; use regular, extended or all")
    parts, found_actions = _parts(source, choice)
    _require_symbols(wanted, parts)
    window = Window(calendar, session, _bound(start, calendar, last=False), _bound(end, calendar, last=True))
    kept = [within(part, window) for part in parts]
    if not any(len(part.code) for part in kept):
        _refuse_nothing_left(parts, window, start, end)

    bars = table_from_parts("bars", kept)
    quotes = table_from_parts("quotes", kept)
    trades = table_from_parts("trades", kept)
    assert bars is None or isinstance(bars, BarTable)
    assert quotes is None or isinstance(quotes, QuoteTable)
    assert trades is None or isinstance(trades, TradeTable)
    tables = [table for table in (bars, quotes, trades) if table is not None]
    first = min(int(table.ts[0]) for table in tables if not isinstance(table, BarTable)) if quotes or trades else None
    if bars is not None:
        first = min(int(bars.start.min()), first if first is not None else int(bars.start[0]))
    last = max(int(table.ts[-1]) for table in tables)
    assert first is not None
    sessions = calendars.load_around(calendar, first, last).covering(first, last)

    if actions is not None:
        found_actions += _read_actions(actions)
    held = {table.symbols[c] for table in tables for c in np.unique(table.code)}
    bar_parts = [part for part in kept if part.kind == "bars" and len(part.code)]
    daily = bool(bar_parts) and bar_parts[0].daily
    bar_ns = 0
    if bars is not None:
        bar_ns = _usual(bars.ts - bars.start) if daily else bar_parts[0].interval_ns
    sources = tuple({part.source: None for part, left in zip(parts, kept, strict=True) if len(left.code)})
    return Tape(
        bars=bars,
        quotes=quotes,
        trades=trades,
        sessions=sessions,
        actions=relevant(found_actions, held, sessions),
        sources=sources,
        bar_ns=bar_ns,
        daily=daily,
    )


def write_parquet(tape: Tape, folder: str | Path) -> list[Path]:
    """Write a tape as a folder of parquet files that ``read`` reads back; each file appears whole or not at all.

    Extended hours are kept if the tape has them: read it back with the same ``session`` and ``calendar``.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, table in (("bars", tape.bars), ("quotes", tape.quotes), ("trades", tape.trades)):
            if table is None or not len(table):
                continue
            path = folder / f"{kind}.parquet"
            native.write(kind, table, path, bar_ns=tape.bar_ns, daily=tape.daily)
            written.append(path)
        if tape.actions:
            path = folder / "actions.csv"
            partial = path.with_name(".actions.csv.partial")
            partial.write_text(csv_from_actions(tape.actions), encoding="utf-8")
            os.replace(partial, path)
            written.append(path)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); check the folder and its space"
        ) from None
    return written


def _wanted(symbols: Sequence[str] | str | None) -> tuple[str, ...] | None:
    if symbols is None:
        return None
    wanted = tuple(layouts.compact(s) for s in ([symbols] if isinstance(symbols, str) else symbols))
    if not wanted:
        raise DataError("symbols is an empty list; name at least one symbol, or leave it out for all")
    return wanted


def _parts(source: Any, choice: Choice) -> tuple[list[Part], list[CorporateAction]]:
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return [part_from_frame(source, choice)], []
    if not isinstance(source, str | Path | Iterable):
        raise DataError(f"cannot read {type(source).__name__}; give a path, a folder, a pattern or a DataFrame")
    named = [source] if isinstance(source, str | Path) else list(source)
    if not named:
        raise DataError("no files to read; name a file, a folder or a pattern")
    parts: list[Part] = []
    actions: list[CorporateAction] = []
    seen: set[str] = set()
    skipped: list[Path] = []
    for item in named:
        if not isinstance(item, str | Path):
            raise DataError(f"cannot read {type(item).__name__}; give a path, a folder, a pattern or a DataFrame")
        paths = files.expand(item)
        for path in paths:
            file = files.open_file(path)
            if file.sha256 in seen:
                continue  # the same bytes under two names, or one file matched twice
            seen.add(file.sha256)
            found = _parts_from_file(file, choice, actions, explicit=path == Path(item).expanduser())
            if not found:
                skipped.append(path)
            parts += found
    if not parts:
        raise DataError(f"{', '.join(map(str, skipped[:3]))}: no market data; name files with bars, quotes or trades")
    return parts, actions


def _parts_from_file(file: files.File, choice: Choice, actions: list[CorporateAction], *, explicit: bool) -> list[Part]:
    path = file.path
    if file.kind == "dbn":
        from northstar_core.data.dbn import parts_from_dbn

        return parts_from_dbn(file, choice)
    if file.kind == "parquet":
        table = files.parquet_table(file)
        files.require_rows(path, table.num_rows, table.column_names)
        if native.is_native(table):
            return [native.part_from_table(file, table, choice)]
        table = _with_index_names(table)
        layout = layouts.detect(path, table.column_names)
    else:
        text = files.text_of(file)
        names, delimiter = files.header_of(path, text)
        layout = layouts.detect(path, names)
        if layout.kind == "actions":
            actions += actions_from_text(path, text)
            return []
        if layout.kind != "reference":
            table = files.csv_table(path, text, delimiter, _types(layout))
            files.require_rows(path, table.num_rows, names)
    if layout.kind in ("reference", "actions"):
        if explicit:
            raise DataError(f"{path}: holds {layout.kind} data without times, not market events; read it with pandas")
        return []
    source = Source(name=path.name, layout=layout.name, sha256=file.sha256, rows=table.num_rows, path=str(path))
    return [part_from_table(str(path), table, layout, choice, source, layouts.symbol_from_stem(path))]


def _types(layout: layouts.Layout) -> dict[str, Any]:
    """The Arrow type of each column that is needed; times of the flat-file layouts are integers, others text."""
    text = pa.dictionary(pa.int32(), pa.string())
    types: dict[str, Any] = {}
    for role, name in layout.columns.items():
        if role in ("symbol", "flags"):
            types[name] = text
        elif role == "time":
            types[name] = pa.int64() if layouts.normal(name) == "window_start" else pa.string()
        else:
            types[name] = pa.float64()
    if layout.clock is not None:
        types[layout.clock] = pa.string()
    return types


def _with_index_names(table: pa.Table) -> pa.Table:
    """Columns that pandas wrote for an unnamed index get the name ``index``."""
    return table.rename_columns(["index" if n.startswith("__index_level_") else n for n in table.column_names])


def _read_actions(actions: str | Path | Iterable[CorporateAction]) -> list[CorporateAction]:
    if not isinstance(actions, str | Path):
        return list(actions)
    file = files.open_file(Path(actions).expanduser())
    return actions_from_text(file.path, files.text_of(file))


def _require_symbols(wanted: tuple[str, ...] | None, parts: Sequence[Part]) -> None:
    known = sorted({symbol for part in parts for symbol in part.known})
    for symbol in wanted or ():
        if symbol not in known:
            close = get_close_matches(symbol, known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else f"it holds {', '.join(known[:8])}"
            more = "" if close or len(known) <= 8 else f" and {len(known) - 8} more"
            raise DataError(f"{_names(parts)}: has no symbol {symbol}; {hint}{more}")


def _names(parts: Sequence[Part]) -> str:
    return parts[0].name if len(parts) == 1 else f"{parts[0].name} and {len(parts) - 1} more"


def _refuse_nothing_left(parts: Sequence[Part], window: Window, start: When | None, end: When | None) -> None:
    held = [part for part in parts if len(part.code)]
    if not held:
        raise DataError(f"{_names(parts)}: no rows; give files with data")
    first = np.datetime64(min(int(part.begin.min()) for part in held), "ns").astype("datetime64[s]")
    last = np.datetime64(max(int(part.columns["ts"].max()) for part in held), "ns").astype("datetime64[s]")
    asked = (
        f" from {start or 'the first row'} to {end or 'the last row'}" if start is not None or end is not None else ""
    )
    hours = "" if window.hours == "all" else f" in {window.hours} hours of {window.calendar}"
    way = "" if window.hours == "all" else ', or session="all"'
    raise DataError(
        f"{_names(held)}: no rows{asked}{hours}; the data go from {first}Z to {last}Z: choose dates within{way}"
    )


def _bound(value: When | None, calendar: str, *, last: bool) -> int | None:
    """ns UTC of a bound; of a date its first instant at the exchange, or the first of the next day for an end."""
    if value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            value = dt.date.fromisoformat(value) if len(value) <= 10 else dt.datetime.fromisoformat(value)
        except ValueError:
            raise DataError(f"{value!r} is not a date or time; write 2023-08-03 or 2023-08-03T13:30:00Z") from None
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise DataError(f"{value.isoformat()} has no time zone; write 2023-08-03T13:30:00Z, or a date alone")
        return _datetime_ns(value)
    day = value + dt.timedelta(days=1) if last else value
    return calendars.midnight_ns(calendar, day)


def _datetime_ns(value: dt.datetime) -> int:
    since = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def _interval_ns(text: str) -> int:
    digits = "".join(c for c in text if c.isdigit()) or "1"
    unit = text.removeprefix(digits).strip().lower()
    units = {"s": SECOND_NS, "sec": SECOND_NS, "min": MINUTE_NS, "m": MINUTE_NS, "t": MINUTE_NS, "h": 60 * MINUTE_NS}
    if unit not in units or int(digits) == 0 or int(digits) * units[unit] > DAY_NS:
        raise DataError(f"interval {text!r} is not known; write 1s, 1min, 5min or 1h")
    return int(digits) * units[unit]


def _usual(lengths: Any) -> int:
    values, counts = np.unique(lengths, return_counts=True)
    return int(values[int(np.argmax(counts))])
