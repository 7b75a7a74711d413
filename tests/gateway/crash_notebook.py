"""A strategy that trades all the time, for days on which processes are killed: orders filled, resting, replaced, cancelled."""

from __future__ import annotations

import json
from pathlib import Path

STRATEGY = '''
import northstar_core as northstar


class {kind}(northstar.Strategy):
    """Each bar some at the market, and an order that rests, is replaced, is cancelled; from time to time all is sold."""

    class Params(northstar.Params):
        symbols: tuple[str, ...]
        qty: int = 10

    @property
    def warm_up(self):
        return 5

    def on_start(self, ctx):
        for symbol in self.symbols:
            ctx.state.setdefault(symbol, 0)

    def on_bar(self, ctx, bar):
        if not ctx.session or ctx.minutes_to_close < 3:
            return
        symbol, qty = bar.symbol, self.params.qty
        ctx.state[symbol] += 1
        n, held, working = ctx.state[symbol], ctx.position(symbol), ctx.working(symbol)
        resting = [ticket for ticket in working if ticket.order.limit_price is not None]
        ctx.signal(symbol, "round", n, held=float(held))
        if len(working) > len(resting) + 1:
            return  # something is under way for long
        if held >= 6 * qty:
            ctx.cancel_all(symbol) if working else ctx.sell(symbol, held)
            return
        ctx.buy(symbol, qty)
        if not resting:
            ctx.buy(symbol, qty, limit_price=round(bar.close * (0.995 if n % 2 else 1.002), 2))
        elif n % 4 == 0:
            ctx.cancel(resting[0])
        else:
            ctx.replace(resting[0], limit_price=round(bar.close * (0.999 if n % 4 == 1 else 0.99), 2))

    def on_stop(self, ctx):
        ctx.cancel_all()
'''


def brisk(folder: Path, kind: str) -> Path:
    """Write the notebook of a strategy of this class name; its id is the name in small letters."""
    cells = (
        ("parameters", 'symbols = ["ALFA"]\nqty = 10\n'),
        ("strategy", STRATEGY.replace("{kind}", kind)),
        ("run", f"run = await northstar.run({kind}(symbols=symbols, qty=qty))"),
    )
    document = {
        "cells": [
            {
                "id": f"cell-{n}", "cell_type": "code", "metadata": {"tags": [tag]}, "source": source, "outputs": [],
                "execution_count": None,
            }
            for n, (tag, source) in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip
    path = folder / f"{kind.lower()}.ipynb"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
