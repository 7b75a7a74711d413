"""Combos: all legs or none."""

from __future__ import annotations

from northstar_core.model.execution import ExecutionReport
from northstar_core.sim.broker import SimBroker
from northstar_core.sim.costs import PerContract
from northstar_core.sim.fills import FillAt
from tests.sim.worlds import BUY, GTC, IOC, MINUTE, SELL, D, broker, flat, kinds, order, position, quote

LOW, HIGH = "SPY230901C00430000", "SPY230901C00440000"
VERTICAL = f"1*{LOW},-1*{HIGH}"


def legs(reports: list[ExecutionReport]) -> list[tuple[str, str, str, str, str]]:
    return [(r.exec_id[-2:], r.symbol[-8:], str(r.side), str(r.qty), str(r.price)) for r in reports if r.exec_id]


def test_a_combo_fills_leg_by_leg_at_the_open_of_bars_that_all_legs_have() -> None:
    b = broker()
    b.submit(order(BUY, "2", symbol=VERTICAL), 0)
    assert set(b.working) == {LOW, HIGH}
    assert b.on_bars([flat(0, 20.0, symbol=LOW)]) == []
    out = b.on_bars([flat(1, 20.0, symbol=LOW), flat(1, 12.5, symbol=HIGH)])
    assert legs(out) == [("-1", "00430000", "BUY", "2", "20.0"), ("-2", "00440000", "SELL", "2", "12.5")]
    assert b.snapshot(0).cash == D(100000) - 200 * D("7.5")
    assert (position(b, LOW), position(b, HIGH)) == (2, -2) and not b.working


def test_a_combos_limit_is_its_net_price() -> None:
    b = broker()
    b.submit(order(BUY, "1", symbol=VERTICAL, limit="7.50"), 0)
    b.submit(order(SELL, "1", symbol=VERTICAL, limit="8"), 0)
    assert b.on_bars([flat(0, 20.01, symbol=LOW), flat(0, 12.5, symbol=HIGH)]) == []
    assert [r.order_id for r in b.on_bars([flat(1, 20.0, symbol=LOW), flat(1, 12.5, symbol=HIGH)])] != []
    out = b.on_bars([flat(2, 20.5, symbol=LOW), flat(2, 12.5, symbol=HIGH)])
    assert [(r.side, r.price) for r in out] == [(SELL, D("20.5")), (BUY, D("12.5"))]


def test_a_combo_takes_only_as_many_whole_units_as_every_leg_has_room_for() -> None:
    b = broker(volume_share=D("0.5"))
    b.submit(order(BUY, "10", symbol=f"1*{LOW},-2*{HIGH}"), 0)
    out = b.on_bars([flat(0, 20.0, 100, LOW), flat(0, 12.5, 14, HIGH)])
    assert legs(out) == [("-1", "00430000", "BUY", "3", "20.0"), ("-2", "00440000", "SELL", "6", "12.5")]
    assert [str(o.leaves_qty) for o in b.snapshot(0).orders] == ["7"]


def test_a_combo_takes_the_far_side_of_each_legs_quote() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    in_force = {LOW: quote(5, 19.9, 20.1, 10, 3, LOW), HIGH: quote(4, 12.4, 12.6, 8, 9, HIGH)}
    out = b.submit(order(BUY, "5", symbol=VERTICAL), 5, in_force)
    assert legs(out) == [("-1", "00430000", "BUY", "3", "20.1"), ("-2", "00440000", "SELL", "3", "12.4")]
    assert b.on_quote(quote(6, 12.3, 12.6, 8, 9, HIGH)) == []  # the first leg's quote is used up
    assert legs(b.on_quote(quote(7, 19.9, 20.2, 10, 50, LOW)))[0] == ("-3", "00430000", "BUY", "2", "20.2")
    assert not b.working


def test_a_leg_without_a_side_keeps_the_whole_combo_waiting() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    in_force = {LOW: quote(5, 19.9, 20.1, symbol=LOW), HIGH: quote(4, 0.0, 12.6, symbol=HIGH)}
    assert kinds(b.submit(order(BUY, "5", symbol=VERTICAL), 5, in_force)) == ["NEW"]
    assert kinds(b.on_quote(quote(6, 12.3, 12.6, symbol=HIGH))) == ["TRADE", "TRADE"]


def test_an_ioc_combo_that_does_not_fill_on_arrival_is_canceled() -> None:
    b = broker(fill_at=FillAt.QUOTE)
    in_force = {LOW: quote(5, 19.9, 20.1, symbol=LOW), HIGH: quote(4, 12.4, 12.6, symbol=HIGH)}
    assert kinds(b.submit(order(BUY, "5", symbol=VERTICAL, limit="7.69", tif=IOC), 5, in_force)) == ["NEW", "CANCELED"]


def test_each_leg_of_a_combo_pays_its_own_commission() -> None:
    b = broker(costs=PerContract(D("0.65"), D(1)))
    b.submit(order(BUY, "1", symbol=VERTICAL), 0)
    out = b.on_bars([flat(0, 20.0, symbol=LOW), flat(0, 12.5, symbol=HIGH)])
    assert [str(r.fees) for r in out] == ["1.00", "1.00"]


def test_a_covered_call_is_priced_in_the_options_unit_and_fills_across_bars_and_quotes() -> None:
    b = broker(ticks=frozenset({LOW}))
    symbol = f"100*SPY,-1*{LOW}"
    b.submit(order(BUY, "1", symbol=symbol, limit="425"), 0, {LOW: quote(0, 20.0, 20.2, symbol=LOW)})
    out = b.on_bars([flat(0, 445.0)])
    assert [(r.symbol, r.qty, r.price, r.ts) for r in out] == [
        ("SPY", D(100), D("445.0"), MINUTE), (LOW, D(1), D("20.0"), MINUTE),
    ]  # fmt: skip
    assert b.snapshot(0).cash == D(100000) - 42500


def opened(b: SimBroker) -> None:
    b.submit(order(BUY, "2", symbol=VERTICAL), 0)
    b.on_bars([flat(0, 20.0, symbol=LOW), flat(0, 12.5, symbol=HIGH)])


def test_a_reduce_only_combo_closes_no_more_than_every_leg_holds() -> None:
    b = broker()
    opened(b)
    assert kinds(b.submit(order(BUY, "1", symbol=VERTICAL, reduce_only=True), MINUTE)) == ["REJECTED"]
    b.submit(order(SELL, "5", symbol=VERTICAL, reduce_only=True, tif=GTC), MINUTE)
    b.on_bars([flat(1, 21.0, symbol=LOW), flat(1, 13.0, symbol=HIGH)])
    assert b.snapshot(0).positions == ()


def test_a_combo_takes_no_stop_and_no_auction() -> None:
    b = broker()
    assert kinds(b.submit(order(BUY, "1", symbol=VERTICAL, stop="5"), 0)) == ["REJECTED"]
