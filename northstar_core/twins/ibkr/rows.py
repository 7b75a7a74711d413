"""Row formats of the Interactive Brokers twin: orders and executions as REST and stream show them.

The types are the recorded ones, not the documented ones: sizes are numbers, prices strings, ids integers here and
strings there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.model.instrument import Combo, Option
from northstar_core.model.order import OrderType, Side, TimeInForce
from northstar_core.twins.ibkr.contracts import Contracts, company, description, exchange, sec_type, ticker
from northstar_core.twins.ibkr.tickets import Ticket

Row = dict[str, Any]
ZERO = Decimal(0)

_TYPE = {
    OrderType.LIMIT: ("LIMIT", "Limit", "LMT"),
    OrderType.MARKET: ("MARKET", "Market", "MKT"),
    OrderType.STOP: ("STOP", "Stop", "STP"),
    OrderType.STOP_LIMIT: ("STOP_LIMIT", "Stop Limit", "STOP_LIMIT"),
}
#: Background and foreground of a row by status; clients throw them away.
_COLORS = {
    "Inactive": ("#000000", "#AFAFAF"),
    "PendingSubmit": ("#000000", "#3399CC"),
    "PreSubmitted": ("#FFFFFF", "#997EE5"),
    "Submitted": ("#000000", "#00F000"),
    "PendingCancel": ("#000000", "#FF64FF"),
    "Cancelled": ("#FFFFFF", "#AA0000"),
    "Filled": ("#FFFFFF", "#000000"),
}
#: The second, slower view of a status.
CCP = {
    "Inactive": "Pending Submit",
    "PendingSubmit": "Pending Submit",
    "PreSubmitted": "Submitted",
    "Submitted": "Submitted",
    "PendingCancel": "Submitted",
    "Cancelled": "Cancelled",
    "Filled": "Filled",
}
ENDED = frozenset({"Filled", "Cancelled", "Inactive"})


class TwinOrder(msgspec.Struct):
    """An order as the service keeps it."""

    order_id: int
    key: str  #: its id in the account
    ticket: Ticket
    placed: int  #: ns UTC
    touched: int  #: ns UTC, of the last event
    status: str = "Inactive"
    ccp: str = "Pending Submit"
    parent: int = 0
    group: str = ""
    text: str = ""  #: why it was rejected or cancelled by the service
    over: bool = False
    legs: dict[str, tuple[Decimal, Decimal]] = msgspec.field(default_factory=dict)  #: symbol to (quantity, quantity × price) traded

    @property
    def filled(self) -> Decimal:
        """How much has filled; of a combo, whole packages."""
        found = self.ticket.instrument
        return min(
            (self.legs.get(leg.instrument.symbol, (ZERO, ZERO))[0] / abs(leg.ratio) for leg in found.legs), default=ZERO
        )

    @property
    def average(self) -> Decimal | None:
        """Average price of what has filled; of a combo, of the package."""
        if not self.filled:
            return None
        total = ZERO
        for leg in self.ticket.instrument.legs:
            qty, value = self.legs[leg.instrument.symbol]
            total += leg.ratio * value / qty
        return total

    def traded(self, symbol: str, qty: Decimal, price: Decimal, ts: int) -> None:
        """Add a fill, of a leg where there are legs."""
        before, value = self.legs.get(symbol, (ZERO, ZERO))
        self.legs[symbol] = (before + qty, value + qty * price)
        self.touched = ts


def text(number: Decimal) -> str:
    """Return a size as descriptions show it: without needless zeros."""
    return f"{number.normalize():f}"


def price_text(price: Decimal) -> str:
    """Return a price with at least two decimals."""
    exponent = price.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return f"{price:.{max(2, min(8, -exponent))}f}"


def clock_text(ts: int) -> str:
    """Return ``yymmddHHMMSS`` of a time."""
    return datetime.fromtimestamp(ts // 10**9, UTC).strftime("%y%m%d%H%M%S")


def order_text(ticket: Ticket, *, done: bool = False) -> str:
    """Return an order in words: ``Buy 1 SPY Limit 1.00, Day``."""
    buy = ticket.side is Side.BUY
    verb = ("Bought" if buy else "Sold") if done else ("Buy" if buy else "Sell")
    prices = [price_text(p) for p in (ticket.stop_price, ticket.limit_price) if p is not None]
    words = [verb, text(ticket.qty), description(ticket.instrument), _kind(ticket)[1], *prices]
    return f"{' '.join(words)}, {'Day' if ticket.tif is TimeInForce.DAY else ticket.tif.value}"


def short_text(ticket: Ticket) -> str:
    """Return an order as questions name it: ``BUY 1 SPY @ 1.00``."""
    at = f" @ {price_text(ticket.limit_price)}" if ticket.limit_price is not None else ""
    return f"{ticket.side} {text(ticket.qty)} {description(ticket.instrument)}{at}"


def _kind(ticket: Ticket) -> tuple[str, str, str]:
    if ticket.tif is TimeInForce.CLS:
        name = "MOC" if ticket.order_type is OrderType.MARKET else "LOC"
        return name, name, name
    return _TYPE[ticket.order_type]


def progress(order: TwinOrder) -> Row:
    """Return the part of a row that fills change."""
    filled, total = order.filled, order.ticket.qty
    row: Row = {
        "sizeAndFills": f"{text(filled) if filled else '0'}/{text(total)}",
        "remainingQuantity": float(total - filled),
        "filledQuantity": float(filled),
        "totalSize": float(total),
        "lastExecutionTime": clock_text(order.touched),
        "lastExecutionTime_r": order.touched // 10**9 * 1000,
    }
    if order.average is not None:
        row["avgPrice"] = price_text(order.average)
    return row


def status_part(order: TwinOrder, *, ccp: bool = True) -> Row:
    """Return the part of a row that a change of status sends."""
    background, foreground = _COLORS[order.status]
    row: Row = {"status": order.status, "bgColor": background, "fgColor": foreground}
    if ccp:
        row["order_ccp_status"] = order.ccp
    return row


def key_part(order: TwinOrder, account: str) -> Row:
    """Return what every row has, partial ones too."""
    return {"acct": account, "orderId": order.order_id}


def order_row(order: TwinOrder, account: str, contracts: Contracts, *, stream: bool = False) -> Row:
    """Return a whole row, as in live orders; on the stream a market order's price is an empty string."""
    ticket = order.ticket
    found = ticket.instrument
    first = found.legs[0].instrument
    original, kind, _ = _kind(ticket)
    price = ticket.stop_price if ticket.order_type is OrderType.STOP else ticket.limit_price
    row: Row = {
        "acct": account,
        "exchange": "SMART",
        "conidex": contracts.conidex(ticket.symbol),
        "conid": contracts.conid(ticket.symbol),
        "account": account,
        "orderId": order.order_id,
        "cashCcy": "USD",
        "orderDesc": order_text(ticket, done=order.status == "Filled"),
        "description1": ticker(found),
        "ticker": ticker(found),
        "secType": sec_type(found),
        "listingExchange": "" if isinstance(found, Combo) else exchange(first.symbol),
        "companyName": company(ticker(found)),
        **progress(order),
        **status_part(order),
        "outsideRTH": ticket.outside_rth,
        "origOrderType": original,
        "supportsTaxOpt": "1",
        "orderType": kind,
        "isEventTrading": "0",
        "timeInForce": "CLOSE" if ticket.tif is TimeInForce.DAY else ticket.tif.value,
        "side": ticket.side.value,
    }
    if isinstance(found, Option):
        row["description2"] = description(found)
    if price is not None:
        row["price"] = price_text(price)
    elif stream:
        row["price"] = ""
    if ticket.order_type is OrderType.STOP_LIMIT:
        assert ticket.stop_price is not None
        row["auxPrice"] = price_text(ticket.stop_price)
    if ticket.coid:
        row["order_ref"] = ticket.coid
    if order.parent:
        row["parentId"] = order.parent
    if order.group:
        row["ocaGroupId"] = order.group
    if order.text:
        row["text"] = order.text
    return row


