"""How the auditor says numbers, times and events in plain text."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from northstar_core.model import events as e
from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport
from northstar_core.model.market import Bar, Halt, Quote, Trade
from northstar_core.model.order import CancelOrder, PlaceOrder, ReplaceOrder

NEW_YORK = ZoneInfo("America/New_York")


def number(value: object) -> str:
    """Return a number for people: thousands separated, six decimals at most; other things as they are."""
    if isinstance(value, float):
        text = f"{value:,.4f}".rstrip("0").rstrip(".")
        return "0" if text == "-0" else text
    if isinstance(value, Decimal):
        return f"{round(value, 6).normalize():,f}" if value.is_finite() else str(value)
    return str(value)


def moment(ts: int) -> str:
    """Return an instant in New York time, to the second where it is one."""
    at = datetime.fromtimestamp(ts // 10**9, UTC).astimezone(NEW_YORK)
    below = ts % 10**9
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{below:09}".rstrip("0") if below else "") + f" {at:%Z}"


def clock(ts: int) -> str:
    """Return the time of day in New York."""
    return f"{datetime.fromtimestamp(ts // 10**9, UTC).astimezone(NEW_YORK):%H:%M:%S}"


def values(inputs: dict[str, float]) -> str:
    """Return named values."""
    return ", ".join(f"{name} {number(value)}" for name, value in inputs.items())


def terms(order: PlaceOrder) -> str:
    """Return what an order asks for."""
    parts = [order.side, number(order.qty), order.symbol, order.order_type]
    parts += [
        f"{word} {price}"
        for word, price in (("limit", order.limit_price), ("stop", order.stop_price))
        if price is not None
    ]
    parts += [
        order.tif,
        *(["reduce-only"] if order.reduce_only else []),
        *([f"exit of {order.parent}"] if order.parent else []),
    ]
    return " ".join(parts)


def describe(event: object) -> str:
    """Return what an event says, in one line."""
    match event:
        case Bar():
            return (
                f"bar {event.symbol} {clock(event.start)} to {clock(event.ts)}: open {event.open} high {event.high}"
                f" low {event.low} close {event.close} volume {number(event.volume)}"
            )
        case Quote():
            bid, ask = f"{event.bid} × {number(event.bid_size)}", f"{event.ask} × {number(event.ask_size)}"
            return f"quote {event.symbol}: bid {bid}, ask {ask}"
        case Trade():
            return f"trade {event.symbol}: {event.price} × {number(event.size)}"
        case Halt():
            return f"{event.symbol} {'halted' if event.halted else 'resumed'} {event.reason}".rstrip()
        case e.Signal():
            seen = f"value {number(event.value)} ({values(event.inputs)})"
            return f"signal {event.n} for {event.symbol}: {event.reason}, {seen}"
        case e.NoSignal():
            return f"no signal for {event.symbol}: {event.reason} ({values(event.inputs)})"
        case PlaceOrder():
            return f"order {event.order_id}: {terms(event)}"
        case ReplaceOrder():
            wanted = (("quantity", event.qty), ("limit", event.limit_price), ("stop", event.stop_price))
            return f"replace {event.order_id}: {', '.join(f'{k} {number(v)}' for k, v in wanted if v is not None)}"
        case CancelOrder():
            return f"cancel {event.order_id} {event.reason}".rstrip()
        case e.OrderSubmitted():
            rules = f"; changed by {', '.join(event.verdict.rules)}" if event.verdict.rules else ""
            return f"every check passed, submitted: {terms(event.order)}{rules}"
        case e.OrderDenied():
            passes = f"; would have passed at quantity {number(event.passes_at)}" if event.passes_at else ""
            return f"denied: {event.reason} ({event.detail}){passes}"
        case ExecutionReport():
            if event.exec_type is ExecType.TRADE:
                return f"broker: {event.side} {number(event.qty)} {event.symbol} @ {event.price}, {event.exec_id}"
            return f"broker: {event.exec_type} {event.text}".rstrip()
        case e.OrderFilled():
            late = " (late: after the order had ended)" if event.late else ""
            return (
                f"filled {event.side} {number(event.qty)} {event.symbol} @ {event.price}, fees {event.fees};"
                f" {number(event.cum_qty)} in all, {number(event.leaves_qty)} left{late}"
            )
        case e.OrderCanceled() | e.OrderExpired():
            how = "canceled" if isinstance(event, e.OrderCanceled) else "expired"
            return f"{how} with {number(event.cum_qty)} filled {event.reason}".rstrip()
        case e.OrderRejected() | e.OrderUnknown():
            return f"{'rejected' if isinstance(event, e.OrderRejected) else 'outcome unknown'}: {event.reason}"
        case e.RequestRejected():
            return f"{event.request} rejected: {event.reason}"
        case e.ReplaceSubmitted() | e.OrderReplaced():
            how = "replace submitted" if isinstance(event, e.ReplaceSubmitted) else "replaced"
            prices = (("limit", event.limit_price), ("stop", event.stop_price))
            return f"{how}: quantity {number(event.qty)}" + "".join(f", {k} {v}" for k, v in prices if v is not None)
        case e.OrderAccepted():
            return "accepted by the broker"
        case e.CancelSubmitted():
            return "cancel submitted"
        case e.PositionAdjusted() | AccountActivity():
            change = f"quantity {number(event.qty)}, cash {number(event.cash)}"
            return f"{event.kind} {event.symbol}: {change} {event.text}".rstrip()
        case e.TimerFired():
            return f"timer {event.name!r} of {event.strategy}"
        case e.StrategyStarted():
            return f"strategy {event.strategy} started"
        case e.SessionOpened() | e.SessionClosed():
            return f"session {event.label} {'opened' if isinstance(event, e.SessionOpened) else 'closed'}"
        case _:
            return type(event).__name__
