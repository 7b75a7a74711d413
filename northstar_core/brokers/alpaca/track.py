"""An order through all of its ids at Alpaca, and what there is to tell of it.

What is known only grows: seats learn totals and states that are never taken back, spans are booked once. ``tell`` compares it with
what was told and returns the difference; so the claims are the same whatever came first.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.brokers.alpaca.seat import Seat, Span
from northstar_core.brokers.alpaca.wire import exec_id
from northstar_core.brokers.base import EXTERNAL, Claim
from northstar_core.model.errors import DataError
from northstar_core.model.execution import AccountActivity, ActivityKind, ExecType, ExecutionReport
from northstar_core.model.instrument import instrument
from northstar_core.model.order import PlaceOrder, Side
from northstar_core.model.world import AlertRaised, ExternalOrder

ZERO = Decimal(0)
ENDS = {"canceled": ExecType.CANCELED, "expired": ExecType.EXPIRED, "rejected": ExecType.REJECTED}

Claims = list[Claim]


class Asked(msgspec.Struct, frozen=True):
    """A replace under way."""

    n: int
    qty: Decimal  #: the whole order's
    limit: Decimal | None
    stop: Decimal | None
    at: int


class Track:
    """An order of ours, or with ``order`` None somebody else's."""

    __slots__ = ("acked", "asked", "ended", "legs", "lost", "order", "seats", "settled", "shown", "waiting")

    def __init__(self, order: PlaceOrder | None) -> None:
        self.order = order  #: with the terms in force
        self.seats: list[Seat] = []  #: by generation, without legs
        self.legs: list[Seat] = []  #: of multi-leg orders
        self.acked = self.ended = False
        self.lost = ""  #: what was asked for and not answered: "order", "cancel", "replace"
        self.asked: Asked | None = None
        self.settled: set[str] = set()  #: replacements of which it was told that they are in force, or are not
        self.waiting: list[tuple[int, Claim]] = []  #: executions to tell, by generation
        self.shown: tuple[str, Decimal] | None = None  #: what was told of somebody else's order

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def combo(self) -> bool:
        """Whether it fills leg by leg."""
        return any(seat.multi for seat in self.seats)

    @property
    def head(self) -> Seat | None:
        """The seat in force: the last that took the place of another, else the first."""
        found = None
        for seat in self.seats:
            if found is None or self.in_force(seat):
                found = seat
        return found

    def in_force(self, seat: Seat) -> bool:
        """Whether a replacement has taken its predecessor's place. An answer to the request alone does not say so."""
        if seat.status == "rejected":
            return False
        before = (other for other in self.seats if other.depth < seat.depth)
        return seat.took or any(other.status == "replaced" and other.replaced_by in ("", seat.id) for other in before)

    @property
    def missing(self) -> list[Seat]:
        """Seats of which executions are missing."""
        return [seat for seat in (self.legs if self.combo else self.seats) if seat.missing]

    @property
    def blind(self) -> bool:
        """Whether a multi-leg order has filled and its legs are not known."""
        return self.combo and any(seat.filled and not seat.legs for seat in self.seats)

    @property
    def unseen(self) -> list[str]:
        """Ids of orders before the one that ended whose own end is not known yet: they may have filled."""
        head = self.head
        if head is None or not head.over:
            return []
        known = {seat.id: seat for seat in self.seats}
        before = {seat.id for seat in self.seats if seat.depth < head.depth and not seat.over}
        before |= {seat.replaces for seat in self.seats if seat.replaces and seat.replaces not in known}
        return sorted(before)

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.missing and not self.blind and not self.unseen

    @property
    def booked(self) -> Decimal:
        """How much of it is booked, in its own unit."""
        if not self.combo:
            return sum((seat.booked for seat in self.seats), ZERO)
        filled: dict[str, Decimal] = {}
        for leg in self.legs:
            filled[leg.symbol] = filled.get(leg.symbol, ZERO) + leg.booked
        return min((filled.get(symbol, ZERO) // ratio for symbol, ratio in self.ratios().items()), default=ZERO)

    def ratios(self) -> dict[str, int]:
        """Return a multi-leg order's units of each leg."""
        if self.order is None:
            return {leg.symbol: 1 for leg in self.legs}
        return {leg.instrument.symbol: abs(leg.ratio) for leg in instrument(self.order.symbol).legs}

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────

    def execute(self, seat: Seat, span: Span, whole: bool, price: Decimal, ts: int, account: str, since: int) -> None:
        """Book a free span and keep the execution to be told. Somebody else's from before ``since`` are booked only."""
        low, high = span
        seat.book(low, high, price)
        key = exec_id(seat.id, high, None if whole else low)
        qty, order = high - low, self.order
        claim: Claim
        if order is not None:
            symbol = seat.symbol if seat.parent is not None else order.symbol
            side = seat.direction(order.side)
            claim = ExecutionReport(ts, order.order_id, ExecType.TRADE, key, symbol, side, qty, price)
        elif ts < since:
            return
        else:
            signed = qty * seat.direction(Side.BUY).sign
            cash = -signed * price * _multiplier(seat.symbol)
            text = "not an order of ours"
            claim = AccountActivity(ts, account, ActivityKind.EXTERNAL, key, seat.symbol, signed, cash, price, EXTERNAL, text)
        self.waiting.append((seat.depth, claim))

    def tell(self, account: str, ts: int, *, fresh: bool = False, since: int = 0) -> Claims:
        """Return what has not been told, in the order in which it makes sense.

        ``fresh`` is evidence asked for after the last request: only that brings back an order whose cancel or replace was not answered.
        """
        out: Claims = []
        if self.order is None:
            self._tell_external(account, ts, since, out)
            return out
        order, head = self.order, self.head
        if head is None:
            return out
        found = fresh and self.lost == "cancel" and head.status != "pending_cancel" and not head.over
        if not self.acked and not self.ended and (self.lost in ("", "order") or found):
            self.acked, self.lost = True, ""
            out.append(ExecutionReport(head.created or ts, order.order_id, ExecType.NEW))
        self._tell_by_generation(account, out, ts)
        self._tell_end(out, ts)
        return out

    def _tell_by_generation(self, account: str, out: Claims, ts: int) -> None:
        """Executions of the old order, then that it was replaced, then those of the new one."""
        waiting, self.waiting = self.waiting, []
        for seat in self.seats:
            if seat.depth and seat.id not in self.settled:
                if self.in_force(seat):
                    self._replaced(seat, account, out, ts)
                elif seat.status == "rejected":
                    self.settled.add(seat.id)
                    self.refuse_replace("the broker refused the replacement", ts, out)
            out += [claim for depth, claim in waiting if depth == seat.depth]
        known = {seat.depth for seat in self.seats}
        self.waiting = [item for item in waiting if item[0] not in known]

    def _replaced(self, seat: Seat, account: str, out: Claims, ts: int) -> None:
        self.settled.add(seat.id)
        assert self.order is not None
        asked, order = self.asked, self.order
        if asked is not None and asked.n == seat.depth:
            self.order = msgspec.structs.replace(order, qty=asked.qty, limit_price=asked.limit, stop_price=asked.stop)
            self.asked = None
        if self.lost == "replace":
            self.lost, self.acked = "", True
        out.append(ExecutionReport(seat.created or ts, order.order_id, ExecType.REPLACED))
        if asked is not None and asked.n == seat.depth and seat.qty and not self.combo:
            whole = seat.qty + sum((other.filled for other in self.seats if other.depth < seat.depth), ZERO)
            if whole != asked.qty:  # fills crossed the request, or Alpaca counts a replacement's quantity the other way
                severity = "critical" if whole > asked.qty else "warning"
                text = f"order {order.order_id}: replaced to {asked.qty}, but at Alpaca up to {whole} may fill in all; see replace_qty"
                out.append(AlertRaised(ts, severity, account, text))

    def _tell_end(self, out: Claims, ts: int) -> None:
        head = self.head
        assert head is not None and self.order is not None
        if self.ended or not head.over or not self.whole:
            return
        how = ENDS.get(head.status)
        text = ""
        if head.status == "filled":
            if self.booked >= self.order.qty:
                self.ended = True
                return
            how, text = ExecType.CANCELED, f"the broker's order is complete with {self.booked} of {self.order.qty}"
        if how is None:
            return  # replaced: the one that took its place is not known yet
        if how is ExecType.REJECTED and self.booked:
            how, text = ExecType.CANCELED, f"rejected after {self.booked} had filled"
        self.ended = True
        out.append(ExecutionReport(head.ended or ts, self.order.order_id, how, text=text))

    def refuse_replace(self, why: str, ts: int, out: Claims) -> None:
        """Tell that a replace did not happen, if one was asked for."""
        if self.asked is None or self.order is None:
            return
        self.asked = None
        if self.lost == "replace":
            self.lost, self.acked = "", True
        out.append(ExecutionReport(ts, self.order.order_id, ExecType.REPLACE_REJECTED, text=why))

    def _tell_external(self, account: str, ts: int, since: int, out: Claims) -> None:
        for seat in self.seats:
            now = (seat.status, seat.filled)
            if now != self.shown and (not seat.over or seat.ended >= since):
                self.shown = now
                symbol = seat.symbol or ",".join(sorted(leg.symbol for leg in self.legs))
                out.append(ExternalOrder(seat.ended or ts, account, seat.id, symbol, seat.side, seat.qty, seat.filled, seat.status))
        out += [claim for _, claim in self.waiting]
        self.waiting = []


def _multiplier(symbol: str) -> int:
    """Return how many units of cash a price stands for; 1 for what we cannot trade ourselves, a coin for example."""
    try:
        return instrument(symbol).legs[0].instrument.multiplier
    except DataError:
        return 1
