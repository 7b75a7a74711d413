"""Market events in blocks of fifty: one row of the database instead of fifty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from northstar_core.model.market import Bar, Halt, MarketEvent, Quote, Trade

BLOCK = 50  #: events a row
SLOT = 50  #: events of one symbol in a slot of its ring
SLOTS = 32  #: in a ring; some are not full where a gateway began anew
COLUMNS = ("stream", "n", "first_seq", "last_ts", "symbols", "payload")

_KINDS: tuple[type[Bar] | type[Quote] | type[Trade] | type[Halt], ...] = (Bar, Quote, Trade, Halt)  # order is stored
_KIND_OF = {kind: number for number, kind in enumerate(_KINDS)}
_encode = msgspec.msgpack.Encoder().encode
_decode_slot = msgspec.msgpack.Decoder(tuple[list[int], list[list[Any]]]).decode
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
        yield block(first_seq + start, ticks[start : start + BLOCK])


def block(first_seq: int, ticks: Sequence[MarketEvent]) -> Block:
    """Return the block of at most ``BLOCK`` consecutive market events."""
    index: dict[str, int] = {}
    rows = []
    for tick in ticks:
        symbol, *fields = msgspec.structs.astuple(tick)
        rows.append((_KIND_OF[type(tick)], index.setdefault(symbol, len(index)), *fields))
    return Block(len(ticks), first_seq, ticks[-1].ts, list(index), _encode((list(index), rows)))


class Blocks:
    """Gathers market events as they come, a few at a time, into blocks that are as full as they can be."""

    def __init__(self) -> None:
        self.full: list[Block] = []
        self.runs: list[tuple[int, Sequence[MarketEvent]]] = []  #: as they came, with the number of the first
        self._run: list[MarketEvent] = []  #: of consecutive numbers, fewer than make a block
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self.full or self._run)

    def add(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """Take consecutive market events, the first of which has this number."""
        self.runs.append((first_seq, ticks))
        run = self._run
        if run and first_seq != self._next:
            self._close(len(run))
        run.extend(ticks)
        self._next = first_seq + len(ticks)
        while len(run) >= BLOCK:
            self._close(BLOCK)

    def take(self) -> tuple[list[Block], list[tuple[int, Sequence[MarketEvent]]]]:
        """Return all blocks, the last as full as it is, and what they were made of."""
        if self._run:
            self._close(len(self._run))
        taken = self.full, self.runs
        self.full, self.runs = [], []
        return taken

    def _close(self, count: int) -> None:
        run = self._run
        self.full.append(block(self._next - len(run), run[:count]))
        del run[:count]


def ticks_of(payload: bytes) -> list[MarketEvent]:
    """Return the market events of a block."""
    symbols, rows = _decode(payload)
    return [_KINDS[kind](symbols[symbol], *fields) for kind, symbol, *fields in rows]


def ticks_of_symbol(first_seq: int, payload: bytes, wanted: str) -> list[tuple[int, MarketEvent]]:
    """Return the market events of one symbol in a block, with their numbers."""
    symbols, rows = _decode(payload)
    place = symbols.index(wanted)
    return [(seq, _KINDS[row[0]](wanted, *row[2:])) for seq, row in enumerate(rows, first_seq) if row[1] == place]


def slot(ticks: Sequence[tuple[int, MarketEvent]]) -> bytes:
    """Return the bytes of some numbered market events of one symbol."""
    rows = [(_KIND_OF[type(tick)], *msgspec.structs.astuple(tick)[1:]) for _, tick in ticks]
    return _encode(([seq for seq, _ in ticks], rows))


def ticks_of_slot(symbol: str, payload: bytes) -> list[tuple[int, MarketEvent]]:
    """Return the numbered market events of a slot."""
    seqs, rows = _decode_slot(payload)
    return [(seq, _KINDS[kind](symbol, *fields)) for seq, (kind, *fields) in zip(seqs, rows, strict=True)]
