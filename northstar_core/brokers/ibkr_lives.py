"""Orders' rows: partial, repeated and late, merged by the broker's id into what has become of each order.

Rules
-----
- Rows carry only what changed and are merged; quantities filled never shrink, an end is an end. So any order of the same rows and
  executions leads to the same claims.
- ``Inactive`` is no end: an order is inactive while it is made, while it is held, and when it was rejected. It is a rejection once the
  broker said so in words (``ntf``) and shows the order inactive when asked. Inactive for long without words is ``UNKNOWN``.
- ``Cancelled`` is claimed once every share it says has filled is booked; ``Filled`` is never claimed, the executions are.
- An order lost sight of is claimed anew by the first row that shows it. Whether a cancel or a replace failed is decided by rows that
  were asked for afterwards, never by one that may have been under way.
- A replace holds once a row shows its terms: the answer to the request says only that it was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.base import Claim
from northstar_core.brokers.ibkr_orders import Terms, terms_of
from northstar_core.brokers.ibkr_wire import number, text
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.order import OrderStatus, OrderType, PlaceOrder
from northstar_core.model.world import AlertRaised

ZERO = Decimal(0)
SECOND = 1_000_000_000
REPLACE_S = 2  #: a replace needs so long to show in what is asked for
SETTLE_S = 15  #: how long an end waits for its executions, and words for an inactive order

WORKING = frozenset({"PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel", "PreCancelled", "WarnState"})
ENDED = frozenset({"Filled", "Cancelled"})
CANCELLING = frozenset({"PendingCancel", "PreCancelled"})

Claims = list[Claim]


class Life(msgspec.Struct, eq=False):
    """An order of ours, and what has been claimed of it."""

    order: PlaceOrder
    terms: Terms
    broker_id: int = 0
    status: str = ""
    since: int = 0  #: when the status was first seen
    begun: int = 0  #: when it was sent, or met after a restart
    inherited: bool = False  #: sent before a restart: its terms are what the rows say
    filled: Decimal = ZERO  #: the most the rows told
    told: bool = False  #: whether a row told how much has filled
    told_at: int = 0  #: when that last rose
    size: Decimal | None = None  #: as rows have it
    price: Decimal | None = None
    words: str = ""  #: the broker's reason
    asked: Terms | None = None  #: a replace that no row shows yet
    asked_at: int = 0
    cancelling: bool = False  #: rows showed a cancel under way
    lost: frozenset[str] = frozenset()  #: requests without an answer: "submit", "cancel", "replace"
    acked: bool = False  #: claimed as accepted
    end: ExecType | None = None  #: claimed as ended; TRADE: every share is booked
    warned: bool = False
    reduced: bool = False  #: a bracket exit that works with less than was asked for, its siblings having exited the rest
    cancel: bool = False  #: a cancel waits until the broker shows the order

    def __repr__(self) -> str:
        """What it is and where it stands."""
        return f"<{self.order.order_id} {self.broker_id} {self.status} {self.filled}/{self.terms.qty}>"

    @property
    def over(self) -> bool:
        """Whether nothing more can fill, as far as the broker told."""
        return self.status in ENDED or self.end is not None

    @property
    def order_status(self) -> OrderStatus:
        """Where it stands, in our words."""
        if self.status == "PendingCancel":
            return OrderStatus.PENDING_CANCEL
        if self.status in ("", "Inactive", "PendingSubmit"):
            return OrderStatus.PENDING_NEW
        return OrderStatus.PARTIALLY_FILLED if self.filled else OrderStatus.NEW


def merge(life: Life, row: dict[str, Any], now: int) -> None:
    """Take over what a row tells.

    Raises
    ------
    Unreadable
        If a number in it is none.
    """
    size, filled, price = number(row.get("totalSize")), number(row.get("filledQuantity")), number(row.get("price"))
    if filled is None and isinstance(row.get("sizeAndFills"), str) and "/" in row["sizeAndFills"]:
        filled = number(row["sizeAndFills"].partition("/")[0])
    if filled is not None:
        _fill(life, filled, now)
    if size is not None:
        life.size = size
    if price is not None:
        life.price = price
    if life.inherited and life.asked is None:
        _inherit(life)
    status = row.get("status")
    if isinstance(status, str) and status and status != life.status and not _ended(life.status, status):
        life.status, life.since = status, now
        life.cancelling = life.cancelling or status in CANCELLING
    if life.status == "Filled":
        _fill(life, life.size or life.terms.qty, now)
    words = text(row.get("text") or row.get("order_cancellation_by_system_reason"))
    if words and life.status in ("Inactive", "Cancelled"):
        life.words = words


def _fill(life: Life, filled: Decimal, now: int) -> None:
    if filled > life.filled or not life.told:
        life.filled, life.told, life.told_at = max(life.filled, filled), True, now


def _inherit(life: Life) -> None:
    qty, limit, stop = life.size or life.terms.qty, life.terms.limit_price, life.terms.stop_price
    if life.price is not None and life.order.order_type is OrderType.STOP:
        stop = life.price
    elif life.price is not None and limit is not None:
        limit = life.price
    life.terms = Terms(qty, limit, stop)


def merge_status(life: Life, row: dict[str, Any], now: int) -> None:
    """Take over what the order's own page tells, whose numbers are text under other names."""
    renamed = {
        **row, "status": row.get("order_status"), "totalSize": row.get("total_size"), "filledQuantity": row.get("cum_fill"),
    }  # fmt: skip
    if row.get("limit_price") not in (None, ""):
        renamed["price"] = row["limit_price"]
    merge(life, renamed, now)


