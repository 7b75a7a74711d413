"""What is done for a strategy that cannot speak for itself: its orders cancelled, its positions closed, through the order path like any."""

from __future__ import annotations

from northstar_core.gateway.desk import Desk
from northstar_core.gateway.ledger import Ledger
from northstar_core.model.instrument import Option, instrument
from northstar_core.model.order import CancelOrder, OrderStatus, PlaceOrder, Side
from northstar_core.model.ports import Clock


class Stewards:
    """Looks after strategies whose session is lost, and after orders that grew too old."""

    def __init__(self, desk: Desk, ledger: Ledger, clock: Clock) -> None:
        self.desk, self.ledger, self.clock = desk, ledger, clock
        self._flattening: dict[tuple[str, str], tuple[str, str]] = {}  #: (account, strategy): session label, reason

    def cancel(self, account: str, strategy: str, reason: str) -> int:
        """Cancel what a strategy has working; returns how many."""
        orders = self.desk.working(account, strategy)
        for order in orders:
            self._cancel(order, reason)
        return len(orders)

    def flatten(self, account: str, strategy: str, session: str, reason: str) -> None:
        """Cancel what a strategy has working, then close what it holds once nothing works any more."""
        self._flattening[account, strategy] = (session, reason)
        self.cancel(account, strategy, reason)
        self.tend()

    def forget(self, account: str, strategy: str) -> None:
        """The strategy is back: it looks after itself."""
        self._flattening.pop((account, strategy), None)

    def tend(self) -> None:
        """Close what is to be closed and has no more orders working; called whenever an order moved."""
        for (account, strategy), (session, reason) in list(self._flattening.items()):
            if self.desk.working(account, strategy):
                continue
            holdings = self.ledger.of(account, strategy)
            open_now = [p for p in holdings.positions.values() if p.qty]
            if not open_now:
                del self._flattening[account, strategy]
                continue
            # options first: a short option is covered before the shares that cover it go
            for held in sorted(open_now, key=lambda p: (not isinstance(instrument(p.symbol), Option), p.qty > 0)):
                order_id = self._next_id(strategy, session)
                side = Side.SELL if held.qty > 0 else Side.BUY
                now = self.clock.now()
                self.desk.asked(
                    PlaceOrder(now, order_id, strategy, account, held.symbol, side, abs(held.qty), reduce_only=True), 0
                )
            if not self.desk.working(account, strategy):  # all refused: trying again at once would be refused again
                del self._flattening[account, strategy]
                self.desk.alert("critical", strategy, f"{account}: not flattened ({reason}): the orders were refused; close by hand")

    def cancel_older(self, account: str, strategy: str, age_s: float) -> int:
        """Cancel a strategy's orders that have worked longer than this; returns how many."""
        before = self.clock.now() - int(age_s * 1e9)
        old = [order for order in self.desk.working(account, strategy) if order.intent.ts < before and not order.intent.parent]
        for order in old:
            self._cancel(order, f"older than {age_s:g} s")
        return len(old)

    def _cancel(self, order: object, reason: str) -> None:
        intent = order.intent  # type: ignore[attr-defined]
        if order.status in (OrderStatus.PENDING_CANCEL,):  # type: ignore[attr-defined]
            return
        self.desk.asked(CancelOrder(self.clock.now(), intent.order_id, intent.strategy, intent.account, reason), 0)

    def _next_id(self, strategy: str, session: str) -> str:
        """The next id of the strategy's own series: whoever comes back goes on behind it."""
        key = (strategy, session)
        n = self.ledger.numbers[key] = self.ledger.numbers.get(key, 0) + 1
        return f"{strategy}-{session}-{n}"
