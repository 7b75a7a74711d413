"""What the tests of the command line share: what a command said, a strategy notebook, a small market."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from math import sin
from pathlib import Path
from typing import Any

OPEN = 1_691_069_400_000_000_000  #: 2023-08-03 09:30 New York, ns UTC; a regular session
MINUTE = 60_000_000_000
HEADER = "ticker,volume,open,close,high,low,window_start,transactions"

STRATEGY = '''
from decimal import Decimal
from typing import Annotated

import msgspec

import northstar_core as northstar
from northstar_core import Params, Strategy
from northstar_core.strategy.indicators import SMA


class SmaCross(Strategy):
    """Long while the fast average is above the slow one."""

    class Params(Params):
        symbols: list[str]
        fast: Annotated[int, msgspec.Meta(ge=2, le=400)] = 5
        slow: Annotated[int, msgspec.Meta(ge=2, le=400)] = 15
        qty: Decimal = Decimal(100)
        note: str = ""

    def on_start(self, ctx):
        self.n = 0
        self.averages = {s: (SMA(self.params.fast), SMA(self.params.slow)) for s in self.symbols}

    def on_bar(self, ctx, bar):
        self.n += 1
        self.trouble(bar)
        fast, slow = (average.update(bar.close) for average in self.averages[bar.symbol])
        if slow != slow:
            return ctx.no_signal(bar.symbol, "warming up")
        held = ctx.position(bar.symbol)
        if fast > slow and held <= 0 and not ctx.working(bar.symbol):
            ctx.signal(bar.symbol, "cross up", fast - slow, fast=fast, slow=slow)
            ctx.buy(bar.symbol, self.params.qty)
        elif fast < slow and held > 0 and not ctx.working(bar.symbol):
            ctx.signal(bar.symbol, "cross down", fast - slow, fast=fast, slow=slow)
            ctx.sell(bar.symbol, held)
        else:
            ctx.no_signal(bar.symbol, "no cross", fast=fast, slow=slow)

    def trouble(self, bar):
        pass
'''
PARAMETERS = 'symbols = ["SPY"]\nfast = 5\nslow = 15\nqty = 100\nnote = ""\n'
RUN = "run = await northstar.run(SmaCross(symbols=symbols, fast=fast, slow=slow, qty=qty, note=note))"


@dataclass
class Ran:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("northstar: "), self.err
        assert self.out == ""
        return lines[0].removeprefix("northstar: ")


@dataclass
class Recorded:
    """A run that several tests look at."""

    run_id: str
    notebook: Path
    report: dict[str, Any]
    ran: Ran


def finished(process: subprocess.Popen[str]) -> Ran:
    """Wait for a command started before."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return Ran(process.returncode, out, err)


def rows(n: int = 390, symbol: str = "SPY") -> list[str]:
    """Minute bars of one session that go up and down."""
    closes = [100 + round(3 * sin(i / 9), 2) for i in range(-1, n)]
    return [
        f"{symbol},5000,{a:.2f},{b:.2f},{max(a, b) + 0.05:.2f},{min(a, b) - 0.05:.2f},{OPEN + i * MINUTE},40"
        for i, (a, b) in enumerate(pairwise(closes))
    ]


def row(**changes: object) -> str:
    """One line of the flat-file layout, the minute after ``rows(1)``."""
    prices = {"open": 10, "close": 10.5, "high": 11, "low": 9.5}
    values = {"ticker": "SPY", "volume": 10, **prices, "start": OPEN + MINUTE, "n": 3}
    return ",".join(str(value) for value in (values | changes).values())