def _ended(before: str, after: str) -> bool:
    """Whether a status that comes later may not replace an end; a fill may overtake a cancel."""
    return before == "Filled" or (before == "Cancelled" and after != "Filled")


class Lives:
    """Orders of ours by their id and by the broker's.

    Parameters
    ----------
    account
        Our name of it.
    filled
        How much of an order has been booked.
    """

    def __init__(self, account: str, filled: Callable[[PlaceOrder], Decimal]) -> None:
        self.account, self._filled = account, filled
        self.lives: dict[str, Life] = {}
        self.by_broker: dict[int, Life] = {}
        self._notices: list[tuple[int, str]] = []

    def begin(self, order: PlaceOrder, now: int, *, inherited: bool = False) -> Life:
        """Know an order that is being sent, or (``inherited``) one of before a restart."""
        life = self.lives.get(order.order_id)
        if life is None:
            life = Life(order, terms_of(order), since=now, begun=now, inherited=inherited)
            self.lives[order.order_id] = life
        return life

    def restore(self, order: PlaceOrder, terms: Terms, asked: Terms | None, now: int) -> Life:
        """Know an order of before a restart, with the terms it had and those that were being asked for."""
        life = self.begin(order, now)
        life.terms, life.asked = terms, asked
        if asked is not None:
            life.lost |= {"replace"}
        return life

    def bind(self, life: Life, broker_id: int) -> None:
        """The broker calls an order this."""
        if broker_id:
            life.broker_id = broker_id
            self.by_broker[broker_id] = life

    def working(self) -> list[Life]:
        """Orders that may still fill."""
        return [life for life in self.lives.values() if not life.over]

    # ── what is claimed ───────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, life: Life, now: int, *, asked: bool = False) -> Claims:
        """Return what an order's state lets us claim that has not been claimed.

        Parameters
        ----------
        asked
            The state was asked for after the last request, so it proves what became of that.
        """
        out: Claims = []
        booked = self._filled(life.order)
        if booked or life.status in WORKING or life.status in ENDED:
            out += self._accepted(life, now)
        if life.end is not None:
            return out
        if booked >= life.terms.qty and (life.asked is None or life.status == "Filled"):
            out += self._complete(life, now)
        elif life.status == "Cancelled":
            out += self._cancelled(life, booked, now)
        elif life.status == "Filled":
            if now - life.since > SETTLE_S * SECOND:
                out += self._warn(life, now, f"filled at the broker, {booked} of {life.terms.qty} told in executions")
        elif life.status == "Inactive":
            out += self._inactive(life, booked, now, asked)
        elif life.status in WORKING:
            out += self._requests(life, now, asked)
        return out

    def forget(self, life: Life) -> None:
        """Let everything about an order be claimed anew."""
        life.acked, life.end, life.warned = False, None, False

    def lose(self, life: Life, what: str, why: str, now: int) -> Claims:
        """A request got no answer."""
        life.lost |= {what}
        self.forget(life)
        return [self._report(life, now, ExecType.UNKNOWN, f"{what}: {why}")]

    def refuse(self, life: Life, why: str, now: int) -> Claims:
        """The broker, or the wire itself, refused the order: nothing was placed."""
        life.end = ExecType.REJECTED
        return [self._report(life, now, ExecType.REJECTED, why)]

    def _accepted(self, life: Life, now: int) -> Claims:
        life.lost -= {"submit"}
        if life.acked or life.lost:
            return []  # with a cancel or replace in doubt, acceptance alone would say too much
        life.acked = True
        return [self._report(life, now, ExecType.NEW)]

    def _complete(self, life: Life, now: int) -> Claims:
        life.lost, life.asked, life.end = frozenset(), None, ExecType.TRADE
        if not life.reduced:
            return []
        life.end = ExecType.CANCELED
        return [self._report(life, now, ExecType.CANCELED, "the rest of its bracket has been closed")]

    def _cancelled(self, life: Life, booked: Decimal, now: int) -> Claims:
        waited = now - life.since > SETTLE_S * SECOND
        if not waited and not (life.told and booked >= life.filled):
            return []
        out: Claims = []
        if booked < life.filled:
            out = self._warn(life, now, f"cancelled with {life.filled} filled, {booked} told in executions")
        life.end, life.lost, life.asked = ExecType.CANCELED, frozenset(), None
        return [*out, self._report(life, now, ExecType.CANCELED, life.words or self._words(life))]

    def _inactive(self, life: Life, booked: Decimal, now: int, asked: bool) -> Claims:
        words = life.words or self._words(life)
        if words and asked:
            life.words, life.lost, life.asked = words, frozenset(), None
            life.end = ExecType.CANCELED if booked else ExecType.REJECTED
            return [self._report(life, now, life.end, words)]
        if asked and now - life.since > SETTLE_S * SECOND and not life.warned:
            self.forget(life)
            unknown = self._report(life, now, ExecType.UNKNOWN, "inactive at the broker, which gives no reason")
            return [
                unknown,
                *self._warn(life, now, "inactive at the broker, which gives no reason: look there, then cancel it"),
            ]
        return []

    def _requests(self, life: Life, now: int, asked: bool) -> Claims:
        """What a working order proves of a cancel or a replace."""
        out: Claims = []
        if life.asked is not None:
            if self._has(life, life.asked):
                out += self.replaced(life, now)
            elif asked and now - life.asked_at > REPLACE_S * SECOND and self._has(life, life.terms):
                words = self._words(life) or "the broker shows the terms as they were"
                out += self.not_replaced(life, words, now)
        doubtful = "cancel" in life.lost or life.cancelling
        if doubtful and asked and life.status not in CANCELLING:
            life.lost, life.cancelling, life.acked = life.lost - {"cancel"}, False, True
            words = self._words(life) or "the broker shows the order working, and no cancel"
            out.append(self._report(life, now, ExecType.CANCEL_REJECTED, words))
        if not life.acked and not life.lost:
            out += self._accepted(life, now)
        if asked and life.asked is None and life.size not in (None, life.terms.qty):
            out += self._warn(life, now, f"its quantity is {life.size} at the broker, {life.terms.qty} was asked for")
        return out

    def replaced(self, life: Life, now: int) -> Claims:
        """The new terms hold."""
        if life.asked is None:
            return []
        life.terms, life.asked = life.asked, None
        life.lost -= {"replace"}
        life.acked = True
        return [self._report(life, now, ExecType.REPLACED)]

    def replace(self, life: Life, terms: Terms, now: int) -> None:
        """Other terms are being asked for."""
        life.asked, life.asked_at = terms, now


    def not_replaced(self, life: Life, why: str, now: int) -> Claims:
        """The old terms hold."""
        life.asked, life.acked = None, True
        life.lost -= {"replace"}
        return [self._report(life, now, ExecType.REPLACE_REJECTED, why)]

    @staticmethod
    def _has(life: Life, terms: Terms) -> bool:
        """Whether the rows show these terms; a limit price, where the order has one, else the stop."""
        price = terms.stop_price if life.order.order_type is OrderType.STOP else terms.limit_price
        return life.size == terms.qty and (price is None or life.price == price)

    def _words(self, life: Life) -> str:
        """The broker's words about an order: those that name it, or, if it is the only one they can mean, any about an order."""
        names = {str(life.broker_id), life.order.order_id} - {"0"}
        doubtful = [o for o in self.lives.values() if o.status in ("", "Inactive") and not o.over]
        since = max(life.begun, life.asked_at)
        for ts, words in reversed(self._notices):
            if ts < since:
                break
            if any(name in words for name in names):
                return words
            others = (o for o in self.lives.values() if o is not life and o.broker_id)
            if doubtful == [life] and "order" in words.lower() and not any(str(o.broker_id) in words for o in others):
                return words
        return ""

    def notice(self, words: str, now: int) -> list[Life]:
        """Keep what the broker says in words; return the orders it may be about, to be asked for."""
        self._notices = [*self._notices[-49:], (now, text(words))]
        return [life for life in self.working() if life.status in ("", "Inactive")]

    def _warn(self, life: Life, now: int, what: str) -> Claims:
        if life.warned:
            return []
        life.warned = True
        return [
            AlertRaised(
                now, "warning", f"order {life.order.order_id}", f"{self.account}: order {life.order.order_id}: {what}"
            )
        ]

    @staticmethod
    def _report(life: Life, now: int, kind: ExecType, words: str = "") -> Claim:
        return ExecutionReport(now, life.order.order_id, kind, text=words)
