"""Times of a column as int nanoseconds UTC, or as dates where a row stands for a whole day.

Accepted: ISO 8601 text with an offset or Z; ISO 8601 without one if the caller names a time zone; dates; ``YYYYMMDD``;
epoch numbers in s, ms, µs or ns (told apart by magnitude); Arrow and pandas timestamps. Day-month order is never
guessed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from northstar_core.data.checks import Place
from northstar_core.model.errors import DataError
from northstar_core.model.tape import Int64

# An epoch number below the bound is in this unit: 1e11 s is the year 5138, 1e11 ms is 1973.
_UNITS = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000), (np.inf, 1))


class Times(NamedTuple):
    """Nanoseconds UTC, or (when ``dates`` is given) the calendar dates of daily rows."""

    ns: Int64 | None
    dates: NDArray[np.datetime64] | None
    shown: Any  #: indexable, for messages


def times_from(place: Place, field: str, column: pa.ChunkedArray, tz: str | None) -> Times:
    """Return the times of a column.

    Raises
    ------
    DataError
        If a field is empty or no time, or an intraday time has no zone and ``tz`` is not given.
    """
    if column.null_count:
        at = int(np.argmax(column.is_null().to_numpy()))
        place.refuse(at, f"{field} is empty; give every row a time")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_text(place, field, column, tz)
    if pa.types.is_floating(kind):
        try:
            column, kind = column.cast(pa.int64()), pa.int64()
        except pa.ArrowInvalid:
            raise DataError(f"{place.name}: {field} holds fractions; give whole seconds, ms, µs or ns") from None
    if pa.types.is_integer(kind):
        return _from_numbers(place, field, column.to_numpy().astype(np.int64))
    if pa.types.is_date(kind):
        dates = column.cast(pa.date32()).to_numpy().astype("datetime64[D]")
        return Times(None, dates, dates)
    if pa.types.is_timestamp(kind):
        return _from_timestamps(place, field, column, tz)
    raise DataError(f"{place.name}: {field} is {kind}, not a time; give ISO 8601 text, epoch numbers or timestamps")


def _from_text(place: Place, field: str, column: pa.ChunkedArray, tz: str | None) -> Times:
    text = pc.utf8_trim_whitespace(column)
    if text[0].as_py().lstrip("-").isdigit():
        try:
            return _from_numbers(place, field, text.cast(pa.int64()).to_numpy())
        except pa.ArrowInvalid:
            _refuse_text(place, field, text, pa.int64())
    try:
        naive = text.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        try:
            return _from_timestamps(place, field, text.cast(pa.timestamp("ns", "UTC")), tz)
        except pa.ArrowInvalid:
            _refuse_text(place, field, text, pa.timestamp("ns", "UTC"))
            raise AssertionError from None  # pragma: no cover
    return _from_timestamps(place, field, naive, tz)


def _refuse_text(place: Place, field: str, text: pa.ChunkedArray, wanted: Any) -> None:
    """Name the first field that is no time, or the first without an offset where others have one."""
    naive_type = pa.timestamp("ns")
    for at, value in enumerate(text.to_pylist()):
        try:
            pa.scalar(value).cast(wanted)
        except pa.ArrowInvalid:
            try:
                pa.scalar(value).cast(naive_type)
            except pa.ArrowInvalid:
                place.refuse(at, f"{field} {value!r} is not a time; write it as 2023-08-03T13:30:00Z or 2023-08-03")
            if pa.types.is_timestamp(wanted):
                place.refuse(at, f"{field} {value!r} has no time zone where other rows have one; write the offset")
            place.refuse(at, f"{field} {value!r} is a time where other rows hold numbers; use one form")
    place.refuse(0, f"{field} cannot be read as times; write them as 2023-08-03T13:30:00Z")


def _from_numbers(place: Place, field: str, values: Int64) -> Times:
    low, high = int(values.min()), int(values.max())
    if 19_000_101 <= low and high <= 22_001_231:
        dates = _compact_dates(place, field, values)
        return Times(None, dates, values)
    scales = {next(ns for bound, ns in _UNITS if abs(value) < bound) for value in (low, high)}
    if len(scales) > 1:
        at = int(np.argmin(values))
        place.refuse(
            at, f"{field} {int(values[at])} is of another unit than {high}; use one of s, ms, µs, ns throughout"
        )
    return Times(values * scales.pop(), None, values)


def _compact_dates(place: Place, field: str, values: Int64) -> NDArray[np.datetime64]:
    unique, inverse = np.unique(values, return_inverse=True)
    dates = np.empty(len(unique), dtype="datetime64[D]")
    for i, value in enumerate(unique):
        try:
            dates[i] = np.datetime64(f"{value // 10000:04d}-{value // 100 % 100:02d}-{value % 100:02d}", "D")
        except ValueError:
            place.refuse(int(np.argmax(values == value)), f"{field} {value} is not a date; write it as 2023-08-03")
    result: NDArray[np.datetime64] = dates[inverse]
    return result


def _from_timestamps(place: Place, field: str, column: pa.ChunkedArray, tz: str | None) -> Times:
    try:
        column = column.cast(pa.timestamp("ns", column.type.tz))
    except pa.ArrowInvalid:
        raise DataError(f"{place.name}: {field} holds times outside 1678 to 2262; check the column") from None
    if column.type.tz is None:
        ns = column.cast(pa.int64()).to_numpy()
        if not np.any(ns % 86_400_000_000_000):
            dates = ns.astype("datetime64[ns]").astype("datetime64[D]")
            return Times(None, dates, dates)
        if tz is None:
            at = int(np.argmax(ns % 86_400_000_000_000 != 0))
            place.refuse(
                at,
                f'{field} {column[at].as_py()} has no time zone; write offsets, or give one: tz="America/New_York"',
            )
        try:
            column = pc.assume_timezone(column, tz)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{place.name}: {field} in {tz}: {str(error).splitlines()[0]}; write offsets instead"
            ) from None
    ns = column.cast(pa.int64()).to_numpy()
    return Times(ns, None, ns.astype("datetime64[ns]"))
