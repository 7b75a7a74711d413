"""Reading an account at Alpaca: single orders, lists page by page, and whatever is found missing. Changes nothing there."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from northstar_core.brokers.alpaca.book import Book
from northstar_core.brokers.alpaca.wire import (
    Row,
    Unreadable,
    change_of,
    client_id,
    fill_of,
    refusal,
    rfc3339,
    row_of,
    rows_of,
)
from northstar_core.brokers.base import BrokerError, Claim, Code
from northstar_core.brokers.http import Answered, NeverSent, Outcome, RestClient
from northstar_core.model.world import FrameUnread

SECOND = 1_000_000_000
OVERLAP_NS = 60 * SECOND  #: lists are read from this much before the last row seen
PAGE, FILL_PAGE = 500, 100
RAW = 400  #: bytes kept of what could not be read

Tell = Callable[[Sequence[Claim]], None]


def unread(ts: int, source: str, raw: bytes, error: str) -> FrameUnread:
    """Return the record of something that could not be read, with its first bytes as text or as base64."""
    head = raw[:RAW]
    try:
        shown = head.decode()
    except UnicodeDecodeError:
        shown = base64.b64encode(head).decode()
    return FrameUnread(ts, source, shown, error[:200])


class Reader:
    """Reads, and feeds the book; the claims that follow go to ``tell``."""

    def __init__(self, rest: RestClient, book: Book, tell: Tell) -> None:
        self.rest, self.book, self.clock, self.tell = rest, book, rest.clock, tell
        self.last_fill = 0  #: time of the latest execution seen, ns UTC
        self.last_change = 0

    async def get(self, path: str, params: dict[str, str] | None = None) -> Any:
        """Return what a path answers, None for 404.

        Raises
        ------
        BrokerError
            If it does not, or refuses the credentials.
        """
        for attempt in range(3):
            outcome = await self.rest.get(path, params)
            if isinstance(outcome, Answered) and outcome.status == 429 and attempt < 2:
                await self.clock.sleep(1.0 + attempt)
                continue
            break
        if not isinstance(outcome, Answered):
            raise BrokerError(Code.UNREACHABLE, outcome.reason)
        if outcome.status == 404 and refusal(404, outcome.body)[0]:
            return None
        if outcome.status in (401, 403):
            raise BrokerError(Code.CREDENTIALS, f"Alpaca refuses the key: {refusal(outcome.status, outcome.body)[1]}")
        if not outcome.ok:
            code = Code.MAINTENANCE if outcome.status == 503 else Code.UNREACHABLE
            raise BrokerError(code, f"GET {path}: {refusal(outcome.status, outcome.body)[1]}")
        try:
            return outcome.json()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.tell([unread(self.clock.now(), self.book.account, outcome.body, f"GET {path}: {error}")])
            raise BrokerError(Code.UNREACHABLE, f"GET {path}: an answer that is no JSON") from None

    # ── single orders ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def order(self, broker_id: str) -> Row | None:
        """Return an order by Alpaca's id, None if there is none."""
        return self._row(await self.get(f"/v2/orders/{broker_id}", {"nested": "true"}))

    async def by_client_id(self, order_id: str, n: int = 0) -> Row | None:
        """Return our order, or its n-th replacement, None if Alpaca knows none."""
        return self._row(await self.get("/v2/orders:by_client_order_id", {"client_order_id": client_id(order_id, n)}))

    def _row(self, data: Any) -> Row | None:
        if data is None:
            return None
        try:
            return row_of(data)
        except Unreadable as error:
            self.tell([unread(self.clock.now(), self.book.account, msgspec.json.encode(data), str(error))])
            raise BrokerError(Code.UNREACHABLE, f"an order that cannot be read: {error}") from None

    async def look(self, order_id: str) -> bool:
        """Read one order of ours with all of its replacements anew; False if Alpaca knows none of it."""
        track = self.book.track(order_id)
        ids = [] if track is None else [seat.id for seat in track.seats if not seat.over]
        if track is not None and track.seats and not ids:
            ids = [track.seats[-1].id]
        rows = [await self.order(broker_id) for broker_id in ids] or [await self.by_client_id(order_id)]
        seen = set(ids)
        found = False
        for row in rows:
            while row is not None:
                found = True
                self.tell(self.book.row(row, self.clock.now(), fresh=True))
                seen.add(row.id)
                row = await self.order(row.replaced_by) if row.replaced_by and row.replaced_by not in seen else None
        return found

    # ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def open_orders(self) -> list[Row]:
        """Read every open order."""
        return await self._orders({"status": "open"})

    async def orders_since(self, ts: int) -> list[Row]:
        """Read every order submitted since a time, whatever became of it."""
        return await self._orders({"status": "all", "after": rfc3339(max(ts, 0))})

    async def _orders(self, params: dict[str, str]) -> list[Row]:
        found: dict[str, Row] = {}
        after: dict[str, str] = {}
        while True:
            page = {"limit": str(PAGE), "direction": "asc", "nested": "true", **params, **after}
            data = await self.get("/v2/orders", page)
            try:
                rows = rows_of(data)
            except Unreadable as error:
                self.tell([unread(self.clock.now(), self.book.account, msgspec.json.encode(data), str(error))])
                raise BrokerError(Code.UNREACHABLE, f"orders that cannot be read: {error}") from None
            new = [row for row in rows if row.id not in found]
            found |= {row.id: row for row in new}
            for row in rows:
                self.tell(self.book.row(row, self.clock.now()))
            if len(rows) < PAGE or not new:
                return list(found.values())
            after = {"after": rfc3339(max(row.created for row in rows) - 1000)}

    async def fills(self, since: int) -> None:
        """Read every execution since a time."""
        await self._activities("/v2/account/activities/FILL", since, self._take_fill)
        self.tell(self.book.read_through(self.clock.now()))

    def _take_fill(self, data: Any) -> None:
        fill = fill_of(data)
        self.last_fill = max(self.last_fill, fill.ts)
        self.tell(self.book.fill(fill))

    async def changes(self, since: int) -> None:
        """Read every other activity since a time."""
        await self._activities("/v2/account/activities", since, self._take_change, category="non_trade_activity")

    def _take_change(self, data: Any) -> None:
        if isinstance(data, dict) and data.get("activity_type") == "FILL":
            return
        change = change_of(data)
        self.last_change = max(self.last_change, change.ts)
        self.tell(self.book.change(change))

    async def _activities(self, path: str, since: int, take: Callable[[Any], None], **more: str) -> None:
        params = {"after": rfc3339(max(since, 0)), "direction": "asc", "page_size": str(FILL_PAGE), **more}
        seen: set[str] = set()
        while True:
            page = await self.get(path, params)
            if not isinstance(page, list):
                raise BrokerError(Code.UNREACHABLE, f"GET {path}: no list")
            for item in page:
                try:
                    take(item)
                except Unreadable as error:
                    self.tell([unread(self.clock.now(), self.book.account, msgspec.json.encode(item), str(error))])
            last = page[-1].get("id") if page and isinstance(page[-1], dict) else None
            if len(page) < FILL_PAGE or not isinstance(last, str) or last in seen:
                return
            seen.add(last)
            params = {**params, "page_token": last}

    # ── what is missing ───────────────────────────────────────────────────────────────────────────────────────────────

    async def repair(self) -> bool:
        """Read once what the book knows to be missing; True if nothing is any more."""
        book = self.book
        for broker_id in book.unseen:
            row = await self.order(broker_id)
            if row is not None:
                self.tell(book.row(row, self.clock.now()))
            else:
                book.strangers.pop(broker_id, None)
        if missing := book.missing:
            times = [seat.created for seat in missing if seat.created]
            await self.fills((min(times) if times else self.last_fill) - OVERLAP_NS)
        return not book.gaps and not book.strangers


def why(outcome: Outcome) -> str:
    """Return what became of a request, in words."""
    if isinstance(outcome, Answered):
        code, text = refusal(outcome.status, outcome.body)
        return f"{text} ({code})" if code else text
    return f"never sent: {outcome.reason}" if isinstance(outcome, NeverSent) else outcome.reason
