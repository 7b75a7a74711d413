"""The equity curve: what an account was worth at each instant at which a price became known.

Derived from the fills and the tape, in float; nothing of it is on the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from northstar_core.model.events import OrderFilled, PositionAdjusted
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument
from northstar_core.model.tape import Float64, Int64, Tape


class Curve(NamedTuple):
    """Times (ns UTC, increasing), equity, cash and gross exposure in dollars; each of shape (n,)."""

    ts: Int64
    equity: Float64
    cash: Float64
    exposure: Float64

    def drawdown(self, start: float) -> Float64:
        """Return equity over its highest value so far, less one; ``start`` is equity before the first mark."""
        return self.equity / np.maximum.accumulate(np.maximum(self.equity, start)) - 1


Moves = Sequence[OrderFilled | PositionAdjusted]


def marks(tape: Tape, symbol: str, end: int, moves: Moves = ()) -> tuple[Int64, Float64]:
    """Return the times and prices at which a symbol was marked, up to and including ``end``.

    Its bars, else its quotes (mid), else its prints. A symbol with none of them (shares that an option delivered) is
    marked at the prices ``moves`` booked it at.
    """
    if tape.bars is not None and len(rows := _rows(tape.bars, symbol, end)):
        return tape.bars.ts[rows], tape.bars.close[rows]
    if tape.quotes is not None:
        rows = _rows(tape.quotes, symbol, end)
        bid, ask = tape.quotes.bid[rows], tape.quotes.ask[rows]
        mid = np.where((bid > 0) & (ask > 0), (bid + ask) / 2, np.maximum(bid, ask))
        if (mid > 0).any():
            return tape.quotes.ts[rows][mid > 0], mid[mid > 0]
    if tape.trades is not None:
        rows = _rows(tape.trades, symbol, end)
        rows = rows[tape.trades.forms_price[rows]]
        if len(rows):
            return tape.trades.ts[rows], tape.trades.price[rows]
    booked = sorted((m.ts, float(m.price)) for m in moves if m.symbol == symbol and m.price and not _is_split(m))
    return np.array([ts for ts, _ in booked], dtype=np.int64), np.array([price for _, price in booked], dtype=float)


def equity_curve(tape: Tape, cash: float, moves: Moves, end: int) -> Curve:
    """Return the equity curve of an account that opened with this cash and made these moves.

    A move counts at its own instant. Positions are marked at the latest price known; before a symbol's first price, at
    that one. Where a split comes between a mark and its use, the mark is divided by the split's ratio.
    """
    held: dict[str, list[tuple[int, float]]] = {}
    splits: dict[str, dict[int, float]] = {}
    paid: list[tuple[int, float]] = []
    for move in moves:
        if isinstance(move, OrderFilled):
            signed = move.qty * move.side.sign
            held.setdefault(move.symbol, []).append((move.ts, float(signed)))
            paid.append((move.ts, float(-signed * move.price * instrument(move.symbol).multiplier - move.fees)))
            continue
        if move.qty:
            held.setdefault(move.symbol, []).append((move.ts, float(move.qty)))
        if move.cash:
            paid.append((move.ts, float(move.cash)))
        if _is_split(move) and move.price:
            splits.setdefault(move.symbol, {})[move.ts] = float(move.price)
    seen = [table.ts for table in tape.tables]
    ts = np.unique(np.concatenate(seen)) if seen else np.array([], dtype=np.int64)
    ts = ts[ts <= end]
    balance = cash + _steps(ts, paid)
    equity, exposure = balance.copy(), np.zeros(len(ts))
    for symbol, changes in held.items():
        times, prices = marks(tape, symbol, end, moves)
        if not len(times):
            continue
        at = np.maximum(np.searchsorted(times, ts, side="right") - 1, 0)
        mark = prices[at]
        for split, ratio in splits.get(symbol, {}).items():
            mark = np.where((times[at] <= split) & (ts >= split), mark / ratio, mark)
        value = _steps(ts, changes) * mark * instrument(symbol).multiplier
        equity += value
        exposure += np.abs(value)
    return Curve(ts, equity, balance, exposure)


def _rows(table: Any, symbol: str, end: int) -> Int64:
    """The rows of a symbol among those known at ``end``."""
    if symbol not in table.symbols:
        return np.array([], dtype=np.int64)
    known = int(np.searchsorted(table.ts, end, side="right"))
    return np.flatnonzero(table.code[:known] == table.symbols.index(symbol))


def _is_split(move: OrderFilled | PositionAdjusted) -> bool:
    return isinstance(move, PositionAdjusted) and move.kind is ActivityKind.SPLIT


def _steps(ts: Int64, moves: list[tuple[int, float]]) -> Float64:
    """The running sum of moves, as known at each of ``ts``; a move at an instant counts at that instant."""
    if not moves:
        return np.zeros(len(ts))
    moves = sorted(moves, key=lambda move: move[0])
    total = np.concatenate([[0.0], np.cumsum([change for _, change in moves])])
    steps: Float64 = total[np.searchsorted(np.array([at for at, _ in moves]), ts, side="right")]
    return steps
