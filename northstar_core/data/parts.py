"""One file's rows as checked columns: a part of a tape, before it is merged with the others.

Rules stated here because others rely on them:

- A bar row's time is its opening time. Minute and second layouts have it as ``window_start``; of other intraday bars
  the length is the smallest step between two rows of a symbol, or what the caller says. A bar that begins in regular
  hours and would reach past the regular close ends at the close (the last half hour of hourly bars).
- A daily bar opens at its session's regular open and is known at its regular close, whatever the file says of the hour.
- A quote window gives one quote, at the window's end, from bid close and ask close; an empty side is a price of 0.
- Tick quotes of which no row gives both sides are one-sided updates: the side that is not given stands as it was. Rows
  the source marks suspicious are left out of quotes, and kept among trades without forming a price.
- Adjusted closes are ignored (orders are placed at raw prices; splits and dividends enter as corporate actions), unless
  the caller asks for them: then open, high, low and close are multiplied by adjusted close / close.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from northstar_core.data import calendar as calendars
from northstar_core.data import checks, conditions
from northstar_core.data.checks import Place
from northstar_core.data.layouts import Layout, compact
from northstar_core.data.timestamps import Times, times_from
from northstar_core.model.errors import DataError
from northstar_core.model.tape import Float64, Int64, Source

SECOND_NS, MINUTE_NS, DAY_NS = 1_000_000_000, 60_000_000_000, 86_400_000_000_000
_QUARTER_HOUR_NS = 15 * MINUTE_NS

Codes = NDArray[np.int32]


class Choice(NamedTuple):
    """What the caller wants of every file."""

    symbols: tuple[str, ...] | None = None
    symbol: str | None = None  #: of rows that name none
    calendar: str = calendars.DEFAULT
    tz: str | None = None
    interval_ns: int | None = None
    adjusted: bool = False
    instants: bool = False  #: times at midnight are moments, not days


class Part(NamedTuple):
    """Checked columns of one file. ``begin`` is when a row's window began (its own time where it has none)."""

    kind: str  #: "bars", "quotes" or "trades"
    name: str  #: the file, for messages
    known: tuple[str, ...]  #: every symbol of the file, also those that were not asked for
    symbols: tuple[str, ...]
    code: Codes
    begin: Int64
    columns: dict[str, Any]
    source: Source
    interval_ns: int = 0  #: of bars and quote windows; 0 for ticks and daily bars
    daily: bool = False


def part_from_table(
    name: str, table: pa.Table, layout: Layout, choice: Choice, source: Source, stem: str | None
) -> Part:
    """Return the checked rows of a table whose layout is known.

    Raises
    ------
    DataError
        Naming the first row that cannot be market data.
    """
    column = layout.columns
    code, known = _codes(name, table, column.get("symbol"), choice, stem)
    place, keep = Place(name), None
    if choice.symbols is not None:
        wanted = np.array([symbol in choice.symbols for symbol in known], dtype=bool)
        if not wanted.all():
            keep = np.flatnonzero(wanted[code])
            place = Place(name, keep)
            table, code = table.take(pa.array(keep)), code[keep]
    if len(code) == 0:
        empty = np.empty(0, dtype=np.int64)
        return Part(layout.kind, name, known, (), code, empty, {}, source)

    time_column = table[column["time"]]
    if layout.clock is not None:
        both = [time_column.cast(pa.string()), table[layout.clock].cast(pa.string())]
        time_column = pc.binary_join_element_wise(*both, " ")
    times = times_from(place, column["time"], time_column, choice.tz)
    if layout.kind == "bars":
        fields = ("open", "high", "low", "close", "volume")
        numbers = {role: _floats(place, table, column[role]) for role in fields}
        if choice.adjusted:
            if "adj_close" not in column:
                raise DataError(
                    f"{name}: adjusted prices are asked for and there is no adjusted close; leave adjusted out"
                )
            adjusted = _floats(place, table, column["adj_close"])
            checks.check_prices(place, {column["adj_close"]: adjusted, "close": numbers["close"]})
            factor = adjusted / numbers["close"]
            numbers |= {role: numbers[role] * factor for role in ("open", "high", "low")} | {"close": adjusted}
        return bars_part(place, known, code, times, numbers, choice, source, column["time"], exact=not choice.adjusted)
    if layout.kind == "trades":
        numbers = {role: _floats(place, table, column[role]) for role in ("price", "size")}
        forms = np.ones(len(code), dtype=bool)
        if "flags" in column:
            forms &= conditions.forms_price(_flags(place, column["flags"], table[column["flags"]]))
        if "suspicious" in column:
            forms &= _floats(place, table, column["suspicious"]) == 0
        return trades_part(place, known, code, times, numbers, forms, source, column["time"])
    if layout.name == "lean-quotes":
        return _quote_windows(place, table, column, known, code, times, choice, source)
    numbers = {role: _floats(place, table, column[role], empty=0.0) for role in ("bid", "ask", "bid_size", "ask_size")}
    sound = _floats(place, table, column["suspicious"]) == 0 if "suspicious" in column else None
    return quotes_part(place, known, code, times, numbers, source, column["time"], sound)


