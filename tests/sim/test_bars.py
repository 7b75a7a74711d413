"""How orders fill on bars."""

from __future__ import annotations

import pytest

from northstar_core.model.errors import ProtocolError
from northstar_core.sim.fills import FillAt
from northstar_core.sim.slippage import BpsSlippage, ImpactSlippage, TickSlippage
from tests.sim.worlds import (
    BUY,
    CLS,
    FOK,
    GTC,
    IOC,
    LIMIT,
    MINUTE,
    OPG,
    SELL,
    D,
    bar,
    bought,
    broker,
    fills,
    flat,
    kinds,
    order,
    position,
)  # fmt: skip


def test_a_market_order_fills_at_the_open_of_the_next_bar_with_the_time_of_that_open() -> None:
    b = broker()
    assert kinds(b.submit(order(), MINUTE)) == ["NEW"]
    assert fills(b.on_bars([bar(1, 100.12, 101, 99, 100.5)])) == [("100", "100.12", MINUTE)]
    assert b.snapshot(0).cash == D("89988.00")
    assert position(b) == 100
    assert not b.working


def test_an_order_does_not_fill_on_a_bar_that_opened_before_it_arrived() -> None:
    b = broker()
    b.submit(order(), MINUTE + 1)
    assert b.on_bars([flat(1)]) == []
    assert fills(b.on_bars([flat(2, 101.0)])) == [("100", "101.0", 2 * MINUTE)]


def test_without_a_trade_there_is_no_fill_and_the_order_waits() -> None:
    b = broker()
    b.submit(order(), 0)
    assert b.on_bars([flat(0, volume=0)]) == []
    assert "SPY" in b.working
    assert fills(b.on_bars([flat(7)])) == [("100", "100.0", 7 * MINUTE)]


def test_a_limit_that_is_marketable_at_the_open_gets_the_open() -> None:
    b = broker()
    b.submit(order(BUY, limit="101"), 0)
    assert fills(b.on_bars([bar(0, 100.5, 102, 100, 101)])) == [("100", "100.5", 0)]


def test_a_gap_through_a_resting_limit_fills_at_the_better_open() -> None:
    b = broker()
    b.submit(order(SELL, limit="105"), 0)
    assert b.on_bars([flat(0)]) == []
    assert fills(b.on_bars([bar(1, 107, 108, 106, 106)])) == [("100", "107.0", MINUTE)]


def test_a_limit_that_was_only_touched_does_not_fill_unless_touch_is_chosen() -> None:
    touched = bar(0, 100, 101, 99, 100)
    strict, lenient = broker(), broker(touch=True)
    for b in (strict, lenient):
        b.submit(order(BUY, limit="99"), 0)
    assert strict.on_bars([touched]) == []
    assert fills(lenient.on_bars([touched])) == [("100", "99.0", MINUTE)]


def test_a_limit_that_was_traded_through_fills_at_its_limit_at_the_end_of_the_bar() -> None:
    b = broker()
    b.submit(order(BUY, limit="99.5"), 0)
    assert fills(b.on_bars([bar(0, 100, 101, 99, 100)])) == [("100", "99.5", MINUTE)]


def test_a_stop_fills_at_its_stop_when_touched_and_at_the_open_when_gapped() -> None:
    b = broker()
    b.submit(order(BUY, stop="101"), 0)
    assert fills(b.on_bars([bar(0, 100, 101, 99, 100)])) == [("100", "101.0", MINUTE)]
    b.submit(order(SELL, stop="99"), MINUTE)
    assert fills(b.on_bars([bar(1, 97.25, 98, 97, 98)])) == [("100", "97.25", MINUTE)]


def test_a_stop_limit_triggered_inside_a_bar_fills_there_only_if_the_close_proves_it() -> None:
    b = broker()
    b.submit(order(BUY, stop="101", limit="101.5"), 0)
    assert b.on_bars([bar(0, 100, 103, 99, 102)]) == []  # low 99 may have come before the trigger
    assert fills(b.on_bars([bar(1, 102, 102, 101.2, 102)])) == [("100", "101.5", 2 * MINUTE)]
    b.submit(order(BUY, stop="103", limit="103.5"), 2 * MINUTE)
    assert fills(b.on_bars([bar(2, 102, 104, 102, 103.2)])) == [("100", "103.5", 3 * MINUTE)]


