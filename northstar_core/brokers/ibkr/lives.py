"""What may be claimed of orders, now that their rows have told so much.

Rules
-----
- Any order of the same rows and executions leads to the same claims (``ibkr.life`` merges rows, ``ibkr.fills`` books executions).
- ``Inactive`` is no end: an order is inactive while it is made, while it is held, and when it was rejected. It is a rejection once the
  broker said so in words (``ntf``) and shows the order inactive when asked. Inactive for long without words is ``UNKNOWN``.
- ``Cancelled`` is claimed once every share it says has filled is booked; ``Filled`` is never claimed, the executions are.
- An order lost sight of is claimed anew by the first row that shows it. Whether a cancel or a replace failed is decided by rows that
  were asked for afterwards, never by one that may have been under way.
- A replace holds once a row shows its terms: the answer to the request says only that it was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from northstar_core.brokers.base import Claim
from northstar_core.brokers.ibkr.life import CANCELLING, ENDED, WORKING, Life
from northstar_core.brokers.ibkr.orders import Terms, terms_of
from northstar_core.brokers.ibkr.wire import text
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import AlertRaised

SECOND = 1_000_000_000
REPLACE_S = 2  #: a replace needs so long to show in what is asked for
SETTLE_S = 15  #: how long an end waits for its executions, and words for an inactive order

_IDS = re.compile(r"[0-9]{1,18}")

Claims = list[Claim]


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
        self._open: dict[str, Life] = {}  # those whose end has not been claimed, and some whose end has
        self._restless: dict[str, Life] = {}  # those about which something is missing, and some that were touched
        self._notices: list[tuple[int, str]] = []

    def begin(self, order: PlaceOrder, now: int, *, inherited: bool = False) -> Life:
        """Know an order that is being sent, or (``inherited``) one of before a restart."""
        life = self.lives.get(order.order_id)
        if life is None:
            life = Life(order, terms_of(order), since=now, begun=now, inherited=inherited)
            self.lives[order.order_id] = self._open[order.order_id] = life
        self._restless[order.order_id] = life
        return life

    def restore(self, order: PlaceOrder, terms: Terms, asked: Terms | None, now: int) -> Life:
        """Know an order of before a restart, with the terms it had and those that were being asked for."""
        life = self.begin(order, now)
        life.terms, life.asked, life.lost_at = terms, asked, now
        if asked is not None:
            life.lost |= {"replace"}
        return life

    def bind(self, life: Life, broker_id: int) -> None:
        """The broker calls an order this."""
        if broker_id:
            life.broker_id = broker_id
            self.by_broker[broker_id] = life

    def unfinished(self) -> list[Life]:
        """Orders whose end has not been claimed."""
        ended = [order_id for order_id, life in self._open.items() if life.end is not None]
        for order_id in ended:
            del self._open[order_id]
        return list(self._open.values())

    def restless(self) -> list[Life]:
        """Orders about which something is missing: an answer, an execution, an end. Those that rest in peace cost nothing."""
        calm = [order_id for order_id, life in self._restless.items() if self._calm(life)]
        for order_id in calm:
            del self._restless[order_id]
        return list(self._restless.values())

    def _calm(self, life: Life) -> bool:
        if life.end is not None:
            return True
        doubt = life.cancel or life.lost or life.asked is not None or (life.cancelling and life.status not in CANCELLING)
        return bool(life.acked and life.broker_id and life.status in WORKING and not doubt and self._filled(life.order) >= life.filled)

    def working(self) -> list[Life]:
        """Orders that may still fill."""
        return [life for life in self.unfinished() if not life.over]

    # ── what is claimed ───────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, life: Life, now: int, *, asked: bool = False) -> Claims:
        """Return what an order's state lets us claim that has not been claimed.

        Parameters
        ----------
        asked
            The state was asked for after the last request, so it proves what became of that.
        """
        self._restless[life.order.order_id] = life
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
        self._open[life.order.order_id] = self._restless[life.order.order_id] = life

    def lose(self, life: Life, what: str, why: str, now: int) -> Claims:
        """A request got no answer."""
        life.lost, life.lost_at = life.lost | {what}, now
        self.forget(life)
        return [self._report(life, now, ExecType.UNKNOWN, f"{what}: {why}")]

    def refuse(self, life: Life, why: str, now: int) -> Claims:
        """The broker, or the wire itself, refused the order: nothing was placed."""
        life.end = ExecType.REJECTED
        return [self._report(life, now, ExecType.REJECTED, why)]

    def withdraw(self, life: Life, now: int) -> Claims:
        """The order was cancelled before it left."""
        life.end = ExecType.CANCELED
        return [self._report(life, now, ExecType.CANCELED, "cancelled before it left")]

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
            if life.has(life.asked):
                out += self.replaced(life, now)
            elif asked and now - life.asked_at > REPLACE_S * SECOND and life.has(life.terms):
                words = self._words(life) or "the broker shows the terms as they were"
                out += self.not_replaced(life, words, now)
            elif asked and now - life.asked_at > SETTLE_S * SECOND:
                out += self._warn(life, now, "the broker shows neither the terms it had nor those asked for: look there")
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
        self._restless[life.order.order_id] = life


    def not_replaced(self, life: Life, why: str, now: int) -> Claims:
        """The old terms hold."""
        life.asked, life.acked = None, True
        life.lost -= {"replace"}
        return [self._report(life, now, ExecType.REPLACE_REJECTED, why)]

    def _words(self, life: Life) -> str:
        """The broker's words about an order: those that name it, or, if it is the only one they can mean, any about an order."""
        names = {str(life.broker_id), life.order.order_id} - {"0"}
        doubtful = [o for o in self.working() if o.status in ("", "Inactive")]
        since = max(life.begun, life.asked_at)
        for ts, words in reversed(self._notices):
            if ts < since:
                break
            if any(name in words for name in names):
                return words
            if doubtful == [life] and "order" in words.lower() and not self._named(words, life):
                return words
        return ""

    def _named(self, words: str, life: Life) -> bool:
        """Whether words name another order by its id."""
        ids = {int(found) for found in _IDS.findall(words)}
        return any(self.by_broker.get(one, life) is not life for one in ids)

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
