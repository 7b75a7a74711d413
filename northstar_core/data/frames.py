"""A pandas DataFrame as a part of a tape: its columns by their common names, its time a column or the index."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from northstar_core.data import files, layouts
from northstar_core.data.parts import Choice, Part, part_from_table
from northstar_core.model.errors import DataError
from northstar_core.model.tape import Source

if TYPE_CHECKING:
    import pandas as pd


def part_from_frame(frame: pd.DataFrame, choice: Choice) -> Part:
    """Return the checked rows of a DataFrame; of one with two column levels, (field, ticker), every ticker.

    Raises
    ------
    DataError
        If the frame is empty, of no known layout, or a row cannot be market data.
    """
    import pandas as pd

    if frame.columns.nlevels == 2:  # one column for each field and ticker, as download libraries give them
        level = next(
            (i for i, name in enumerate(frame.columns.names) if layouts.normal(str(name)) in ("ticker", "symbol")), 1
        )
        time_name = str(frame.index.name or "index")
        fields = list(dict.fromkeys(frame.columns.get_level_values(1 - level)))
        stacked: Any = frame.stack(level=level, future_stack=True)
        frame = stacked.rename_axis([time_name, "symbol"]).reset_index()
        frame = frame.dropna(how="all", subset=fields).sort_values("symbol", kind="stable")
    elif isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex) or frame.index.nlevels > 1:
        if isinstance(frame.index, pd.PeriodIndex):
            frame = frame.set_axis(frame.index.to_timestamp(), axis=0)
        frame = frame.reset_index()
    name = "dataframe"
    files.require_rows(name, len(frame), [str(c) for c in frame.columns])
    layout = layouts.detect(name, [str(c) for c in frame.columns])
    if layout.kind in ("reference", "actions"):
        raise DataError(f"{name}: holds {layout.kind} data, not market events; give bars, quotes or trades")
    frame = frame.set_axis([str(c) for c in frame.columns], axis=1)
    needed = [*layout.columns.values(), *([layout.clock] if layout.clock else [])]
    try:
        table = pa.Table.from_pandas(frame[needed], preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{name}: {' '.join(str(error).split())[:150]}; give one type a column") from None
    part = part_from_table(
        name, table, layout, choice, Source(name=name, layout=layout.name, sha256="", rows=len(frame)), None
    )
    sha = hashlib.sha256("\x1f".join(part.symbols).encode())
    for values in (part.code, *part.columns.values()):
        sha.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).data)
    return part._replace(source=msgspec.structs.replace(part.source, sha256=sha.hexdigest()))
