"""What a desk consumed, in one number: the digest of market events that a ``TapeRead`` of the table ``ticks`` declares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from northstar_core.model.market import MarketEvent

TABLE = "ticks"  #: the ``TapeRead.table`` of market events whose digest is made so
HELD = 512  #: events encoded in one go

_encode = msgspec.msgpack.Encoder().encode


class TickDigest:
    """sha256 over the msgpack of each consumed market event, in order, one after the other.

    An event's bytes are ``msgspec.msgpack.encode(event)``: a map of its type and its fields in the order of the class.
    Where the stream is cut into calls of ``add`` does not matter. ``rows`` counts since the last ``take``.
    """

    __slots__ = ("_held", "_rows", "_sha")

    def __init__(self, ticks: Iterable[MarketEvent] = ()) -> None:
        self._sha = sha256()
        self._held: list[MarketEvent] = []
        self._rows = 0
        for tick in ticks:
            self.add(tick)

    @property
    def rows(self) -> int:
        """How many events were added since the last ``take``."""
        return self._rows + len(self._held)

    def add(self, tick: MarketEvent) -> None:
        """Take one more event in."""
        held = self._held
        held.append(tick)
        if len(held) == HELD:
            self._flush()

    def extend(self, ticks: Sequence[MarketEvent]) -> None:
        """Take more events in."""
        held = self._held
        for first in range(0, len(ticks), HELD):
            held.extend(ticks[first : first + HELD] if len(ticks) > HELD else ticks)
            if len(held) >= HELD:
                self._flush()

    def take(self) -> str:
        """Return the digest of the events added since the last time, in hexadecimal, and begin anew."""
        if self._held:
            self._flush()
        found = self._sha.hexdigest()
        self._sha, self._rows = sha256(), 0
        return found

    def _flush(self) -> None:
        # a list is its length and then its elements, each as it would be alone: the length is not digested
        count = len(self._held)
        self._sha.update(memoryview(_encode(self._held))[1 if count < 16 else 3 :])
        self._rows += count
        self._held.clear()


def tick_digest(ticks: Iterable[MarketEvent]) -> str:
    """Return the digest of these market events."""
    return TickDigest(ticks).take()