def bars_part(
    place: Place,
    known: tuple[str, ...],
    code: Codes,
    times: Times,
    numbers: dict[str, Float64],
    choice: Choice,
    source: Source,
    field: str,
    *,
    interval_ns: int | None = None,
    exact: bool = True,
) -> Part:
    """Return checked bars; ``times`` are opening times or dates, ``interval_ns`` a length the layout tells."""
    prices = {role: numbers[role] for role in ("open", "high", "low", "close")}
    checks.check_prices(place, prices)
    if exact:  # adjusting rounds the four prices separately: by one unit in the last place they may cross
        checks.check_ohlc(place, prices)
    checks.check_sizes(place, {"volume": numbers["volume"]})
    given = times.ns if times.dates is None else times.dates
    assert given is not None
    checks.check_times(place, field, given)
    times = times if choice.instants else _daily(times, choice.calendar)
    stamps = times.ns if times.dates is None else times.dates.astype("datetime64[ns]").astype(np.int64)
    assert stamps is not None
    checks.check_order(place, field, known, code, stamps, unique=True, shown=times.shown)
    if times.dates is not None:
        start, end = _session_hours(place, field, times.dates, choice.calendar)
        interval = 0
    else:
        start = stamps
        interval = choice.interval_ns or interval_ns or _interval(place, source.layout, code, start)
        end = start + interval
        if interval > MINUTE_NS:
            hours = calendars.load_around(choice.calendar, int(start.min()), int(end.max()))
            at = hours.index_of(start, extended=False)
            end = np.where(at >= 0, np.minimum(end, hours.closes[at]), end)
    symbols, code = _used(known, code)
    columns = {"start": start, "ts": end, **numbers}
    return Part("bars", place.name, known, symbols, code, start, columns, source, interval, times.dates is not None)


def trades_part(
    place: Place,
    known: tuple[str, ...],
    code: Codes,
    times: Times,
    numbers: dict[str, Float64],
    forms: NDArray[np.bool_],
    source: Source,
    field: str,
) -> Part:
    """Return checked prints."""
    checks.check_prices(place, {"price": numbers["price"]})
    checks.check_sizes(place, {"size": numbers["size"]})
    ts = _instants(place, field, known, code, times, unique=False)
    symbols, code = _used(known, code)
    return Part("trades", place.name, known, symbols, code, ts, {"ts": ts, **numbers, "forms_price": forms}, source)


def quotes_part(
    place: Place,
    known: tuple[str, ...],
    code: Codes,
    times: Times,
    numbers: dict[str, Float64],
    source: Source,
    field: str,
    sound: NDArray[np.bool_] | None = None,
) -> Part:
    """Return checked quotes of a tick stream; rows that are not ``sound`` are left out."""
    checks.check_prices(place, {"bid": numbers["bid"], "ask": numbers["ask"]}, zero_is_missing=True)
    checks.check_sizes(place, {"bid_size": numbers["bid_size"], "ask_size": numbers["ask_size"]})
    ts = _instants(place, field, known, code, times, unique=False)
    if sound is not None and not sound.all():
        code, ts, numbers = code[sound], ts[sound], {role: values[sound] for role, values in numbers.items()}
    if not np.any((numbers["bid"] > 0) & (numbers["ask"] > 0)):
        numbers = numbers | _standing(code, numbers["bid"], numbers["bid_size"], "bid")
        numbers = numbers | _standing(code, numbers["ask"], numbers["ask_size"], "ask")
    symbols, code = _used(known, code)
    return Part("quotes", place.name, known, symbols, code, ts, {"ts": ts, **numbers}, source)


