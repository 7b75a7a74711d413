"""L1 and L2 over the ticks a desk stored: every number is an event or a tick, and the ticks are those that were declared."""

from __future__ import annotations

from collections.abc import Sequence

from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.market import MarketEvent
from northstar_core.model.tick_digest import TABLE, TickDigest

Range = tuple[int, int]  #: first and last number


class StoredTicks:
    """Takes stored ticks and the events' numbers in step, each before what has a higher number.

    Parameters
    ----------
    kept
        The ranges of numbers whose ticks are kept, in order. A tick that is missing outside of them was dropped by
        retention: that it was there cannot be checked any more, and is no violation.
    """

    def __init__(self, tally: Tally, kept: Sequence[Range]) -> None:
        self.tally = tally
        self.kept = list(kept)
        self.ticks = 0  #: read back
        self.dropped = 0  #: numbers without an event whose ticks retention has dropped
        self.unchecked = 0  #: rows declared that could not be compared
        self.compared = 0  #: rows declared that could
        self._at = 1  #: the next number that is neither an event's nor a tick's yet
        self._digest = TickDigest()
        self._whole = True  #: no tick is missing since the last declaration

    def block(self, first_seq: int, ticks: Sequence[MarketEvent]) -> None:
        """Take consecutive stored ticks, the first of which has this number."""
        self.tally.checked["L1"] += len(ticks)
        if first_seq > self._at:
            self._missing(first_seq - 1)
        elif first_seq < self._at:
            self.tally.violate(
                "L1", first_seq, f"the tick of seq {first_seq} stands at a number that an event or another tick has"
            )
        self.ticks += len(ticks)
        self._at = max(self._at, first_seq + len(ticks))
        for tick in ticks:
            self._digest.add(tick)

    def event(self, seq: int) -> None:
        """Take an event's number."""
        if seq > self._at:
            self._missing(seq - 1)
        elif seq < self._at:
            self.tally.violate("L1", seq, f"a tick is stored at seq {seq}, which is an event's number")
        self._at = max(self._at, seq + 1)

    def _missing(self, last: int) -> None:
        first, self._whole = self._at, False
        # numbers grow: what lies before them is not asked for again
        while self.kept and self.kept[0][1] < first:
            self.kept.pop(0)
        for low, high in [*self.kept, (last + 1, last + 1)]:
            if first > last:
                break
            dropped = min(low, last + 1) - first
            if dropped > 0:
                self.dropped += dropped
                first = low
            upto = min(high, last)
            if first <= upto:
                numbers = f"number {first} is" if first == upto else f"numbers {first} to {upto} are"
                self.tally.violate("L1", first, f"{numbers} neither an event nor a stored tick")
                first = upto + 1
        self._at = last + 1

    def tape_read(self, seq: int, event: e.TapeRead) -> None:
        """Compare the ticks since the last declaration with what this one declares."""
        if event.table != TABLE:
            return
        digest, whole, self._whole = self._digest.take(), self._whole, True
        if not whole:
            self.unchecked += event.rows
            return
        self.compared += event.rows
        self.tally.checked["L2"] += 1
        if digest != event.digest:
            self.tally.violate(
                "L2",
                seq,
                f"rows {event.first_row} to {event.first_row + event.rows - 1}: the ticks stored are not those declared"
                f" (digest {digest[:16]}, declared {event.digest[:16]})",
            )

    def finish(self) -> None:
        """Say what could not be checked."""
        if self.dropped:
            self.tally.notes.append(
                f"{self.dropped} ticks were dropped by retention and {self.unchecked} declared rows could not be compared "
                "with stored ticks: not checkable"
            )
