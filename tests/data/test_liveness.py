"""How long silence is borne, and how long to wait before the next try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from northstar_core.data.liveness import Backoff, Silence

SECOND = 10**9
OPEN = 1_000 * SECOND


def talking(every_s: float, *, floor_ns: int = 0) -> tuple[Silence, int]:
    """A connection that has said something so often for ten minutes."""
    silence, now = Silence(floor_ns), OPEN
    silence.connected(now)
    while now < OPEN + 600 * SECOND:
        now += round(every_s * SECOND)
        silence.heard(now, True)
    return silence, now


def test_five_seconds_without_data_are_too_long_for_a_connection_that_talks() -> None:
    silence, now = talking(0.2)
    assert not silence.overdue(now + 5 * SECOND, OPEN)
    assert silence.overdue(now + 5 * SECOND + 1, OPEN)


def test_while_the_exchange_is_closed_and_right_after_its_open_silence_is_borne() -> None:
    silence, now = talking(0.2)
    assert not silence.overdue(now + 3600 * SECOND, None)
    assert not silence.overdue(now + 3600 * SECOND, now + 3598 * SECOND)


def test_where_pauses_are_usual_twice_the_longest_is_borne_and_a_quiet_hour_is_forgotten() -> None:
    silence, now = talking(20)
    assert silence.patience_ns == 40 * SECOND
    for _ in range(6000):
        now += SECOND // 2
        silence.heard(now, True)
    assert silence.patience_ns == 5 * SECOND


def test_a_connection_of_which_nothing_is_known_has_a_minutes_bar_to_speak() -> None:
    silence = Silence()
    silence.connected(OPEN)
    assert not silence.overdue(OPEN + 65 * SECOND, OPEN)
    assert silence.overdue(OPEN + 66 * SECOND, OPEN)


def test_reconnecting_in_vain_doubles_patience_until_something_was_missed() -> None:
    silence, _ = talking(0.2)
    silence.reconnected(missed=False)
    silence.reconnected(missed=False)
    assert silence.patience_ns == 20 * SECOND
    silence.reconnected(missed=True)
    assert silence.patience_ns == 5 * SECOND


def test_patience_is_never_below_what_the_machine_needs() -> None:
    silence, _ = talking(0.2, floor_ns=200 * SECOND)
    assert silence.patience_ns == 200 * SECOND


@given(st.integers(0, 200), st.floats(0, 0.999))
def test_waits_double_to_a_minute_less_at_most_half_and_never_end(tries: int, jitter: float) -> None:
    backoff = Backoff(lambda: jitter)
    waits = [backoff.next() for _ in range(tries + 1)]
    assert all(0.5 * min(2**n, 60) <= wait <= min(2**n, 60) for n, wait in enumerate(waits))
    backoff.reset()
    assert backoff.next() <= 1.0
