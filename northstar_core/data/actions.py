"""Corporate actions from a csv: ``symbol,ex_date,ratio,dividend``; ratio and dividend may be left empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from northstar_core.data.layouts import compact, normal
from northstar_core.model.errors import DataError
from northstar_core.model.tape import CorporateAction, Session

HEADER = "symbol,ex_date,ratio,dividend"


def actions_from_text(path: Path, text: bytes) -> list[CorporateAction]:
    """Return the actions of a csv, in its order.

    Raises
    ------
    DataError
        If a column or field is missing or cannot be what it says.
    """
    rows = csv.DictReader(io.StringIO(text.decode("utf-8", errors="replace")))
    rows.fieldnames = [normal(name).replace("ticker", "symbol") for name in rows.fieldnames or ()]
    if missing := {"symbol", "ex_date"} - set(rows.fieldnames):
        raise DataError(f"{path}: missing column {', '.join(sorted(missing))}; corporate actions are {HEADER}")
    actions = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        symbol = compact(row["symbol"] or "")
        if not symbol:
            raise DataError(f"{where}: symbol is empty; give every row a symbol")
        try:
            ex_date = date.fromisoformat((row["ex_date"] or "").strip())
        except ValueError:
            raise DataError(f"{where}: ex_date {row['ex_date']!r} is not a date; write it as 2014-06-09") from None
        ratio = _decimal(where, "ratio", row.get("ratio"), Decimal(1))
        dividend = _decimal(where, "dividend", row.get("dividend"), Decimal(0))
        if ratio <= 0:
            raise DataError(
                f"{where}: ratio {ratio} is not above 0; write 7 for a 7:1 split, 0.1 for a 1:10 reverse split"
            )
        if dividend < 0:
            raise DataError(f"{where}: dividend {dividend} is negative; write the cash a share as a positive number")
        actions.append(CorporateAction(symbol=symbol, ex_date=ex_date, ratio=ratio, dividend=dividend))
    return actions


def _decimal(where: str, field: str, text: str | None, default: Decimal) -> Decimal:
    if text is None or not text.strip():
        return default
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise DataError(f"{where}: {field} {text!r} is not a number; correct the field") from None
    if not value.is_finite():
        raise DataError(f"{where}: {field} {text!r} is not finite; correct the field")
    return value


def relevant(
    actions: Iterable[CorporateAction], symbols: Collection[str], sessions: tuple[Session, ...]
) -> tuple[CorporateAction, ...]:
    """Return the actions of these symbols, or their options' underlyings, within the sessions, in order of date."""
    if not sessions:
        return ()
    # An OCC symbol ends in yymmdd, C or P, and eight digits: what is before them is the root.
    roots = {s[:-15] if len(s) > 15 and s[-9] in "CP" and s[-8:].isdigit() else s for s in symbols}
    first, last = sessions[0].label, sessions[-1].label
    chosen = {a for a in actions if a.symbol in roots and first <= a.ex_date <= last}
    return tuple(sorted(chosen, key=lambda a: (a.ex_date, a.symbol, a.ratio, a.dividend)))


def csv_from_actions(actions: Iterable[CorporateAction]) -> str:
    """Return the csv that reads back as these actions."""
    lines = (f"{a.symbol},{a.ex_date.isoformat()},{a.ratio},{a.dividend}" for a in actions)
    return "\n".join((HEADER, *lines)) + "\n"