def status_row(order: TwinOrder, account: str, contracts: Contracts) -> Row:
    """Return the answer to ``order/status``: the same order with other names, and every number a string."""
    ticket, filled = order.ticket, order.filled
    average = order.average
    price = ticket.stop_price if ticket.order_type is OrderType.STOP else ticket.limit_price
    words = order_text(ticket, done=order.status == "Filled")
    background, foreground = _COLORS[order.status]
    row: Row = {
        "sub_type": None,
        "request_id": str(order.order_id % 100_000),
        "order_id": order.order_id,
        "conidex": contracts.conidex(ticket.symbol),
        "conid": contracts.conid(ticket.symbol),
        "symbol": ticker(ticket.instrument),
        "side": "B" if ticket.side is Side.BUY else "S",
        "contract_description_1": ticker(ticket.instrument),
        "sec_type": sec_type(ticket.instrument),
        "is_event_trading": "0",
        "order_desc": words,
        "order_description": words,
        "order_status": order.status,
        "order_ccp_status": order.ccp,
        "order_type": _kind(ticket)[0],
        "size": f"{float(ticket.qty - filled)}",
        "total_size": f"{float(ticket.qty)}",
        "cum_fill": f"{float(filled)}",
        "size_and_fills": f"{text(filled) if filled else '0'}/{text(ticket.qty)}",
        "average_price": "" if average is None else price_text(average),
        "currency": "USD",
        "account": account,
        "limit_price": "" if price is None else price_text(price),
        "tif": ticket.tif.value,
        "bg_color": background,
        "fg_color": foreground,
        "order_not_editable": order.over,
        "editable_fields": "" if order.over else "quantity,price",
        "cannot_cancel_order": order.over,
        "outside_rth": ticket.outside_rth,
        "deactivate_order": False,
        "order_clearing_account": account,
        "order_time": clock_text(order.placed),
        "alert_active": 0,
        "child_order_type": "3" if order.parent else "0",
    }
    if order.text:
        row["order_cancellation_by_system_reason"] = order.text
    if ticket.coid:
        row["order_ref"] = ticket.coid
    return row
