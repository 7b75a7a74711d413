"""Interactive Brokers, through a Client Portal gateway.

An account is up once its session can trade, the socket is open, and orders and executions have been read anew. Orders are never sent
twice: the gateway remembers our ids for a day only, and only the ids of its own session, so a second order of the same id is not
provably refused (``deduplicates`` is false). What became of an order is found in live orders and executions by our id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Coroutine, Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any

from northstar_core.brokers.base import AccountInfo, BrokerError, Claim, Code, Evidence, Kept, Wiring
from northstar_core.brokers.ibkr.book import Book
from northstar_core.brokers.ibkr.brackets import Brackets, Cancel, Drop, Reduce, Send
from northstar_core.brokers.ibkr.care import Care
from northstar_core.brokers.ibkr.contracts import Contracts
from northstar_core.brokers.ibkr.life import CANCELLING, Life
from northstar_core.brokers.ibkr.link import Link, Lost, Unanswered, broker_error
from northstar_core.brokers.ibkr.orders import Terms
from northstar_core.brokers.ibkr.portfolio import Portfolio
from northstar_core.brokers.ibkr.sender import Sender
from northstar_core.brokers.ibkr.settings import options
from northstar_core.brokers.ibkr.wire import Frame, Unreadable
from northstar_core.model.errors import DataError
from northstar_core.model.execution import BrokerSnapshot, ExecType, ExecutionReport, OpenOrder
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.world import BrokerDown, BrokerUp

log = logging.getLogger("northstar.ibkr")

RETRY_S = 3.0  #: an exit that could not leave, or shows no effect of what was asked, is looked at again after this
SNAPSHOTS = 3  #: a snapshot during which something traded is taken again, so often


class IbkrBroker:
    """An account at Interactive Brokers (``brokers.base.Broker``).

    Raises
    ------
    SettingsError
        If the account's options cannot be used.
    """

    kind = "ibkr"
    deduplicates = False

    def __init__(self, wiring: Wiring) -> None:
        self.wiring, self.clock, self.account = wiring, wiring.clock, wiring.account
        self.options = options(wiring.options, wiring.account)
        self.simulated = self.options.play_money
        self.contracts = Contracts(self.options.conids)
        since = max(wiring.reads.values(), default=0) or self.clock.now()
        self.book = Book(wiring.account, self.options.account_id, self.contracts, wiring.order_of, since)
        self.link = Link(self.options, self.clock, self._heard, self._unread)
        self.sender = Sender(self.link, self.book, self.contracts, self._take)
        self.care = Care(self.link, self.book, self.contracts, self._take)
        self.portfolio = Portfolio(self.link, self.care, self.contracts)
        self.brackets = Brackets(self._entry, lambda life: self.book.fills.filled(life.order))
        self.up = False
        self._held_before: list[Life] = []
        self._keeper: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        """Account and where it stands."""
        return f"<IbkrBroker {self.account} {self.options.account_id} {'up' if self.up else 'down'}>"

    # ── coming up and going down ──────────────────────────────────────────────────────────────────────────────────────

    def restore(self, books: Any, orders: Iterable[Kept], exec_ids: Container[tuple[str, str]] = ()) -> None:
        """Take over what the desk had sent before a restart; call before ``start``.

        Parameters
        ----------
        books
            For brokers that keep books of their own.
        orders
            Those that work are known with their terms and with what was asked for last; exits that the broker does not show once it
            has been read are held again.
        exec_ids
            (account, id) of every execution and activity that is booked.
        """
        self.book.fills.known = exec_ids
        for kept in orders:
            if kept.intent.account == self.account and kept.working:
                terms = Terms(kept.qty, kept.limit_price, kept.stop_price)
                life = self.book.lives.restore(kept.intent, terms, kept.pending and Terms(*kept.pending), self.clock.now())
                if kept.status is OrderStatus.PENDING_CANCEL:
                    life.lost |= {"cancel"}
                if kept.intent.parent:
                    self._held_before.append(life)

    async def start(self) -> None:
        """Log in, open the stream, read everything anew, emit ``BrokerUp``; then keep all that up until ``close``."""
        if self._keeper is not None:
            return
        try:
            async with asyncio.timeout(self.options.start_s):
                await self._connect(starting=True)
        except TimeoutError:
            await self.link.close()
            raise BrokerError(Code.UNREACHABLE, f"{self.options.url}: not up within {self.options.start_s:g} s") from None
        except BaseException:
            await self.link.close()
            raise
        self._keeper = asyncio.create_task(self._keep())

    async def _connect(self, *, starting: bool) -> None:
        await self.link.log_in(starting=starting)
        await self.link.open()
        reader = asyncio.create_task(self.link.serve())
        reading = asyncio.create_task(self._read_anew())
        try:
            await asyncio.wait((reader, reading), return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()
            reading.result()
        except BaseException as error:
            reader.cancel()
            reading.cancel()
            await asyncio.gather(reader, reading, return_exceptions=True)
            await self.link.hang_up()
            if isinstance(error, Lost | Unanswered):
                raise broker_error(error) from None
            raise
        self._reader = reader
        self.up = True
        self._take([BrokerUp(self.clock.now(), self.account, f"{self.options.account_id} at {self.options.url}")])

    async def _read_anew(self) -> None:
        await self.care.read_anew()
        before, self._held_before = self._held_before, []
        for life in before:
            self.brackets.add(life, held=not life.broker_id and not self.book.fills.filled(life.order))
        for symbol in self.options.symbols:
            try:
                await self.sender.look_up(symbol)
            except DataError as error:
                log.warning("%s: %s", self.account, error)

    async def _keep(self) -> None:
        pause, reason = 1.0, ""
        while True:
            if self.up:
                reason, pause = await self._until_lost(), 1.0
                self.up = False
                self._down(reason)
            try:
                await self._connect(starting=False)
            except BrokerError as error:
                if (words := f"{error.code}: {error}") != reason:
                    reason = words
                    self._down(reason)
                await self.clock.sleep(pause)
                pause = min(pause * 2, self.options.backoff_s)

    def _down(self, reason: str) -> None:
        log.warning("%s: %s", self.account, reason)
        self._take([BrokerDown(self.clock.now(), self.account, reason)])

    async def _until_lost(self) -> str:
        assert self._reader is not None
        both = (self._reader, asyncio.create_task(self.care.keep()))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                if task.done():
                    try:
                        task.result()
                    except Lost as lost:
                        return str(lost)
            return "the stream ended"
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def close(self) -> None:
        """Leave: every task ended, every connection closed. Orders stay as they are."""
        self.up = False
        keeper, self._keeper = self._keeper, None
        tasks = [task for task in (keeper, self._reader, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.link.close()

    # ── claims ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, claims: Iterable[Claim]) -> None:
        """Emit claims and do what follows from them."""
        for claim in claims:
            self.wiring.emit(claim)
        self._follow()

    def _heard(self, message: Frame) -> None:
        self.care.heard(message)

    def _unread(self, source: str, raw: str | bytes, error: Exception) -> None:
        self._take([self.book.unread(source, raw, error, self.clock.now())])

    def _follow(self) -> None:
        if not self.up:
            return
        restless = self.book.lives.restless()
        for life in restless:
            if life.cancel and life.broker_id:
                life.cancel = False
                self._spawn(self.sender.cancel(life))
        for action in self.brackets.react():
            match action:
                case Send(life, qty):
                    self._spawn(self._send_exit(life, qty))
                case Reduce(life, qty):
                    terms = Terms(qty, life.terms.limit_price, life.terms.stop_price)
                    self._spawn(self._insist(life, self.sender.replace(life, terms, claim=False)))
                case Cancel(life):
                    self._spawn(self._insist(life, self.sender.cancel(life)))
                case Drop(life, why):
                    self._drop(life, why)
        if not restless and not self.book.fills.parked:
            return
        wanted = self.book.wanted(self.clock.now())
        if wanted.rows or wanted.pages or wanted.trades or wanted.conids:
            self.care.hurry.set()

    async def _send_exit(self, life: Life, qty: Decimal) -> None:
        """Send an exit whose entry has filled; while it cannot leave it is held on."""
        if not await self.sender.submit(life, qty, patient=True):
            await self.clock.sleep(RETRY_S)
            self.brackets.add(life, held=True)
            self._follow()

    async def _insist(self, life: Life, request: Coroutine[Any, Any, None]) -> None:
        """Ask something of an exit; where it shows no effect, let it be asked for again."""
        await request
        await self.clock.sleep(RETRY_S)
        if life.end is None and life.status not in CANCELLING:
            self.brackets.again(life)
            self._follow()

    def _drop(self, life: Life, why: str) -> None:
        life.end = ExecType.CANCELED
        self.wiring.emit(ExecutionReport(self.clock.now(), life.order.order_id, ExecType.CANCELED, text=why))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", self.account, exc_info=error)

    def _entry(self, order_id: str) -> Life | None:
        life = self.book.lives.lives.get(order_id)
        if life is None and (order := self.wiring.order_of(order_id)) is not None:
            life = self.book.lives.begin(order, self.clock.now(), inherited=True)
        return life

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self, symbols: Iterable[str]) -> None:
        """Look contracts up ahead, so that the first order in each need not wait for it.

        Raises
        ------
        BrokerError
            If the broker does not answer, or lists no such contract.
        """
        for symbol in symbols:
            try:
                await self.sender.look_up(symbol)
            except (DataError, Unanswered) as error:
                raise BrokerError(Code.NOT_READY, str(error)) from None

    async def submit(self, order: PlaceOrder) -> None:
        """Send an order; a bracket exit is held until its entry has filled. What came of it is emitted."""
        life = self.book.lives.begin(order, self.clock.now())
        if order.parent:
            self.brackets.add(life, held=True)
            life.acked = True
            self._take([ExecutionReport(self.clock.now(), order.order_id, ExecType.NEW, text="held until its entry has filled")])
            return
        await self.sender.submit(life)

    async def cancel(self, order_id: str) -> None:
        """Ask to cancel an order; what came of it is emitted."""
        life = self._entry(order_id)
        now = self.clock.now()
        if life is None:
            self._take([ExecutionReport(now, order_id, ExecType.CANCEL_REJECTED, text="no such order was ever sent here")])
        elif order_id in self.brackets.held:
            self.brackets.release(life)
            self._drop(life, "")
            self._follow()
        elif life.broker_id:
            await self.sender.cancel(life)
        elif life.end is ExecType.REJECTED:
            self._take([ExecutionReport(now, order_id, ExecType.CANCEL_REJECTED, text="the order was rejected")])
        else:
            life.cancel = True  # it goes out as soon as the broker shows the order
            if not life.sending:  # else its submission tells
                with suppress(Unanswered):
                    await self.care.orders()
                if life.cancel:
                    why = "the broker shows no such order; if it comes to light it is cancelled"
                    self._take(self.book.lives.lose(life, "cancel", why, self.clock.now()))

    async def replace(
        self, order_id: str, qty: Decimal, limit_price: Decimal | None, stop_price: Decimal | None
    ) -> None:
        """Ask for other terms, ``qty`` being the whole order's; what came of it is emitted."""
        life, now, terms = self._entry(order_id), self.clock.now(), Terms(qty, limit_price, stop_price)
        if life is not None and order_id in self.brackets.held:
            self.book.lives.replace(life, terms, now)
            self._take(self.book.lives.replaced(life, now))
        elif life is None or not life.broker_id or life.end is not None:
            why = "the order has ended" if life is not None and life.end is not None else "the broker shows no such order"
            self._take([ExecutionReport(now, order_id, ExecType.REPLACE_REJECTED, text=why)])
        else:
            await self.sender.replace(life, terms)

    async def find(self, order_id: str) -> Evidence:
        """Ask the broker about one order and emit its state and executions."""
        order = self.wiring.order_of(order_id)
        life = self._entry(order_id)
        if order is None or life is None or not self.up:
            return Evidence.SILENT
        if order_id in self.brackets.held:
            self._take([ExecutionReport(self.clock.now(), order_id, ExecType.NEW, text="held until its entry has filled")])
            return Evidence.FOUND
        try:
            seen = await self.care.orders()
            await self.care.trades()
            if life.broker_id and life.broker_id not in seen:
                row = await self.link.ask("GET", f"/iserver/account/order/status/{life.broker_id}")
                self._take(self.book.page(life, row if isinstance(row, dict) else {}, self.clock.now()))
        except (Unanswered, Unreadable) as error:
            log.warning("%s: %s: %s", self.account, order_id, error)
            if not life.broker_id or not (life.status or self.book.fills.filled(order)):
                return Evidence.SILENT
        if life.broker_id or self.book.fills.filled(order):
            self._take(self.book.find(life, self.clock.now()))
            return Evidence.FOUND
        if order.parent and life.inherited and self._waits(order):
            self.brackets.add(life, held=True)
            self._take([ExecutionReport(self.clock.now(), order_id, ExecType.NEW, text="held until its entry has filled")])
            return Evidence.FOUND
        return Evidence.ABSENT if self.up else Evidence.SILENT

    def _waits(self, order: PlaceOrder) -> bool:
        """Whether an exit of before a restart cannot have been sent yet: its entry has not done filling."""
        entry = self._entry(order.parent)
        return entry is not None and not entry.over and bool(entry.broker_id)

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def snapshot(self) -> BrokerSnapshot:
        """Return cash, positions and open orders of ours as the broker has them now."""
        try:
            for _ in range(SNAPSHOTS):
                booked = len(self.book.fills.booked)
                positions = await self.portfolio.positions()
                cash = await self.portfolio.cash()
                if len(self.book.fills.booked) == booked:
                    break
        except (Unanswered, Unreadable) as error:
            raise broker_error(error) from None
        held = tuple(OpenOrder(life.order.order_id, OrderStatus.NEW, life.terms.qty) for life in self.brackets.held.values())
        return BrokerSnapshot(self.clock.now(), self.account, cash, positions, (*self.book.open_orders(), *held))

    async def info(self) -> AccountInfo:
        """Return what the login shows of the account; proves that the session can trade."""
        alone = self._keeper is None
        try:
            if alone:
                await self.link.log_in(starting=False)
            return await self.portfolio.info()
        except (Unanswered, Unreadable) as error:
            raise broker_error(error) from None
        finally:
            if alone and self._keeper is None:
                await self.link.close()
