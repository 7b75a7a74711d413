"""An account's link to its broker: kept up, reconciled, its unknown orders resolved by evidence.

It acts on facts whose record is durable, and tells the desk what the broker says. It never decides that an order exists or does not:
a silent broker leaves an order UNKNOWN, with its exposure reserved, until the broker, a query or a person says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from northstar_core.brokers.base import Broker, BrokerError, Code, Evidence
from northstar_core.gateway.desk import Desk
from northstar_core.model import events as e
from northstar_core.model.execution import BrokerSnapshot, ExecType, ExecutionReport
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.ports import Clock
from northstar_core.model.world import BrokerDown, BrokerUp, OrderResent

log = logging.getLogger("northstar.links")

ABSENT_QUERIES = 3  #: a broker must deny an order this often …
ABSENT_OVER_S = 60.0  #: … over this long before it may be sent again
RESEND_WITHIN_S = 600.0  #: an order older than this is not sent again: the market it was meant for is gone
STILL_DIFFERENT = 3  #: differences are believed when as many snapshots in a row show the same
EAGER = sys.version_info >= (3, 12)
PENDING = frozenset({OrderStatus.PENDING_NEW, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE})


class Link:
    """Keeps one account's broker."""

    def __init__(self, account: str, broker: Broker, desk: Desk, clock: Clock, *, reconcile_s: float = 300.0) -> None:
        self.account, self.broker, self.desk, self.clock = account, broker, desk, clock
        self.reconcile_s = reconcile_s
        self.up = False
        self.reason = "not yet reached"
        self.since = clock.now()
        self.reconciled = 0  #: when the books were last compared and equal, ns UTC
        self.breaks: tuple[str, ...] = ()  #: differences that stand, in words
        self._ups = self._downs = 0  #: how often the broker said so
        self._stirred = 0  #: counts whatever the account's orders did: a snapshot taken meanwhile proves nothing
        self._tasks: set[asyncio.Task[None]] = set()
        self._resolving: set[str] = set()
        self._given_up: set[str] = set()  #: of these, orders that somebody asked to cancel: they are not sent again
        self._closing = False
        self._restarted = True
        self._hurry = asyncio.Event()

    # ── the desk's side ───────────────────────────────────────────────────────────────────────────────────────────────

    def refusal(self, fact: Any) -> str:
        """Why nothing may be sent now; empty if it may."""
        return "" if self.up else f"broker of {self.account} is down: {self.reason}"

    def act(self, fact: Any) -> None:
        """Do what a fact commands."""
        self._stirred += 1
        if isinstance(fact, e.OrderSubmitted):
            self._begin(self._ask("order", fact.order.order_id, self.broker.submit(fact.order)))
        elif isinstance(fact, e.CancelSubmitted):
            if fact.order_id in self._resolving:
                self._given_up.add(fact.order_id)
            self._begin(self._ask("cancel", fact.order_id, self.broker.cancel(fact.order_id)))
        else:
            ask = self.broker.replace(fact.order_id, fact.qty, fact.limit_price, fact.stop_price)
            self._begin(self._ask("replace", fact.order_id, ask))

    async def _ask(self, what: str, order_id: str, request: Coroutine[Any, Any, None]) -> None:
        try:
            await request
        except Exception as error:
            log.exception("%s of %s", what, order_id)
            text = f"{what}: {type(error).__name__}: {error}"
            self.desk.claim(ExecutionReport(self.clock.now(), order_id, ExecType.UNKNOWN, text=text))

    def noticed(self, fact: Any) -> None:
        """A fact of this account was written down: an order out of sight is looked for."""
        self._stirred += 1
        if isinstance(fact, e.OrderUnknown) and fact.order_id not in self._resolving:
            self._resolving.add(fact.order_id)
            self._spawn(self._resolve(fact.order_id))

    # ── the broker's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, claim: Any) -> None:
        """Take what the broker says."""
        self._stirred += 1
        if isinstance(claim, BrokerUp):
            self._ups += 1
            self._spawn(self._synchronise(claim))
        elif isinstance(claim, BrokerDown):
            self._downs += 1
            if self.up or self.reason != claim.reason:
                self.up, self.reason, self.since = False, claim.reason, self.clock.now()
                self.desk.note(claim)
                self.desk.settle()
        else:
            self.desk.claim(claim)

    async def start(self) -> None:
        """Begin to keep the link; returns at once."""
        self._spawn(self._keep())

    async def close(self) -> None:
        """Let the broker go."""
        self._closing = True
        self.up, self.reason = False, "the gateway is going down"
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.broker.close()

    def prepare(self, symbols: Sequence[str]) -> None:
        """Let the broker look up now what the first orders of these symbols would wait for."""
        prepare = getattr(self.broker, "prepare", None)
        if prepare is not None and symbols:
            self._spawn(self._prepare(prepare(list(symbols))))

    async def _prepare(self, lookup: Coroutine[Any, Any, None]) -> None:
        try:
            await lookup
        except BrokerError as error:  # the order itself will ask again
            log.warning("%s: nothing prepared: %s", self.account, error)

    def hurry(self) -> None:
        """Try to log in now rather than later."""
        self._hurry.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Spawn what must not wait for its turn: the first byte leaves before this returns, where Python can (3.12)."""
        loop = asyncio.get_running_loop()
        self._watch(asyncio.Task(work, loop=loop, eager_start=True) if EAGER else loop.create_task(work))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._watch(asyncio.get_running_loop().create_task(work))

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("link of %s", self.account, exc_info=error)
            self.desk.alert("critical", self.account, f"{type(error).__name__}: {error}")

    async def _keep(self) -> None:
        """Log in, and try again while that may help."""
        pause = 1.0
        while True:
            try:
                await self.broker.start()
                break
            except BrokerError as error:
                self.heard(BrokerDown(self.clock.now(), self.account, f"{error.code}: {error}"))
                if error.code in (Code.CREDENTIALS, Code.ACCOUNT):
                    self.desk.alert("critical", self.account, f"login refused: {error}; correct the secrets and start again")
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            self._hurry.clear()
            pause = min(pause * 2, 30.0)
        while True:
            await self.clock.sleep(self.reconcile_s)
            if self.up:
                await self.reconcile()

    async def _synchronise(self, claim: BrokerUp) -> None:
        """The broker is back: orders on their way when it went, or when we did, are unknown until it says more; then compare."""
        said, pause = (self._ups, self._downs), 0.5
        while (snapshot := await self._snapshot()) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)
            if said != (self._ups, self._downs):
                return
        if said != (self._ups, self._downs):
            return  # it went again meanwhile, or came again, and is being synchronised anew
        self.desk.open_account(self.account, self.broker.kind, snapshot)
        if self._restarted:
            self._restarted = False
            for order in self.desk.working(self.account):
                if order.status in PENDING:
                    if order.status is OrderStatus.PENDING_CANCEL:
                        self._given_up.add(order.order_id)
                    report = ExecutionReport(
                        self.clock.now(), order.order_id, ExecType.UNKNOWN, text="on its way when the gateway stopped"
                    )
                    self.desk.claim(report)
                elif order.status is OrderStatus.UNKNOWN and order.order_id not in self._resolving:
                    self._resolving.add(order.order_id)
                    self._spawn(self._resolve(order.order_id))
        self.up, self.reason, self.since = True, "", self.clock.now()
        self.desk.note(claim)
        self.desk.settle()
        await self.reconcile()

    # ── reconciliation ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _snapshot(self) -> BrokerSnapshot | None:
        """Ask for a snapshot; no answer says nothing about the link, whose end the broker's own claims tell."""
        try:
            return await self.broker.snapshot()
        except Exception as error:
            log.warning("no snapshot of %s: %s", self.account, error, exc_info=not isinstance(error, BrokerError))
            if not self.up:
                self.reason = f"no snapshot: {error}"
            return None

    async def reconcile(self) -> int:
        """Compare the books with the broker's; returns how many differences are believed, -1 if there was no answer.

        A difference is believed only if nothing stirred while snapshots were taken, several in a row show the same and no order waits
        for the broker's answer: what is on its way is no break.
        """
        same: list[Any] = []
        times = 0
        for attempt in range(20):
            stirred = self._stirred
            snapshot = await self._snapshot()
            if snapshot is None:
                return -1
            if stirred == self._stirred:
                found = [msgspec.structs.replace(b, ts=0) for b in self.desk.differences(snapshot)]
                times = 0 if found and self._is_waiting() else times + 1 if found == same else 1
                same = found
                if not found or times >= STILL_DIFFERENT:
                    self.desk.reconcile(snapshot)
                    self.breaks = tuple(_shown(b) for b in found)
                    if not found:
                        self.reconciled = snapshot.ts
                    else:
                        self.desk.alert("critical", self.account, f"{len(found)} differences between books and broker: {_shown(found[0])}")
                    return len(found)
            else:
                times = 0
            await asyncio.sleep(min(0.2 * (attempt + 1), 1.0))
        return -1

    def _is_waiting(self) -> bool:
        """Whether an order, a cancel or a replace has no answer yet."""
        return any(order.status in PENDING for order in self.desk.working(self.account))

    def _is_asked(self, order_id: str) -> bool:
        """Whether a cancel or a replace of an order has no answer yet; of one out of sight, asking proves nothing."""
        return any(order.order_id == order_id and order.status in PENDING for order in self.desk.working(self.account))

    # ── orders out of sight ───────────────────────────────────────────────────────────────────────────────────────────

    async def _resolve(self, order_id: str) -> None:
        """Ask for an order until there is evidence of what became of it."""
        absent, first_absent, pause, told = 0, 0, 1.0, False
        try:
            while self.desk.is_unknown(order_id) or self._is_asked(order_id):
                await self.clock.sleep(pause)
                pause = min(pause * 1.5, 30.0)
                if not self.up or not self.desk.is_unknown(order_id):
                    continue
                evidence = await self._find(order_id)
                if evidence is not Evidence.ABSENT:
                    absent = 0
                    continue
                absent += 1
                now = self.clock.now()
                first_absent = now if absent == 1 else first_absent
                if absent < ABSENT_QUERIES or now - first_absent < ABSENT_OVER_S * 1e9:
                    continue
                order = self.desk.order(order_id)
                assert order is not None
                young = now - order.ts < RESEND_WITHIN_S * 1e9
                if self.broker.deduplicates and young and self._may_resend(order):
                    seq = self.desk.note(
                        OrderResent(
                            now, order_id, order.strategy, order.account, order.symbol,
                            f"{absent} queries over {(now - first_absent) / 1e9:.0f} s found no such order",
                        )
                    )  # fmt: skip
                    self.desk.outgoing.after(seq, self._resend, order)
                    self.desk.settle()
                    absent = 0
                elif not told:
                    told = True
                    text = f"order {order_id}: the broker does not know it; resolve it: northstar order resolve {order_id}"
                    self.desk.alert("critical", self.account, text)
        finally:
            self._resolving.discard(order_id)
            self._given_up.discard(order_id)


    async def _find(self, order_id: str) -> Evidence:
        try:
            return await self.broker.find(order_id)
        except Exception:
            log.exception("find of %s", order_id)  # a query that fails proves nothing, and the next one may not
            return Evidence.SILENT

    def _may_resend(self, order: PlaceOrder) -> bool:
        """Whether the order is still wanted."""
        return order.order_id not in self._given_up and not self.desk.killed(order.strategy, order.account)

    def _resend(self, order: PlaceOrder) -> None:
        """The record is durable: send the order again, if nothing that happened since forbids it."""
        if self.up and self.desk.is_unknown(order.order_id) and self._may_resend(order):
            self.act(e.OrderSubmitted(order.ts, order, None))  # type: ignore[arg-type]


def _shown(found: e.BreakFound) -> str:
    return f"{found.what} {found.key}: ours {found.ours}, theirs {found.theirs}"
