"""What an account at Interactive Brokers tells, put together: rows, executions and notices in, claims out.

Pure: no socket, no clock. Every method takes the desk's time and returns claims in the order in which they are to be emitted.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.base import Claim
from northstar_core.brokers.ibkr.contracts import Contracts
from northstar_core.brokers.ibkr.fills import Fills
from northstar_core.brokers.ibkr.life import CANCELLING, Life, merge, merge_status
from northstar_core.brokers.ibkr.lives import SECOND, Lives
from northstar_core.brokers.ibkr.wire import Execution, Unreadable, excerpt, execution, number, side, text, whole
from northstar_core.model.execution import ExecType, ExecutionReport, OpenOrder
from northstar_core.model.order import PlaceOrder
from northstar_core.model.order_ids import order_id_of
from northstar_core.model.world import AlertRaised, ExternalOrder, FrameUnread

ZERO = Decimal(0)
LOOK_S = 60  #: so long the adapter asks by itself for what it misses
Claims = list[Claim]
Row = dict[str, Any]


class Wanted(msgspec.Struct, frozen=True):
    """What should be asked for over REST before more can be claimed."""

    rows: bool = False  #: live orders: one of ours has not been seen there yet
    pages: tuple[Life, ...] = ()  #: orders whose own page is wanted
    trades: bool = False
    conids: tuple[int, ...] = ()  #: contracts nobody has named yet


class Book:
    """Orders and executions of one account.

    Parameters
    ----------
    account
        Our name of it.
    account_id
        The broker's; rows of other accounts of the same login are passed over.
    order_of
        Our order by its id, also one sent before a restart; None where no such order is ours.
    since
        External executions before this (ns UTC) are part of what the account held; not booked.
    """

    def __init__(
        self,
        account: str,
        account_id: str,
        contracts: Contracts,
        order_of: Callable[[str], PlaceOrder | None],
        since: int,
    ) -> None:
        self.account, self.account_id, self.contracts = account, account_id, contracts
        self._order_of = order_of
        self.fills = Fills(account, since, self._owner_of, contracts.symbols.get)
        self.lives = Lives(account, self.fills.filled)
        self._rows: dict[int, Row] = {}  # merged, of orders not known to be ours
        self._external: dict[int, tuple[str, Decimal, Decimal]] = {}  # what was last claimed of them
        self.submitting = 0  #: submissions under way: a row without an id of its client may be one of them

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def row(self, row: Row, now: int, *, asked: bool = False) -> Claims:
        """Return what follows from an order's row, whole or partial.

        Raises
        ------
        Unreadable
            If it names no order, or a number in it is none.
        """
        broker_id = whole(row.get("orderId"))
        if not broker_id:
            raise Unreadable("a row that names no order")
        if str(row.get("acct") or row.get("account") or self.account_id) != self.account_id:
            return []
        life = self.lives.by_broker.get(broker_id) or self._ours(broker_id, str(row.get("order_ref") or ""), now)
        if life is None:
            known = self._rows.setdefault(broker_id, {})
            known.update(row)
            return self._foreign(broker_id, known, now, whole=asked)
        if early := self._rows.pop(broker_id, None):
            merge(life, early, now)
        merge(life, row, now)
        return self.lives.judge(life, now, asked=asked)

    def _ours(self, broker_id: int, order_ref: str, now: int) -> Life | None:
        order_id = order_id_of(order_ref)
        if order_id is None:
            return None
        life = self.lives.lives.get(order_id)
        if life is None:
            order = self._order_of(order_id)
            if order is None:
                return None
            life = self.lives.begin(order, now, inherited=True)
        if life.broker_id and life.broker_id != broker_id:
            return None
        self.lives.bind(life, broker_id)
        return life

    def _foreign(self, broker_id: int, row: Row, now: int, *, whole: bool) -> Claims:
        """Claim an order that is not ours, once its row is whole, whenever it changes."""
        if not row.get("status") or "totalSize" not in row:
            return []
        if not row.get("order_ref") and self.submitting and not whole:
            return []
        qty, filled = number(row.get("totalSize")) or ZERO, number(row.get("filledQuantity")) or ZERO
        state = (str(row["status"]), qty, filled)
        if self._external.get(broker_id) == state:
            return []
        self._external[broker_id] = state
        words = text(row.get("orderDesc"))
        if order_id_of(str(row.get("order_ref") or "")) is not None:
            words = f"an order of our form that this desk did not send: {row['order_ref']} {words}"
        symbol = self.contracts.name(row) or str(row.get("ticker") or row.get("conid") or "")
        return [
            ExternalOrder(
                now, self.account, str(broker_id), symbol, side(row.get("side")), qty, filled, state[0], words
            )
        ]

    def page(self, life: Life, row: Row, now: int) -> Claims:
        """Return what follows from an order's own page, which was asked for.

        Raises
        ------
        Unreadable
            If a number in it is none.
        """
        merge_status(life, row, now)
        return self.lives.judge(life, now, asked=True)

    # ── executions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def trade(self, row: Row, now: int) -> Claims:
        """Return what follows from one copy of an execution.

        Raises
        ------
        Unreadable
            If it is no execution.
        """
        if str(row.get("account") or row.get("accountCode") or self.account_id) != self.account_id:
            return []
        one = execution(row)
        order = self._owner_of(one)
        if order is None or "*" in order.symbol:
            self.contracts.name(row)
        life = None
        if order is not None:
            life = self.lives.begin(order, now, inherited=True)  # where it is not known yet
            if one.broker_id and not life.broker_id:
                self.lives.bind(life, one.broker_id)
        claims = self.fills.receive(one, now)
        return claims if life is None else _around(claims, self.lives.judge(life, now))

    def named(self, now: int) -> Claims:
        """Return what follows now that more contracts have a name."""
        return self._judged(self.fills.named(now), now)

    def _judged(self, claims: Claims, now: int) -> Claims:
        for life in self.lives.working():
            claims = [*claims, *self.lives.judge(life, now)]
        return claims

    def _owner_of(self, one: Execution) -> PlaceOrder | None:
        life = self.lives.by_broker.get(one.broker_id)
        if life is not None:
            return life.order
        order_id = order_id_of(one.order_ref)
        if order_id is None:
            return None
        known = self.lives.lives.get(order_id)
        return known.order if known is not None else self._order_of(order_id)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def placed(self, life: Life, broker_id: int, status: str, words: str, now: int) -> Claims:
        """Return what follows from an order that was accepted; ``Inactive`` with words is how some rejections are told."""
        self.lives.bind(life, broker_id)
        life.lost -= {"submit"}
        row: Row = {"orderId": broker_id, **self._rows.pop(broker_id, {})}
        if status and not life.status:
            row.setdefault("status", status)
        if words:
            self.lives.notice(f"order {broker_id}: {words}", now)
        return self.row(row, now)

    def find(self, life: Life, now: int) -> Claims:
        """Return everything that can be claimed of an order once more."""
        self.lives.forget(life)
        return _around(self.fills.again(life.order.order_id), self.lives.judge(life, now, asked=True))

    def notice(self, body: Any, now: int) -> Claims:
        """Return what follows from the broker's words: always something to read; orders they may be about are asked for."""
        words = text(body.get("text")) or text(body.get("title")) if isinstance(body, dict) else text(body)
        if not words:
            raise Unreadable("a notice without words")
        self.lives.notice(words, now)
        return [
            AlertRaised(now, "info", f"{self.account} broker", f"{self.account}: Interactive Brokers says: {words}")
        ]

    def tick(self, now: int) -> Claims:
        """Return what time alone makes claimable: an end whose executions never came."""
        out: Claims = []
        for life in self.lives.restless():
            if life.status in ("Cancelled", "Filled"):
                out += self.lives.judge(life, now)
        return out

    def wanted(self, now: int) -> Wanted:
        """Return what should be asked for over REST now."""
        pages, trades, unseen = [], False, False
        for life in self.lives.restless():
            booked = self.fills.filled(life.order)
            short = life.filled > booked or (life.status == "Filled" and booked < life.terms.qty)
            trades = trades or (short and now - max(life.since, life.told_at) < LOOK_S * SECOND)
            lost = bool(life.lost) and now - life.lost_at < LOOK_S * SECOND  # after that whoever wants to know asks
            doubtful = life.status == "Inactive" or (life.status == "Cancelled" and not life.told)
            doubtful = doubtful or life.asked is not None or (life.cancelling and life.status not in CANCELLING)
            if life.broker_id and not life.warned and (doubtful or lost):
                pages.append(life)
            unseen = unseen or (lost and not life.broker_id)
        conids = tuple(sorted({one.conid for one in self.fills.parked.values()}))
        return Wanted(unseen, tuple(pages), trades, conids)

    def open_orders(self) -> tuple[OpenOrder, ...]:
        """Return our orders that work at the broker."""
        return tuple(
            OpenOrder(life.order.order_id, life.order_status, life.terms.qty - self.fills.filled(life.order))
            for life in self.lives.working()
            if life.broker_id
        )

    def unread(self, source: str, raw: str | bytes, error: Exception, now: int) -> Claim:
        """A frame that could not be understood, kept as it came."""
        return FrameUnread(now, self.account, excerpt(raw), f"{source}: {error}")


def _around(fills: Claims, judged: Claims) -> Claims:
    """Put fills where they belong: after the order's acceptance, before its end."""
    first = [claim for claim in judged[:1] if isinstance(claim, ExecutionReport) and claim.exec_type is ExecType.NEW]
    return [*first, *fills, *judged[len(first) :]]