def _quote_windows(
    place: Place,
    table: pa.Table,
    column: dict[str, str],
    known: tuple[str, ...],
    code: Codes,
    times: Times,
    choice: Choice,
    source: Source,
) -> Part:
    start = _instants(place, column["time"], known, code, times, unique=True)
    interval = choice.interval_ns or _interval(place, source.layout, code, start)
    numbers: dict[str, Any] = {"ts": start + interval}
    for side in ("bid", "ask"):
        ohlc = {
            role: _floats(place, table, column[side if role == "close" else f"{side}_{role}"], empty=0.0)
            for role in ("open", "high", "low", "close")
        }
        checks.check_prices(place, {f"{side}_{role}": values for role, values in ohlc.items()}, zero_is_missing=True)
        given = ohlc["close"] > 0
        checks.check_ohlc(place, ohlc, prefix=f"{side}_", given=given)
        size = _floats(place, table, column[f"{side}_size"], empty=0.0)
        checks.check_sizes(place, {f"{side}_size": size})
        numbers |= {side: ohlc["close"], f"{side}_size": np.where(given, size, 0.0)}
    symbols, code = _used(known, code)
    return Part("quotes", place.name, known, symbols, code, start, numbers, source, interval)


def _codes(
    name: str, table: pa.Table, column: str | None, choice: Choice, stem: str | None
) -> tuple[Codes, tuple[str, ...]]:
    """The code of each row and the file's symbols, sorted, in our form."""
    if column is None:
        only = choice.symbols[0] if choice.symbols is not None and len(choice.symbols) == 1 else None
        symbol = choice.symbol or stem or only
        if symbol is None:
            raise DataError(f'{name}: names no symbol; add a symbol column or say which it is: symbol="SPY"')
        return np.zeros(table.num_rows, dtype=np.int32), (compact(symbol),)
    encoded = table[column]
    if not pa.types.is_dictionary(encoded.type):
        try:
            encoded = pc.dictionary_encode(encoded.cast(pa.string()))
        except pa.ArrowInvalid:
            raise DataError(f"{name}: {column} is {encoded.type}, not text; give symbols") from None
    if encoded.null_count:
        Place(name).refuse(int(np.argmax(encoded.is_null().to_numpy())), f"{column} is empty; give every row a symbol")
    whole = encoded.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    found = [compact(value) for value in whole.dictionary.to_pylist()]
    indices = whole.indices.to_numpy().astype(np.int32, copy=False)
    odd = next((i for i, symbol in enumerate(found) if not symbol.isprintable()), None)
    if odd is not None:
        place = Place(name)
        place.refuse(int(np.argmax(indices == odd)), f"{column} {found[odd]!r} is not a symbol; correct the field")
    if "" in found:
        Place(name).refuse(int(np.argmax(indices == found.index(""))), f"{column} is empty; give every row a symbol")
    symbols = tuple(sorted(set(found)))
    if list(symbols) == found:
        return indices, symbols
    position = {symbol: i for i, symbol in enumerate(symbols)}
    to_sorted = np.array([position[value] for value in found], dtype=np.int32)
    return to_sorted[indices], symbols


def _used(known: tuple[str, ...], code: Codes) -> tuple[tuple[str, ...], Codes]:
    """The symbols that have rows, and the codes into them."""
    present = np.zeros(len(known), dtype=bool)
    present[code] = True
    if present.all():
        return known, code
    to_used = (np.cumsum(present) - 1).astype(np.int32)
    return tuple(symbol for symbol, here in zip(known, present, strict=True) if here), to_used[code]


