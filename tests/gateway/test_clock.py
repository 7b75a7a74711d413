"""The desk's clocks agree between processes, wait as long as they say, and never less than a machine needs."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.gateway.clock import FLOOR_S, ScaledClock, WallClock, clock_of
from northstar_core.gateway.settings import ClockSettings
from northstar_core.model.errors import SettingsError
from northstar_core.model.ports import Clock

DESK = 1_709_562_300 * 10**9
WALL = 1_700_000_000


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wall's time, ns UTC, in the test's hands."""
    at = [WALL * 10**9]
    monkeypatch.setattr(time, "time_ns", lambda: at[0])
    return at


def test_a_scaled_clock_counts_from_its_anchor_exactly(frozen: list[int]) -> None:
    clock = ScaledClock(DESK, WALL, 60.0)
    assert clock.now() == DESK
    frozen[0] += 86_400 * 10**9 + 1
    assert clock.now() == DESK + 60 * (86_400 * 10**9 + 1)
    frozen[0] = (WALL - 10) * 10**9
    assert clock.now() == DESK - 600 * 10**9
    assert clock.delay(DESK) == 10.0


@given(st.floats(0.1, 10_000), st.integers(0, 10**16), st.integers(0, 10**12))
def test_a_scaled_clock_never_goes_back(speed: float, at: int, later: int) -> None:
    clock = ScaledClock(DESK, WALL, speed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: WALL * 10**9 + at)
        first = clock.now()
        patch.setattr(time, "time_ns", lambda: WALL * 10**9 + at + later)
        assert clock.now() - first >= later * speed * 0.999_999 - 1


@given(st.floats(0.05, 10_000), st.floats(0, 1e6))
def test_a_wait_is_never_shorter_than_the_floor_or_than_itself(speed: float, desk_s: float) -> None:
    waits = ScaledClock(DESK, WALL, speed).wall_s(desk_s)
    assert waits >= min(desk_s, FLOOR_S)
    assert waits >= desk_s / speed * 0.999_999
    assert waits == pytest.approx(max(desk_s / speed, min(desk_s, FLOOR_S)))


def test_on_the_walls_clock_a_wait_is_what_it_says() -> None:
    clock: Clock = WallClock()
    assert [clock.wall_s(s) for s in (-1.0, 0.0, 0.05, 0.5, 7.0)] == [0.0, 0.0, 0.05, 0.5, 7.0]
    assert abs(clock.now() - time.time_ns()) < 10**9 and clock.speed == 1.0


def test_until_returns_at_the_time_and_not_before() -> None:
    async def wait(clock: Clock, desk_ns: int) -> int:
        ts = clock.now() + desk_ns
        await clock.until(ts)
        return clock.now() - ts

    assert asyncio.run(wait(WallClock(), 30_000_000)) >= 0
    assert asyncio.run(wait(ScaledClock(DESK, time.time(), 60.0), 2 * 10**9)) >= 0
    assert asyncio.run(wait(WallClock(), -(10**12))) >= 10**12


def test_sleep_takes_as_long_as_wall_s_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(ScaledClock(DESK, WALL, 60.0).sleep(10))
    asyncio.run(ScaledClock(DESK, WALL, 60.0).sleep(60))
    asyncio.run(WallClock().sleep(3))
    assert slept == [0.5, 1.0, 3]


def test_a_long_wait_looks_at_the_clock_again_since_the_wall_may_be_set(
    frozen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        frozen[0] += 3600 * 10**9  # somebody sets the clock

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(WallClock().until(frozen[0] + 3000 * 10**9))
    assert slept == [5.0]


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_clock_that_stands_still_or_runs_back_is_refused(speed: float) -> None:
    with pytest.raises(SettingsError, match="give a number above zero"):
        ScaledClock(DESK, WALL, speed)


def test_the_configuration_says_which_clock(frozen: list[int]) -> None:
    assert type(clock_of(None)) is WallClock
    asked = ClockSettings(speed=30, desk="2024-03-04T09:25:00.500-05:00", wall=Decimal("1700000000.25"))
    frozen[0] += 250_000_000
    assert clock_of(asked).now() == DESK + 500_000_000
