"""A generated market as files: flat-file bars and quote windows, a csv.gz a day, and a label."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from northstar_core.model.errors import DataError
from northstar_core.model.tape import BarTable, Table, Tape

LABEL = "SYNTHETIC.md"


def write(tape: Tape, out: str | Path) -> list[Path]:
    """Write a generated tape into a folder: ``bars/`` in the flat-file layout, ``quotes/``, and a label.

    The folder reads back as the same tape. A folder that holds an earlier generated market is replaced; one that holds
    anything else is refused.

    Raises
    ------
    DataError
        If the folder holds something else or cannot be written.
    """
    out = Path(out).expanduser()
    fresh = out.with_name(f".{out.name}.partial")
    try:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / LABEL).exists())):
            raise DataError(f"{out}: holds something that was not generated; choose another folder")
        shutil.rmtree(fresh, ignore_errors=True)
        names = [LABEL]
        fresh.mkdir(parents=True)
        (fresh / LABEL).write_text(_label(tape), encoding="utf-8")
        for session in tape.sessions:
            for kind, table in (("bars", tape.bars), ("quotes", tape.quotes)):
                if table is None:
                    continue
                day = slice(*np.searchsorted(table.ts, [session.open, session.close], side="right").tolist())
                name = f"{kind}/synthetic-{session.label}.csv.gz"
                (fresh / kind).mkdir(exist_ok=True)
                part = table.take(day)
                text = _bars_csv(part, tape.bar_ns) if isinstance(part, BarTable) else _quotes_csv(part, tape.bar_ns)
                (fresh / name).write_bytes(gzip.compress(text, 5, mtime=0))
                names.append(name)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(fresh, out)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); check the folder and its space"
        ) from None
    return [out / name for name in names]


def _label(tape: Tape) -> str:
    first, last = tape.sessions[0].label, tape.sessions[-1].label
    return (
        "# Synthetic market data\n\n"
        "Generated, not observed: no price here was ever traded at. For trying the software only.\n\n"
        f"Symbols {', '.join(tape.bars.symbols if tape.bars else ())}; sessions {first} to {last}; "
        f"parameters sha256 {tape.sources[0].sha256}.\n"
    )


def _tickers(table: Table) -> pa.DictionaryArray:
    """Symbols as the feed writes them: options with the prefix ``O:``."""
    written = [f"O:{s}" if len(s) > 15 and s[-8:].isdigit() else s for s in table.symbols]
    return pa.DictionaryArray.from_arrays(pa.array(table.code), pa.array(written)).cast(pa.string())


def _bars_csv(table: BarTable, bar_ns: int) -> bytes:
    volume = table.volume.astype(np.int64)
    columns = {
        "ticker": _tickers(table),
        "volume": volume,
        "open": table.open,
        "close": table.close,
        "high": table.high,
        "low": table.low,
        "window_start": table.ts - bar_ns,
        "transactions": volume // 120 + 1,
    }
    return _csv(pa.table(columns).sort_by([("ticker", "ascending"), ("window_start", "ascending")]))


def _quotes_csv(table: Table, bar_ns: int) -> bytes:
    columns = {"ticker": _tickers(table), "window_start": table.ts - bar_ns}
    for side in ("bid", "ask"):
        # An empty field says that there was no quote on that side; the minute's quote stands for its whole window.
        price = pa.array(getattr(table, side), mask=getattr(table, side) == 0)
        columns |= {f"{side}_{role}": price for role in ("open", "high", "low", "close")}
        columns[f"{side}_size"] = getattr(table, f"{side}_size").astype(np.int64)
    return _csv(pa.table(columns))


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(quoting_style="none"))
    text: bytes = sink.getvalue().to_pybytes()
    return text
