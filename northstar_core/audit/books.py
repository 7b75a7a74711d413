"""The auditor's books: what is held and what is working, and what both could come to.

The rules of exposure, as they are published. Equities: with position p, working buys B and working sells L the worst
case is ``max(|p + B|, |p - L|) × price``. Options of one underlying and expiry are taken together: ``max(0, V) +
max(0, -M)`` with V their net market value and M the least they can be worth at expiry over underlying prices of 0 and
every strike; calls sold net of calls bought add ``max(highest strike sold, underlying price)`` each. Over the orders
that work in the group, the largest of all subsets while they are at most six, else the position's plus each order's
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from itertools import combinations
from math import fsum

from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Equity, Instrument, Option, Right, instrument

ZERO = Decimal(0)
MAX_SUBSET_ORDERS = 6

Group = tuple[str, date]
Legs = dict[Option, Decimal]  #: signed contracts


class Line:
    """One symbol in one book."""

    __slots__ = ("buys", "down", "multiplier", "option", "qty", "sells", "symbol", "up", "worst")

    def __init__(self, symbol: str) -> None:
        try:
            traded: Instrument | None = instrument(symbol)
        except DataError:  # a symbol that names nothing is a finding of the checks, and no reason to stop
            traded = None
        self.symbol = symbol
        self.multiplier = 1 if traded is None else traded.multiplier
        self.option = traded if isinstance(traded, Option) else None
        self.qty = self.buys = self.sells = ZERO
        self.up = self.down = self.worst = 0.0

    def weigh(self) -> None:
        """Bring the worst quantities up to date: everything working bought, everything sold, the larger."""
        self.up, self.down = float(self.qty + self.buys), float(self.qty - self.sells)
        self.worst = max(abs(self.up), abs(self.down))


class Book:
    """Lines by symbol, of one strategy in one account or of an account; lines of nothing are forgotten."""

    __slots__ = ("lines", "option_orders", "options")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.options: set[str] = set()  #: symbols of lines that are options
        self.option_orders: dict[str, Legs] = {}  #: what each working order with option legs could still trade

    def line(self, symbol: str) -> Line:
        """Return a symbol's line, empty where there is none."""
        found = self.lines.get(symbol)
        return Line(symbol) if found is None else found

    def shift(self, symbol: str, qty: Decimal = ZERO, buys: Decimal = ZERO, sells: Decimal = ZERO) -> Line:
        """Add to what is held and what is working; return the line."""
        line = self.lines.get(symbol)
        if line is None:
            line = self.lines[symbol] = Line(symbol)
            if line.option is not None:
                self.options.add(symbol)
        line.qty += qty
        line.buys += buys
        line.sells += sells
        line.weigh()
        if not (line.qty or line.buys or line.sells):
            del self.lines[symbol]
            self.options.discard(symbol)
        return line

    def groups(self) -> dict[Group, tuple[Legs, list[Legs]]]:
        """Return option positions and working option orders by underlying and expiry."""
        out: dict[Group, tuple[Legs, list[Legs]]] = {}
        for symbol in self.options:
            line = self.lines[symbol]
            if line.option is not None and line.qty:
                held, _ = out.setdefault((line.option.underlying, line.option.expiry), ({}, []))
                held[line.option] = line.qty
        for legs in self.option_orders.values():
            for group, part in by_group(legs).items():
                out.setdefault(group, ({}, []))[1].append(part)
        return out


def by_group(legs: Legs) -> dict[Group, Legs]:
    """Divide option legs by underlying and expiry."""
    out: dict[Group, Legs] = {}
    for option, qty in legs.items():
        out.setdefault((option.underlying, option.expiry), {})[option] = qty
    return out


