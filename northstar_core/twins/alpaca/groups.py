"""Orders that belong together: the exits of brackets, and who cancels whom."""

from __future__ import annotations

from typing import Any

from northstar_core.twins.alpaca.checks import OrderRequest
from northstar_core.twins.alpaca.order import AlpacaOrder


def exits_of(request: OrderRequest) -> list[dict[str, Any]]:
    """Return the terms of the orders that come with one: held until it has filled, of an ``oco`` working beside it."""
    group = request.order_class
    if group not in ("bracket", "oto", "oco"):
        return []
    entry_buys = (request.side == "buy") is not (group == "oco")
    side = "sell" if entry_buys else "buy"
    out: list[dict[str, Any]] = []
    if request.take_profit is not None and group != "oco":
        out.append({"type": "limit", "limit_price": request.take_profit})
    if request.stop_loss is not None:
        stop = {"type": "stop", "stop_price": request.stop_loss}
        if request.stop_loss_limit is not None:
            stop = {"type": "stop_limit", "stop_price": request.stop_loss, "limit_price": request.stop_loss_limit}
        out.append(stop)
    intent = f"{side}_to_close"
    return [{"side": side, "position_intent": intent, **terms} for terms in out]


def siblings(order: AlpacaOrder) -> list[AlpacaOrder]:
    """Return the open orders of which only one may fill: the other exits, of an ``oco`` its other half."""
    if order.order_class == "oco":
        group = [order.parent, *order.parent.legs] if order.parent is not None else [order, *order.legs]
    elif order.order_class in ("bracket", "oto") and order.parent is not None:
        group = list(order.parent.legs)
    else:
        return []
    return [other for other in group if other is not order and other.open]


def closed(order: AlpacaOrder) -> bool:
    """Tell whether nothing can become of an order and those with it any more."""
    root = order.parent or order
    return not root.open and not any(leg.open for leg in root.legs)
