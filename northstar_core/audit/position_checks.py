"""P1 to P5: fills, cash and positions, against the orders, the broker and each other."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from northstar_core.audit.books import ZERO
from northstar_core.audit.fold import Fold
from northstar_core.audit.ids import IdMap
from northstar_core.audit.orders import Order, filled_after
from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.errors import DataError
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.instrument import instrument

CASH_TOLERANCE = Decimal("0.01")


class PositionChecks:
    """Reads the fold before each fill, and after each reconciliation."""

    def __init__(self, fold: Fold, tally: Tally) -> None:
        self.fold = fold
        self.tally = tally
        self.executions = IdMap()  #: number of the fill, by broker and execution id
        self.before: dict[type, Callable[[Any, int, int], None]] = {
            e.OrderFilled: self._fill,
            e.OrderCanceled: self._ended,
            e.OrderExpired: self._ended,
        }
        self.after: dict[type, Callable[[Any, int, int], None]] = {
            e.OrderFilled: self._line,
            e.PositionAdjusted: self._line,
            e.ReconcileCompleted: self._reconciled,
            e.SnapshotTaken: self._sums,
            e.RunFinished: self._sums,
        }

    def _fill(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        tally, fold = self.tally, self.fold
        violate = tally.violate
        for invariant in ("P1", "P2", "P3"):
            tally.checked[invariant] += 1
        order_id = event.order_id
        key = f"{event.account}/{event.exec_id}"
        booked = self.executions.get(key)
        if booked >= 0:
            violate("P2", seq, f"execution {event.exec_id} was already booked at seq {booked}")
        else:
            self.executions.put(key, seq)
        known = fold.known(order_id)
        if known is None:
            violate("P1", seq, f"fill of order {order_id}, which was never submitted")
            return
        try:
            traded = known.instrument if isinstance(known, Order) else instrument(known.symbol)
        except DataError:
            return
        if (event.account, event.strategy) != (known.account, known.strategy):
            violate(
                "P1",
                seq,
                f"fill of {order_id} is booked to {event.account}/{event.strategy},"
                f" the order is of {known.account}/{known.strategy}",
            )
        ratio = next((leg.ratio for leg in traded.legs if leg.instrument.symbol == event.symbol), 0)
        if not ratio:
            violate("P1", seq, f"fill of {event.symbol} for order {order_id} of {known.symbol}")
            return
        side = known.side if ratio > 0 else known.side.opposite
        if event.side is not side:
            violate(
                "P1",
                seq,
                f"fill of {order_id} is a {event.side} of {event.symbol},"
                f" the order is a {known.side} of {known.symbol}",
            )
        reports = known.reports if isinstance(known, Order) else fold.late_reports
        self._claim(event, known.symbol, reports.pop(cause, None), seq, cause)
        self._sum(event, known, traded, abs(ratio), seq)

    def _claim(self, event: e.OrderFilled, symbol: str, report: ExecutionReport | None, seq: int, cause: int) -> None:
        order_id = event.order_id
        if report is None or report.exec_type is not ExecType.TRADE or report.order_id != order_id:
            self.tally.violate(
                "P1",
                seq,
                f"fill of {order_id}: seq {cause} is no execution the broker reported for it, or was booked before",
            )
            return
        theirs = (report.exec_id, report.qty, report.price, report.fees, report.symbol or symbol)
        ours = (event.exec_id, event.qty, event.price, event.fees, event.symbol)
        if theirs != ours:
            self.tally.violate(
                "P1",
                seq,
                f"fill of {order_id} says {_words(ours)}, the broker's report at seq {cause} {_words(theirs)}",
            )

    def _sum(self, event: e.OrderFilled, known: Any, traded: Any, ratio: int, seq: int) -> None:
        violate = self.tally.violate
        if not event.qty > 0:
            violate("P3", seq, f"fill of {event.order_id} has quantity {event.qty}")
        filled = known.leg_fills.get(event.symbol, ZERO) + event.qty
        if filled > known.authorised * ratio:
            violate(
                "P3",
                seq,
                f"{filled} {event.symbol} filled of {known.authorised * ratio} authorised for {event.order_id}",
            )
        cum = filled_after(known.symbol, traded, known.cum, known.leg_fills, event.symbol, event.qty)
        if event.cum_qty != cum:
            violate("P3", seq, f"fill of {event.order_id} says {event.cum_qty} filled in all, the fills sum to {cum}")
        if event.leaves_qty != known.qty - cum:
            violate(
                "P3",
                seq,
                f"fill of {event.order_id} leaves {event.leaves_qty}, {known.qty} less {cum} is {known.qty - cum}",
            )

    def _ended(self, event: Any, seq: int, cause: int) -> None:
        known = self.fold.known(event.order_id)
        if known is None:
            return
        self.tally.checked["P3"] += 1
        if event.cum_qty != known.cum:
            self.tally.violate(
                "P3", seq, f"order {event.order_id} ends with {event.cum_qty} filled, its fills sum to {known.cum}"
            )

    # ── positions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _line(self, event: Any, seq: int, cause: int) -> None:
        if event.symbol:
            self._symbol(event.account, event.symbol, seq)

    def _symbol(self, account_name: str, symbol: str, seq: int) -> None:
        self.tally.checked["P5"] += 1
        account = self.fold.account(account_name)
        total = sum((book.line(symbol).qty for book in account.strategies.values() if symbol in book.lines), ZERO)
        own = account.book.line(symbol).qty if symbol in account.book.lines else ZERO
        if total != own:
            self.tally.violate("P5", seq, f"{symbol} of {account_name}: strategies hold {total}, the account {own}")

    def _sums(self, event: Any, seq: int, cause: int) -> None:
        for name, account in self.fold.accounts.items():
            symbols = {symbol for book in account.strategies.values() for symbol in book.lines}
            for symbol in sorted(symbols | account.book.lines.keys()):
                self._symbol(name, symbol, seq)
        if isinstance(event, e.SnapshotTaken):
            self._snapshot(event, seq)

    def _snapshot(self, event: e.SnapshotTaken, seq: int) -> None:
        """Compare what a snapshot gives the strategies with what its account holds."""
        held: dict[tuple[str, str], Decimal] = {}
        for holding in event.books.holdings:
            key = holding.account, holding.symbol
            held[key] = held.get(key, ZERO) + holding.qty
        for (name, symbol), qty in sorted(held.items()):
            self.tally.checked["P5"] += 1
            own = self.fold.account(name).book.line(symbol).qty
            if qty != own:
                self.tally.violate(
                    "P5", seq, f"{symbol} of {name}: the snapshot's strategies hold {qty}, the account {own}"
                )

    def _reconciled(self, event: e.ReconcileCompleted, seq: int, cause: int) -> None:
        self._sums(event, seq, cause)
        if event.breaks:
            return
        tally = self.tally
        tally.checked["P4"] += 1
        found = self.fold.snapshots.get(event.account)
        if found is None or (cause and found[0] != cause):
            tally.violate("P4", seq, f"{event.account} was reconciled without a snapshot of its broker (cause {cause})")
            return
        at, snapshot = found
        account = self.fold.account(event.account)
        off = snapshot.cash - account.cash
        if abs(off) > CASH_TOLERANCE:
            tally.violate(
                "P4",
                seq,
                f"cash of {event.account}: broker {snapshot.cash} at seq {at}, fold {account.cash}, difference {off}",
            )
        theirs = {held.symbol: held.qty for held in snapshot.positions if held.qty}
        ours = {symbol: line.qty for symbol, line in account.book.lines.items() if line.qty}
        for symbol in sorted(theirs.keys() | ours.keys()):
            if theirs.get(symbol, ZERO) != ours.get(symbol, ZERO):
                tally.violate(
                    "P4",
                    seq,
                    f"{symbol} of {event.account}: broker {theirs.get(symbol, ZERO)} at seq {at},"
                    f" fold {ours.get(symbol, ZERO)}",
                )


def _words(claim: tuple[Any, ...]) -> str:
    exec_id, qty, price, fees, symbol = claim
    return f"{exec_id} {qty} {symbol} @ {price} fees {fees}"