def _floats(place: Place, table: pa.Table, column: str, empty: float = np.nan) -> Float64:
    values = table[column]
    if not pa.types.is_float64(values.type):
        try:
            values = values.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(f"{place.name}: {column} holds {values.type}, not numbers; convert it") from None
    if values.null_count:
        values = values.fill_null(empty)
    result: Float64 = values.to_numpy()
    return result


def _flags(place: Place, field: str, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Condition bits from their hex text; few distinct ones, so each is parsed once."""
    coded = pc.dictionary_encode(column.cast(pa.string())).combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    bits = np.zeros(len(coded.dictionary) + 1, dtype=np.int64)  # the last: no conditions given
    indices = coded.indices.fill_null(len(coded.dictionary)).to_numpy()
    for i, text in enumerate(coded.dictionary.to_pylist()):
        try:
            bits[i] = int(text or "0", 16)
        except ValueError:
            place.refuse(int(np.argmax(indices == i)), f"{field} {text!r} is not a hexadecimal number; correct it")
    result: NDArray[np.int64] = bits[indices]
    return result


def _instants(place: Place, field: str, known: tuple[str, ...], code: Codes, times: Times, *, unique: bool) -> Int64:
    if times.ns is None:
        raise DataError(f"{place.name}: {field} holds dates only; quotes and trades need the time of day with its zone")
    checks.check_times(place, field, times.ns)
    checks.check_order(place, field, known, code, times.ns, unique=unique, shown=times.shown)
    return times.ns


def _daily(times: Times, calendar: str) -> Times:
    """Rows that all stand at midnight (UTC, or at the exchange) are days: give them as dates."""
    ns = times.ns
    if ns is None or np.any(ns % _QUARTER_HOUR_NS):
        return times
    if not np.any(ns % DAY_NS):
        return Times(None, ns.astype("datetime64[ns]").astype("datetime64[D]"), times.shown)
    hours = calendars.load_around(calendar, int(ns.min()), int(ns.max()))
    dates = hours.local_dates(ns)
    return Times(None, dates, times.shown) if hours.at_midnight(dates, ns) else times


def _session_hours(place: Place, field: str, dates: NDArray[np.datetime64], calendar: str) -> tuple[Int64, Int64]:
    ns = dates.astype("datetime64[ns]").astype(np.int64)
    hours = calendars.load_around(calendar, int(ns.min()), int(ns.max()))
    at = hours.index_of_label(dates)
    if np.any(at < 0):
        row = int(np.argmax(at < 0))
        place.refuse(
            row,
            f"{field} {dates[row]} is not a session of {calendar}; remove the row, or name the calendar it trades on "
            '(calendar="24/7" for one that never closes)',
        )
    return hours.opens[at], hours.closes[at]


def _interval(place: Place, layout: str, code: Codes, start: Int64) -> int:
    """The length of the bars: of flat files a second or a minute, of others the smallest step within a symbol."""
    if layout in ("massive", "lean-trades", "lean-quotes"):
        return SECOND_NS if np.any(start % MINUTE_NS) else MINUTE_NS
    order = np.argsort(code, kind="stable")
    step = np.diff(start[order])[code[order][1:] == code[order][:-1]]
    if len(step) == 0:
        raise DataError(f'{place.name}: one row a symbol does not tell how long a bar is; say it: interval="1min"')
    return int(step.min())


def _standing(code: Codes, price: Float64, size: Float64, side: str) -> dict[str, Float64]:
    """The last price and size given on a side, symbol by symbol, at each row; 0 before the first."""
    order = np.argsort(code, kind="stable")
    position = np.arange(len(order))
    latest = np.maximum.accumulate(np.where(price[order] > 0, position, -1))
    begins = np.concatenate(([True], code[order][1:] != code[order][:-1]))
    group = np.maximum.accumulate(np.where(begins, position, 0))
    known = latest >= group
    source = order[np.maximum(latest, 0)]
    standing_price, standing_size = np.empty_like(price), np.empty_like(size)
    standing_price[order] = np.where(known, price[source], 0.0)
    standing_size[order] = np.where(known, size[source], 0.0)
    return {side: standing_price, f"{side}_size": standing_size}
