"""How orders fill on quotes and prints, and what latency does."""

from __future__ import annotations

from northstar_core.sim.fills import FillAt
from northstar_core.sim.latency import NEVER, Latency
from tests.sim.worlds import (
    BUY,
    CLS,
    FOK,
    IOC,
    MINUTE,
    SELL,
    D,
    bar,
    broker,
    fills,
    flat,
    kinds,
    order,
    quote,
    trade,
)  # fmt: skip

MS = 10**6


def test_a_market_order_takes_the_quote_in_force_when_it_arrives() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    in_force = {"SPY": quote(5, 99.9, 100.1)}
    assert fills(b.submit(order(BUY), 7, in_force)) == [("100", "100.1", 7)]
    assert fills(b.submit(order(SELL), 7, in_force)) == [("100", "99.9", 7)]


def test_no_more_than_the_size_shown_is_filled_and_the_rest_waits_for_the_next_quote() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    shown = quote(5, 99.9, 100.1, ask_size=60)
    assert fills(b.submit(order(BUY), 5, {"SPY": shown})) == [("60", "100.1", 5)]
    assert fills(b.submit(order(BUY, "10"), 6, {"SPY": shown})) == []  # the same quote has nothing left
    assert fills(b.on_quote(quote(8, 99.9, 100.2, ask_size=45))) == [("40", "100.2", 8), ("5", "100.2", 8)]


def test_a_side_that_is_not_given_fills_nothing() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    b.submit(order(BUY), 0)
    assert b.on_quote(quote(1, 99.9, 0.0)) == []


def test_a_limit_takes_a_quote_at_its_price_or_better() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    b.submit(order(BUY, limit="100"), 0)
    assert b.on_quote(quote(1, 99.9, 100.01)) == []
    assert fills(b.on_quote(quote(2, 99.9, 99.95))) == [("100", "99.95", 2)]


def test_a_resting_limit_fills_on_a_print_through_it() -> None:
    b = broker(fill_at=FillAt.QUOTE, volume_share=D("0.5"))
    b.submit(order(BUY, limit="100"), 0)
    assert b.on_trade(trade(1, 100.0)) == []
    assert b.on_trade(trade(1, 99.9, forms_price=False)) == []
    assert fills(b.on_trade(trade(2, 99.99, 150))) == [("75", "100.0", 2)]


def test_a_stop_is_triggered_by_a_print_and_fills_at_the_next_quote() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    b.submit(order(SELL, stop="99"), 0, {"SPY": quote(0, 99.9, 100.1)})
    assert b.on_trade(trade(1, 98.9)) == []
    assert fills(b.on_quote(quote(2, 98.5, 98.7))) == [("100", "98.5", 2)]


def test_a_stop_is_triggered_by_a_quote_only_when_the_whole_market_is_through_it() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    b.submit(order(SELL, stop="99"), 0)
    assert b.on_quote(quote(1, 95.0, 100.0)) == []  # a wide bid is no market through the stop
    assert fills(b.on_quote(quote(2, 98.8, 98.9))) == [("100", "98.8", 2)]


def test_without_any_quote_a_market_order_fills_on_the_next_print() -> None:
    b = broker(fill_at=FillAt.QUOTE, volume_share=D("0.1"))
    b.submit(order(BUY, "30"), 0)
    assert fills(b.on_trade(trade(1, 100.5, 200))) == [("20", "100.5", 1)]


def test_ioc_and_fok_meet_one_quote_only() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    out = b.submit(order(BUY, tif=IOC), 1, {"SPY": quote(0, 99, 100, ask_size=30)})
    assert kinds(out) == ["NEW", "TRADE", "CANCELED"]
    assert kinds(b.submit(order(BUY, tif=FOK), 2, {"SPY": quote(2, 99, 100, ask_size=99)})) == ["NEW", "CANCELED"]


def test_cls_on_ticks_fills_at_the_last_print() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    b.on_session_open(0, "2024-01-02")
    b.submit(order(BUY, tif=CLS), 0)
    b.on_trade(trade(1, 101.0))
    b.on_quote(quote(2, 100.0, 103.0))
    assert fills(b.on_session_close(9, "2024-01-02")) == [("100", "101.0", 9)]


def test_on_a_mixed_tape_each_symbol_fills_from_its_own_source() -> None:
    b = broker(ticks=frozenset({"QQQ"}))
    b.submit(order(BUY, symbol="QQQ"), 0, {"QQQ": quote(0, 9.9, 10.1, symbol="QQQ")})
    b.submit(order(BUY), 0, {"SPY": flat(0)})
    assert not b.snapshot(0).orders[0].order_id == "" and list(b.working) == ["SPY"]
    assert b.on_quote(quote(1, 1.0, 1.1)) == []
    assert fills(b.on_bars([flat(0)])) == [("100", "100.0", 0)]


def test_an_order_in_flight_misses_the_bar_that_opened_meanwhile() -> None:
    b = broker(latency=Latency(entry_ns=50 * MS, response_ns=20 * MS))
    assert b.submit(order(), MINUTE) == [] and b.next_due == MINUTE + 50 * MS and not b.working
    assert b.advance(MINUTE + 50 * MS) == []
    assert b.next_due == MINUTE + 70 * MS and b.working
    assert kinds(b.advance(MINUTE + 70 * MS)) == ["NEW"]
    assert b.on_bars([flat(1)]) == []
    assert fills(b.on_bars([flat(2, 101.0)])) == [("100", "101.0", 2 * MINUTE)]
    assert b.next_due == NEVER


def test_a_report_keeps_the_time_at_the_broker_and_arrives_later() -> None:
    b = broker(latency=Latency(response_ns=20 * MS))
    b.submit(order(limit="99.5"), 0)
    assert kinds(b.on_bars([flat(0)])) == ["NEW"]  # it has come back long before the bar closed
    b.on_bars([flat(1, 99.7)])
    assert b.on_bars([bar(2, 100, 100, 99, 100)]) == []
    out = b.advance(b.next_due)
    assert fills(out) == [("100", "99.5", 3 * MINUTE)] and b.next_due == NEVER


def test_a_cancel_and_a_fill_can_cross_on_the_wire() -> None:
    b = broker(fill_at=FillAt.QUOTE, latency=Latency(entry_ns=10, response_ns=10))
    o = order(limit="100")
    b.submit(o, 0)
    b.advance(20)
    assert b.cancel(o.order_id, 100) == []
    assert b.on_quote(quote(105, 99, 99.5)) == []
    assert kinds(b.advance(130)) == ["TRADE", "CANCEL_REJECTED"]


def test_what_is_asked_for_in_answer_to_a_fill_cannot_arrive_before_the_fill_was_known() -> None:
    b = broker()
    b.submit(order(), 0)
    (fill,) = b.on_bars([flat(0)])
    assert fill.ts == 0
    (accepted,) = b.submit(order(SELL), fill.ts)
    assert accepted.ts == MINUTE
