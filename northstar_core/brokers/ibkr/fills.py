"""Executions: each comes several times, the commission later, sometimes corrected; each is booked once.

Rules
-----
- An execution is booked once, under its id as first told (last part ``01``), with fee 0. Its commission is always an activity of its
  own, ``<exec id>:fee``. So the books do not depend on which copy came first, nor on which of them came before a restart.
- A correction (the same id with a raised last part) never touches the order's fills: what it changes in shares and cash is an activity
  under the corrected id, in the order's book, with a critical alert. If the first telling was never seen, the corrected numbers are
  booked as the execution. A lower revision that comes late changes nothing.
- A correction that was made while nobody listened, and of which the broker shows the corrected version alone, is not booked on a guess:
  a critical alert says so, and reconciliation shows the difference.
- A commission that changes after it was booked is an alert; the snapshot shows the difference.
- An execution with no order of ours behind it is external. One that happened before reading began is not booked again.
- The row that stands for a combo as a whole is not booked; its legs are.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from decimal import Decimal

from northstar_core.brokers.base import EXTERNAL, Claim
from northstar_core.brokers.ibkr.wire import Execution
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.instrument import Combo, instrument
from northstar_core.model.order import PlaceOrder, Side
from northstar_core.model.world import AlertRaised

ZERO = Decimal(0)
Claims = list[Claim]


class Booked:
    """What has been claimed of one execution."""

    __slots__ = ("execution", "fee", "order", "symbol")

    def __init__(self, execution: Execution, order: PlaceOrder | None, symbol: str) -> None:
        self.execution, self.order, self.symbol = execution, order, symbol
        self.fee: Decimal | None = None

    @property
    def strategy(self) -> str:
        """Whose book it is in."""
        return self.order.strategy if self.order is not None else EXTERNAL


class Fills:
    """Executions by the id they were booked under.

    Parameters
    ----------
    account
        Our name of it.
    since
        External executions that happened before are part of what the account held when reading began; ns UTC.
    order_of
        The order an execution belongs to; None where it is not ours.
    symbol_of
        The symbol a conid stands for; None where nobody has said yet.
    """

    def __init__(
        self,
        account: str,
        since: int,
        order_of: Callable[[Execution], PlaceOrder | None],
        symbol_of: Callable[[int], str | None],
    ) -> None:
        self.account, self.since = account, since
        self._order_of, self._symbol_of = order_of, symbol_of
        self.booked: dict[str, Booked] = {}
        self.known: Container[tuple[str, str]] = ()  #: (account, id) of what was booked before a restart
        self.parked: dict[str, Execution] = {}  #: waiting for the name of their contract, by full id
        self._by_order: dict[str, list[Booked]] = {}
        self.last_ts = since

    # ── what comes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, execution: Execution, now: int) -> Claims:
        """Return what follows from one copy of an execution."""
        held = self.booked.get(execution.booked_as)
        if held is None:
            return self._first(execution, now)
        out: Claims = []
        if execution.revision > held.execution.revision:
            out += self._correct(held, execution, now)
        if execution.revision == held.execution.revision:
            out += self._fee(held, execution, now)
        return out

    def named(self, now: int) -> Claims:
        """Return what follows for the executions that waited, now that more contracts have a name."""
        waiting, self.parked = list(self.parked.values()), {}
        return [claim for execution in waiting for claim in self.receive(execution, now)]

    def again(self, order_id: str) -> Claims:
        """Return every fill and fee of one order once more."""
        out: Claims = []
        for held in self._by_order.get(order_id, ()):
            out.append(self._report(held))
            if held.fee:
                out.append(self._fee_activity(held, held.execution.ts))
        return out

    def filled(self, order: PlaceOrder) -> Decimal:
        """Return how much of an order has been booked; of a combo, whole units whose every leg has traded."""
        found = instrument(order.symbol)
        sums = {leg.instrument.symbol: ZERO for leg in found.legs}
        for held in self._by_order.get(order.order_id, ()):
            if held.symbol in sums:
                sums[held.symbol] += held.execution.qty
        if not isinstance(found, Combo):
            return sums[order.symbol]
        return min(sums[leg.instrument.symbol] // abs(leg.ratio) for leg in found.legs)

    # ── one execution ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _first(self, execution: Execution, now: int) -> Claims:
        order = self._order_of(execution)
        if order is None and execution.ts < self.since:
            return []
        symbol = order.symbol if order is not None else ""
        if not symbol or "*" in symbol:
            if execution.sec_type == "BAG" or ";;;" in execution.conidex:
                return []
            symbol = self._symbol_of(execution.conid) or ""
        if not symbol:
            self.parked[execution.exec_id] = execution
            return []
        held = self.booked[execution.booked_as] = Booked(execution, order, symbol)
        self.last_ts = max(self.last_ts, execution.ts)
        out: Claims = []
        if execution.revision > 1 and (self.account, execution.exec_id) not in self.known:
            booked = (self.account, execution.booked_as) in self.known
            what = "was corrected while nobody listened: compare it with the books" if booked else "is booked as corrected"
            out.append(self._alert(execution, now, f"{what} ({execution.exec_id})"))
        if order is not None:
            self._by_order.setdefault(order.order_id, []).append(held)
        if execution.qty:
            out.append(self._report(held))
        return [*out, *self._fee(held, execution, now)]

    def _report(self, held: Booked) -> Claim:
        x = held.execution
        if held.order is not None:
            return ExecutionReport(
                x.ts, held.order.order_id, ExecType.TRADE, x.booked_as, held.symbol, x.side, x.qty, x.price
            )
        signed, cash = self._moved(held, x)
        return AccountActivity(
            x.ts, self.account, ActivityKind.EXTERNAL, x.booked_as, held.symbol, signed, cash, x.price, EXTERNAL,
            f"order {x.broker_id or 'of another program'}",
        )  # fmt: skip

    def _fee(self, held: Booked, execution: Execution, now: int) -> Claims:
        fee = execution.commission
        if fee is None or fee == held.fee:
            return []
        if held.fee is not None:
            return [self._alert(execution, now, f"commission {fee} after {held.fee} was booked: not booked again")]
        held.fee = fee
        return [self._fee_activity(held, now)] if fee else []

    def _fee_activity(self, held: Booked, now: int) -> Claim:
        assert held.fee is not None
        return AccountActivity(
            max(now, held.execution.ts), self.account, ActivityKind.FEE, f"{held.execution.booked_as}:fee", held.symbol,
            cash=-held.fee, strategy=held.strategy, text="commission",
        )  # fmt: skip

    def _correct(self, held: Booked, execution: Execution, now: int) -> Claims:
        old, held.execution = held.execution, execution
        was, now_is = self._moved(held, old), self._moved(held, execution)
        qty, cash = now_is[0] - was[0], now_is[1] - was[1]
        what = f"was {old.side} {old.qty} @ {old.price}, is {execution.side} {execution.qty} @ {execution.price}"
        out: Claims = [self._alert(execution, now, f"corrected: {what}")]
        if qty or cash:
            out.append(
                AccountActivity(
                    max(now, execution.ts), self.account, ActivityKind.EXTERNAL, execution.exec_id, held.symbol, qty, cash,
                    execution.price, held.strategy, f"correction of {old.exec_id}: {what}",
                )
            )  # fmt: skip
        return out

    @staticmethod
    def _moved(held: Booked, execution: Execution) -> tuple[Decimal, Decimal]:
        """The signed change of position and cash of an execution, without its fee."""
        signed = execution.qty if execution.side is Side.BUY else -execution.qty
        return signed, -signed * execution.price * instrument(held.symbol).multiplier

    def _alert(self, execution: Execution, now: int, text: str) -> Claim:
        about = f"{self.account} execution {execution.booked_as}"
        return AlertRaised(now, "critical", about, f"{about} {text}")
