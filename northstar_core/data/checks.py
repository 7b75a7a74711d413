"""What a row of market data must satisfy; the first row that does not refuses the whole file.

Every check looks at whole columns and names the first bad row in one line: file, row (the first row after the header is
1), field, value, and the way out. ``rows`` maps positions back to the file's own row numbers, for tables that were
filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from northstar_core.model.errors import DataError
from northstar_core.model.tape import Float64, Int64

Mask = NDArray[np.bool_]
FIRST_DAY, LAST_DAY = np.datetime64("1930-01-10"), np.datetime64("2090-12-20")  # what the calendars know


class Place:
    """Where rows came from: the file's name and the row number of each position (all rows in order when None)."""

    def __init__(self, name: str, rows: Int64 | None = None) -> None:
        self.name, self.rows = name, rows

    def row(self, position: int) -> int:
        """Return the 1-based data row of a position."""
        return int(position if self.rows is None else self.rows[position]) + 1

    def refuse(self, position: int, what: str) -> NoReturn:
        """Raise the one line that names file, row and what is wrong there."""
        raise DataError(f"{self.name}: row {self.row(position)}: {what}")


def _first(bad: Mask) -> int | None:
    """Position of the first True, None when there is none."""
    at = int(np.argmax(bad)) if len(bad) else 0
    return at if len(bad) and bad[at] else None


def check_prices(place: Place, prices: dict[str, Float64], *, zero_is_missing: bool = False) -> None:
    """Refuse NaN, infinite, negative and zero prices; with ``zero_is_missing`` a 0 is a side without a quote."""
    for field, values in prices.items():
        # One pass for the common case: NaN fails every comparison, so this is False for all that is refused below.
        good = ((values >= 0) if zero_is_missing else (values > 0)) & (values < np.inf)
        at = _first(~good)
        if at is None:
            continue
        value = float(values[at])
        if np.isnan(value):
            place.refuse(at, f"{field} is NaN or empty; fill it in or remove the row")
        if np.isinf(value):
            place.refuse(at, f"{field} is infinite; correct it or remove the row")
        kind = "zero" if value == 0 else "negative"
        place.refuse(at, f"{field} {value:g} is {kind}; a price is above 0, correct it or remove the row")


def check_sizes(place: Place, sizes: dict[str, Float64]) -> None:
    """Refuse NaN, infinite and negative volumes and sizes; zero is legal."""
    for field, values in sizes.items():
        at = _first(~((values >= 0) & (values < np.inf)))
        if at is None:
            continue
        value = float(values[at])
        problem = "NaN or empty" if np.isnan(value) else "infinite" if np.isinf(value) else "negative"
        shown = "" if np.isnan(value) or np.isinf(value) else f" {value:g}"
        place.refuse(at, f"{field}{shown} is {problem}; write 0 where nothing traded")


def check_ohlc(place: Place, prices: dict[str, Float64], prefix: str = "", given: Mask | None = None) -> None:
    """Refuse a high below the low, and an open or close outside of them; only where ``given``."""
    high, low = prices["high"], prices["low"]

    def at(bad: Mask) -> int | None:
        return _first(bad if given is None else bad & given)

    if (row := at(high < low)) is not None:
        place.refuse(row, f"{prefix}high {high[row]:g} is below {prefix}low {low[row]:g}; correct the row")
    for field in ("open", "close"):
        values = prices[field]
        if (row := at((values < low) | (values > high))) is not None:
            place.refuse(
                row,
                f"{prefix}{field} {values[row]:g} is outside {prefix}low {low[row]:g} to {prefix}high {high[row]:g}; "
                "correct the row",
            )


def check_times(place: Place, field: str, times: NDArray[Any]) -> None:
    """Refuse times (ns UTC or dates) that no calendar knows, the mark of a wrong unit."""
    first, last = (FIRST_DAY, LAST_DAY) if times.dtype.kind == "M" else (_ns(FIRST_DAY), _ns(LAST_DAY))
    if (row := _first((times < first) | (times > last))) is not None:
        place.refuse(row, f"{field} {times[row]} is not between 1930 and 2090; check the column and its unit")


def _ns(day: np.datetime64) -> int:
    return int(day.astype("datetime64[ns]").astype(np.int64))


def check_order(
    place: Place,
    field: str,
    symbols: Sequence[str],
    code: NDArray[np.int32],
    ts: Int64,
    *,
    unique: bool,
    shown: Any = None,
) -> None:
    """Refuse a time that runs backward within a symbol and, with ``unique``, one that comes twice.

    Rows of different symbols may be in any order relative to each other: one after the other, or interleaved. An
    unsorted file is refused rather than sorted, because a file out of order has been tampered with or joined wrongly.
    """
    shown = ts if shown is None else shown
    if len(ts) < 2:
        return
    if _ordered(code, ts, unique):
        return
    by_symbol = np.argsort(code, kind="stable")
    grouped, times = code[by_symbol], ts[by_symbol]
    same = grouped[1:] == grouped[:-1]
    back = same & (times[1:] < times[:-1])
    late = by_symbol[1:][back]
    if unique:
        _refuse_twice(place, field, symbols, code, ts, shown)
    if len(late):
        at = int(late.min())
        place.refuse(
            at,
            f"{field} {shown[at]} of {symbols[code[at]]} is earlier than the row before it; "
            f"sort the file by symbol and {field}",
        )


def _ordered(code: NDArray[np.int32], ts: Int64, unique: bool) -> bool:
    """Whether the rows are plainly in order: by symbol then time, as flat files are. False says only: look closer."""
    step = np.diff(ts)
    same = code[1:] == code[:-1]
    forward = (step > 0) if unique else (step >= 0)
    if not bool(np.all(forward | ~same)):
        return False
    changes = code[1:][~same]
    return len(np.unique(changes)) == len(changes) and (len(changes) == 0 or code[0] not in changes)


def _refuse_twice(
    place: Place, field: str, symbols: Sequence[str], code: NDArray[np.int32], ts: Int64, shown: Any
) -> None:
    order = np.lexsort((ts, code))
    twice = (code[order][1:] == code[order][:-1]) & (ts[order][1:] == ts[order][:-1])
    if not twice.any():
        return
    again = order[1:][twice]
    at = int(again.min())
    before = int(order[:-1][twice][int(np.argmin(again))])
    place.refuse(
        at,
        f"{field} {shown[at]} of {symbols[code[at]]} is a duplicate of row {place.row(before)}; keep one of them",
    )
