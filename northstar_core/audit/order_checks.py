"""O1 to O7 and O9: each order's life, from the one decision to the one end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from northstar_core.audit.fold import Fold
from northstar_core.audit.ids import IdMap
from northstar_core.audit.orders import TRIGGERS, Order, Terms, content
from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.denial import DenialReason
from northstar_core.model.execution import BrokerSnapshot, ExecType
from northstar_core.model.order import TRANSITIONS, OrderStatus, PlaceOrder, Trigger
from northstar_core.model.world import OrderResent

#: What the broker must have said for an order to end in this way.
EVIDENCE: dict[type, ExecType] = {
    e.OrderRejected: ExecType.REJECTED,
    e.OrderCanceled: ExecType.CANCELED,
    e.OrderExpired: ExecType.EXPIRED,
}
REPEATS = (DenialReason.ORDER_ID_DUPLICATE, DenialReason.ORDER_ID_CONFLICT)


class OrderChecks:
    """Reads the fold as it stood before each event."""

    def __init__(self, fold: Fold, tally: Tally) -> None:
        self.fold = fold
        self.tally = tally
        self.denied = IdMap()  #: number of the denial, of orders that were refused
        self.before: dict[type, Callable[[Any, int, int], None]] = {
            e.OrderSubmitted: self._submitted,
            e.OrderDenied: self._denied,
            e.OrderFilled: self._filled,
            BrokerSnapshot: self._snapshot,
            OrderResent: self._resent,
            **dict.fromkeys(TRIGGERS, self._moved),
        }
        self.after: dict[type, Callable[[Any, int, int], None]] = {}

    # ── decisions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _submitted(self, event: e.OrderSubmitted, seq: int, cause: int) -> None:
        checked, violate = self.tally.checked, self.tally.violate
        order = event.order
        order_id = order.order_id
        for invariant in ("O1", "O3", "O4", "O7"):
            checked[invariant] += 1
        known = self.fold.known(order_id)
        if known is not None:
            self._again(event, seq, known)
        elif order_id in self.denied:
            violate("O7", seq, f"order {order_id} was denied at seq {self.denied.get(order_id)} and decided again")
        intent = self.fold.intents.get(cause)
        if not isinstance(intent, PlaceOrder):
            violate("O3", seq, f"order {order_id} was submitted because of seq {cause}, which is no undecided order")
        elif intent != order and (not event.verdict.rules or intent.order_id != order_id):
            violate(
                "O3",
                seq,
                f"order {order_id} differs from its intent at seq {cause} and no rule says why:"
                f" {_changed(intent, order)}",
            )

    def _again(self, event: e.OrderSubmitted, seq: int, known: Order | Terms) -> None:
        violate, order_id = self.tally.violate, event.order.order_id
        violate("O1", seq, f"order {order_id} was already submitted at seq {known.seq}")
        violate("O7", seq, f"order {order_id} was decided a second time, first at seq {known.seq}")
        if content(event.order) != known.sent:
            violate("O3", seq, f"order {order_id} was submitted with other content than at seq {known.seq}")
        elif known.status is not OrderStatus.UNKNOWN:
            violate("O4", seq, f"order {order_id} was sent again while it was {known.status}")
        if isinstance(known, Terms):
            violate("O6", seq, f"order {order_id} was sent again after it had ended ({known.status})")

    def _denied(self, event: e.OrderDenied, seq: int, cause: int) -> None:
        intent = self.fold.intents.get(cause)
        if not isinstance(intent, PlaceOrder):
            return  # a refused cancel or replace decides nothing about the order itself
        self.tally.checked["O7"] += 1
        order_id = event.order_id
        violate = self.tally.violate
        if intent.order_id != order_id:
            violate("O7", seq, f"denies {order_id} because of seq {cause}, which is an intent for {intent.order_id}")
        known = self.fold.known(order_id)
        if event.reason in REPEATS:
            if known is None:
                if order_id not in self.denied:
                    violate(
                        "O7",
                        seq,
                        f"order {order_id} was refused as a repeat ({event.reason}) and no earlier decision exists",
                    )
                return
            same = content(intent) in (known.sent, known.intended)
            if same != (event.reason is DenialReason.ORDER_ID_DUPLICATE):
                says = "the same content" if same else "other content"
                violate(
                    "O7", seq, f"order {order_id} has {says} than at seq {known.seq} and was refused as {event.reason}"
                )
        elif known is not None:
            violate("O7", seq, f"order {order_id} was decided a second time, first at seq {known.seq}: {event.reason}")
        elif order_id in self.denied:
            violate("O7", seq, f"order {order_id} was decided a second time, first at seq {self.denied.get(order_id)}")
        else:
            self.denied.put(order_id, seq)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _known(self, event: Any, seq: int) -> Order | Terms | None:
        self.tally.checked["O2"] += 1
        known = self.fold.known(event.order_id)
        if known is None:
            self.tally.violate(
                "O2", seq, f"{type(event).__name__} of order {event.order_id}, which was never submitted"
            )
        return known

    def _step(self, known: Order | Terms, trigger: Trigger, seq: int, order_id: str) -> None:
        self.tally.checked["O5"] += 1
        if (known.status, trigger) not in TRANSITIONS:
            self.tally.violate("O5", seq, f"order {order_id} was {known.status}: {trigger} may not happen to it")

    def _moved(self, event: Any, seq: int, cause: int) -> None:
        known = self._known(event, seq)
        if known is None:
            return
        kind = type(event)
        self._step(known, TRIGGERS[kind], seq, event.order_id)
        expected = EVIDENCE.get(kind)
        if expected is None:
            return
        checked, violate = self.tally.checked, self.tally.violate
        checked["O6"] += 1
        checked["O9"] += 1
        if isinstance(known, Terms):
            violate("O6", seq, f"order {event.order_id} ends a second time: it was {known.status}")
            return
        report = known.reports.get(cause)
        if report is None:
            violate(
                "O9",
                seq,
                f"{kind.__name__} of {event.order_id}: seq {cause} is no report of the broker about it since its submit"
                f" at seq {known.seq}",
            )
        elif report.exec_type is not expected:
            violate(
                "O9",
                seq,
                f"{kind.__name__} of {event.order_id}: the broker's report at seq {cause} says {report.exec_type}",
            )

    def _filled(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        known = self._known(event, seq)
        if known is None:
            return
        self.tally.checked["O6"] += 1
        last = event.leaves_qty == 0
        self._step(known, Trigger.LAST_FILL if last else Trigger.PARTIAL_FILL, seq, event.order_id)
        if isinstance(known, Terms) != event.late:
            how = "after its end and is not marked late" if not event.late else "before its end and is marked late"
            self.tally.violate("O6", seq, f"order {event.order_id} filled {how}")

    def _resent(self, event: OrderResent, seq: int, cause: int) -> None:
        """The same order goes out again: only while nobody knows what became of it, and on evidence."""
        known = self._known(event, seq)
        self.tally.checked["O4"] += 1
        if known is not None and known.status is not OrderStatus.UNKNOWN:
            self.tally.violate("O4", seq, f"order {event.order_id} was sent again while it was {known.status}")
        if not event.evidence:
            self.tally.violate("O4", seq, f"order {event.order_id} was sent again without evidence")

    def _snapshot(self, event: BrokerSnapshot, seq: int, cause: int) -> None:
        for order in event.orders:
            self.tally.checked["O1"] += 1
            if self.fold.known(order.order_id) is None:
                self.tally.violate(
                    "O1", seq, f"the broker of {event.account} works order {order.order_id}, which was never submitted"
                )


def _changed(intent: PlaceOrder, order: PlaceOrder) -> str:
    return ", ".join(
        f"{field} {getattr(intent, field)} -> {getattr(order, field)}"
        for field in intent.__struct_fields__
        if getattr(intent, field) != getattr(order, field)
    )