def test_a_stop_limit_gapped_past_its_limit_waits_as_a_limit() -> None:
    b = broker()
    b.submit(order(SELL, stop="99", limit="98"), 0)
    assert b.on_bars([bar(0, 97, 97.9, 96, 97)]) == []
    assert fills(b.on_bars([bar(1, 98.4, 99, 98, 99)])) == [("100", "98.4", MINUTE)]


def test_an_order_takes_at_most_its_share_of_a_bars_volume_and_the_rest_works_on() -> None:
    b = broker(volume_share=D("0.1"))
    b.submit(order(qty="100"), 0)
    assert fills(b.on_bars([flat(0, 100, volume=459)])) == [("45", "100.0", 0)]
    assert [str(o.leaves_qty) for o in b.snapshot(0).orders] == ["55"]
    assert fills(b.on_bars([flat(1, 101, volume=9)])) == []
    assert fills(b.on_bars([flat(2, 102, volume=550)])) == [("55", "102.0", 2 * MINUTE)]


def test_orders_in_one_symbol_share_the_volume_by_arrival() -> None:
    b = broker(volume_share=D("0.1"))
    b.submit(order(qty="60"), 0)
    b.submit(order(qty="60"), 0)
    assert fills(b.on_bars([flat(0, volume=1000)])) == [("60", "100.0", 0), ("40", "100.0", 0)]


def test_execution_ids_are_the_orders_with_a_counter() -> None:
    b = broker(volume_share=D("0.5"))
    b.submit(order(qty="10", order_id="s-1-900"), 0)
    first, second = b.on_bars([flat(0, volume=10)]), b.on_bars([flat(1, volume=10)])
    assert [r.exec_id for r in (*first, *second)] == ["s-1-900-1", "s-1-900-2"]


def test_ioc_takes_what_the_first_bar_offers_at_its_open_and_cancels_the_rest() -> None:
    b = broker(volume_share=D("0.1"))
    b.submit(order(qty="100", tif=IOC), 0)
    out = b.on_bars([flat(0, volume=300)])
    assert kinds(out) == ["TRADE", "CANCELED"] and fills(out) == [("30", "100.0", 0)]
    b.submit(order(limit="99.5", tif=IOC), MINUTE)
    assert kinds(b.on_bars([bar(1, 100, 101, 98, 100)])) == ["CANCELED"]


def test_fok_fills_whole_or_not_at_all() -> None:
    b = broker(volume_share=D("0.1"))
    b.submit(order(qty="100", tif=FOK), 0)
    assert kinds(b.on_bars([flat(0, volume=999)])) == ["CANCELED"]
    b.submit(order(qty="100", tif=FOK), MINUTE)
    assert kinds(b.on_bars([flat(1, volume=1000)])) == ["TRADE"]


def test_opg_fills_at_the_sessions_first_open_or_expires() -> None:
    b = broker(closed=True)
    b.submit(order(tif=OPG), 0)
    b.submit(order(tif=OPG, limit="99"), 0)
    assert b.on_session_open(10 * MINUTE, "2024-01-02") == []
    out = b.on_bars([flat(11)])  # the first minute had no trade
    assert kinds(out) == ["TRADE", "EXPIRED"] and fills(out) == [("100", "100.0", 11 * MINUTE)]


def test_opg_sent_after_the_open_waits_for_the_next_session() -> None:
    b = broker()
    b.on_session_open(MINUTE, "2024-01-02")
    b.submit(order(tif=OPG), 2 * MINUTE)
    assert b.on_bars([flat(2)]) == []
    assert b.on_session_close(3 * MINUTE, "2024-01-02") == []
    b.on_session_open(10 * MINUTE, "2024-01-03")
    assert fills(b.on_bars([flat(10, 102)])) == [("100", "102.0", 10 * MINUTE)]


def test_cls_fills_at_the_close_of_the_session() -> None:
    b = broker()
    b.on_session_open(0, "2024-01-02")
    b.submit(order(tif=CLS), 0)
    b.submit(order(tif=CLS, limit="101"), 0)
    assert b.on_bars([flat(0, 100)]) == []
    assert b.on_bars([bar(1, 100, 103, 100, 102)]) == []
    out = b.on_session_close(2 * MINUTE, "2024-01-02")
    assert kinds(out) == ["TRADE", "EXPIRED"] and fills(out) == [("100", "102.0", 2 * MINUTE)]


