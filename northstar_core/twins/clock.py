"""The market's own time: it stands until the day is played, then runs at so many market seconds in a wall second."""

from __future__ import annotations

import asyncio
import time

SECOND_NS = 1_000_000_000


class TwinClock:
    """A clock with an anchor: at wall time ``wall`` it was ``desk``. Satisfies ``model.ports.Clock``.

    Until ``start`` it stands still and can be set, which is how tests play a market step by step.

    Parameters
    ----------
    desk
        Market time to begin at, ns UTC.
    speed
        Market seconds in a second of the wall.
    """

    FLOOR_S = 0.001

    def __init__(self, desk: int, speed: float = 1.0) -> None:
        self.desk, self.speed = desk, speed
        self.wall: float | None = None  #: wall time of the anchor, unix seconds; None while it stands
        self._wall_ns = 0

    def start(self) -> None:
        """Let it run from where it stands; a running clock is left alone."""
        if self.wall is None:
            self._wall_ns = time.time_ns()
            self.wall = self._wall_ns / SECOND_NS

    def set(self, ts: int) -> None:
        """Move a standing clock forward; a running one is left alone."""
        if self.wall is None:
            self.desk = max(self.desk, ts)

    def now(self) -> int:
        """Return the market's time, ns UTC."""
        if self.wall is None:
            return self.desk
        return self.desk + int((time.time_ns() - self._wall_ns) * self.speed)

    def wall_s(self, desk_s: float) -> float:
        """Return how many of the wall's seconds a wait of so many market seconds takes."""
        return max(desk_s / self.speed, self.FLOOR_S)

    def wall_delay(self, ts: int) -> float:
        """Return in how many of the wall's seconds it is ``ts``; 0.0 where that has passed."""
        return max(ts - self.now(), 0) / SECOND_NS / self.speed

    async def sleep(self, desk_s: float) -> None:
        """Wait so many market seconds."""
        await asyncio.sleep(self.wall_s(desk_s))

    async def until(self, ts: int) -> None:
        """Wait until it is ``ts``; returns at once if that has passed."""
        while (delay := self.wall_delay(ts)) > 0:
            await asyncio.sleep(delay)
