"""Alpaca's JSON: numbers, times, ids, bodies; and that no bytes whatever raise anything but ``Unreadable``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from northstar_core.brokers.alpaca.exits import Batch, Exits
from northstar_core.brokers.alpaca.wire import (
    Unreadable,
    change_of,
    client_id,
    event_of,
    exec_id,
    fill_of,
    frame_of,
    number,
    oco_body,
    order_body,
    ours,
    refusal,
    replace_body,
    rfc3339,
    row_of,
    time_ns,
)
from northstar_core.model.execution import ActivityKind
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from tests.brokers.alpaca_lives import order

SPREAD = "1*SPY260619C00600000,-2*SPY260619C00610000"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=8,
)
NAMES = st.sampled_from(
    "id status client_order_id qty filled_qty side legs order event symbol submitted_at price replaces".split()
)


@given(st.binary(max_size=200))
def test_a_frame_of_any_bytes_is_read_or_unreadable(raw: bytes) -> None:
    try:
        event_of(frame_of(raw).get("data"))
    except Unreadable:
        pass


@settings(max_examples=60)
@given(st.dictionaries(NAMES, anything | st.dictionaries(NAMES, anything, max_size=8), max_size=8))
def test_a_row_event_or_activity_of_any_json_is_read_or_unreadable(data: dict[str, Any]) -> None:
    for read in (row_of, event_of, fill_of, change_of):
        try:
            read(data)
        except Unreadable:
            pass


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_a_time_written_is_read_again_to_the_nanosecond(ts: int) -> None:
    assert time_ns(rfc3339(ts)) == ts


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-06-01T13:30:00Z", "2026-06-01T13:30:00"),
        ("2026-06-01T09:30:00.5-04:00", "2026-06-01T13:30:00.500000"),
        ("2026-06-01T19:00:00+05:30", "2026-06-01T13:30:00"),
        ("2026-06-01", "2026-06-01T00:00:00"),
    ],
)
def test_times_come_with_z_with_an_offset_and_as_days(text: str, utc: str) -> None:
    assert time_ns(text) == int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp() * 1_000_000) * 1000


def test_nine_digits_of_a_second_are_kept() -> None:
    assert time_ns("2026-06-01T13:30:00.123456789Z") % 10**9 == 123456789


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1e999999", True, "abc", [], "1E+30"])
def test_a_number_that_cannot_be_booked_is_unreadable(bad: Any) -> None:
    with pytest.raises(Unreadable):
        number(bad)


def test_numbers_are_exact_and_plain_and_null_is_none() -> None:
    assert [str(number(v)) for v in ("100.000000000", 31.6, "0.0001", 7)] == ["100", "31.6", "0.0001", "7"]
    assert number(None) is None and number("") is None


def test_each_replacement_has_an_id_of_its_own_that_leads_back() -> None:
    ids = [client_id("spy.v2-20260601abc-17", n) for n in range(4)]
    assert len(set(ids)) == 4 and [ours(i) for i in ids] == [("spy.v2-20260601abc-17", n) for n in range(4)]
    assert ours("somebody-else") is None and ours("ns-spy-20260601abc-17-zz") is None and ours("") is None


def test_an_execution_has_one_id_however_its_quantity_is_written() -> None:
    assert exec_id("a", Decimal("100")) == exec_id("a", Decimal("100.00")) == "a:100"
    assert exec_id("a", Decimal("1E+2"), Decimal("40.0")) == "a:40-100"


def test_an_order_says_only_what_belongs_to_it() -> None:
    assert order_body(order(qty=10)) == {
        "client_order_id": client_id("trend-20261120abc-1"), "symbol": "SPY", "qty": "10", "side": "buy", "type": "limit",
        "time_in_force": "day", "limit_price": "450",
    }  # fmt: skip
    sale = order(side=Side.SELL, order_type=OrderType.STOP_LIMIT, stop_price=Decimal("449.50"), tif=TimeInForce.GTC)
    body = order_body(sale, Decimal(3))
    assert (body["qty"], body["side"], body["type"], body["stop_price"]) == ("3", "sell", "stop_limit", "449.5")


def test_an_option_has_no_prefix_and_closes_where_it_may_only_reduce() -> None:
    body = order_body(order(symbol="SPY260619C00600000", reduce_only=True, side=Side.SELL))
    assert (body["symbol"], body["position_intent"]) == ("SPY260619C00600000", "sell_to_close")
    assert "position_intent" not in order_body(order(reduce_only=True))


@pytest.mark.parametrize(("side", "limit", "sides"), [("BUY", "1.5", ["buy", "sell"]), ("SELL", "-1.5", ["sell", "buy"])])
def test_a_combo_is_one_order_of_legs_whose_limit_is_a_debit_or_a_credit(side: str, limit: str, sides: list[str]) -> None:
    body = order_body(order(symbol=SPREAD, side=Side(side), limit_price=Decimal("1.50")))
    assert (body["order_class"], body["limit_price"]) == ("mleg", limit) and "symbol" not in body and "side" not in body
    assert [leg["side"] for leg in body["legs"]] == sides and [leg["ratio_qty"] for leg in body["legs"]] == ["1", "2"]
    assert replace_body(order(symbol=SPREAD, side=Side(side)), 1, Decimal(2), Decimal("1.50"), None)["limit_price"] == limit


def test_extended_hours_are_for_limit_orders_in_shares() -> None:
    assert order_body(order(), extended_hours=True)["extended_hours"] is True
    assert "extended_hours" not in order_body(order(order_type=OrderType.MARKET, limit_price=None), extended_hours=True)
    assert order_body(order(symbol="SPY260619C00600000"), extended_hours=True)["extended_hours"] is False


def test_frames_are_json_text_json_bytes_or_messagepack() -> None:
    data = {"stream": "trade_updates", "data": {"event": "new"}}
    assert frame_of(json.dumps(data).encode()) == frame_of(msgspec.msgpack.encode(data)) == data


def test_a_refusal_is_alpacas_only_with_its_message() -> None:
    assert refusal(403, b'{"code":40310000,"message":"insufficient buying power","buying_power":"1"}') == (
        "40310000", "insufficient buying power (buying_power=1)",
    )  # fmt: skip
    assert refusal(502, b"<html>")[0] == "" and refusal(500, b"[]")[0] == "" and refusal(400, b"{}")[0] == ""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("DIV", ActivityKind.DIVIDEND), ("DIVNRA", ActivityKind.DIVIDEND), ("FEE", ActivityKind.FEE), ("OPEXP", ActivityKind.EXPIRATION),
     ("OPASN", ActivityKind.ASSIGNMENT), ("CSD", ActivityKind.EXTERNAL)],
)  # fmt: skip
def test_other_activities_move_cash_and_shares_by_their_kind(kind: str, expected: ActivityKind) -> None:
    row = {"id": "20260601093000123::x", "activity_type": kind, "date": "2026-06-01", "net_amount": "-1.25", "symbol": "SPY", "qty": "5"}
    change = change_of(row)
    assert (change.kind, change.cash) == (expected, Decimal("-1.25"))
    assert change.qty == (5 if expected not in (ActivityKind.DIVIDEND, ActivityKind.FEE) else 0)
    assert change.ts == time_ns("2026-06-01T13:30:00.123Z")


# ── exits ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def exits(**stop: Any) -> tuple[Exits, PlaceOrder, PlaceOrder]:
    target = order("e-1-2", 10, side=Side.SELL, limit_price=Decimal(460), parent="e-1-1", tif=TimeInForce.GTC)
    other = {"order_type": OrderType.STOP, "limit_price": None, "stop_price": Decimal(440), **stop}
    loss = order("e-1-3", 10, side=Side.SELL, parent="e-1-1", tif=TimeInForce.GTC, **other)
    held = Exits()
    held.hold(target)
    held.hold(loss)
    return held, target, loss


def test_a_target_and_a_stop_in_shares_go_out_as_one() -> None:
    held, target, loss = exits()
    assert held.release("e-1-1", Decimal(4)) == [Batch(target, Decimal(4), loss)] and not held.held
    body = oco_body(target, loss, Decimal(4))
    assert (body["order_class"], body["qty"], body["limit_price"]) == ("oco", "4", "460")
    assert (body["take_profit"], body["stop_loss"]) == ({"limit_price": "460"}, {"stop_price": "440"})


@pytest.mark.parametrize(
    "stop",
    [{"stop_price": Decimal(470)}, {"symbol": "QQQ"}, {"order_type": OrderType.LIMIT, "limit_price": Decimal(461), "stop_price": None}],
)
def test_exits_that_are_no_such_pair_go_out_one_by_one_stops_first(stop: dict[str, Any]) -> None:
    held, target, loss = exits(**stop)
    batches = held.release("e-1-1", Decimal(10))
    assert {batch.order.order_id for batch in batches} == {target.order_id, loss.order_id} and all(b.stop is None for b in batches)
    assert batches[0].order.order_type is not OrderType.LIMIT or loss.order_type is OrderType.LIMIT
    assert held.family == {target.order_id: (loss.order_id,), loss.order_id: (target.order_id,)}


def test_a_held_exit_can_be_changed_and_taken_back() -> None:
    held, target, loss = exits()
    assert held.change(target.order_id, Decimal(5), Decimal(465), None) and not held.change("x", Decimal(1), None, None)
    changed = held.get(target.order_id)
    assert changed is not None and (changed.qty, changed.limit_price) == (5, 465)
    assert held.take(loss.order_id) == loss and held.take(loss.order_id) is None
    [batch] = held.release("e-1-1", Decimal(10))
    assert (batch.qty, batch.stop) == (5, None)


def test_exits_of_options_are_no_pair_at_alpaca() -> None:
    held, _, _ = exits(symbol="SPY260619C00600000")
    assert len(held.release("e-1-1", Decimal(10))) == 2
