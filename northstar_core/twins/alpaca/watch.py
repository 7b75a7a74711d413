"""Orders the exchange does not know: parts of a share, which the broker trades itself, and stops that trail the price."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from northstar_core.model.execution import ExecType
from northstar_core.model.instrument import exact
from northstar_core.model.market import MarketEvent, Quote, Trade
from northstar_core.model.order import Side
from northstar_core.model.tape import Session
from northstar_core.twins.account import TwinAccount
from northstar_core.twins.alpaca.order import AlpacaOrder

ZERO, HUNDRED = Decimal(0), Decimal(100)
NINE = Decimal("0.000000001")
CENT = Decimal("0.01")


class Watch:
    """Watches prices for orders of one account."""

    def __init__(self, account: TwinAccount) -> None:
        self._account = account
        self._symbols: dict[str, list[AlpacaOrder]] = {}
        account.market.listen(self._on_market, self._symbols)
        account.market.on_session(self._on_session)

    # ── parts of a share ──────────────────────────────────────────────────────────────────────────────────────────────

    def takes(self, order: AlpacaOrder) -> bool:
        """Tell whether an order is traded here: for dollars, or with a part of a share."""
        return order.notional is not None or (order.qty is not None and order.qty % 1 != 0)

    def take(self, order: AlpacaOrder) -> None:
        """Keep an order until the price is there."""
        self._add(order)

    def meet(self, order: AlpacaOrder) -> None:
        """Let an order trade at the quote in force, in regular hours."""
        market = self._account.market
        state, session = market.last(order.symbol), market.session_at(market.now())
        if session is not None and state is not None and state.quote is not None and state.quote.ts >= session.open:
            self._fill(order, state.quote)

    def drop(self, order: AlpacaOrder) -> bool:
        """Forget an order that is traded here; tell whether it was."""
        if not self.takes(order):
            return False
        self._remove(order)
        return True

    def _fill(self, order: AlpacaOrder, quote: Quote) -> None:
        price = exact(quote.ask if order.side == "buy" else quote.bid)
        limit = order.limit_price
        if price <= 0 or (limit is not None and (price > limit if order.side == "buy" else price < limit)):
            return
        self._remove(order)
        if order.notional is not None:
            order.qty = (order.notional / price).quantize(NINE, ROUND_DOWN)
        assert order.qty is not None
        self._account.trade(order.sim, order.symbol, Side(order.side.upper()), order.qty, price)

    # ── trailing stops ────────────────────────────────────────────────────────────────────────────────────────────────

    def start_trailing(self, order: AlpacaOrder) -> None:
        """Set the first stop price of a trailing stop from the price now, and watch it."""
        state = self._account.market.last(order.symbol)
        newest = None if state is None else state.quote if state.quote and state.quote.ts == state.ts else state
        order.hwm = exact(newest.price) if newest is not None else ZERO
        order.stop_price = _stop(order)
        self._add(order)

    def follow(self, order: AlpacaOrder, instead_of: AlpacaOrder | None = None) -> None:
        """Watch the order that takes another's place, at its own distance."""
        if order.type == "trailing_stop":
            order.stop_price = _stop(order)
            if instead_of is not None:
                self._remove(instead_of)
                self._add(order)
                self._account.replace(order.sim, stop_price=order.stop_price)

    def _trail(self, order: AlpacaOrder, price: Decimal) -> None:
        assert order.hwm is not None and order.stop_price is not None
        if price <= order.hwm if order.side == "sell" else price >= order.hwm:
            return
        order.hwm = price
        stop = _stop(order)
        if stop != order.stop_price:
            order.stop_price = stop
            self._account.replace(order.sim, stop_price=stop)

    # ── the market ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_market(self, events: list[MarketEvent]) -> None:
        for event in events:
            for order in tuple(self._symbols.get(event.symbol, ())):
                if not order.open:
                    self._remove(order)
                elif self.takes(order):
                    if type(event) is Quote and self._account.market.session_at(event.ts) is not None:
                        self._fill(order, event)
                elif type(event) is Trade and event.forms_price and order.sim:
                    self._trail(order, exact(event.price))

    def _on_session(self, ts: int, session: Session, opens: bool) -> None:
        if opens:
            return
        for orders in tuple(self._symbols.values()):
            for order in tuple(orders):
                if self.takes(order) and order.expires_at is not None and order.expires_at <= ts:
                    self._remove(order)
                    self._account.tell(order.sim, ExecType.EXPIRED)

    def _add(self, order: AlpacaOrder) -> None:
        self._symbols.setdefault(order.symbol, []).append(order)
        self._account.market.refresh()

    def _remove(self, order: AlpacaOrder) -> None:
        orders = self._symbols.get(order.symbol, [])
        orders[:] = [other for other in orders if other is not order]
        if not orders:
            self._symbols.pop(order.symbol, None)


def _stop(order: AlpacaOrder) -> Decimal:
    """Return the stop price that lies at an order's distance from its high-water mark."""
    assert order.hwm is not None
    distance = (
        order.trail_price if order.trail_price is not None else order.hwm * (order.trail_percent or ZERO) / HUNDRED
    )
    return (order.hwm - distance if order.side == "sell" else order.hwm + distance).quantize(CENT)
