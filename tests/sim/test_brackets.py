"""Entries with a stop and a target."""

from __future__ import annotations

from northstar_core.sim.broker import SimBroker
from northstar_core.sim.fills import FillAt
from tests.sim.worlds import (
    BUY,
    DAY,
    GTC,
    MINUTE,
    SELL,
    D,
    bar,
    broker,
    fills,
    flat,
    kinds,
    order,
    position,
)  # fmt: skip


def bracketed(b: SimBroker, *, target: str = "105", stop: str = "95", now: int = 0, **entry: str) -> list[str]:
    """Send a long entry with its exits; return the three ids."""
    qty = "100"
    parent = order(BUY, qty, tif=GTC, **entry)
    exits = {"tif": GTC, "reduce_only": True, "parent": parent.order_id}
    orders = [parent, order(SELL, qty, limit=target, **exits), order(SELL, qty, stop=stop, **exits)]
    for o in orders:
        assert kinds(b.submit(o, now))[0] == "NEW"
    return [o.order_id for o in orders]


def ends(reports: list[object]) -> list[tuple[str, str]]:
    return [(r.order_id, str(r.exec_type)) for r in reports]  # type: ignore[attr-defined]


def test_exits_are_held_until_the_entry_has_filled() -> None:
    b = broker()
    bracketed(b, limit="98")
    assert b.on_bars([bar(0, 100, 106, 99, 100)]) == []
    assert position(b) == 0 and len(b.snapshot(0).orders) == 3


def test_the_target_fills_and_the_stop_is_canceled() -> None:
    b = broker()
    _, target, stop = bracketed(b)
    assert fills(b.on_bars([flat(0)])) == [("100", "100.0", 0)]
    out = b.on_bars([bar(1, 100, 106, 99, 104)])
    assert ends(out) == [(target, "TRADE"), (stop, "CANCELED")]
    assert position(b) == 0 and not b.working


def test_the_stop_fills_and_the_target_is_canceled() -> None:
    b = broker()
    _, target, stop = bracketed(b)
    b.on_bars([flat(0)])
    assert ends(b.on_bars([bar(1, 100, 101, 94, 96)])) == [(stop, "TRADE"), (target, "CANCELED")]


def test_of_a_stop_and_a_target_in_the_same_bar_the_stop_fills() -> None:
    b = broker()
    _, target, stop = bracketed(b)
    b.on_bars([flat(0)])
    out = b.on_bars([bar(1, 100, 110, 90, 108)])
    assert ends(out) == [(stop, "TRADE"), (target, "CANCELED")] and fills(out) == [("100", "95.0", 2 * MINUTE)]


def test_a_gap_to_the_target_fills_it_before_the_stop_inside_the_bar() -> None:
    b = broker()
    _, target, stop = bracketed(b)
    b.on_bars([flat(0)])
    out = b.on_bars([bar(1, 107, 108, 90, 91)])
    assert ends(out) == [(target, "TRADE"), (stop, "CANCELED")] and fills(out) == [("100", "107.0", MINUTE)]


def test_exits_of_an_entry_filled_at_the_open_work_in_the_rest_of_that_bar() -> None:
    b = broker()
    _, target, stop = bracketed(b)
    assert ends(b.on_bars([bar(0, 100, 101, 94, 96)]))[1:] == [(stop, "TRADE"), (target, "CANCELED")]
    _, target, stop = bracketed(b, now=MINUTE)
    assert ends(b.on_bars([bar(1, 100, 106, 99, 100)]))[1:] == [(target, "TRADE"), (stop, "CANCELED")]


