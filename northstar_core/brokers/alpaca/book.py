"""What is known of an account's orders at Alpaca, and the claims that follow, without I/O.

Rows, stream events and activities come in, in any order and any number of times; claims come out, and which does not depend on the
order: a state is told once, an execution once, an end once and after every execution that the order's own total speaks of.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from northstar_core.brokers.alpaca.seat import Seat
from northstar_core.brokers.alpaca.track import Asked, Claims, Track
from northstar_core.brokers.alpaca.wire import COMPLEX, EVENTS, WORKS, Change, Event, Fill, Row, ours
from northstar_core.model.execution import AccountActivity, ExecType, ExecutionReport, OpenOrder
from northstar_core.model.order import OrderStatus, PlaceOrder
from northstar_core.model.world import AlertRaised

ZERO = Decimal(0)
SETTLED = 2  #: complete readings of the activities that show nothing of a span, before it is taken as carried over


class Book:
    """Every order of one account that was ever heard of.

    Parameters
    ----------
    order_of
        Our order by its id, None if it is not this desk's.
    since
        Executions of others before this time, ns UTC, are in the opening balance and not told.
    """

    def __init__(self, account: str, order_of: Callable[[str], PlaceOrder | None], since: int = 0) -> None:
        self.account, self.since = account, since
        self._order_of = order_of
        self.tracks: dict[str, Track] = {}  #: ours, by our order id
        self.owner: dict[str, Track] = {}  #: by Alpaca's id
        self.seats: dict[str, Seat] = {}  #: by Alpaca's id
        self.stops: dict[str, str] = {}  #: order id of a target sent with a stop as one, to the stop's
        self.loose: dict[str, list[Row | Event]] = {}  #: legs of orders not heard of yet
        self.strangers: dict[str, list[Fill]] = {}  #: fills of orders not heard of yet
        self.gaps: set[Track] = set()  #: orders of which executions, or legs, are missing
        self._changes: set[str] = set()
        self._refusals: set[tuple[str, str, str]] = set()

    def track(self, order_id: str) -> Track | None:
        """Return the track of an order of ours, whether or not Alpaca was heard of it."""
        track = self.tracks.get(order_id)
        if track is None and (order := self._order_of(order_id)) is not None:
            track = self.tracks[order_id] = Track(order)
        return track

    def begin(self, order: PlaceOrder) -> Track:
        """Take note of an order that is about to be sent, or was before a restart; ``order`` has the terms in force."""
        track = self.tracks.get(order.order_id)
        if track is None:
            track = self.tracks[order.order_id] = Track(order)
        return track

    # ── what comes in ─────────────────────────────────────────────────────────────────────────────────────────────────

    def row(self, row: Row, ts: int, *, fresh: bool = False) -> Claims:
        """Take an order row, from an answer or a list. ``fresh``: asked for after the last request about it."""
        track = self._learn(row)
        if track is None:
            self.loose.setdefault(row.id, []).append(row)
            return []
        return self._tell_row(track, row, ts, fresh)

    def event(self, event: Event) -> Claims:
        """Take a stream event."""
        row = event.row
        track = self._learn(row)
        if track is None:
            self.loose.setdefault(row.id, []).append(event)
            return []
        if event.fills:
            seat = self.seats[row.id]
            if row.symbol and not seat.legs:
                self._execute(track, seat, row.filled, event.qty, event.price, event.ts, sure=False)
            elif event.qty == row.qty == row.filled:
                for leg in row.legs:  # one execution filled it whole: that of each leg is known exactly
                    if leg.id in self.seats and leg.filled and leg.avg:
                        self._execute(track, self.seats[leg.id], leg.filled, leg.filled, leg.avg, event.ts, sure=False)
        out = self._tell_row(track, row, event.ts)
        if event.event in ("order_cancel_rejected", "order_replace_rejected"):
            self._request_refused(track, event, out)
        elif event.event not in EVENTS:
            grave = event.event.startswith("trade_")  # a bust or a correction: what was booked is no longer true
            text = f"event {event.event!r} of order {row.id} ({row.symbol}): not known here; its order was read"
            out.append(AlertRaised(event.ts, "critical" if grave else "info", self.account, text))
        return out

    def fill(self, fill: Fill) -> Claims:
        """Take a FILL activity; of an order not heard of it waits in ``strangers``."""
        track, seat = self.owner.get(fill.order_id), self.seats.get(fill.order_id)
        if track is None or seat is None:
            self.strangers.setdefault(fill.order_id, []).append(fill)
            return []
        seat.side = seat.side or fill.side
        self._execute(track, seat, fill.cum, fill.qty, fill.price, fill.ts, sure=True)
        return self._tell(track, fill.ts)

    def change(self, change: Change) -> Claims:
        """Take an activity that is no fill; those from before ``since`` are in the opening balance."""
        c = change
        if c.ts < self.since or c.id in self._changes:
            return []
        self._changes.add(c.id)
        return [AccountActivity(c.ts, self.account, c.kind, c.id, c.symbol, c.qty, c.cash, c.price, "", c.text)]

    def answer_to_replace(self, row: Row, ts: int) -> Claims:
        """Take the answer to a replace: there is a new order, which does not say that it has taken the old one's place."""
        return self.row(msgspec.structs.replace(row, status="pending_new") if row.status in WORKS else row, ts)

    # ── what becomes of requests ──────────────────────────────────────────────────────────────────────────────────────

    def lost(self, order_id: str, what: str, why: str, ts: int) -> Claims:
        """Nothing came back for an order, a cancel or a replace: its outcome is unknown unless Alpaca has told it already."""
        track = self.tracks[order_id]
        if track.ended or (what == "order" and track.acked) or (what == "replace" and track.asked is None):
            return []
        track.lost, track.acked = what if track.seats else "order", False
        return [ExecutionReport(ts, order_id, ExecType.UNKNOWN, text=f"{what}: {why}")]

    def refused(self, order_id: str, what: str, why: str, ts: int) -> Claims:
        """Alpaca refused an order, a cancel or a replace, or it provably never left."""
        track = self.tracks[order_id]
        out: Claims = []
        if what == "order":
            if not track.ended and not track.seats:
                track.ended = True
                out.append(ExecutionReport(ts, order_id, ExecType.REJECTED, text=why))
        elif what == "cancel":
            if track.lost == "cancel":
                track.lost, track.acked = "", True
            out.append(ExecutionReport(ts, order_id, ExecType.CANCEL_REJECTED, text=why))
        else:
            track.refuse_replace(why, ts, out)
        return out

    def ask(self, order_id: str, qty: Decimal, limit: Decimal | None, stop: Decimal | None, ts: int) -> Asked:
        """Take note of a replace that is about to be sent, and number it."""
        track = self.tracks[order_id]
        last = max((seat.depth for seat in track.seats), default=0)
        asked = track.asked = Asked(max(last, track.asked.n if track.asked else 0) + 1, qty, limit, stop, ts)
        return asked

    # ── what is missing ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def missing(self) -> list[Seat]:
        """Orders at Alpaca of which executions are missing."""
        return sorted((seat for track in self.gaps for seat in track.missing), key=lambda seat: (seat.created, seat.id))

    @property
    def unseen(self) -> list[str]:
        """Alpaca's ids of orders whose rows are to be read: fills speak of them, or a successor or a leg does."""
        blind = [seat.id for track in self.gaps if track.blind for seat in track.seats if seat.filled and not seat.legs]
        return sorted({*blind, *self.strangers, *(unseen for track in self.gaps for unseen in track.unseen)})

    def read_through(self, ts: int) -> Claims:
        """The activities were read to their end: what is still missing of a replacement was carried over from before it."""
        out: Claims = []
        for seat in self.missing:
            seat.reads += 1
            track = self.owner[seat.id]
            before = sum((other.booked for other in track.seats if other.depth < seat.depth), ZERO)
            low, high = seat.missing[0]
            if seat.depth and seat.reads >= SETTLED and low == seat.base == 0 and high <= before:
                seat.base = high
                out += self._tell(track, ts)
        return out

    def give_up(self, seat: Seat, ts: int) -> Claims:
        """Alpaca's total says more than it tells executions of: book the difference at the average price, with an alarm."""
        track, price = self.owner[seat.id], seat.price_of_missing()
        for span in seat.missing:
            track.execute(seat, span, True, price, seat.ended or ts, self.account, self.since)
        text = f"order {seat.id} ({seat.symbol}): {seat.filled} filled, but not every execution is told; the rest is booked at {price}"
        return [AlertRaised(ts, "critical", self.account, text), *self._tell(track, ts)]

    def release(self, ts: int) -> Claims:
        """Legs whose order a complete list of orders does not show belong to nobody here: they are others' orders."""
        loose, self.loose = self.loose, {}
        out: Claims = []
        for pieces in loose.values():
            for piece in pieces:
                row = piece if isinstance(piece, Row) else piece.row
                if row.id not in self.owner:
                    self._seat(Track(None), row, 0)
                out += self.event(piece) if isinstance(piece, Event) else self.row(piece, ts)
        return out

    # ── what is held ──────────────────────────────────────────────────────────────────────────────────────────────────

    def open_orders(self) -> list[OpenOrder]:
        """Return our orders that work at Alpaca, in the unit and with the quantity we asked for."""
        out: list[OpenOrder] = []
        for order_id, track in sorted(self.tracks.items()):
            if track.seats and not track.ended and track.order is not None and (booked := track.booked) < track.order.qty:
                status = OrderStatus.PARTIALLY_FILLED if booked else OrderStatus.NEW
                out.append(OpenOrder(order_id, status, track.order.qty - booked))
        return out

    def working(self) -> list[Track]:
        """Return our orders that may still fill."""
        return [track for track in self.tracks.values() if not track.ended]

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, track: Track, ts: int, fresh: bool = False) -> Claims:
        out = track.tell(self.account, ts, fresh=fresh, since=self.since)
        (self.gaps.discard if track.whole else self.gaps.add)(track)
        return out

    def _tell_row(self, track: Track, row: Row, ts: int, fresh: bool = False) -> Claims:
        out = self._tell(track, ts, fresh)
        for leg in row.legs:
            other = self.owner.get(leg.id)
            if other is not None and other is not track:
                out += self._tell(other, ts, fresh)
            for piece in self.loose.pop(leg.id, ()):
                out += self.event(piece) if isinstance(piece, Event) else self.row(piece, ts)
        for known in (row.id, *(leg.id for leg in row.legs)):
            for fill in self.strangers.pop(known, ()):
                out += self.fill(fill)
        return out

    def _learn(self, row: Row) -> Track | None:
        """Find whose order a row is and let its seat learn; None for a leg whose order is not known yet."""
        track = self.owner.get(row.id)
        if track is None:
            found = self._whose(row)
            if found is None:
                return None
            track, depth = found
            self._seat(track, row, depth)
        seat = self.seats[row.id]
        seat.learn(row)
        for leg in row.legs:
            self._learn_leg(track, seat, row, leg)
        if seat.parent is None and seat.legs:  # a total of the whole is a total of its legs
            ratios = track.ratios() if track.order is not None else {}
            for symbol, leg_id in seat.legs.items():
                least = seat.filled * ratios.get(symbol, 0)
                if least > self.seats[leg_id].filled:
                    self.seats[leg_id].filled, self.seats[leg_id].avg = least, ZERO
        return track

    def _whose(self, row: Row) -> tuple[Track, int] | None:
        mine = ours(row.client_id)
        if mine is not None and (track := self.track(mine[0])) is not None:
            return track, mine[1]
        if row.replaces in self.owner:
            return self.owner[row.replaces], self.seats[row.replaces].depth + 1
        part = row.symbol != "" if row.order_class == "mleg" else not row.legs
        if row.order_class in COMPLEX and part:
            return None
        return Track(None), 0

    def _seat(self, track: Track, row: Row, depth: int, parent: Seat | None = None) -> Seat:
        seat = self.seats[row.id] = Seat(row, depth, parent)
        if track.order is None and 0 < row.ended < self.since:
            seat.base = row.filled  # somebody else's, over before we came: in the opening balance
        self.owner[row.id] = track
        if parent is None:
            track.seats.append(seat)
            track.seats.sort(key=lambda s: s.depth)
        else:
            track.legs.append(seat)
        return seat

    def _learn_leg(self, track: Track, parent: Seat, row: Row, leg: Row) -> None:
        """A leg of a multi-leg order is a part of it; of a target and a stop in one it is the stop, an order of its own."""
        if leg.id not in self.owner:
            if row.order_class == "mleg":
                self._seat(track, leg, parent.depth, parent)
            elif track.order is None:
                self._seat(Track(None), leg, 0)
            else:
                stop = self.track(self.stops.get(track.order.order_id, ""))
                if stop is None:
                    return
                self._seat(stop, leg, 0)
        if row.order_class == "mleg":
            parent.legs[leg.symbol] = leg.id
        self.seats[leg.id].learn(leg)

    def _execute(self, track: Track, seat: Seat, cum: Decimal, qty: Decimal, price: Decimal, ts: int, *, sure: bool) -> None:
        """Book an execution that took a seat to ``cum``; one that does not fit what is booked is left to the activities."""
        low = cum - qty
        free = seat.free(max(low, ZERO), cum)
        if free == [(low, cum)]:
            track.execute(seat, (low, cum), True, price, ts, self.account, self.since)
        elif sure:
            for span in free:
                track.execute(seat, span, False, price, ts, self.account, self.since)
        else:
            seat.filled = max(seat.filled, cum)

    def _request_refused(self, track: Track, event: Event, out: Claims) -> None:
        key = (event.row.id, event.event, event.execution_id or str(event.ts))
        if key in self._refusals or track.order is None:
            return
        self._refusals.add(key)
        if event.event == "order_replace_rejected":
            track.refuse_replace("the broker refused the replacement", event.ts, out)
        else:
            out.append(ExecutionReport(event.ts, track.order.order_id, ExecType.CANCEL_REJECTED, text="the broker refused the cancel"))
