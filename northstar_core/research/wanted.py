"""What of a tape a run needs: the symbols its strategies want, and quotes and prints only where somebody uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from northstar_core.model.errors import ParameterError
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.tape import Tape
from northstar_core.strategy.base import Strategy


def listens(strategy: Strategy, symbol: str) -> bool:
    """Whether a strategy wants a symbol: it names it, or wants the options on its underlying, or names nothing and so wants all."""
    wanted, chains = strategy.symbols, strategy.options_on
    if not wanted or symbol in wanted:
        return True
    traded = instrument(symbol) if chains else None
    return isinstance(traded, Option) and traded.underlying in chains


def wanted(tape: Tape, strategies: Sequence[Strategy], *, fills_on_ticks: bool) -> Tape:
    """The tape without what nobody uses.

    Symbols: those that some strategy wants. Quotes and prints: of symbols that have no bars; of others only where a strategy
    handles them, or orders fill on them.

    Raises
    ------
    ParameterError
        If a strategy names a symbol the tape does not have.
    """
    have = tape.symbols
    if not have:
        raise ParameterError("the data hold no rows for this run; widen --start/--end or choose other symbols")
    for strategy in strategies:
        for symbol in strategy.symbols:
            if symbol not in have:
                raise ParameterError(f"{strategy.strategy_id}: no data for symbol {symbol!r}; the data have {', '.join(have[:12])}")
    keep = {symbol for symbol in have if any(listens(strategy, symbol) for strategy in strategies)}
    barred = set(Tape(bars=tape.bars).symbols)
    quoted = keep if fills_on_ticks or _handle(strategies, "on_quote") else keep - barred
    printed = keep if fills_on_ticks or _handle(strategies, "on_trade") else keep - barred
    return msgspec.structs.replace(
        tape, bars=_only(tape.bars, keep), quotes=_only(tape.quotes, quoted), trades=_only(tape.trades, printed)
    )


def _handle(strategies: Sequence[Strategy], handler: str) -> bool:
    """Whether some strategy has a handler of its own."""
    return any(getattr(type(strategy), handler) is not getattr(Strategy, handler) for strategy in strategies)


def _only(table: Any, symbols: set[str]) -> Any:
    """A table with the rows of these symbols; None where there are none."""
    if table is None or symbols >= set(table.symbols):
        return table
    codes = [code for code, symbol in enumerate(table.symbols) if symbol in symbols]
    return table.take(np.isin(table.code, codes)) if codes else None
