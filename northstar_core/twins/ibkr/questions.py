"""The questions that the Interactive Brokers twin asks before it takes an order.

A question interrupts an order request; the client answers with its id, and gets the next question, the order's
acceptance, or a refusal. Any other order request meanwhile drops the open question, and what it was about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

Row = dict[str, Any]

#: Ids to what is asked. Clients recognise questions by these phrases, so the telling part of each is the service's.
TEXTS = {
    "o163": 'The following order "{order}" price exceeds \nthe Percentage constraint of 3%.\nAre you sure?',
    "o354": (
        "You are submitting an order without market data. We strongly recommend against this as it may result in erroneous "
        "and unexpected trades.\nAre you sure?"
    ),
    "o382": 'The following order "{order}" price exceeds the Tick Size Limit of 0.01.\nAre you sure?',
    "o383": 'The following order "{order}" size exceeds the Size Limit of 500.\nAre you sure?',
    "o403": "This order will most likely trigger and fill immediately.\nAre you sure?",
    "o451": 'The following order "{order}" value estimate exceeds \nthe Total Value Limit of 100,000 USD.\nAre you sure?',
    "o10151": "A Market Order is an instruction to trade your order at any available price. Continue?",
    "o10152": "You are about to submit a stop order. Please be aware of the various stop order types available. Continue?",
    "o10153": (
        "<h4>Confirm Mandatory Cap Price</h4>To avoid trading at a price that is not consistent with a fair and orderly "
        "market, a cap may be set. Continue?"
    ),
    "o10331": (
        "You are about to submit a stop order. Please be aware of the various stop order types available and the risks "
        "associated with each one.\nAre you sure?"
    ),
    "p12": "If your order is not immediately executable, our systems may, depending on market conditions, reject your order.",
}
OTHER = "Please confirm {order} ({id})."
MOST_SUPPRESSED = 51

Outcome = Row | list[Row]


class OpenQuestion(msgspec.Struct):
    """A request that waits for answers: what is still to be asked, and what happens after the last yes."""

    reply_id: str
    ids: list[str]
    order: str
    go: Callable[[], Outcome]


class Questions:
    """The one open question of a session, and which questions it no longer wants to hear."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._asked = 0
        self.open: OpenQuestion | None = None
        self.suppressed: set[str] = set()
        self.dropped = 0  #: how many were dropped by another request

    def drop(self) -> None:
        """Forget the open question: another order request came."""
        if self.open is not None:
            self.open = None
            self.dropped += 1

    def ask(self, ids: Sequence[str], order: str, go: Callable[[], Outcome]) -> Outcome:
        """Ask the first question that is not suppressed, or go ahead where there is none."""
        self.drop()
        return self._next(OpenQuestion("", list(ids), order, go))

    def reply(self, reply_id: str, confirmed: bool) -> Outcome | None:
        """Take an answer; None where that question is not open (any more)."""
        question = self.open
        if question is None or question.reply_id != reply_id:
            return None
        self.open = None
        if not confirmed:
            return {"error": "Order is declined", "action": "order_submit_error"}
        return self._next(question)

    def suppress(self, ids: Sequence[str]) -> str:
        """Stop asking these until the session ends; returns why not, or nothing."""
        if len(ids) > MOST_SUPPRESSED:
            return f"{len(ids)} message ids: at most {MOST_SUPPRESSED} in one request"
        self.suppressed.update(ids)
        return ""

    def _next(self, question: OpenQuestion) -> Outcome:
        ids = [one for one in question.ids if one not in self.suppressed]
        if not ids:
            return question.go()
        self._asked += 1
        raw = hashlib.sha256(f"{self._seed}-{self._asked}".encode()).hexdigest()
        reply_id = f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:32]}"
        self.open = OpenQuestion(reply_id, ids[1:], question.order, question.go)
        options = ["Decline", "Accept and Continue"] if ids[0] == "o10153" else ["Yes", "No"]
        text = TEXTS.get(ids[0], OTHER).format(order=question.order, id=ids[0])
        row: Row = {"id": reply_id, "message": [text], "isSuppressed": False, "messageIds": [ids[0]], "messageOptions": options}
        return [row]