def test_cls_given_at_the_close_is_for_the_next_session() -> None:
    b = broker()
    b.on_session_open(0, "2024-01-02")
    b.submit(order(tif=CLS), MINUTE)
    assert b.on_session_close(MINUTE, "2024-01-02") == []
    b.on_session_open(10 * MINUTE, "2024-01-03")
    b.on_bars([flat(10, 104)])
    assert fills(b.on_session_close(11 * MINUTE, "2024-01-03")) == [("100", "104.0", 11 * MINUTE)]


def test_a_day_order_expires_at_the_close_and_a_gtc_order_does_not() -> None:
    b = broker()
    b.on_session_open(0, "2024-01-02")
    b.submit(order(limit="90"), 0)
    b.submit(order(limit="90", tif=GTC), 0)
    assert kinds(b.on_session_close(9 * MINUTE, "2024-01-02")) == ["EXPIRED"]
    assert len(b.snapshot(0).orders) == 1


def test_a_day_order_given_at_the_close_works_in_the_next_session() -> None:
    b = broker()
    b.on_session_open(0, "2024-01-02")
    b.submit(order(), MINUTE)
    assert b.on_session_close(MINUTE, "2024-01-02") == []
    assert b.on_bars([flat(2)]) == []  # after hours
    b.on_session_open(10 * MINUTE, "2024-01-03")
    assert fills(b.on_bars([flat(10, 103)])) == [("100", "103.0", 10 * MINUTE)]


def test_orders_fill_outside_the_session_only_in_extended_hours() -> None:
    regular, extended = broker(closed=True), broker(closed=True, extended_hours=True)
    for b in (regular, extended):
        b.submit(order(), 0)
    assert fills(regular.on_bars([flat(1)])) == []
    assert fills(extended.on_bars([flat(1)])) == [("100", "100.0", MINUTE)]


def test_at_the_close_a_market_order_gets_the_close_of_the_bar_it_was_decided_on() -> None:
    b = broker(fill_at=FillAt.CLOSE)
    decided_on = bar(0, 100, 101, 99, 100.75)
    out = b.submit(order(), MINUTE, {"SPY": decided_on})
    assert kinds(out) == ["NEW", "TRADE"] and fills(out) == [("100", "100.75", MINUTE)]


def test_at_the_close_an_order_without_a_bar_at_its_instant_gets_its_next_bars_close() -> None:
    b = broker(fill_at=FillAt.CLOSE)
    assert kinds(b.submit(order(), 3 * MINUTE, {"SPY": bar(0, 100, 101, 99, 100.75)})) == ["NEW"]
    assert fills(b.on_bars([bar(3, 100, 101, 99, 99.25)])) == [("100", "99.25", 4 * MINUTE)]


def test_at_the_close_limits_still_work_inside_bars() -> None:
    b = broker(fill_at=FillAt.CLOSE)
    assert kinds(b.submit(order(limit="101"), MINUTE, {"SPY": flat(0)})) == ["NEW"]
    assert fills(b.on_bars([bar(1, 100.5, 101, 99, 100)])) == [("100", "100.5", MINUTE)]


def test_slippage_is_rounded_to_the_tick_against_the_trader() -> None:
    b = broker(slippage=BpsSlippage(D("1.5")))
    b.submit(order(BUY), 0)
    assert fills(b.on_bars([flat(0, 100.0)])) == [("100", "100.02", 0)]
    b.submit(order(SELL), MINUTE)
    assert fills(b.on_bars([flat(1, 100.0)])) == [("100", "99.98", MINUTE)]


def test_slippage_never_carries_a_limit_past_its_limit_and_resting_limits_pay_none() -> None:
    b = broker(slippage=TickSlippage(5))
    b.submit(order(BUY, limit="100.02"), 0)
    assert fills(b.on_bars([flat(0, 100.0)])) == [("100", "100.02", 0)]
    b.submit(order(BUY, limit="99"), MINUTE)
    assert fills(b.on_bars([bar(1, 100, 100, 98, 99)])) == [("100", "99.0", 2 * MINUTE)]


def test_a_stop_pays_slippage_beyond_its_stop() -> None:
    b = broker(slippage=TickSlippage(3))
    b.submit(order(SELL, stop="99"), 0)
    assert fills(b.on_bars([bar(0, 100, 100, 98.99, 99.5)])) == [("100", "98.97", MINUTE)]


