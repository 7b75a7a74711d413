"""What the shells are given instead of reaching for it: the desk's clock."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The desk's time. It may run faster than the wall's, with simulated brokers only.

    A wait of so many desk seconds is never shorter than ``FLOOR_S`` of the wall's, or than it would be at normal speed where that is less:
    machines and networks do not get faster.
    """

    FLOOR_S: float
    speed: float  #: desk seconds in a wall second

    def now(self) -> int:
        """The desk's time, ns UTC."""
        ...

    def wall_s(self, desk_s: float) -> float:
        """How many of the wall's seconds a wait of ``desk_s`` desk seconds takes, at least ``FLOOR_S`` or ``desk_s`` itself."""
        ...

    async def sleep(self, desk_s: float) -> None:
        """Wait so many desk seconds (``wall_s`` of them)."""
        ...

    async def until(self, ts: int) -> None:
        """Wait until the desk's time is ``ts``, to the wall's millisecond; returns at once if it has passed."""
        ...
