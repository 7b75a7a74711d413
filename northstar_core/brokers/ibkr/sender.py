"""What changes something at the broker: orders with their questions, modifications, cancels. Each request goes out once.

While a question is open, any other order request drops what it was about. So orders and modifications of a session go one after the
other, each with its chain of questions; a cancel waits for an open chain a moment and then goes first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from northstar_core.brokers.base import Claim
from northstar_core.brokers.http import Answered, NeverSent, Outcome, Use
from northstar_core.brokers.ibkr.book import Book
from northstar_core.brokers.ibkr.contracts import Contracts, asking
from northstar_core.brokers.ibkr.life import Life
from northstar_core.brokers.ibkr.link import Link, Unanswered
from northstar_core.brokers.ibkr.orders import (
    LONGEST_CHAIN,
    Accepted,
    Answer,
    Question,
    Refused,
    Terms,
    Unclear,
    answer,
    body,
    cancel_answer,
    may_confirm,
    unsupported,
)  # fmt: skip
from northstar_core.brokers.ibkr.wire import Unreadable
from northstar_core.model.errors import DataError
from northstar_core.model.execution import ExecType, ExecutionReport
from northstar_core.model.world import AlertRaised

log = logging.getLogger("northstar.ibkr")

NEVER = "never sent: "
CANCEL_WAITS_S = 1.0  #: so long a cancel waits for an order's questions to be answered


class Sender:
    """Sends what was decided, and has what came of it claimed.

    Parameters
    ----------
    take
        Emits claims.
    """

    def __init__(self, link: Link, book: Book, contracts: Contracts, take: Callable[[Iterable[Claim]], None]) -> None:
        self.link, self.book, self.contracts, self._take = link, book, contracts, take
        self.options, self.clock = link.options, link.clock
        self._account = f"/iserver/account/{self.options.account_id}"
        self._turn = asyncio.Lock()

    # ── contracts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def look_up(self, symbol: str) -> None:
        """Learn the conids of a symbol's legs.

        Raises
        ------
        DataError
            If the broker lists no such contract, or several.
        Unanswered
            If it does not answer.
        """
        for leg in self.contracts.missing(symbol):
            question: Any = asking(leg)
            try:
                path, params = next(question)
                while True:
                    path, params = question.send(await self.link.ask("GET", path, params))
            except StopIteration as done:
                self.contracts.learn(leg, done.value)
            except Unreadable as error:
                raise Unanswered(f"{leg}: {error}") from None

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, life: Life, qty: Decimal | None = None, *, patient: bool = False) -> bool:
        """Send an order, for ``qty`` where it is a bracket exit of which less is wanted.

        Returns
        -------
        False if nothing left this machine, which is a rejection unless the caller is ``patient`` and will try later.
        """
        order = life.order
        why = unsupported(order)
        if not why and self.contracts.missing(order.symbol):
            try:
                await self.look_up(order.symbol)
            except DataError as error:
                why = str(error)
            except Unanswered as error:
                why = f"{NEVER}the contract could not be looked up: {error}"
        if not why and not self.link.connected:
            why = f"{NEVER}not connected"
        if why:
            if patient and why.startswith(NEVER):
                return False
            self._take(self.book.lives.refuse(life, why, self.clock.now()))
            return True
        if qty is not None and qty < life.terms.qty:
            life.terms, life.reduced = Terms(qty, life.terms.limit_price, life.terms.stop_price), True
        wire = body(order, life.terms, self.options.account_id, self.contracts.of(order.symbol), first=True)
        self.book.submitting += 1
        life.sending = True
        try:
            async with self._turn:
                if life.cancel:  # while it waited behind other orders
                    life.cancel = False
                    self._take(self.book.lives.withdraw(life, self.clock.now()))
                    return True
                said = await self._converse("order", life, f"{self._account}/orders", {"orders": [wire]})
        finally:
            self.book.submitting -= 1
            life.sending = False
        now = self.clock.now()
        if isinstance(said, Accepted):
            self._take(self.book.placed(life, said.broker_id, said.status, said.text, now))
        elif isinstance(said, Unclear):
            if life.broker_id and (life.acked or life.end is not None):
                log.info("order %s: %s; the stream had shown it already", order.order_id, said.text)
            else:
                self._take(self.book.lives.lose(life, "submit", said.text, now))
        elif patient and said.text.startswith(NEVER):
            return False
        else:
            self._take(self.book.lives.refuse(life, said.text, now))
        return True

    async def replace(self, life: Life, terms: Terms, *, claim: bool = True) -> None:
        """Ask for other terms; the complete order goes along. ``claim``: somebody waits for what comes of it."""
        now = self.clock.now()
        lives = self.book.lives
        try:
            await self.look_up(life.order.symbol)
        except (DataError, Unanswered) as error:
            if claim:
                self._take(lives.not_replaced(life, f"{NEVER}{error}", now))
            return
        if claim:
            lives.replace(life, terms, now)
        wire = body(life.order, terms, self.options.account_id, self.contracts.of(life.order.symbol), first=False)
        async with self._turn:
            said = await self._converse("replace", life, f"{self._account}/order/{life.broker_id}", wire)
        now = self.clock.now()
        if not claim:
            if isinstance(said, Accepted):
                life.terms, life.reduced = terms, True
            else:
                self._alert("warning", f"order {life.order.order_id}", f"the exit was not reduced to {terms.qty}: {_words(said)}")
        elif isinstance(said, Accepted):
            life.asked_at = now
            self._take(lives.judge(life, now))
        elif life.asked is None:
            pass  # the stream had the answer first
        elif isinstance(said, Unclear):
            self._take(lives.lose(life, "replace", said.text, now))
        else:
            self._take(lives.not_replaced(life, said.text, now))

    async def cancel(self, life: Life) -> None:
        """Ask to cancel an order the broker has."""
        held = False
        try:
            async with asyncio.timeout(self.clock.wall_s(CANCEL_WAITS_S)):
                held = await self._turn.acquire()
        except TimeoutError:
            log.warning("order %s: cancelled while another order's question is open", life.order.order_id)
        try:
            outcome = await self.link.send("DELETE", f"{self._account}/order/{life.broker_id}", use=Use.CANCEL)
        finally:
            if held:
                self._turn.release()
        said: Accepted | Refused | Unclear = _never(outcome) or cancel_answer(*_status(outcome))
        now = self.clock.now()
        if isinstance(said, Refused):
            self._take([ExecutionReport(now, life.order.order_id, ExecType.CANCEL_REJECTED, text=said.text)])
            life.cancelling = life.end is None  # what it stands at is asked for
            self._take(self.book.lives.judge(life, now))
        elif isinstance(said, Unclear) and life.end is None:
            self._take(self.book.lives.lose(life, "cancel", said.text, now))

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _converse(self, what: str, life: Life, path: str, wire: object) -> Accepted | Refused | Unclear:
        """Send a request and answer what is asked about it, until it is accepted, refused or lost."""
        outcome = await self.link.send("POST", path, wire, use=Use.ORDER)
        for _ in range(LONGEST_CHAIN):
            said: Answer = _never(outcome) or answer(*_status(outcome))
            if not isinstance(said, Question):
                return said
            ids = ", ".join(said.message_ids) or "no id"
            allowed = may_confirm(said, self.options.confirm)
            verb = "confirmed" if allowed else "not confirmed"
            self._alert(
                "info" if allowed else "warning", f"order {life.order.order_id}", f"{what}: question {ids}, {verb}: {said.text}"
            )
            if not allowed:
                return Refused(f"nothing was placed: question {ids} is not among those to confirm: {said.text}")
            outcome = await self.link.send("POST", f"/iserver/reply/{said.reply_id}", {"confirmed": True}, use=Use.ORDER)
            if isinstance(outcome, NeverSent):
                return Refused(f"nothing was placed: the answer to question {ids} never left: {outcome.reason}")
        return Refused(f"nothing was placed: more than {LONGEST_CHAIN} questions")

    def _alert(self, severity: str, about: str, text: str) -> None:
        log.info("%s: %s", about, text)
        self._take([AlertRaised(self.clock.now(), severity, about, f"{self.book.account}: {about}: {text}")])


def _never(outcome: Outcome) -> Refused | None:
    return Refused(f"{NEVER}{outcome.reason}") if isinstance(outcome, NeverSent) else None


def _status(outcome: Outcome) -> tuple[int, bytes]:
    """Silence reads like a gateway that gave up."""
    if isinstance(outcome, Answered):
        return outcome.status, outcome.body
    words = outcome.reason.replace('"', "'").replace("\\", "/")
    return 504, f'{{"error":"{words}"}}'.encode()


def _words(said: Accepted | Refused | Unclear) -> str:
    return said.text
