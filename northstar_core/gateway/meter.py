"""How long market events and orders take through the gateway. One event in ``EVERY`` is followed, so it costs next to nothing.

A market event *happened* by its own time, is *received* when its feed hands it over, *numbered* when the desk has decided on its batch,
*stored* when the transaction that holds it is committed, and *on the disk* when the store knows that. An order is *asked* for when the
gateway takes it from its kernel, and *sent* when its record is durable and the broker's adapter has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from northstar_core.model.market import Bar, Quote, Trade

EVERY = 97  #: a prime: feeds go through their symbols in rounds
KEPT = 2_000  #: durations kept of a stage
WINDOW_NS = 60 * 10**9  #: what is told is of so long ago, desk time

HAPPENED, RECEIVED, NUMBERED = "happened to received", "received to numbered", "numbered to stored"
STORED, ON_DISK, SENT = "happened to stored", "happened to on the disk", "asked to sent"


class Meter:
    """Follows some of what passes through.

    Parameters
    ----------
    now
        The desk's time, ns UTC.
    """

    def __init__(self, now: Callable[[], int], every: int = EVERY) -> None:
        self._now, self._every = now, every
        self._left = every
        self._numbered: deque[tuple[int, int, int]] = deque()  # number, when it happened, when it was numbered
        self._stored: deque[tuple[int, int]] = deque()  # number, when it happened
        self._took: dict[str, deque[tuple[int, int]]] = {}  # by stage: when, how long

    def pick(self, count: int) -> int:
        """Count market events; return the place among them of the one to follow, -1 for none."""
        self._left -= count
        if self._left > 0:
            return -1
        place = count - 1 + self._left
        self._left = self._every
        return max(place, 0)

    def follow(self, event: Any, seq: int, received: int) -> None:
        """Follow a market event that was given this number."""
        if type(event) not in (Quote, Trade, Bar):
            return
        now = self._now()
        self._note(HAPPENED, now, received - event.ts)
        self._note(RECEIVED, now, now - received)
        self._numbered.append((seq, event.ts, now))

    def durable(self, stored: int, on_disk: int) -> None:
        """Take note of how far the log is stored, and known to be on the disk."""
        waiting, loose = self._numbered, self._stored
        if waiting and waiting[0][0] <= stored:
            now = self._now()
            while waiting and waiting[0][0] <= stored:
                seq, happened, numbered = waiting.popleft()
                self._note(NUMBERED, now, now - numbered)
                self._note(STORED, now, now - happened)
                loose.append((seq, happened))
        if loose and loose[0][0] <= on_disk:
            now = self._now()
            while loose and loose[0][0] <= on_disk:
                self._note(ON_DISK, now, now - loose.popleft()[1])

    def sent(self, asked: int) -> None:
        """An order asked for at ``asked`` (desk time) was handed to its broker."""
        now = self._now()
        self._note(SENT, now, now - asked)

    def _note(self, stage: str, now: int, took: int) -> None:
        kept = self._took.get(stage)
        if kept is None:
            kept = self._took[stage] = deque(maxlen=KEPT)
        kept.append((now, max(took, 0)))  # clocks differ

    def latest(self) -> dict[str, dict[str, float]]:
        """Return p50, p99 and p99.9 of each stage over the last minute, ms, and of how many (``n``)."""
        since = self._now() - WINDOW_NS
        found = {}
        for stage, kept in self._took.items():
            while kept and kept[0][0] < since:
                kept.popleft()
            if kept:
                ordered, last = sorted(took for _, took in kept), len(kept) - 1
                shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
                found[stage] = {"n": len(kept)} | {
                    name: round(ordered[min(int(share * len(kept)), last)] / 1e6, 3) for name, share in shares.items()
                }
        return found
