"""The desk's clocks (``model.ports.Clock``): the wall's time, and one that runs faster for simulated days."""

from __future__ import annotations

import asyncio
import math
import time
from fractions import Fraction

from northstar_core.gateway.settings import ClockSettings
from northstar_core.model.errors import SettingsError

FLOOR_S = 0.5
LONGEST_S = 5.0  #: a wait looks at the clock this often: the wall's may be set, the machine may have slept


class WallClock:
    """The desk's time is the wall's."""

    FLOOR_S = FLOOR_S
    speed = 1.0

    def now(self) -> int:
        """The desk's time, ns UTC."""
        return time.time_ns()

    def wall_s(self, desk_s: float) -> float:
        """Return how many of the wall's seconds a wait of ``desk_s`` desk seconds takes: as many."""
        return max(desk_s, 0.0)

    def delay(self, ts: int) -> float:
        """Return the wall's seconds until the desk's time is ``ts``; negative if it has passed."""
        return (ts - self.now()) / 1e9

    async def sleep(self, desk_s: float) -> None:
        """Wait so many desk seconds."""
        await asyncio.sleep(self.wall_s(desk_s))

    async def until(self, ts: int) -> None:
        """Wait until the desk's time is ``ts``, to the wall's millisecond, and never return before; at once if it has passed."""
        while (left := self.delay(ts)) > 0:
            await asyncio.sleep(min(left, LONGEST_S))


class ScaledClock(WallClock):
    """The desk's time runs ``speed`` times as fast as the wall's: it was ``desk_ns`` when the wall's was ``wall_s``.

    Two processes with the same anchor agree on the time. What is waited for is never shorter than ``FLOOR_S`` of the wall's, unless
    it would be at normal speed: the machine and the network do not get faster.

    Raises
    ------
    SettingsError
        If ``speed`` is not a finite number above zero.
    """

    def __init__(self, desk_ns: int, wall_s: float, speed: float) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise SettingsError(f"a clock of speed {speed}: give a number above zero")
        self.speed = float(speed)
        self._desk_ns = desk_ns
        self._wall_ns = round(Fraction(str(wall_s)) * 10**9)
        self._ratio = Fraction(str(speed))

    def now(self) -> int:
        """The desk's time, ns UTC."""
        passed = time.time_ns() - self._wall_ns
        return self._desk_ns + passed * self._ratio.numerator // self._ratio.denominator

    def wall_s(self, desk_s: float) -> float:
        """Return how many of the wall's seconds a wait of ``desk_s`` desk seconds takes: not fewer than ``FLOOR_S``, or than ``desk_s``
        where that is shorter."""
        return max(desk_s / self.speed, min(desk_s, self.FLOOR_S), 0.0)

    def delay(self, ts: int) -> float:
        """Return the wall's seconds until the desk's time is ``ts``; negative if it has passed."""
        return (ts - self.now()) / 1e9 / self.speed


def clock_of(settings: ClockSettings | None) -> WallClock:
    """Return the clock a configuration asks for."""
    if settings is None:
        return WallClock()
    return ScaledClock(settings.desk_ns, float(settings.wall), settings.speed)
