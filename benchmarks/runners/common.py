"""What all runners share: reading a case, the clock around the engine's run, the one line of JSON.

A runner is a program of its own, started as ``python RUNNER CASE_FOLDER dense|none FILLS_FILE`` in its engine's
environment. It loads the columns and builds whatever objects its engine wants (not timed), runs the engine once
(timed), writes its fills to FILLS_FILE as the engine itself recorded them, sorted by bar and symbol, one line each
``symbol bar side cents qty``, and prints as its last line::

    {"engine": name, "version": text, "rule": "next_open" | "this_close", "bars": n, "orders": n, "fills": n,
     "seconds": wall, "cpu_seconds": cpu}

``orders`` is how many the engine has on its books, ``bars`` how many it handed to the strategy.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FAST, SLOW, QTY = 10, 30, 100


class Case(NamedTuple):
    """One case's columns, and whether crosses are traded."""

    open: Any  # (symbols, bars) cents
    high: Any
    low: Any
    close: Any
    volume: Any
    ts: Any  # (bars,) ns UTC at the close
    trade: bool

    @property
    def symbols(self) -> int:
        return len(self.close)

    @property
    def bars(self) -> int:
        return len(self.ts)


class Fill(NamedTuple):
    """One execution; sorts by bar, then symbol."""

    bar: int
    symbol: int
    side: str  # buy, sell
    price: float  # dollars
    qty: float


def load() -> Case:
    """Read the case that the harness names."""
    folder = Path(sys.argv[1])
    columns = {name: np.load(folder / f"{name}.npy") for name in ("open", "high", "low", "close", "volume", "ts")}
    return Case(**columns, trade={"dense": True, "none": False}[sys.argv[2]])


class Clock:
    """Wall and CPU seconds of the engine's run; parts that are not the run can be left out."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def run(self, sign: int = 1) -> Iterator[None]:
        """Count what happens inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += sign * (time.perf_counter() - wall)
            self.cpu += sign * (time.process_time() - cpu)

    def without(self, function: Any) -> Any:
        """Return the function, its time taken out of the run around it."""

        def left_out(*args: Any, **kwargs: Any) -> Any:
            with self.run(-1):
                return function(*args, **kwargs)

        return left_out


def settle() -> None:
    """Collect what loading left, so that the engine does not pay for it."""
    gc.collect()
    gc.freeze()


def report(
    engine: str, version: str, rule: str, *, bars: int, orders: int, fills: Iterable[Fill], clock: Clock
) -> None:
    """Write the fills and print the line."""
    lines = [f"{f.symbol} {f.bar} {f.side} {round(f.price * 100, 6):g} {f.qty:g}" for f in sorted(fills)]
    Path(sys.argv[3]).write_text("".join(line + "\n" for line in lines))
    line = {
        "engine": engine, "version": version, "rule": rule, "bars": bars, "orders": orders, "fills": len(lines),
        "seconds": clock.wall, "cpu_seconds": clock.cpu,
    }  # fmt: skip
    print(json.dumps(line))