def test_after_an_entry_inside_the_bar_a_touched_stop_fires_and_a_target_needs_the_close_to_prove_it() -> None:
    b = broker()
    entry, target, stop = bracketed(b, limit="98")
    out = b.on_bars([bar(0, 100, 107, 94, 106)])  # the high may have come before the entry, so may not count
    assert ends(out) == [(entry, "TRADE"), (stop, "TRADE"), (target, "CANCELED")]
    entry, target, stop = bracketed(b, limit="98", now=MINUTE)
    assert ends(b.on_bars([bar(1, 100, 107, 97, 104)])) == [(entry, "TRADE")]
    assert ends(b.on_bars([bar(2, 104, 105.5, 104, 105)])) == [(target, "TRADE"), (stop, "CANCELED")]
    entry, target, stop = bracketed(b, limit="98", now=3 * MINUTE)
    out = b.on_bars([bar(3, 100, 107, 97, 106)])
    assert ends(out) == [(entry, "TRADE"), (target, "TRADE"), (stop, "CANCELED")]


def test_exits_cover_only_what_the_entry_has_filled() -> None:
    b = broker(volume_share=D("0.1"))
    _, target, stop = bracketed(b)
    assert fills(b.on_bars([flat(0, volume=400)])) == [("40", "100.0", 0)]
    out = b.on_bars([bar(1, 107, 108, 107, 107, volume=2000)])  # entry completes, target fills
    assert fills(out) == [("60", "107.0", MINUTE), ("100", "107.0", MINUTE)]
    assert position(b) == 0 and ends(out)[-1] == (stop, "CANCELED")
    assert target in {r.order_id for r in out}


def test_a_fill_of_one_exit_takes_from_the_other() -> None:
    b = broker(volume_share=D("0.1"))
    _, target, stop = bracketed(b)
    b.on_bars([flat(0)])
    assert fills(b.on_bars([bar(1, 105, 106, 105, 105, volume=300)])) == [("30", "105.0", MINUTE)]
    out = b.on_bars([bar(2, 94, 94, 93, 93)])
    assert fills(out) == [("70", "94.0", 2 * MINUTE)]
    assert set(ends(out)[1:]) == {(target, "CANCELED"), (stop, "CANCELED")} and position(b) == 0


def test_exits_end_with_an_entry_that_never_filled() -> None:
    b = broker()
    entry, target, stop = bracketed(b, limit="98")
    assert ends(b.cancel(entry, 1)) == [(entry, "CANCELED"), (target, "CANCELED"), (stop, "CANCELED")]
    assert not b.working


def test_exits_of_a_partly_filled_entry_outlive_its_cancel() -> None:
    b = broker(volume_share=D("0.1"))
    entry, target, stop = bracketed(b)
    b.on_bars([flat(0, volume=400)])
    assert ends(b.cancel(entry, MINUTE)) == [(entry, "CANCELED")]
    out = b.on_bars([bar(1, 94, 94, 93, 93)])
    assert fills(out) == [("40", "94.0", MINUTE)]
    assert set(ends(out)[1:]) == {(target, "CANCELED"), (stop, "CANCELED")}


def test_exits_of_a_day_entry_that_expires_end_with_it() -> None:
    b = broker()
    b.on_session_open(0, "2024-01-02")
    parent = order(limit="98", tif=DAY)
    b.submit(parent, 0)
    b.submit(order(SELL, stop="95", tif=GTC, parent=parent.order_id), 0)
    assert kinds(b.on_session_close(MINUTE, "2024-01-02")) == ["EXPIRED", "CANCELED"]


def test_exits_sent_after_the_entry_has_filled_cover_what_filled() -> None:
    b = broker(fill_at=FillAt.CLOSE)
    parent = order(BUY, "100")
    assert kinds(b.submit(parent, MINUTE, {"SPY": flat(0)})) == ["NEW", "TRADE"]
    b.submit(order(SELL, limit="105", tif=GTC, parent=parent.order_id), MINUTE)
    b.submit(order(SELL, stop="95", tif=GTC, parent=parent.order_id), MINUTE)
    assert kinds(b.on_bars([bar(1, 94, 94, 93, 94)])) == ["TRADE", "CANCELED"]
    assert position(b) == 0