class Extra:
    """What an order under judgement would add to a book: signed shares by symbol, signed contracts by option."""

    __slots__ = ("options", "shares")

    def __init__(self, symbol: str, qty: Decimal) -> None:
        self.shares: dict[str, Decimal] = {}
        self.options: Legs = {}
        for leg in instrument(symbol).legs:
            if isinstance(leg.instrument, Equity):
                self.shares[leg.instrument.symbol] = qty * leg.ratio
            else:
                self.options[leg.instrument] = qty * leg.ratio


def swing(line: Line, signed: Decimal) -> tuple[float, float]:
    """Return a line's quantity with everything bought and with everything sold, a further signed order among it."""
    return float(line.qty + line.buys + max(signed, ZERO)), float(line.qty - line.sells + min(signed, ZERO))


def _rows(book: Book, extra: Extra) -> Iterator[tuple[str, float, float]]:
    """Yield (symbol, up, down) of every equity, the order included."""
    for symbol, line in book.lines.items():
        if line.option is None and symbol not in extra.shares:
            yield symbol, line.up, line.down
    for symbol, signed in extra.shares.items():
        yield symbol, *swing(book.line(symbol), signed)


def equity_worst(book: Book, extra: Extra, prices: Mapping[str, float]) -> float:
    """Return the worst case of all equities, in dollars."""
    return fsum([max(abs(up), abs(down)) * prices[symbol] for symbol, up, down in _rows(book, extra)])


def equity_net(book: Book, extra: Extra, prices: Mapping[str, float]) -> float:
    """Return the larger absolute net exposure: everything bought, or everything sold."""
    rows = list(_rows(book, extra))
    return max(abs(fsum([up * prices[s] for s, up, _ in rows])), abs(fsum([down * prices[s] for s, _, down in rows])))


def option_worst(book: Book, extra: Extra, prices: Mapping[str, float], only: frozenset[Group] | None = None) -> float:
    """Return the worst case of the option groups (of ``only`` these, where given), in dollars."""
    if not (book.options or book.option_orders or extra.options):
        return 0.0
    groups = book.groups()
    for group, legs in by_group(extra.options).items():
        groups.setdefault(group, ({}, []))[1].append(legs)
    return fsum([worst_of(*found, prices) for group, found in groups.items() if only is None or group in only])


def worst_of(position: Legs, orders: list[Legs], prices: Mapping[str, float]) -> float:
    """Return the largest exposure of one group over what its working orders may still do."""
    if len(orders) > MAX_SUBSET_ORDERS:
        return exposure(position, prices) + fsum([exposure(order, prices) for order in orders])
    return max(
        exposure(_together(position, filled), prices)
        for count in range(len(orders) + 1)
        for filled in combinations(orders, count)
    )


def _together(position: Legs, orders: tuple[Legs, ...]) -> Legs:
    total = dict(position)
    for order in orders:
        for option, qty in order.items():
            total[option] = total.get(option, ZERO) + qty
    return total


def exposure(legs: Legs, prices: Mapping[str, float]) -> float:
    """Return what signed contracts of one underlying and expiry could cost, in dollars."""
    held = {option: float(qty) for option, qty in legs.items() if qty}
    if not held:
        return 0.0
    value = fsum(qty * option.multiplier * prices[option.symbol] for option, qty in held.items())
    kinks = [0.0, *(float(option.strike) for option in held)]
    least = min(fsum(qty * option.multiplier * _payoff(option, spot) for option, qty in held.items()) for spot in kinks)
    uncovered = -fsum(qty for option, qty in held.items() if option.right is Right.CALL)
    beyond = 0.0
    if uncovered > 0:
        top = max((o for o, qty in held.items() if o.right is Right.CALL and qty < 0), key=lambda option: option.strike)
        beyond = uncovered * top.multiplier * max(float(top.strike), prices.get(top.underlying, 0.0))
    return max(0.0, value) + max(0.0, -least) + beyond


def _payoff(option: Option, spot: float) -> float:
    strike = float(option.strike)
    return max(0.0, spot - strike) if option.right is Right.CALL else max(0.0, strike - spot)
