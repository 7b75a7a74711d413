"""Small worlds for the tests: a broker, orders and bars in a few words."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.market import Bar, Quote, Trade
from northstar_core.model.order import OrderType, PlaceOrder, Side, TimeInForce
from northstar_core.sim.broker import SimBroker, Update
from northstar_core.sim.model import SimModel

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
LIMIT, STOP, STOP_LIMIT, MARKET = OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.MARKET
DAY, GTC, IOC, FOK, OPG, CLS = (TimeInForce(name) for name in ("DAY", "GTC", "IOC", "FOK", "OPG", "CLS"))
MINUTE = 60 * 10**9

_ids = count(1)


def broker(cash: str = "100000", **model: Any) -> SimBroker:
    """A broker without a limit on volume, unless said otherwise."""
    kwargs = {k: model.pop(k) for k in ("actions", "ticks", "prices", "closed") if k in model}
    model.setdefault("volume_share", None)
    return SimBroker("main", D(cash), SimModel(**model), **kwargs)


def order(
    side: Side = BUY,
    qty: str = "100",
    *,
    limit: str | None = None,
    stop: str | None = None,
    symbol: str = "SPY",
    **more: Any,
) -> PlaceOrder:
    """An order; its type follows from its prices."""
    kind = {(False, False): MARKET, (True, False): LIMIT, (False, True): STOP, (True, True): STOP_LIMIT}[
        limit is not None, stop is not None
    ]
    more.setdefault("order_type", kind)
    more.setdefault("order_id", f"s-1-{next(_ids)}")
    return PlaceOrder(
        0, strategy=more.pop("strategy", "s"), account="main", symbol=symbol, side=side, qty=D(qty),
        limit_price=None if limit is None else D(limit), stop_price=None if stop is None else D(stop), **more,
    )  # fmt: skip


def bar(n: int, o: float, h: float, low: float, c: float, volume: float = 10_000.0, symbol: str = "SPY") -> Bar:
    """The n-th minute."""
    return Bar(symbol, n * MINUTE, (n + 1) * MINUTE, o, h, low, c, volume)


def flat(n: int, price: float = 100.0, volume: float = 10_000.0, symbol: str = "SPY") -> Bar:
    """The n-th minute, without a move."""
    return bar(n, price, price, price, price, volume, symbol)


def quote(
    ts: int, bid: float, ask: float, bid_size: float = 500.0, ask_size: float = 500.0, symbol: str = "SPY"
) -> Quote:
    """A quote."""
    return Quote(symbol, ts, bid, ask, bid_size, ask_size)


def trade(ts: int, price: float, size: float = 100.0, *, forms_price: bool = True, symbol: str = "SPY") -> Trade:
    """A print."""
    return Trade(symbol, ts, price, size, forms_price)


def fills(reports: list[Update] | list[ExecutionReport]) -> list[tuple[str, str, int]]:
    """(quantity, price, ts) of the fills among reports."""
    return [
        (str(r.qty), str(r.price), r.ts)
        for r in reports
        if isinstance(r, ExecutionReport) and r.exec_type is ExecType.TRADE
    ]


def kinds(reports: list[Update] | list[ExecutionReport]) -> list[str]:
    """What the reports are about, in order."""
    return [str(r.exec_type) if isinstance(r, ExecutionReport) else str(r.kind) for r in reports]


def position(b: SimBroker, symbol: str = "SPY") -> Decimal:
    """What the account holds of a symbol."""
    return next((p.qty for p in b.snapshot(0).positions if p.symbol == symbol), D(0))


def bought(b: SimBroker, symbol: str, qty: str, price: float, n: int = 0, side: Side = BUY) -> None:
    """Trade at the open of the n-th minute."""
    b.submit(order(side, qty, symbol=symbol), n * MINUTE)
    assert fills(b.on_bars([flat(n, price, symbol=symbol)]))
