"""Databento DBN files, through the ``databento`` library: bars, trades and top-of-book quotes.

``ohlcv-1s|1m|1h|1d`` give bars (``ts_event`` is the opening time; of daily bars the date, UTC), ``trades`` prints,
``mbp-1`` and ``bbo-*`` quotes, ``tbbo`` both. Prints and quotes are known at ``ts_recv``, when they were captured.
Prices are integers of 1e-9; the undefined price is a missing side of a quote and refused elsewhere. The symbol of an
instrument id is taken from the file's own metadata, for the date of the row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from northstar_core.data.checks import Place
from northstar_core.data.files import File, require_rows
from northstar_core.data.layouts import compact
from northstar_core.data.parts import (
    DAY_NS,
    MINUTE_NS,
    SECOND_NS,
    Choice,
    Codes,
    Part,
    bars_part,
    quotes_part,
    trades_part,
)
from northstar_core.data.timestamps import Times
from northstar_core.model.errors import DataError
from northstar_core.model.tape import Float64, Source

BAR_NS = {"ohlcv-1s": SECOND_NS, "ohlcv-1m": MINUTE_NS, "ohlcv-1h": 60 * MINUTE_NS, "ohlcv-1d": DAY_NS}
QUOTE_SCHEMAS = ("mbp-1", "tbbo", "bbo-1s", "bbo-1m")
_UNDEFINED = np.iinfo(np.int64).max


def parts_from_dbn(file: File, choice: Choice) -> list[Part]:
    """Return the checked rows of a DBN file: one part, or two for ``tbbo`` (prints and the quotes before them).

    Raises
    ------
    DataError
        If the file is damaged, of another schema, or a row cannot be market data.
    """
    import databento

    name = str(file.path)
    try:
        store = databento.DBNStore.from_bytes(file.data)
        schema = str(store.schema) if store.schema is not None else "mixed"
        if schema not in BAR_NS and schema not in QUOTE_SCHEMAS and schema != "trades":
            known = ", ".join((*BAR_NS, "trades", *QUOTE_SCHEMAS))
            raise DataError(f"{name}: DBN schema {schema} is not supported; export one of {known}")
        whole = len(store.reader.read())
        records = store.to_ndarray()
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds for damaged bytes
        raise DataError(
            f"{name}: the DBN data are damaged ({' '.join(str(error).split())[:150]}); download it again"
        ) from None
    if whole % records.dtype.itemsize and whole < len(records) * records.dtype.itemsize:
        raise DataError(f"{name}: the DBN data end in the middle of a record (truncated); download it again")
    require_rows(name, len(records), records.dtype.names)
    source = Source(name=file.path.name, layout="dbn", sha256=file.sha256, rows=len(records), path=name)

    code, known_symbols = _codes(name, store, records)
    place = Place(name)
    if choice.symbols is not None:
        keep = np.flatnonzero(np.array([symbol in choice.symbols for symbol in known_symbols], dtype=bool)[code])
        records, code, place = records[keep], code[keep], Place(name, keep)
        if len(keep) == 0:
            empty = np.empty(0, dtype=np.int64)
            return [Part("bars", name, known_symbols, (), code, empty, {}, source)]

    if schema in BAR_NS:
        ts = records["ts_event"].astype(np.int64)
        dates = ts.astype("datetime64[ns]").astype("datetime64[D]") if schema == "ohlcv-1d" else None
        times = Times(None if dates is not None else ts, dates, dates if dates is not None else ts)
        numbers = {field: _price(records[field]) for field in ("open", "high", "low", "close")}
        numbers["volume"] = records["volume"].astype(np.float64)
        own_length = choice._replace(interval_ns=None, instants=True)
        return [
            bars_part(
                place, known_symbols, code, times, numbers, own_length, source, "ts_event", interval_ns=BAR_NS[schema]
            )
        ]
    times = Times(records["ts_recv"].astype(np.int64), None, records["ts_recv"])
    parts = []
    if schema in QUOTE_SCHEMAS:
        book = {
            "bid": _price(records["bid_px_00"], missing=0.0),
            "ask": _price(records["ask_px_00"], missing=0.0),
            "bid_size": records["bid_sz_00"].astype(np.float64),
            "ask_size": records["ask_sz_00"].astype(np.float64),
        }
        parts.append(quotes_part(place, known_symbols, code, times, book, source, "ts_recv"))
    if schema in ("trades", "tbbo"):
        prints = {"price": _price(records["price"]), "size": records["size"].astype(np.float64)}
        forms = np.ones(len(records), dtype=bool)
        parts.append(trades_part(place, known_symbols, code, times, prints, forms, source, "ts_recv"))
    return parts


def _price(fixed: NDArray[np.int64], missing: float = np.nan) -> Float64:
    # Division, not multiplication by 1e-9: 448040000000 / 1e9 is the float 448.04 exactly.
    return np.where(fixed == _UNDEFINED, missing, fixed / 1e9)


def _codes(name: str, store: Any, records: NDArray[Any]) -> tuple[Codes, tuple[str, ...]]:
    """Symbols of the records from the metadata's mappings, looked up once for each instrument and day."""
    from databento.common.symbology import InstrumentMap

    instruments = InstrumentMap()
    instruments.insert_metadata(store.metadata)
    ids = records["instrument_id"].astype(np.int64)
    days = records["ts_event"].astype(np.int64) // DAY_NS
    pairs, row, inverse = np.unique(np.stack((ids, days)), axis=1, return_index=True, return_inverse=True)
    names = []
    for at, (instrument, day) in zip(row, pairs.T, strict=True):
        symbol = instruments.resolve(int(instrument), np.datetime64(int(day), "D").astype(object))
        if symbol is None:
            date = np.datetime64(int(day), "D")
            Place(name).refuse(
                int(at), f"instrument {instrument} has no symbol on {date}; download it with its symbol mappings"
            )
        names.append(compact(symbol))
    symbols = tuple(sorted(set(names)))
    position = {symbol: i for i, symbol in enumerate(symbols)}
    return np.array([position[symbol] for symbol in names], dtype=np.int32)[inverse.ravel()], symbols
