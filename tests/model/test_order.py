"""The table of an order's life."""

from __future__ import annotations

import pytest

from northstar_core.model.order import TERMINAL, TRANSITIONS, WORKING, OrderStatus, Side, Trigger, next_status

S, T = OrderStatus, Trigger


def test_every_status_is_terminal_or_working() -> None:
    assert set(S) == TERMINAL | WORKING
    assert not TERMINAL & WORKING


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_order_that_ended_never_works_again(status: OrderStatus) -> None:
    after = {trigger: TRANSITIONS.get((status, trigger)) for trigger in T}
    assert set(after.values()) <= {None, status}


def test_a_filled_order_takes_nothing_more() -> None:
    assert not [trigger for trigger in T if (S.FILLED, trigger) in TRANSITIONS]


@pytest.mark.parametrize("status", sorted(WORKING))
def test_every_working_order_can_be_cancelled_filled_expired_or_lost_sight_of(status: OrderStatus) -> None:
    assert next_status(status, T.CANCEL_REQUEST, partly_filled=False) is S.PENDING_CANCEL
    assert next_status(status, T.LAST_FILL, partly_filled=True) is S.FILLED
    assert next_status(status, T.CANCEL, partly_filled=False) is S.CANCELED
    assert next_status(status, T.EXPIRE, partly_filled=False) is S.EXPIRED
    if status is not S.UNKNOWN:
        assert next_status(status, T.LOSE_SIGHT, partly_filled=False) is S.UNKNOWN


def test_silence_is_left_only_by_evidence() -> None:
    for trigger in T:
        after = next_status(S.UNKNOWN, trigger, partly_filled=False)
        assert after is not S.UNKNOWN
    assert (S.UNKNOWN, T.REPLACE_REQUEST) not in TRANSITIONS, "nothing is changed whose terms are not known"


def test_a_part_filled_order_is_never_called_new() -> None:
    for status, trigger in TRANSITIONS:
        assert next_status(status, trigger, partly_filled=True) is not S.NEW


def test_every_status_can_be_reached() -> None:
    reached = {S.PENDING_NEW}
    while more := {after for (status, _), after in TRANSITIONS.items() if status in reached} - reached:
        reached |= more
    assert reached | {S.PARTIALLY_FILLED} == set(S)


def test_sides() -> None:
    assert (Side.BUY.sign, Side.SELL.sign, Side.BUY.opposite, Side.SELL.opposite) == (1, -1, Side.SELL, Side.BUY)
