"""Looking after what the stream tells: reading anew after it opened, asking where there is doubt, noticing when it has died.

The stream has no numbers and no replay, and one of an earlier session may go on beating its heart. So orders are read over REST from
time to time; if the stream then still has not told what REST shows, it is dead: it is opened anew, and if that does not help, orders
and executions are polled until it speaks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from northstar_core.brokers.base import Claim
from northstar_core.brokers.ibkr.book import Book
from northstar_core.brokers.ibkr.contracts import Contracts, described
from northstar_core.brokers.ibkr.link import Link, Lost, Unanswered
from northstar_core.brokers.ibkr.wire import Frame, Unreadable, error_of, rows, whole
from northstar_core.model.world import AlertRaised

log = logging.getLogger("northstar.ibkr")

SECOND = 1_000_000_000
GRACE_S = 2.0  #: so much later than REST the stream may tell
PAGES = 5  #: orders asked for one by one at a time
PRIMING = 3  #: how often live orders are asked for before "not ready" is believed

State = tuple[str, str]


class Care:
    """Reads over REST what the stream may not have told.

    Parameters
    ----------
    take
        Emits claims, and does what follows from them.
    """

    def __init__(self, link: Link, book: Book, contracts: Contracts, take: Callable[[Iterable[Claim]], None]) -> None:
        self.link, self.book, self.contracts, self._take = link, book, contracts, take
        self.options, self.clock = link.options, link.clock
        self.hurry = asyncio.Event()  #: there is doubt
        self.polling = False  #: the stream of orders tells nothing
        self._strikes = 0
        self._streamed: dict[int, State] = {}  # what the stream told last, by the broker's id
        self._checked = 0

    # ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, message: Frame) -> None:
        """Take a frame of the stream.

        Raises
        ------
        Unreadable
            If it cannot be read; rows before the one that cannot are taken.
        """
        now = self.clock.now()
        if words := error_of(message.body):
            if message.topic == "sor":
                self._poll(f"orders cannot be subscribed: {words}")
                return
            raise Unreadable(words)
        if message.topic == "sor":
            for row in rows(message.args if message.args is not None else []):
                self._note(row)
                self._take(self.book.row(row, now))
        elif message.topic == "str":
            for row in _oldest_first(rows(message.args if message.args is not None else [])):
                self._take(self.book.trade(row, now))
        elif message.topic in ("ntf", "blt"):
            said = message.args if isinstance(message.args, list) else [message.args]
            for notice in said:
                self._take(self.book.notice(notice, now))

    def _note(self, row: dict[str, Any]) -> None:
        broker_id = whole(row.get("orderId"))
        status, filled = self._streamed.get(broker_id, ("", ""))
        self._streamed[broker_id] = (str(row.get("status") or status), _filled(row) or filled)
        self._strikes = 0
        if self.polling:
            self.polling = False
            self._say("info", "the stream of orders speaks again")

    def _poll(self, why: str) -> None:
        if not self.polling:
            self.polling = True
            self._say("warning", f"{why}; orders and executions are read every {self.options.poll_s:g} s")

    def _say(self, severity: str, words: str) -> None:
        self._take([AlertRaised(self.clock.now(), severity, f"{self.book.account} stream", f"{self.book.account}: {words}")])

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read_anew(self) -> None:
        """Read orders, executions and what they leave open; from here on the stream is measured against this.

        Raises
        ------
        Unanswered
            If one of them gets no answer.
        """
        with suppress(Unanswered):  # clears a filter somebody set; answered with an empty list
            await self.link.ask("GET", "/iserver/account/orders", {"force": "true"}, paced="orders")
        seen = await self.orders()
        self._streamed = {broker_id: state for broker_id, state in seen.items()}
        self._checked = self.clock.now()
        await self.trades()
        await self._name()

    async def orders(self) -> dict[int, State]:
        """Read live orders and claim what they show; return their states by the broker's id.

        Raises
        ------
        Unanswered
            If there is no answer, or the gateway has not got them together.
        """
        for attempt in range(PRIMING):
            said = await self.link.ask("GET", "/iserver/account/orders", paced="orders")
            try:
                found = rows(said.get("orders") if isinstance(said, dict) else said)
            except Unreadable as error:
                raise Unanswered(f"live orders: {error}") from None
            if found or (isinstance(said, dict) and said.get("snapshot") is not False):
                break
            if attempt + 1 < PRIMING:
                await self.clock.sleep(0.5)
        else:
            raise Unanswered("live orders: the gateway has not got them together")
        now, seen = self.clock.now(), {}
        for row in found:
            try:
                self._take(self.book.row(row, now, asked=True))
                seen[whole(row.get("orderId"))] = (str(row.get("status") or ""), _filled(row))
            except Unreadable as error:
                self._take([self.book.unread("live orders", str(row), error, now)])
        return seen

    async def trades(self) -> None:
        """Read executions and claim what they show.

        Raises
        ------
        Unanswered
            If there is no answer.
        """
        said = await self.link.ask("GET", "/iserver/account/trades", {"days": str(self.options.trades_days)}, paced="trades")
        try:
            found = _oldest_first(rows(said))
        except Unreadable as error:
            raise Unanswered(f"executions: {error}") from None
        now = self.clock.now()
        for row in found:
            try:
                self._take(self.book.trade(row, now))
            except Unreadable as error:
                self._take([self.book.unread("executions", str(row), error, now)])

    async def names(self, conids: Iterable[int]) -> None:
        """Ask what contracts are.

        Raises
        ------
        Unanswered
            If there is no answer.
        """
        listed = ",".join(str(conid) for conid in conids)
        if listed:
            said = await self.link.ask("GET", "/trsrv/secdef", {"conids": listed})
            try:
                described(said, self.contracts)
            except Unreadable as error:
                raise Unanswered(f"contracts {listed}: {error}") from None

    async def _name(self) -> None:
        wanted = self.book.wanted(self.clock.now()).conids
        if wanted:
            await self.names(wanted)
            self._take(self.book.named(self.clock.now()))

    # ── doubts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def keep(self) -> None:
        """Look into doubts as they come, and check the stream from time to time; never returns.

        Raises
        ------
        Lost
            If the stream has died.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.clock.wall_s(self.options.poll_s)):
                    await self.hurry.wait()
                    await self.clock.sleep(min(1.0, self.options.poll_s))  # the stream may say it by itself
            self.hurry.clear()
            try:
                await self._look()
                if self.clock.now() - self._checked >= self.options.check_s * SECOND:
                    await self.check()
            except Unanswered as error:
                if error.status == 401:
                    raise Lost(f"the login is gone: {error}") from None
                log.warning("%s: %s", self.book.account, error)
                await self.clock.sleep(min(1.0, self.options.poll_s))

    async def _look(self) -> None:
        wanted = self.book.wanted(self.clock.now())
        for life in wanted.pages[:PAGES]:
            try:
                row = await self.link.ask("GET", f"/iserver/account/order/status/{life.broker_id}")
                if isinstance(row, dict):
                    self._take(self.book.page(life, row, self.clock.now()))
            except Unreadable as error:
                self._take([self.book.unread("order status", str(row), error, self.clock.now())])
            except Unanswered as error:
                if error.status == 401:
                    raise
                wanted = type(wanted)(True, wanted.pages, wanted.trades, wanted.conids)  # not cached there: the list has it
        if wanted.rows or self.polling:
            await self.orders()
        if wanted.trades or self.polling:
            await self.trades()
        await self._name()
        self._take(self.book.tick(self.clock.now()))

    async def check(self) -> None:
        """Compare what the stream told with what REST shows.

        Raises
        ------
        Lost
            If the stream has not told it, also a little later.
        Unanswered
            If REST has no answer.
        """
        before = dict(self._streamed)
        seen = await self.orders()
        self._checked = self.clock.now()
        missing = {broker_id: state for broker_id, state in seen.items() if before.get(broker_id) != state}
        if not missing or self.polling:
            return
        await self.clock.sleep(GRACE_S)
        if any(self._streamed.get(broker_id) != before.get(broker_id) for broker_id in missing):
            return
        self._strikes += 1
        if self._strikes > 1:
            self._streamed.update(missing)
            self._poll("the stream of orders stays silent although it was opened anew")
            return
        raise Lost(f"the stream beats its heart and tells nothing: {len(missing)} orders have changed without it")


def _filled(row: dict[str, Any]) -> str:
    if row.get("filledQuantity") is not None:
        return f"{float(row['filledQuantity']):g}"
    return str(row.get("sizeAndFills") or "").partition("/")[0]


def _oldest_first(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time, and corrections after what they correct."""
    return sorted(found, key=lambda row: (str(row.get("trade_time_r") or ""), str(row.get("execution_id") or "")))
