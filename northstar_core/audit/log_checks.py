"""L6 and L7: snapshots that the fold repeats, causes that precede."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from northstar_core.audit.fold import Fold
from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.events import INPUTS
from northstar_core.model.journal import books_digest


class LogChecks:
    """L6 and L7, event by event."""

    def __init__(self, fold: Fold, tally: Tally) -> None:
        self.fold = fold
        self.tally = tally
        self.before: dict[type, Callable[[Any, int, int], None]] = {}
        self.after: dict[type, Callable[[Any, int, int], None]] = {e.SnapshotTaken: self._snapshot}

    def cause(self, event: e.Event, seq: int, cause: int) -> None:
        """Check that an event follows from something before it."""
        tally = self.tally
        tally.checked["L7"] += 1
        if cause >= seq or cause < 0:
            tally.violate("L7", seq, f"{type(event).__name__} names cause {cause}, which is not before it")
        elif not cause and type(event) not in INPUTS:
            tally.violate("L7", seq, f"{type(event).__name__} names no cause and is no input")

    def _snapshot(self, event: e.SnapshotTaken, seq: int, cause: int) -> None:
        self.tally.checked["L6"] += 1
        ours = self.fold.books()
        if event.books != ours:
            self.tally.violate("L6", seq, f"the snapshot is not the fold: {difference(event.books, ours)}")
        if event.digest != books_digest(event.books):
            self.tally.violate("L6", seq, f"the digest {event.digest[:16]} is not that of the snapshot's own books")


def difference(stored: e.Books, ours: e.Books) -> str:
    """Return the first difference between two sets of books, in words."""
    for account in sorted(stored.cash.keys() | ours.cash.keys()):
        if stored.cash.get(account) != ours.cash.get(account):
            return f"cash of {account}: snapshot {stored.cash.get(account)}, fold {ours.cash.get(account)}"
    held, own = ({h[:3]: h[3] for h in map(_holding, books.holdings)} for books in (stored, ours))
    for key in sorted(held.keys() | own.keys()):
        if held.get(key) != own.get(key):
            return f"position {' '.join(key)}: snapshot {held.get(key, 0)}, fold {own.get(key, 0)}"
    orders, working = ({w.order_id: w for w in books.orders} for books in (stored, ours))
    for order_id in sorted(orders.keys() | working.keys()):
        if orders.get(order_id) != working.get(order_id):
            return (
                f"order {order_id}: snapshot {_working(orders.get(order_id))}, fold {_working(working.get(order_id))}"
            )
    return "the same lines in another order or form"


def _holding(holding: e.Holding) -> tuple[str, str, str, Any]:
    return holding.account, holding.strategy, holding.symbol, holding.qty


def _working(order: e.Working | None) -> str:
    return "none" if order is None else f"{order.status} filled {order.cum_qty} leaves {order.leaves_qty}"
