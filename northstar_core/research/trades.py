"""Round trips: entries matched with exits, first in first out, to the last digit.

What a fill paid or brought is split over the trips and open lots it is part of, and every split keeps its remainder, so
for any fills whatever

    sum of trip.pnl + sum of (lot.cash - lot.fees) = sum of the cash that moved, fees included

holds exactly, in Decimal. Strategies and symbols are matched apart, as their books are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import msgspec

from northstar_core.model.errors import DataError
from northstar_core.model.events import OrderFilled, PositionAdjusted
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument

ZERO = Decimal(0)

#: What a split of cash or fees is rounded to; its remainder stays with the rest, so nothing is lost.
SHARE = Decimal("1e-12")

#: Digits of a price that is shown.
PRICE = Decimal("1e-10")


class Fill(msgspec.Struct, frozen=True):
    """What matching needs to know of a fill."""

    ts: int
    symbol: str
    side: str  #: "BUY" or "SELL"
    qty: Decimal  #: above zero
    price: Decimal
    fees: Decimal = ZERO
    multiplier: int = 1
    strategy: str = ""
    order_id: str = ""  #: fills of one order count as one entry or exit; without an id each stands alone


class RoundTrip(msgspec.Struct, frozen=True):
    """A position, or a part of one, from its entry to its exit; one for each pair of entry and exit orders."""

    strategy: str
    symbol: str
    side: str  #: "LONG" or "SHORT"
    qty: Decimal  #: units closed, above zero; after a split, in new units
    entry_ts: int
    exit_ts: int
    entry_price: Decimal  #: average, to 10 digits; after a split, in new units
    exit_price: Decimal
    multiplier: int
    fees: Decimal  #: its share of the fees of entry and exit
    pnl: Decimal  #: what it brought, fees deducted, exact
    ended: str = ""  #: what closed it where that was no order: "EXPIRATION", "EXERCISE", …


class OpenLot(msgspec.Struct, frozen=True):
    """What an entry has left open."""

    strategy: str
    symbol: str
    qty: Decimal  #: signed
    entry_ts: int
    cash: Decimal  #: what opening it brought (negative: cost), fees apart
    fees: Decimal
    multiplier: int

    def pnl(self, mark: Decimal) -> Decimal:
        """Return what it would bring at this price, less the fees paid so far."""
        return self.qty * mark * self.multiplier + self.cash - self.fees


def round_trips(fills: Iterable[Any]) -> list[RoundTrip]:
    """Return the round trips of fills, in the order in which they ended.

    Parameters
    ----------
    fills
        Rows in order of time, with the attributes of ``Fill``; those with a default there may be missing.

    Raises
    ------
    DataError
        If a quantity is not above zero, or times go backward.
    """
    return match(_rows(fills))[0]


def open_lots(fills: Iterable[Any]) -> list[OpenLot]:
    """Return what the fills leave open, oldest first within each book. Arguments and errors as ``round_trips``."""
    return match(_rows(fills))[1]


def round_trips_of(fills: Sequence[OrderFilled], adjustments: Sequence[PositionAdjusted] = ()) -> list[RoundTrip]:
    """Return the round trips of a run: its fills, and what changed positions without an order.

    A split rescales what is open and brings nothing. Expiry, exercise and assignment close the option at the cash they
    moved (none, where shares are delivered), and delivered shares are entered or closed at the strike. Dividends, fees
    and interest belong to no trip.
    """
    return match(events_as_moves(fills, adjustments))[0]


class Move:
    """Some units in or out, the cash that moved with them, and what of both is not matched yet."""

    __slots__ = ("cash", "fees", "kind", "multiplier", "order_id", "qty", "split", "strategy", "symbol", "ts")

    def __init__(
        self, ts: int, strategy: str, symbol: str, qty: Decimal, cash: Decimal, fees: Decimal, multiplier: int,
        order_id: str = "", kind: str = "", split: bool = False,
    ) -> None:
        self.ts, self.strategy, self.symbol, self.order_id, self.kind = ts, strategy, symbol, order_id, kind
        self.qty, self.cash, self.fees, self.multiplier, self.split = qty, cash, fees, multiplier, split

    def take(self, qty: Decimal) -> tuple[Decimal, Decimal]:
        """Take this many units (without sign) out and return the cash and fees that belong to them."""
        have = abs(self.qty)
        if qty == have:
            cash, fees, self.qty = self.cash, self.fees, ZERO
            self.cash = self.fees = ZERO
            return cash, fees
        cash, fees = (self.cash * qty / have).quantize(SHARE), (self.fees * qty / have).quantize(SHARE)
        self.cash -= cash
        self.fees -= fees
        self.qty -= qty.copy_sign(self.qty)
        return cash, fees


def match(moves: Iterable[Move]) -> tuple[list[RoundTrip], list[OpenLot]]:
    """Return round trips in the order they ended, and open lots; ``moves`` in order of time, used up by this."""
    books: dict[tuple[str, str], deque[Move]] = {}
    trips: dict[Any, _Trip] = {}
    with localcontext() as exactly:
        exactly.prec = 60
        for move in moves:
            lots = books.setdefault((move.strategy, move.symbol), deque())
            if move.split and lots:
                _rescale(lots, move.qty)
                continue
            while move.qty and lots and (lots[0].qty > 0) != (move.qty > 0):
                lot = lots[0]
                qty = min(abs(lot.qty), abs(move.qty))
                both = lot.order_id and move.order_id
                key = (move.strategy, move.symbol, lot.order_id, move.order_id) if both else len(trips)
                trip = trips.get(key)
                if trip is None:
                    trip = trips[key] = _Trip(lot, move)
                trip.add(qty, lot.take(qty), move.take(qty), move.ts)
                if not lot.qty:
                    lots.popleft()
            if move.qty:
                lots.append(move)
        done = [trip.done() for trip in trips.values()]
    left = [
        OpenLot(lot.strategy, lot.symbol, lot.qty, lot.ts, lot.cash, lot.fees, lot.multiplier)
        for lots in books.values()
        for lot in lots
    ]
    done.sort(key=lambda trip: trip.exit_ts)
    return done, left


def events_as_moves(fills: Sequence[OrderFilled], adjustments: Sequence[PositionAdjusted] = ()) -> list[Move]:
    """Return fills and adjustments of a run as moves, in order of time (fills first where times are equal)."""
    moves = [
        Move(
            f.ts, f.strategy, f.symbol, f.qty * f.side.sign, -f.qty * f.side.sign * f.price * _multiplier(f.symbol),
            f.fees, _multiplier(f.symbol), f.order_id,
        )
        for f in fills
    ]  # fmt: skip
    moves += [
        Move(
            a.ts, a.strategy, a.symbol, a.qty, a.cash, ZERO, _multiplier(a.symbol), a.record_id, str(a.kind),
            a.kind is ActivityKind.SPLIT,
        )
        for a in adjustments
        if a.qty
    ]  # fmt: skip
    moves.sort(key=lambda move: move.ts)  # stable
    return moves


class _Trip:
    """A round trip being added up."""

    __slots__ = ("cash_in", "cash_out", "entry_ts", "exit_ts", "fees", "first", "last", "qty", "side")

    def __init__(self, lot: Move, move: Move) -> None:
        self.first, self.last = lot, move
        self.side = "LONG" if lot.qty > 0 else "SHORT"
        self.entry_ts, self.exit_ts = lot.ts, move.ts
        self.qty = self.cash_in = self.cash_out = self.fees = ZERO

    def add(self, qty: Decimal, entry: tuple[Decimal, Decimal], exit: tuple[Decimal, Decimal], ts: int) -> None:
        self.qty += qty
        self.cash_in += entry[0]
        self.cash_out += exit[0]
        self.fees += entry[1] + exit[1]
        self.exit_ts = ts

    def done(self) -> RoundTrip:
        units = self.qty * self.first.multiplier
        return RoundTrip(
            strategy=self.first.strategy, symbol=self.first.symbol, side=self.side, qty=self.qty,
            entry_ts=self.entry_ts, exit_ts=self.exit_ts, entry_price=_price(self.cash_in, units),
            exit_price=_price(self.cash_out, units), multiplier=self.first.multiplier, fees=_trim(self.fees),
            pnl=_trim(self.cash_in + self.cash_out - self.fees), ended=self.last.kind,
        )  # fmt: skip


def _rows(fills: Iterable[Any]) -> Iterable[Move]:
    last = None
    for n, fill in enumerate(fills, 1):
        if not fill.qty > 0:
            raise DataError(f"fill {n} ({fill.symbol}): qty must be above zero, got {fill.qty}; side says which way")
        if last is not None and fill.ts < last:
            raise DataError(f"fill {n} ({fill.symbol}): ts {fill.ts} is before {last}; sort fills by time")
        last = fill.ts
        signed = fill.qty if fill.side == "BUY" else -fill.qty
        multiplier = getattr(fill, "multiplier", 1)
        with localcontext() as exactly:
            exactly.prec = 60
            cash = -signed * fill.price * multiplier
        yield Move(
            fill.ts, getattr(fill, "strategy", ""), fill.symbol, signed, cash, getattr(fill, "fees", ZERO), multiplier,
            getattr(fill, "order_id", ""),
        )  # fmt: skip


def _rescale(lots: deque[Move], change: Decimal) -> None:
    """Spread a split's change of the whole position over its lots; the last takes what rounding leaves."""
    total = sum((lot.qty for lot in lots), ZERO)
    left = change
    for n, lot in enumerate(lots, 1):
        share = left if n == len(lots) else (change * lot.qty / total).quantize(SHARE)
        lot.qty = _trim(lot.qty + share)
        left -= share


def _multiplier(symbol: str) -> int:
    return instrument(symbol).multiplier


def _price(cash: Decimal, units: Decimal) -> Decimal:
    return _trim((abs(cash) / units).quantize(PRICE))


def _trim(value: Decimal) -> Decimal:
    """The same number without trailing zeros after the point."""
    value = value.normalize()
    exponent = value.as_tuple().exponent
    return value.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else value
