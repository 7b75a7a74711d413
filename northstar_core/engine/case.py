"""An order under judgement, with every number about it."""

from __future__ import annotations

from decimal import Decimal
from math import fsum

from northstar_core.engine.exposure import Group, group_of
from northstar_core.engine.portfolio import Book, Line, mark_price
from northstar_core.engine.state import Seat, State
from northstar_core.model.account import LegState, Verdict
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.instrument import Combo, Instrument, Option, exact
from northstar_core.model.market import Bar
from northstar_core.model.order import PlaceOrder, Side

ZERO = Decimal(0)
BUY, SELL = Side.BUY, Side.SELL
INFINITY = float("inf")

#: Notional, gross, net and the symbol's exposure with an order, and the marks they were taken at.
Exposures = tuple[float, float, float, float, dict[str, float]]


class Case:
    """An order under judgement, with every number about it."""

    __slots__ = (
        "above_reference", "account_orders", "after", "instrument", "is_option", "line", "open_orders", "order", "qty",
        "recent_orders", "reducing", "ref", "ref_span", "ref_ts", "rules", "seat", "state", "verdict", "worst_price",
    )  # fmt: skip

    order: PlaceOrder
    state: State
    seat: Seat
    instrument: Instrument
    line: Line  #: of the instrument, or of a combo's first leg
    ref: float
    ref_ts: int
    ref_span: int
    worst_price: Decimal
    qty: Decimal
    after: Decimal  #: of an equity: the signed position if this order and all that works on its side filled
    is_option: bool
    reducing: bool
    above_reference: float
    verdict: Verdict  #: the numbers, as they go on the record
    open_orders: int
    recent_orders: int
    account_orders: int
    rules: tuple[str, ...]

    def __init__(self, order: PlaceOrder, state: State) -> None:
        self.order = order
        self.state = state
        self.seat = state.seat(order.strategy, order.account)
        self.rules = ()

    # ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def price(self) -> Denial | None:
        """Look up the reference price and the price the order is valued at."""
        order = self.order
        if type(self.instrument) is Combo:
            if denial := self._price_legs(self.instrument):
                return denial
        else:
            mark = self.state.marks.get(order.symbol)
            if type(mark) is Bar:
                self.ref, self.ref_span = mark.close, mark.ts - mark.start
            else:
                self.ref, self.ref_span = 0.0 if mark is None else mark_price(mark), 0
            if mark is None or not 0 < self.ref < INFINITY:
                return Denial(DenialReason.PRICE_MISSING, f"symbol={order.symbol}")
            self.ref_ts = mark.ts
        if order.limit_price is not None:
            self.worst_price = order.limit_price
        elif order.stop_price is not None:
            self.worst_price = order.stop_price
        else:
            reserve = self.seat.limits.market_reserve
            assert reserve is not None
            ref = exact(self.ref)
            self.worst_price = ref + abs(ref) * reserve if order.side is BUY else ref - abs(ref) * reserve
        return None

    def _price_legs(self, traded: Combo) -> Denial | None:
        """A combo's reference is the sum of ratio × leg mark, as old as its oldest."""
        legs = [(leg, self.state.marks.get(leg.instrument.symbol)) for leg in traded.legs]
        missing = [leg.instrument.symbol for leg, mark in legs if mark is None or not 0 < mark_price(mark) < INFINITY]
        if missing:
            return Denial(DenialReason.PRICE_MISSING, f"symbol={missing[0]}")
        known = [(leg.ratio, mark) for leg, mark in legs if mark is not None]
        self.ref = fsum(ratio * mark_price(mark) for ratio, mark in known)
        oldest = min((mark for _, mark in known), key=lambda mark: mark.ts)
        self.ref_ts = oldest.ts
        self.ref_span = oldest.ts - oldest.start if type(oldest) is Bar else 0
        return None

    def leg_value(self) -> float:
        """What a unit's legs are worth without their signs."""
        return fsum(abs(leg.ratio) * self._mark(leg.instrument.symbol) for leg in self.instrument.legs)

    def measure(self, qty: Decimal) -> None:
        """Take every number for this quantity of the order."""
        self.qty = qty
        seat, line = self.seat, self.line
        overall = seat.account.book
        # Strategies may offset each other's options in the account: what one holds counts for it all the same.
        if self.is_option or overall.options or overall.option_orders or seat.book.options:
            multiplier = self.instrument.multiplier
            value = abs(qty * self.worst_price * multiplier)
            lines = [seat.book.line(leg.instrument.symbol) for leg in self.instrument.legs]
            legs = tuple([LegState(line.symbol, line.qty, line.buys, line.sells) for line in lines])
            notional, gross, net, exposure, prices = self._measure_legs(qty, overall)
        else:
            multiplier, value = 1, qty * self.worst_price
            legs = (LegState(line.symbol, line.qty, line.buys, line.sells),)
            notional, gross, net, exposure, prices = self._measure_equity(qty, overall)
        # What a buy may cost above the reference the exposures are taken at.
        above = float(value) - self.ref * float(qty) * multiplier if self.order.side is BUY else 0.0
        self.above_reference = above if above > 0 else 0.0
        self.verdict = Verdict(
            self.ref, self.ref_ts, self.ref_span, self.worst_price, value, legs, notional, gross, net, exposure,
            seat.account.equity(prices), self.open_orders, self.recent_orders, self.account_orders, prices, self.rules,
        )  # fmt: skip

    def _measure_equity(self, qty: Decimal, overall: Book) -> Exposures:
        """Worst cases with this order, where only equities are about."""
        line, book, price, side = self.line, self.seat.book, self.ref, self.order.side
        self.after, up, down = _after(line, qty, side)
        worst = up if up >= -down else -down
        self.reducing = qty <= (line.qty if side is SELL else -line.qty) and worst <= line.worst
        symbol, exposed = line.symbol, overall.exposed
        if book is overall and (not exposed or (len(exposed) == 1 and symbol in exposed)):
            exposure, up, down = worst * price, abs(up * price), abs(down * price)
            return exposure, exposure, up if up >= down else down, exposure, {symbol: price}
        if book is overall:
            prices = self._marks(exposed)
        else:  # strategies may offset each other in the account: what one holds needs a price all the same
            prices = self._marks({**exposed, **book.exposed})
            own = [other.worst * prices[s] for s, other in book.exposed.items() if other is not line]
            notional = fsum([*own, worst * price])
            line = overall.line(symbol)
            _, up, down = _after(line, qty, side)
            worst = up if up >= -down else -down
        exposure = worst * price
        worsts, ups, downs = [exposure], [up * price], [down * price]
        for s, other in exposed.items():
            if other is not line:
                mark = prices[s]
                worsts.append(other.worst * mark)
                ups.append(other.up * mark)
                downs.append(other.down * mark)
        gross, net = fsum(worsts), max(abs(fsum(ups)), abs(fsum(downs)))
        return gross if book is overall else notional, gross, net, exposure, prices

    def _marks(self, lines: dict[str, Line]) -> dict[str, float]:
        """The marks of these symbols and of the order's own."""
        marks = self.state.marks
        prices = {s: mark.close if type(mark := marks.get(s)) is Bar else self._mark(s) for s in lines}
        prices[self.order.symbol] = self.ref
        return prices

    def _measure_legs(self, qty: Decimal, overall: Book) -> Exposures:
        """The same numbers where options are involved: legs of equities as worst quantities, legs of options by group."""
        order, book = self.order, self.seat.book
        prices = {s: self._mark(s) for s in dict.fromkeys((*overall.priced_symbols(), *book.priced_symbols()))}
        if not self.is_option:
            self.after, _, _ = _after(self.line, qty, order.side)
        extra: dict[Group, dict[Option, Decimal]] = {}
        moves: dict[str, Decimal] = {}
        for leg in self.instrument.legs:
            signed = qty * leg.ratio * order.side.sign
            prices[leg.instrument.symbol] = self._mark(leg.instrument.symbol)
            if type(leg.instrument) is Option:
                extra.setdefault(group_of(leg.instrument), {})[leg.instrument] = signed
                prices[leg.instrument.underlying] = self._mark(leg.instrument.underlying)
            else:
                moves[leg.instrument.symbol] = signed
        notional = _with_moves(book, moves, prices) + book.option_exposure(prices, extra)
        gross = _with_moves(overall, moves, prices) + overall.option_exposure(prices, extra)
        exposure = fsum(_worst_of(overall.line(s), signed) * prices[s] for s, signed in moves.items())
        if extra:
            exposure += overall.option_exposure(prices, extra, only=True)
        # Each leg against what is held, and the whole no worse than before: closing one leg of a spread is not reducing.
        before = _with_moves(book, {}, prices) + book.option_exposure(prices)
        self.reducing = notional <= before and all(
            opposes(line.qty, order.side if leg.ratio > 0 else order.side.opposite) and abs(line.qty) >= qty * abs(leg.ratio)
            for leg in self.instrument.legs
            for line in (book.line(leg.instrument.symbol),)
        )
        # Options are taken at their worst case without a sign, so net is bounded by gross.
        return notional, gross, gross, exposure, prices

    def _mark(self, symbol: str) -> float:
        """The mark of a symbol; the entry price of what is held where it has none yet; else 0."""
        event = self.state.marks.get(symbol)
        if event is not None and (price := mark_price(event)) > 0:
            return price
        entries = [p.avg_price for (_, held), p in self.seat.account.positions.items() if held == symbol and p.qty]
        return float(max(entries)) if entries else 0.0


def _after(line: Line, qty: Decimal, side: Side) -> tuple[Decimal, float, float]:
    """The position if an order and all that works on its side filled, and with it the line's ``up`` and ``down``."""
    if side is BUY:
        after = line.qty + line.buys + qty
        return after, float(after), line.down
    after = line.qty - line.sells - qty
    return after, line.up, float(after)


def opposes(held: Decimal, side: Side) -> bool:
    """Whether an order of this side brings a position nearer to zero."""
    return held < 0 if side is Side.BUY else held > 0


def _with_moves(book: Book, moves: dict[str, Decimal], prices: dict[str, float]) -> float:
    """A book's worst case in equities, with extra signed quantities working."""
    terms = [line.worst * prices[s] for s, line in book.exposed.items() if s not in moves]
    terms += [_worst_of(book.line(symbol), signed) * prices[symbol] for symbol, signed in moves.items()]
    return fsum(terms)


def _worst_of(line: Line, signed: Decimal) -> float:
    """A line's worst case with a further signed order working."""
    up = float(line.qty + line.buys + max(signed, ZERO))
    down = float(line.qty - line.sells + min(signed, ZERO))
    return max(abs(up), abs(down))
