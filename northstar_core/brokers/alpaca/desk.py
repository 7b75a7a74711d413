"""The requests: what is sent to Alpaca, what each answer means, and the exits that wait for their entry.

An answer of 200 shows an order. A 4xx with Alpaca's own words refuses. A duplicate client order id says that the order exists. Anything
else, and silence, is an unknown outcome. Nothing is sent twice: a second request goes to another order or is another request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from northstar_core.brokers.alpaca.exits import Batch, Exits
from northstar_core.brokers.alpaca.reader import SECOND, Reader, Tell, unread, why
from northstar_core.brokers.alpaca.track import Track
from northstar_core.brokers.alpaca.wire import Unreadable, oco_body, order_body, refusal, replace_body, row_of
from northstar_core.brokers.base import BrokerError, Evidence
from northstar_core.brokers.http import Answered, NeverSent, Outcome, Use
from northstar_core.model.execution import ExecType, ExecutionReport, OpenOrder
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.ports import Clock
from northstar_core.model.world import AlertRaised

ZERO = Decimal(0)
REFUSES = frozenset({400, 401, 403, 404, 405, 406, 410, 413, 415, 422, 429})  #: with Alpaca's own words: a definite no
TOGETHER_S = 0.2  #: exits of one entry are waited for so long, wall seconds: they are sent as one
NEW_LOOKS, NEW_LOOK_S = 50, 0.02  #: a replace waits for its order to be new, wall seconds
ABSENT_S = 10.0  #: a replacement that is not there so long after it was asked for is not coming

Spawn = Callable[[Coroutine[Any, Any, None]], None]

encode = msgspec.json.Encoder().encode


class Desk:
    """Sends requests and says what became of them.

    Parameters
    ----------
    expect
        Called with an order the stream should speak of now.
    spawn
        Starts work that nobody waits for.
    """

    def __init__(
        self, reader: Reader, clock: Clock, tell: Tell, options: Mapping[str, Any], expect: Callable[[str], None], spawn: Spawn
    ) -> None:
        self.reader, self.rest, self.book, self.clock, self.tell = reader, reader.rest, reader.book, clock, tell
        self.exits = Exits()
        self._extended, self._rest_qty = bool(options["extended_hours"]), options["replace_qty"] == "rest"
        self._expect, self._spawn = expect, spawn
        self._posting: dict[str, asyncio.Event] = {}
        self._releasing: set[str] = set()

    # ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, order: PlaceOrder) -> None:
        """Send an order, or hold an exit."""
        self.book.begin(order)
        if order.parent:
            self.exits.hold(order)
            self._report(order.order_id, ExecType.NEW)
            self.release(order.parent)
            return
        await self._post(order, order_body(order, extended_hours=self._extended))

    async def _post(self, order: PlaceOrder, body: dict[str, Any], stop: PlaceOrder | None = None) -> None:
        ids = [order.order_id] if stop is None else [order.order_id, stop.order_id]
        done = asyncio.Event()
        self._posting |= dict.fromkeys(ids, done)
        try:
            outcome = await self.rest.ask("POST", "/v2/orders", use=Use.ORDER, body=encode(body))
            await self._posted(order.order_id, ids, outcome)
        finally:
            done.set()
            for order_id in ids:
                self._posting.pop(order_id, None)

    async def _posted(self, order_id: str, ids: list[str], outcome: Outcome) -> None:
        now = self.clock.now()
        if isinstance(outcome, Answered):
            if outcome.ok:
                try:
                    self.tell(self.book.row(row_of(outcome.json()), now))
                except (msgspec.DecodeError, UnicodeDecodeError, Unreadable) as error:
                    self.tell([unread(now, self.book.account, outcome.body, f"answer to an order: {error}")])
                    self._lost(ids, "order", "an answer that cannot be read")
                self._expect(order_id)
                return
            code, text = refusal(outcome.status, outcome.body)
            if outcome.status == 422 and "client_order_id" in text and "unique" in text:
                await self._exists(order_id, ids)
                return
            if outcome.status in REFUSES and code:
                for one in ids:
                    self.tell(self.book.refused(one, "order", why(outcome), now))
                if outcome.status == 401:
                    self.tell([AlertRaised(now, "critical", self.book.account, f"Alpaca refuses the key: {text}")])
                return
            self._lost(ids, "order", text)
        elif isinstance(outcome, NeverSent):
            for one in ids:
                self.tell(self.book.refused(one, "order", why(outcome), now))
        else:
            self._lost(ids, "order", outcome.reason)
        self._expect(order_id)

    async def _exists(self, order_id: str, ids: list[str]) -> None:
        """Alpaca has an order of this id already: the one that is meant."""
        try:
            if await self.reader.look(order_id):
                return
        except BrokerError as error:
            self._lost(ids, "order", f"it exists, but: {error}")
            return
        self._lost(ids, "order", "Alpaca says both that it exists and that it does not")

    def _lost(self, ids: list[str], what: str, text: str) -> None:
        for order_id in ids:
            self.tell(self.book.lost(order_id, what, text, self.clock.now()))

    def _report(self, order_id: str, kind: ExecType, text: str = "") -> None:
        self.tell([ExecutionReport(self.clock.now(), order_id, kind, text=text)])

    # ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel(self, order_id: str) -> None:
        """Ask to cancel the order in force."""
        if self.exits.take(order_id) is not None:
            self.book.tracks[order_id].ended = True
            self._report(order_id, ExecType.CANCELED)
            return
        if (posting := self._posting.get(order_id)) is not None:
            await posting.wait()
        track = await self._known(order_id, "cancel")
        if track is None:
            return
        asked = ""
        while (head := track.head) is not None and head.id != asked and not track.ended:
            asked = head.id
            outcome = await self.rest.ask("DELETE", f"/v2/orders/{asked}", use=Use.CANCEL)
            if isinstance(outcome, Answered) and outcome.ok:
                self._expect(order_id)
                return
            if not await self._refused(order_id, "cancel", outcome):
                return
        self.tell(self.book.refused(order_id, "cancel", "it works no more" if track.ended else why(outcome), self.clock.now()))

    async def _known(self, order_id: str, what: str) -> Track | None:
        """Return the track of an order Alpaca has; None, with the outcome told, if that is not to be had."""
        track = self.book.track(order_id)
        if track is None:
            kind = ExecType.CANCEL_REJECTED if what == "cancel" else ExecType.REPLACE_REJECTED
            self._report(order_id, kind, f"order {order_id} is not known")
            return None
        if track.head is None and not track.ended:
            try:
                await self.reader.look(order_id)
            except BrokerError as error:
                self.tell(self.book.lost(order_id, what, str(error), self.clock.now()))
                return None
        if track.head is None and not track.ended:
            self.tell(self.book.lost(order_id, what, "Alpaca does not know the order", self.clock.now()))
            return None
        if track.ended or track.head is None:
            self.tell(self.book.refused(order_id, what, "it works no more", self.clock.now()))
            return None
        return track

    async def _refused(self, order_id: str, what: str, outcome: Outcome) -> bool:
        """Whether a request was definitely refused, the order then read anew; if not, its outcome is told here."""
        now = self.clock.now()
        if isinstance(outcome, NeverSent):
            self.tell(self.book.refused(order_id, what, why(outcome), now))
            return False
        if isinstance(outcome, Answered) and outcome.status in REFUSES and refusal(outcome.status, outcome.body)[0]:
            try:
                await self.reader.look(order_id)
            except BrokerError:
                self._expect(order_id)
            return True
        self.tell(self.book.lost(order_id, what, why(outcome), now))
        self._expect(order_id)
        return False

    # ── replaces ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def replace(self, order_id: str, qty: Decimal, limit: Decimal | None, stop: Decimal | None) -> None:
        """Ask for other terms."""
        if self.exits.change(order_id, qty, limit, stop):
            track = self.book.tracks[order_id]
            assert track.order is not None
            track.order = msgspec.structs.replace(track.order, qty=qty, limit_price=limit, stop_price=stop)
            self._report(order_id, ExecType.REPLACED)
            return
        if (posting := self._posting.get(order_id)) is not None:
            await posting.wait()
        known = await self._known(order_id, "replace")
        if known is None:
            return
        for _ in range(NEW_LOOKS):  # an order that is not new yet cannot be replaced, and is new in a moment
            if known.head is None or known.head.status != "pending_new":
                break
            await asyncio.sleep(NEW_LOOK_S)
        track, head, order = known, known.head, known.order
        assert head is not None and order is not None
        asked = self.book.ask(order_id, qty, limit, stop, self.clock.now())
        left = qty - track.booked if self._rest_qty else qty
        if left <= 0:
            self.tell(self.book.refused(order_id, "replace", f"{track.booked} have filled already", self.clock.now()))
            return
        body = replace_body(order, asked.n, left, limit, stop)
        outcome = await self.rest.ask("PATCH", f"/v2/orders/{head.id}", use=Use.ORDER, body=encode(body))
        now = self.clock.now()
        if isinstance(outcome, Answered) and outcome.ok:
            try:
                self.tell(self.book.answer_to_replace(row_of(outcome.json()), now))
            except (msgspec.DecodeError, UnicodeDecodeError, Unreadable) as error:
                self.tell([unread(now, self.book.account, outcome.body, f"answer to a replace: {error}")])
                self._lost([order_id], "replace", "an answer that cannot be read")
            self._expect(order_id)
        elif await self._refused(order_id, "replace", outcome):
            self.tell(self.book.refused(order_id, "replace", why(outcome), now))

    # ── evidence ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, order_id: str) -> Evidence:
        """Ask for one order.

        Raises
        ------
        BrokerError
            If there is no answer.
        """
        if self.exits.get(order_id) is not None:
            self._report(order_id, ExecType.NEW)
            return Evidence.FOUND
        track = self.book.track(order_id)
        if track is None:
            return Evidence.ABSENT
        if track.asked is not None and track.lost == "replace" and not await self._find_replacement(order_id, track):
            return Evidence.SILENT
        if await self.reader.look(order_id) or track.seats:
            return Evidence.SILENT if track.lost and not track.ended else Evidence.FOUND
        return Evidence.FOUND if await self.hold_again(order_id) else Evidence.ABSENT

    async def _find_replacement(self, order_id: str, track: Track) -> bool:
        """Whether it is known by now what became of a replace that was not answered."""
        asked = track.asked
        assert asked is not None
        row = await self.reader.by_client_id(order_id, asked.n)
        if row is not None:
            self.tell(self.book.row(row, self.clock.now(), fresh=True))
        elif self.clock.now() - asked.at > ABSENT_S * SECOND:
            self.tell(self.book.refused(order_id, "replace", "Alpaca knows no such replacement", self.clock.now()))
        return track.asked is None

    # ── exits ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def hold_again(self, order_id: str) -> bool:
        """Hold an exit that Alpaca does not have, after a restart; False if the order is none, or is at Alpaca with its target."""
        track = self.book.track(order_id)
        if track is None or track.order is None or not track.order.parent:
            return False
        for target, stop in self.book.stops.items():
            if order_id == stop and await self.reader.look(target):
                return bool(track.seats)
        entry = self.book.track(track.order.parent)
        if entry is not None and not entry.seats:
            await self.reader.look(track.order.parent)
        self.exits.hold(track.order)
        self._report(order_id, ExecType.NEW)
        self.release(track.order.parent)
        return True

    def held_orders(self) -> list[OpenOrder]:
        """Return the exits that are held: as far as anyone can tell, they work."""
        held = [order for exits in self.exits.held.values() for order in exits]
        return [OpenOrder(order.order_id, OrderStatus.NEW, order.qty) for order in held]

    def told(self, claim: ExecutionReport) -> None:
        """Take note of a claim: exits may depend on it."""
        others = self.exits.family.get(claim.order_id)
        if others is not None and claim.exec_type is ExecType.TRADE:
            track = self.book.tracks[claim.order_id]
            if track.ended or (track.head is not None and track.head.over):
                del self.exits.family[claim.order_id]
                self._spawn(self._cancel_all(others))
        self.release(claim.order_id)

    def release(self, entry: str) -> None:
        """Send the exits of an entry, if any are held and it has ended."""
        if entry not in self.exits.held or entry in self._releasing:
            return
        track = self.book.track(entry)
        if track is not None and track.ended:
            self._releasing.add(entry)
            self._spawn(self._release(entry, track))

    async def _release(self, entry: str, track: Track) -> None:
        """Send the exits of an entry that has ended, or end them with it."""
        try:
            await asyncio.sleep(TOGETHER_S)
            filled = track.booked
            if not filled:
                for order in list(self.exits.held.get(entry, ())):
                    self.exits.take(order.order_id)
                    self.book.tracks[order.order_id].ended = True
                    self._report(order.order_id, ExecType.CANCELED, f"its entry {entry} has not filled")
                return
            for batch in self.exits.release(entry, filled):
                await self._send(batch)
        finally:
            self._releasing.discard(entry)

    async def _send(self, batch: Batch) -> None:
        if batch.stop is None:
            await self._post(batch.order, order_body(batch.order, batch.qty, extended_hours=self._extended))
        else:
            self.book.stops[batch.order.order_id] = batch.stop.order_id
            await self._post(batch.order, oco_body(batch.order, batch.stop, batch.qty), batch.stop)

    async def _cancel_all(self, order_ids: tuple[str, ...]) -> None:
        for order_id in order_ids:
            if (track := self.book.tracks.get(order_id)) is not None and not track.ended:
                await self.cancel(order_id)
