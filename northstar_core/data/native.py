"""Our own parquet: one file a table, the tape's columns as they are; what ``northstar data import`` keeps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from northstar_core.data import checks
from northstar_core.data.checks import Place
from northstar_core.data.files import File
from northstar_core.data.layouts import Layout
from northstar_core.data.parts import Choice, Part
from northstar_core.data.parts import part_from_table as generic_part
from northstar_core.model.errors import DataError
from northstar_core.model.tape import Source, Table

KEY = b"northstar"
VERSION = 1


def write(kind: str, table: Table, path: Path, *, bar_ns: int, daily: bool) -> None:
    """Write one table; the file appears under its name only when it is whole."""
    symbol = pa.DictionaryArray.from_arrays(pa.array(table.code, pa.int32()), pa.array(table.symbols, pa.string()))
    columns = {"symbol": symbol} | {name: pa.array(getattr(table, name)) for name in table.columns}
    about = json.dumps({"version": VERSION, "table": kind, "bar_ns": bar_ns, "daily": daily}, sort_keys=True)
    whole = pa.table(columns).replace_schema_metadata({KEY: about.encode()})
    partial = path.with_name(f".{path.name}.partial")
    try:
        pyarrow.parquet.write_table(whole, partial, compression="zstd")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def is_native(table: pa.Table) -> bool:
    """Return whether a parquet table was written by ``write``."""
    return KEY in (table.schema.metadata or {})


def part_from_table(file: File, table: pa.Table, choice: Choice) -> Part:
    """Return the checked rows of one of our own files.

    Raises
    ------
    DataError
        If it is of a later version, or a row is not market data after all.
    """
    about: dict[str, Any] = json.loads(table.schema.metadata[KEY])
    name = str(file.path)
    if about.get("version") != VERSION:
        raise DataError(f"{name}: was written in version {about.get('version')} of the format; import the data again")
    kind = about["table"]
    source = Source(name=file.path.name, layout="northstar", sha256=file.sha256, rows=table.num_rows, path=name)
    if kind == "bars":
        # Opening and closing times are both stored, so nothing of a bar's length or a day's session is derived again.
        columns = {role: role for role in ("symbol", "open", "high", "low", "close", "volume")} | {"time": "start"}
        plain = choice._replace(adjusted=False, interval_ns=about["bar_ns"], instants=True)
        part = generic_part(name, table, Layout("northstar", kind, columns), plain, source, None)
        if len(part.code) == 0:
            return part
        ts = table["ts"].to_numpy()
        if choice.symbols is not None:
            known = table["symbol"].combine_chunks().cast(pa.string()).to_pylist()
            ts = ts[np.array([symbol in choice.symbols for symbol in known], dtype=bool)]
        late = ts <= part.begin
        if late.any():
            Place(name).refuse(int(np.argmax(late)), "ts is not after start; import the data again")
        checks.check_times(Place(name), "ts", ts)
        interval = 0 if about["daily"] else about["bar_ns"]
        return part._replace(columns=part.columns | {"ts": ts}, interval_ns=interval, daily=about["daily"])
    roles = ("price", "size") if kind == "trades" else ("bid", "ask", "bid_size", "ask_size")
    layout = Layout(
        "tick-trades" if kind == "trades" else "tick-quotes", kind, {r: r for r in ("symbol", *roles)} | {"time": "ts"}
    )
    part = generic_part(name, table, layout, choice, source, None)
    if kind == "trades" and len(part.code):
        forms = table["forms_price"].to_numpy()
        if choice.symbols is not None:
            known = table["symbol"].combine_chunks().cast(pa.string()).to_pylist()
            forms = forms[np.array([symbol in choice.symbols for symbol in known], dtype=bool)]
        part = part._replace(columns=part.columns | {"forms_price": forms})
    return part
