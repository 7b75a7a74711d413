"""An order under judgement, with every number about it."""

from __future__ import annotations

from decimal import Decimal
from math import fsum

from northstar_core.engine.exposure import Group, group_of
from northstar_core.engine.limits import Caps
from northstar_core.engine.portfolio import Account, Book, Line, mark_price
from northstar_core.engine.state import State
from northstar_core.model.account import AccountLimits, LegState, StrategyLimits, Verdict
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.instrument import Combo, Equity, Instrument, Option, exact
from northstar_core.model.market import Bar
from northstar_core.model.order import PlaceOrder, Side

ZERO = Decimal(0)
INFINITY = float("inf")


class Case:
    """An order under judgement, with every number about it."""

    __slots__ = (
        "above_reference", "account", "account_caps", "account_limits", "account_orders", "book", "caps", "equity", "gross", "instrument", "is_option",
        "limits", "line", "net", "notional", "open_orders", "order", "prices", "qty", "recent_orders", "reducing", "ref", "ref_span",
        "ref_ts", "rules", "state", "symbol_exposure", "value", "worst_price",
    )  # fmt: skip

    order: PlaceOrder
    state: State
    instrument: Instrument
    account: Account
    book: Book
    line: Line
    caps: Caps
    account_caps: Caps
    limits: StrategyLimits
    account_limits: AccountLimits
    ref: float
    ref_ts: int
    ref_span: int
    worst_price: Decimal
    value: Decimal
    qty: Decimal
    is_option: bool
    reducing: bool
    notional: float
    gross: float
    net: float
    equity: float
    symbol_exposure: float
    above_reference: float
    prices: dict[str, float]
    open_orders: int
    recent_orders: int
    account_orders: int
    rules: tuple[str, ...]

    def __init__(self, order: PlaceOrder, state: State) -> None:
        self.order = order
        self.state = state
        self.qty = order.qty
        self.rules = ()

    # ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def price(self) -> Denial | None:
        """Look up the reference price and the price the order is valued at."""
        marks, order = self.state.marks, self.order
        if type(self.instrument) is Combo:
            legs = [(leg, marks.get(leg.instrument.symbol)) for leg in self.instrument.legs]
            missing = [leg.instrument.symbol for leg, mark in legs if mark is None or not 0 < mark_price(mark) < INFINITY]
            if missing:
                return Denial(DenialReason.PRICE_MISSING, f"symbol={missing[0]}")
            known = [(leg.ratio, mark) for leg, mark in legs if mark is not None]
            self.ref = fsum(ratio * mark_price(mark) for ratio, mark in known)
            oldest = min((mark for _, mark in known), key=lambda mark: mark.ts)
        else:
            mark = marks.get(order.symbol)
            price = 0.0 if mark is None else mark.close if type(mark) is Bar else mark_price(mark)
            if mark is None or not 0 < price < INFINITY:
                return Denial(DenialReason.PRICE_MISSING, f"symbol={order.symbol}")
            self.ref, oldest = price, mark
        self.ref_ts = oldest.ts
        self.ref_span = oldest.ts - oldest.start if type(oldest) is Bar else 0
        self.worst_price = self._worst_price()
        return None

    def leg_value(self) -> float:
        """What a unit's legs are worth without their signs."""
        return fsum(abs(leg.ratio) * self._mark(leg.instrument.symbol) for leg in self.instrument.legs)

    def _worst_price(self) -> Decimal:
        order = self.order
        if order.limit_price is not None:
            return order.limit_price
        if order.stop_price is not None:
            return order.stop_price
        reserve = self.limits.market_reserve
        assert reserve is not None
        ref = exact(self.ref)
        return ref + abs(ref) * reserve * order.side.sign

    def measure(self, qty: Decimal) -> None:
        """Take every number for this quantity of the order."""
        order, account = self.order, self.account
        multiplier = self.instrument.multiplier
        self.qty = qty
        self.value = value = abs(qty * self.worst_price * multiplier)
        overall = account.book
        if type(self.instrument) is not Equity or overall.options or overall.option_orders:
            prices = {s: self._mark(s) for s in dict.fromkeys((*overall.priced_symbols(), *self.book.priced_symbols()))}
            self._measure_legs(qty, prices)
        elif self.book is overall:
            self._measure_equity(qty, overall, prices := self._marks(overall.worst))
        else:  # strategies may offset each other in the account: what one holds needs a price all the same
            self._measure_equity(qty, overall, prices := self._marks({**overall.worst, **self.book.worst}))
        self.equity = account.equity(prices)
        self.prices = prices
        # What a buy may cost above the reference the exposures are taken at.
        above = float(value) - self.ref * float(qty) * multiplier
        self.above_reference = above if above > 0 and order.side is Side.BUY else 0.0

    def _marks(self, symbols: dict[str, float]) -> dict[str, float]:
        """The marks of these symbols and of the order's own."""
        marks, symbol = self.state.marks, self.order.symbol
        prices = {}
        for s in symbols:
            mark = marks.get(s)
            prices[s] = mark.close if type(mark) is Bar else self._mark(s)
        prices[symbol] = self.ref
        return prices

    def _measure_equity(self, qty: Decimal, overall: Book, prices: dict[str, float]) -> None:
        """Worst cases with this order, where only equities are about."""
        symbol, price, line, book = self.order.symbol, self.ref, self.line, self.book
        up, down = _worst_cases(line, qty, self.order.side)
        worst = up if up >= -down else -down
        held = line.qty
        self.reducing = (qty <= held if self.order.side is Side.SELL else qty <= -held) and worst <= book.worst.get(symbol, 0.0)
        if len(prices) == 1 and book is overall:
            self.notional = self.gross = self.symbol_exposure = worst * price
            up, down = abs(up * price), abs(down * price)
            self.net = up if up >= down else down
            return
        terms = [units * prices[s] for s, units in book.worst.items() if s != symbol]
        terms.append(worst * price)
        self.notional = fsum(terms)
        if book is not overall:
            up, down = _worst_cases(overall.line(symbol), qty, self.order.side)
            worst = up if up >= -down else -down
            terms = [units * prices[s] for s, units in overall.worst.items() if s != symbol]
            terms.append(worst * price)
        self.gross = fsum(terms)
        self.symbol_exposure = worst * price
        ups = [units * prices[s] for s, units in overall.up.items() if s != symbol]
        downs = [units * prices[s] for s, units in overall.down.items() if s != symbol]
        ups.append(up * price)
        downs.append(down * price)
        self.net = max(abs(fsum(ups)), abs(fsum(downs)))

    def _measure_legs(self, qty: Decimal, prices: dict[str, float]) -> None:
        """The same numbers where options are involved: legs of equities as worst quantities, legs of options by group."""
        order, overall = self.order, self.account.book
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
        self.notional = _with_moves(self.book, moves, prices) + self.book.option_exposure(prices, extra)
        self.gross = _with_moves(overall, moves, prices) + overall.option_exposure(prices, extra)
        self.symbol_exposure = fsum(_worst_of(overall.line(s), signed) * prices[s] for s, signed in moves.items())
        if extra:
            self.symbol_exposure += overall.option_exposure(prices, extra, only=True)
        # Options are taken at their worst case without a sign, so net is bounded by gross.
        self.net = self.gross
        # Each leg against what is held, and the whole no worse than before: closing one leg of a spread is not reducing.
        before = _with_moves(self.book, {}, prices) + self.book.option_exposure(prices)
        self.reducing = self.notional <= before and all(
            opposes(line.qty, order.side if leg.ratio > 0 else order.side.opposite) and abs(line.qty) >= qty * abs(leg.ratio)
            for leg in self.instrument.legs
            for line in (self.book.line(leg.instrument.symbol),)
        )

    def _mark(self, symbol: str) -> float:
        """The mark of a symbol; the entry price of what is held where it has none yet; else 0."""
        event = self.state.marks.get(symbol)
        if event is not None and (price := mark_price(event)) > 0:
            return price
        entries = [p.avg_price for (_, held), p in self.account.positions.items() if held == symbol and p.qty]
        return float(max(entries)) if entries else 0.0

    def verdict(self) -> Verdict:
        """Return the numbers as they go on the record."""
        lines = [self.line]
        if type(self.instrument) is Combo:
            lines = [self.book.line(leg.instrument.symbol) for leg in self.instrument.legs]
        legs = tuple([LegState(line.symbol, line.qty, line.buys, line.sells) for line in lines])
        return Verdict(
            self.ref, self.ref_ts, self.ref_span, self.worst_price, self.value, legs, self.notional, self.gross, self.net,
            self.symbol_exposure, self.equity, self.open_orders, self.recent_orders, self.account_orders, self.prices, self.rules,
        )  # fmt: skip


def _worst_cases(line: Line, qty: Decimal, side: Side) -> tuple[float, float]:
    """Everything bought and everything sold, with this order working too."""
    if side is Side.BUY:
        return float(line.qty + line.buys + qty), float(line.qty - line.sells)
    return float(line.qty + line.buys), float(line.qty - line.sells - qty)


def opposes(held: Decimal, side: Side) -> bool:
    """Whether an order of this side brings a position nearer to zero."""
    return held < 0 if side is Side.BUY else held > 0


def _with_moves(book: Book, moves: dict[str, Decimal], prices: dict[str, float]) -> float:
    """A book's worst case in equities, with extra signed quantities working."""
    terms = [units * prices[s] for s, units in book.worst.items() if s not in moves]
    terms += [_worst_of(book.line(symbol), signed) * prices[symbol] for symbol, signed in moves.items()]
    return fsum(terms)


def _worst_of(line: Line, signed: Decimal) -> float:
    """A line's worst case with a further signed order working."""
    up = float(line.qty + line.buys + max(signed, ZERO))
    down = float(line.qty - line.sells + min(signed, ZERO))
    return max(abs(up), abs(down))
