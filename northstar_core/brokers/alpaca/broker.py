"""Alpaca: orders over REST, what became of them over the ``trade_updates`` stream, and REST again for whatever the stream did not say.

``alpaca.wire`` reads and writes the wire, ``alpaca.book`` turns what was heard into claims, ``alpaca.exits`` holds exits back: all
without I/O. ``alpaca.reader`` reads, ``alpaca.stream`` listens, and this carries requests and decides nothing.
What can be set is in ``alpaca.settings``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec

from northstar_core.brokers.alpaca.book import Book
from northstar_core.brokers.alpaca.desk import Desk
from northstar_core.brokers.alpaca.reader import OVERLAP_NS, Reader, unread, why
from northstar_core.brokers.alpaca.settings import options_of, stream_url
from northstar_core.brokers.alpaca.stream import TradeStream
from northstar_core.brokers.alpaca.wire import event_of, number, time_ns
from northstar_core.brokers.base import AccountInfo, BrokerError, Claim, Code, Evidence, Kept, Wiring, is_loopback
from northstar_core.brokers.http import Answered, Bucket, RestClient
from northstar_core.model.execution import BrokerSnapshot, ExecutionReport, HeldPosition
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import AlertRaised, BrokerDown, BrokerUp

ZERO = Decimal(0)
WARM_S = 15.0  #: how often connections are used so that they stay open
REPAIR_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  #: pauses between looks for missing executions; then they are booked by total
DAYS_NS = 2 * 86_400 * 1_000_000_000  #: activities that are no fills are listed by their day
STEADY = 5  #: times a snapshot is taken again because orders moved meanwhile


class AlpacaBroker:
    """An account at Alpaca.

    Raises
    ------
    SettingsError
        If an option is not known or of the wrong kind, or a secret is missing.
    """

    kind = "alpaca"
    deduplicates = True

    def __init__(self, wiring: Wiring) -> None:
        options = options_of(wiring)
        secrets = wiring.secrets
        self.account, self.clock, self._emit = wiring.account, wiring.clock, wiring.emit
        url = str(options["url"])
        self.simulated = is_loopback(url) or (urlsplit(url).hostname or "").startswith("paper-api.")
        self._options = options
        headers = {"APCA-API-KEY-ID": secrets["key"], "APCA-API-SECRET-KEY": secrets["secret"]}
        per_minute = float(options["requests_per_minute"])
        bucket = Bucket(per_minute / 60, per_minute / 4, float(options["kept_for_cancels"]))
        self.rest = RestClient(
            url, self.clock, headers=headers, connect_s=float(options["connect_s"]), read_s=float(options["read_s"]), bucket=bucket
        )
        self._since = wiring.reads.get("executions", 0)
        self.book = Book(self.account, wiring.order_of, self._since or self.clock.now())
        self.reader = Reader(self.rest, self.book, self._tell)
        self.desk = Desk(self.reader, self.clock, self._tell, options, self._expect, self._spawn)
        self.stream = TradeStream(
            str(options["stream"]) or stream_url(url), secrets["key"], secrets["secret"], self.clock, on_event=self._on_event,
            on_unread=self._on_unread, synchronise=self._synchronise, on_down=self._on_down, msgpack=bool(options["msgpack"]),
        )  # fmt: skip
        self._tasks: set[asyncio.Task[None]] = set()
        self._gap = asyncio.Event()
        self._heard: dict[str, int] = {}  # our order id to how many of its events the stream brought
        self._news: dict[str, int] = {}  # our order id to how many claims there were of it
        self._restored: list[str] = []
        self._told = 0  # claims, counted: a snapshot during which this moved is taken again
        self._read_through = 0  # orders submitted before this have been read, ns UTC
        self._down = True

    def __repr__(self) -> str:
        """Account and place; never a secret."""
        return f"<AlpacaBroker {self.account} at {self.rest.base}>"

    # ── coming and going ──────────────────────────────────────────────────────────────────────────────────────────────

    def restore(self, books: Any, orders: Iterable[Kept], exec_ids: Any = ()) -> None:
        """Take over what the desk had sent before a restart; call before ``start``.

        Orders that work are looked for, and exits whose entry has not ended are held again. ``books`` and ``exec_ids`` are for brokers
        that keep books of their own.
        """
        exits: dict[str, dict[bool, str]] = {}
        for kept in orders:
            intent = kept.intent
            if intent.account != self.account:
                continue
            if intent.parent:
                exits.setdefault(intent.parent, {})[intent.stop_price is None] = intent.order_id
            if not kept.working:
                continue
            terms = msgspec.structs.replace(intent, qty=kept.qty, limit_price=kept.limit_price, stop_price=kept.stop_price)
            self.book.begin(terms).order = terms
            self._restored.append(intent.order_id)
        # A target and a stop may be one order at Alpaca, where the stop has an id that is not ours.
        self.book.stops |= {pair[True]: pair[False] for pair in exits.values() if len(pair) == 2}

    async def start(self) -> None:
        """Log in, listen, read everything anew, emit ``BrokerUp``; then keep that up until ``close``.

        Raises
        ------
        BrokerError
            If the login is refused, the account is another or blocked, or Alpaca does not answer within ``start_s``.
        """
        if self._tasks:
            return
        self.rest.open()
        try:
            await self._check_account()
            self._spawn(self.stream.run())
            wait = max(self.clock.wall_s(float(self._options["start_s"])), 3.0)
            try:
                await asyncio.wait_for(self._until_up(), wait)
            except TimeoutError:
                raise self.stream.error or BrokerError(Code.UNREACHABLE, f"no stream at {self.stream.url}") from None
        except BaseException:
            await self.close()
            raise
        self._spawn(self._repairing())
        self._spawn(self._keep_warm())

    async def close(self) -> None:
        """End every task and close every connection."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.rest.close()

    async def _until_up(self) -> None:
        while not self.stream.synced.is_set():
            if self.stream.error is not None and self.stream.error.code is Code.CREDENTIALS:
                raise self.stream.error
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stream.synced.wait(), 0.05)

    async def _check_account(self) -> None:
        data = await self.reader.get("/v2/account")
        if not isinstance(data, dict):
            raise BrokerError(Code.ACCOUNT, "Alpaca shows no account for this key")
        wanted, shown = str(self._options["account_id"]), (data.get("id"), data.get("account_number"))
        if wanted and wanted not in shown:
            raise BrokerError(Code.ACCOUNT, f"the key is of account {shown[1]}, not of {wanted}; correct account_id or the secrets")
        blocked = [name for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user") if data.get(name)]
        if blocked or data.get("status") not in ("ACTIVE", None):
            raise BrokerError(Code.ACCOUNT, f"account {shown[1]} is {data.get('status')}, {', '.join(blocked) or 'not active'}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            text = f"{type(error).__name__}: {error}"
            self._emit(AlertRaised(self.clock.now(), "critical", self.account, text))
            self.stream.drop(text)  # everything is read anew on the way back

    # ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, order: PlaceOrder) -> None:
        """Send an order; an exit is held until its entry has ended."""
        await self.desk.submit(order)

    async def cancel(self, order_id: str) -> None:
        """Ask to cancel an order."""
        await self.desk.cancel(order_id)

    async def replace(self, order_id: str, qty: Decimal, limit_price: Decimal | None, stop_price: Decimal | None) -> None:
        """Ask for other terms; at Alpaca that is another order in the place of the first."""
        await self.desk.replace(order_id, qty, limit_price, stop_price)

    async def find(self, order_id: str) -> Evidence:
        """Ask for one order. It is absent only if Alpaca says so while the stream is up."""
        try:
            evidence = await self.desk.find(order_id)
            if self.book.gaps:
                await self.reader.repair()
        except BrokerError:
            return Evidence.SILENT
        return Evidence.SILENT if evidence is Evidence.ABSENT and not self.stream.up else evidence

    async def info(self) -> AccountInfo:
        """Return what the login shows."""
        self.rest.open()
        data, clock = await self.reader.get("/v2/account"), await self.reader.get("/v2/clock")
        try:
            return AccountInfo(
                account_id=str(data["account_number"]),
                cash=number(data.get("cash")) or ZERO,
                equity=number(data.get("equity")) or ZERO,
                buying_power=number(data.get("buying_power")) or ZERO,
                status=str(data.get("status")),
                time=time_ns(clock.get("timestamp")) if isinstance(clock, dict) else 0,
            )
        except (TypeError, KeyError, ValueError) as error:
            raise BrokerError(Code.UNREACHABLE, f"an account that cannot be read: {error}") from None

    async def snapshot(self) -> BrokerSnapshot:
        """Return cash, positions and our open orders, taken again if anything moved meanwhile; what they show is told first."""
        for _ in range(STEADY):
            await self._read_orders(since=None)
            await self.reader.changes(self.clock.now() - DAYS_NS)
            await self.reader.repair()
            told = self._told
            positions, account = await self.reader.get("/v2/positions"), await self.reader.get("/v2/account")
            await self._read_orders(since=None)
            if told == self._told and not self.book.gaps:
                break
        try:
            held = tuple(
                HeldPosition(str(p["symbol"]), qty) for p in sorted(positions, key=lambda p: str(p["symbol"])) if (qty := number(p["qty"]))
            )
            cash = number(account["cash"])
        except (TypeError, KeyError, ValueError) as error:
            raise BrokerError(Code.UNREACHABLE, f"positions or an account that cannot be read: {error}") from None
        orders = sorted([*self.book.open_orders(), *self.desk.held_orders()], key=lambda order: order.order_id)
        return BrokerSnapshot(self.clock.now(), self.account, cash or ZERO, held, tuple(orders))

    # ── what is heard ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._told += 1
            self._emit(claim)
        if self.book.gaps or self.book.strangers or self.book.loose:
            self._gap.set()
        for claim in claims:
            if isinstance(claim, ExecutionReport):
                self._news[claim.order_id] = self._news.get(claim.order_id, 0) + 1
                self.desk.told(claim)

    def _on_event(self, data: object) -> None:
        event = event_of(data)
        claims = self.book.event(event)
        track = self.book.owner.get(event.row.id)
        if track is not None and track.order is not None:
            order_id = track.order.order_id
            self._heard[order_id] = self._heard.get(order_id, 0) + 1
        self._tell(claims)

    def _on_unread(self, raw: bytes, error: str) -> None:
        self._emit(unread(self.clock.now(), self.account, raw, error))
        self._gap.set()

    def _on_down(self, reason: str) -> None:
        if not self._down:
            self._down = True
            self._emit(BrokerDown(self.clock.now(), self.account, reason))

    async def _synchronise(self) -> None:
        """Read orders, executions and other changes anew; the stream is listening already."""
        now = self.clock.now()
        since = self._read_through or self._since or now
        await self._read_orders(since=since - OVERLAP_NS)
        await self.reader.fills(min(self.reader.last_fill or since, since) - OVERLAP_NS)
        await self.reader.changes(since - DAYS_NS)
        restored, self._restored = self._restored, []
        for order_id in restored:
            if not self.book.tracks[order_id].seats:
                await self.reader.look(order_id)
        for order_id in restored:
            if not self.book.tracks[order_id].seats:
                await self.desk.hold_again(order_id)
        await self.reader.repair()
        self._tell(self.book.release(now))
        self._read_through = now
        self._down = False
        self._emit(BrokerUp(self.clock.now(), self.account, f"{self.stream.reconnects} reconnects"))

    async def _read_orders(self, *, since: int | None) -> None:
        """Read open orders, those since a time, and each of ours that should be among them and is not."""
        if since is not None:
            await self.reader.orders_since(since)
        shown = {row.id for row in await self.reader.open_orders()}
        for track in self.book.working():
            head = track.head
            if track.order is not None and head is not None and head.id not in shown and not head.over:
                await self.reader.look(track.order.order_id)

    # ── keeping it whole ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _repairing(self) -> None:
        """Look for what is missing, ever more slowly; in the end book what Alpaca's totals say."""
        while True:
            await self._gap.wait()
            self._gap.clear()
            for pause in REPAIR_S:
                await asyncio.sleep(self.clock.wall_s(pause))
                with suppress(BrokerError):
                    if self.book.loose:
                        await self._read_orders(since=self._read_through - OVERLAP_NS)
                        self._tell(self.book.release(self.clock.now()))
                    if await self.reader.repair():
                        break
            else:
                for seat in self.book.missing:
                    self._tell(self.book.give_up(seat, self.clock.now()))

    async def _keep_warm(self) -> None:
        """Use the connections so that they stay open; a REST side that does not answer takes the link down."""
        failed = 0
        while True:
            await asyncio.sleep(self.clock.wall_s(WARM_S))
            outcome = await self.rest.warm("/v2/clock")
            failed = 0 if isinstance(outcome, Answered) and outcome.status < 500 else failed + 1
            if failed == 3:
                self.stream.drop(f"REST: {why(outcome)}")

    def _expect(self, order_id: str) -> None:
        """The stream should speak of an order now; if it does not and REST has news of it, the stream is given up."""
        if self.stream.up:
            self._spawn(self._watch(order_id, self._heard.get(order_id, 0)))

    async def _watch(self, order_id: str, heard: int) -> None:
        await asyncio.sleep(self.clock.wall_s(float(self._options["mute_s"])))
        if self._heard.get(order_id, 0) > heard or not self.stream.up:
            return
        news = self._news.get(order_id, 0)
        with suppress(BrokerError):
            await self.reader.look(order_id)
            await self.reader.repair()
        if self._news.get(order_id, 0) > news and self._heard.get(order_id, 0) == heard:
            self.stream.drop(f"the stream said nothing of order {order_id} for {self._options['mute_s']} s")