def test_a_sale_never_slips_below_one_tick() -> None:
    b = broker(slippage=TickSlippage(3))
    b.submit(order(SELL, symbol="SPY230901C00430000", qty="1"), 0)
    assert fills(b.on_bars([flat(0, 0.02, symbol="SPY230901C00430000")])) == [("1", "0.01", 0)]


def test_impact_grows_with_the_root_of_the_share_of_volume() -> None:
    model = ImpactSlippage(0.001)
    quarter = model.amount(D(100), D(2500), 10_000.0, D("0.01"))
    whole = model.amount(D(100), D(10_000), 10_000.0, D("0.01"))
    assert (quarter, whole) == (D("0.0500"), D("0.100"))


def test_reduce_only_is_refused_where_there_is_nothing_to_reduce_and_never_turns_a_position() -> None:
    b = broker()
    assert kinds(b.submit(order(SELL, reduce_only=True), 0)) == ["REJECTED"]
    bought(b, "SPY", "60", 100.0)
    b.submit(order(SELL, "100", reduce_only=True, tif=GTC), MINUTE)
    out = b.on_bars([flat(1)])
    assert fills(out) == [("60", "100.0", MINUTE)] and position(b) == 0
    assert kinds(b.on_bars([flat(2)])) == ["CANCELED"] and not b.working


def test_reduce_only_is_judged_by_the_book_of_its_strategy() -> None:
    b = broker()
    b.submit(order(BUY, "100", strategy="a"), 0)
    b.submit(order(SELL, "100", strategy="b"), 0)
    b.on_bars([flat(0)])
    assert position(b) == 0
    assert kinds(b.submit(order(SELL, "100", strategy="a", reduce_only=True), MINUTE)) == ["NEW"]
    assert kinds(b.submit(order(SELL, "100", strategy="b", reduce_only=True), MINUTE)) == ["REJECTED"]


def test_cancel_ends_an_order_once() -> None:
    b = broker()
    o = order(limit="90")
    b.submit(o, 0)
    assert kinds(b.cancel(o.order_id, 1)) == ["CANCELED"]
    assert kinds(b.cancel(o.order_id, 2)) == ["CANCEL_REJECTED"]
    assert kinds(b.cancel("s-1-0", 2)) == ["CANCEL_REJECTED"]
    assert not b.working


def test_replace_changes_terms_from_its_arrival_on() -> None:
    b = broker()
    o = order(limit="90")
    b.submit(o, 0)
    assert kinds(b.replace(o.order_id, D(50), D("100.5"), None, MINUTE + 1)) == ["REPLACED"]
    assert b.on_bars([flat(1)]) == []
    assert fills(b.on_bars([flat(2)])) == [("50", "100.0", 2 * MINUTE)]
    assert kinds(b.replace(o.order_id, D(60), None, None, 4 * MINUTE)) == ["REPLACE_REJECTED"]


def test_replace_below_what_has_filled_is_refused_and_the_order_works_on() -> None:
    b = broker(volume_share=D("0.1"))
    o = order(qty="100")
    b.submit(o, 0)
    b.on_bars([flat(0, volume=400)])
    assert kinds(b.replace(o.order_id, D(40), None, None, MINUTE)) == ["REPLACE_REJECTED"]
    assert kinds(b.replace(o.order_id, D(70), None, None, MINUTE)) == ["REPLACED"]
    assert fills(b.on_bars([flat(1)])) == [("30", "100.0", MINUTE)]


@pytest.mark.parametrize(
    "bad",
    [
        order(qty="0"),
        order(qty="0.5"),
        order(limit="1", order_type=LIMIT, stop="2"),
        order(order_type=LIMIT),
        order(tif=OPG, stop="3"),
        order(tif=CLS, symbol="SPY230901C00430000"),
        order(symbol="not a symbol"),
        order(parent="s-1-0"),
    ],
)
def test_the_broker_refuses_what_no_broker_takes(bad: object) -> None:
    b = broker()
    assert kinds(b.submit(bad, 0)) == ["REJECTED"]  # type: ignore[arg-type]
    assert not b.working


def test_an_id_is_used_once() -> None:
    b = broker()
    o = order()
    b.submit(o, 0)
    with pytest.raises(ProtocolError, match="used once"):
        b.submit(o, 1)


def test_every_assumption_is_a_sentence() -> None:
    said = broker(slippage=BpsSlippage(D(1))).model.assumptions()
    assert len(said) >= 15 and all(said.values())
    assert said["slippage"] == "1 bps of the price, rounded to the tick against the trader"
