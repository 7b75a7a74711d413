"""Market events in blocks of fifty: one row of the database instead of fifty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade

BLOCK = 50  #: events a row
COLUMNS = ("stream", "n", "first_seq", "last_ts", "symbols", "payload")

_KINDS: tuple[type[Bar] | type[Quote] | type[Trade] | type[Halt], ...] = (Bar, Quote, Trade, Halt)  # order is stored
_KIND_OF = {kind: number for number, kind in enumerate(_KINDS)}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[str], list[list[Any]]]).decode


class Block(NamedTuple):
    """Consecutive market events, ready to be stored."""

    n: int
    first_seq: int
    last_ts: int
    symbols: list[str]
    payload: bytes


def blocks(first_seq: int, ticks: Sequence[MarketEvent]) -> Iterator[Block]:
    """Yield consecutive market events, the first of which has this number, in blocks.

    A block is the list of its symbols and, for each event, [kind, index of the symbol, the other fields].
    """
    for start in range(0, len(ticks), BLOCK):
        part = ticks[start : start + BLOCK]
        index: dict[str, int] = {}
        rows = []
        for tick in part:
            symbol, *fields = msgspec.structs.astuple(tick)
            rows.append((_KIND_OF[type(tick)], index.setdefault(symbol, len(index)), *fields))
        yield Block(len(part), first_seq + start, part[-1].ts, list(index), _encode((list(index), rows)))


def ticks_of(payload: bytes) -> list[MarketEvent]:
    """Return the market events of a block."""
    symbols, rows = _decode(payload)
    return [_KINDS[kind](symbols[symbol], *fields) for kind, symbol, *fields in rows]
