"""How long a connection may be silent, and how long to wait before the next one. No clock: time comes in as a number."""

from __future__ import annotations

from collections.abc import Callable

SECOND_NS = 10**9
SHORTEST_NS = 5 * SECOND_NS
LONGEST_NS = 65 * SECOND_NS  #: a minute's bar, and a little
KNOWN = 20  #: pauses seen before they say what is usual
TIMES = 2  #: silence is so many times the longest usual pause
FADE_NS = 600 * SECOND_NS  #: the longest pause is forgotten over about so long


class Silence:
    """Tells when a connection has been silent for too long while the exchange is open.

    Five seconds; more where that is usual: twice the longest pause there was lately, up to 65 seconds, which is also what is given
    to a connection of which nothing is known yet. Each reconnection after which nothing turned out to be missing doubles it: there was
    nothing to say.
    """

    def __init__(self, floor_ns: int = 0, shortest_ns: int = SHORTEST_NS) -> None:
        self._floor_ns, self._shortest_ns = floor_ns, shortest_ns
        self._last = 0
        self._pauses = 0
        self._longest = 0.0
        self._vain = 0

    @property
    def patience_ns(self) -> int:
        """How much silence is borne now; never less than the floor."""
        longest = max(LONGEST_NS, self._shortest_ns)
        if self._pauses < KNOWN:
            usual = longest
        else:
            usual = min(max(int(TIMES * self._longest), self._shortest_ns), longest)
        return max(usual << self._vain, self._floor_ns)

    def connected(self, now: int) -> None:
        """A connection begins: count from here."""
        self._last = now

    def heard(self, now: int, is_open: bool) -> None:
        """Data have come."""
        pause, self._last = now - self._last, now
        if is_open and pause >= 0:
            self._pauses += 1
            self._longest = max(float(pause), self._longest * max(0.0, 1 - pause / FADE_NS))

    def reconnected(self, missed: bool) -> None:
        """After a reconnection for silence it is known whether anything had been missed."""
        self._vain = 0 if missed else min(self._vain + 1, 6)

    def overdue(self, now: int, opened: int | None) -> bool:
        """Tell whether it is too silent; ``opened`` is when the exchange opened, None while it is closed."""
        return opened is not None and now - max(self._last, opened) > self.patience_ns


class Backoff:
    """How long to wait before the next try, desk seconds: twice as long each time, up to ``longest``, less a random part.

    ``jitter`` gives numbers in ``[0, 1)``; half of the wait is theirs, so that many clients do not come back at once.
    """

    def __init__(self, jitter: Callable[[], float], first: float = 1.0, longest: float = 60.0) -> None:
        self._jitter, self._first, self._longest = jitter, first, longest
        self.tries = 0

    def next(self) -> float:
        """Return the next wait."""
        whole = min(self._first * 2.0 ** min(self.tries, 30), self._longest)
        self.tries += 1
        return whole * (0.5 + 0.5 * self._jitter())

    def reset(self) -> None:
        """It works again."""
        self.tries = 0

    def fresh(self) -> Backoff:
        """Return another one like it, at its beginning."""
        return Backoff(self._jitter, self._first, self._longest)
