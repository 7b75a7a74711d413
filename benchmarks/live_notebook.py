"""The notebooks of the live benchmark: a strategy that counts what it hears, orders where a quote asks for it, and notes when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PARAMETERS = """\
symbols = ["ALFA"]
limit_price = 0.0
mark = 77
out = ""
"""

STRATEGY = """\
import json
import time
from pathlib import Path

import northstar_core as northstar
from northstar_core import Context, Quote


class {name}(northstar.Strategy):
    \"\"\"Buys one share far below the market where a quote's size asks for it, and cancels it once it is accepted.\"\"\"

    class Params(northstar.Params):
        symbols: tuple[str, ...]
        limit_price: float = 0.0  #: where orders rest; 0: none are placed
        mark: int = 0  #: size of the ask, in lots, that asks for an order
        out: str = ""  #: file for what was noted

    def on_start(self, ctx: Context) -> None:
        self.heard = 0
        self.times = {{}}  # order id: [the quote's time (the desk's), signal, order, accepted], ns
        self.lots = self.params.mark * 100 if self.params.limit_price else -1

    def on_quote(self, ctx: Context, quote: Quote) -> None:
        self.heard += 1
        if quote.ask_size == self.lots:
            signal = time.time_ns()
            ctx.signal(quote.symbol, "asked for")
            order = time.time_ns()
            ticket = ctx.buy(quote.symbol, 1, limit_price=self.params.limit_price)
            self.times[ticket.order_id] = [quote.ts, signal, order, 0]

    def on_order(self, ctx: Context, event) -> None:
        if type(event).__name__ == "OrderAccepted":
            self.times[event.order_id][3] = time.time_ns()
            ctx.cancel(event.order_id)

    def on_stop(self, ctx: Context) -> None:
        Path(self.params.out).write_text(json.dumps({{"heard": self.heard, "orders": self.times}}))
"""

RUN = "run = await northstar.run({name}(symbols=symbols, limit_price=limit_price, mark=mark, out=out))\n"


def _cell(tag: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": tag, "metadata": {"tags": [tag]}, "source": source, "outputs": [], "execution_count": None,
    }  # fmt: skip


def write_notebook(path: Path, name: str) -> None:
    """Write the notebook of a strategy of this class name; it takes symbols, limit_price, mark and out."""
    cells = [
        _cell("parameters", PARAMETERS), _cell("strategy", STRATEGY.format(name=name)), _cell("run", RUN.format(name=name)),
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
