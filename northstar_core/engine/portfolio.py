"""Books: positions, cash and what is reserved, by strategy and by account. Written only by facts.

A strategy's book and its account's book hold the same lines; an account's line is the sum of its strategies'. Beside each line
stand its worst cases as floats (``up`` = everything bought, ``down`` = everything sold), kept up to date when an order or a fill
changes them, so that a decision only multiplies by prices.
"""

from __future__ import annotations

from decimal import Decimal
from math import fsum

from northstar_core.engine.exposure import Group, group_of, worst_option_exposure
from northstar_core.engine.oms import Order
from northstar_core.model.account import Position
from northstar_core.model.instrument import Equity, Leg, Option, instrument
from northstar_core.model.market import Bar, MarketEvent
from northstar_core.model.order import Side

ZERO = Decimal(0)


def mark_price(event: MarketEvent) -> float:
    """Return the price a position is marked at: a bar's close, a quote's mid, a trade's price."""
    if type(event) is Bar:
        return event.close
    return getattr(event, "price", 0.0)


class Line:
    """One symbol in one book: what is held and what is working."""

    __slots__ = ("buys", "instrument", "multiplier", "qty", "sells", "symbol")

    def __init__(self, symbol: str) -> None:
        traded = instrument(symbol)
        assert isinstance(traded, Equity | Option)
        self.symbol = symbol
        self.instrument: Equity | Option = traded
        self.multiplier = traded.multiplier
        self.qty = ZERO
        self.buys = ZERO
        self.sells = ZERO


class Exposure:
    """What a book could come to at given prices, in dollars."""

    __slots__ = ("gross", "net")

    def __init__(self, gross: float, net: float) -> None:
        self.gross, self.net = gross, net


class Book:
    """Lines of one strategy in one account, or of an account as a whole."""

    __slots__ = ("down", "lines", "option_orders", "options", "up", "worst")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.worst: dict[str, float] = {}  #: equities: max(|p + B|, |p - L|) where it is not zero
        self.up: dict[str, float] = {}  #: equities: p + B
        self.down: dict[str, float] = {}  #: equities: p - L
        self.options: dict[Group, dict[Option, Decimal]] = {}  #: signed contracts held
        self.option_orders: dict[Group, dict[str, tuple[Order, dict[Option, int]]]] = {}  #: working, by order id: ratio by leg

    def line(self, symbol: str) -> Line:
        """Return the line of a symbol, made when first asked for."""
        found = self.lines.get(symbol)
        if found is None:
            found = self.lines[symbol] = Line(symbol)
        return found

    def shift(self, line: Line, qty: Decimal) -> None:
        """Add signed units to what is held."""
        line.qty += qty
        if type(line.instrument) is Option:
            held = self.options.setdefault(group_of(line.instrument), {})
            held[line.instrument] = line.qty
            if not line.qty:
                del held[line.instrument]
        else:
            self.weigh(line)

    def reserve(self, order: Order, change: Decimal) -> None:
        """Add to (or take from) what an order has working, leg by leg."""
        for leg in order.instrument.legs:
            self._reserve_leg(order, leg, change)

    def _reserve_leg(self, order: Order, leg: Leg, change: Decimal) -> None:
        line = self.line(leg.instrument.symbol)
        if (order.side is Side.BUY) == (leg.ratio > 0):
            line.buys += change * abs(leg.ratio)
        else:
            line.sells += change * abs(leg.ratio)
        if type(leg.instrument) is Option:
            working = self.option_orders.setdefault(group_of(leg.instrument), {})
            _, ratios = working.setdefault(order.order_id, (order, {}))
            ratios[leg.instrument] = leg.ratio * order.side.sign
            if not order.reserved + change:
                working.pop(order.order_id, None)
        else:
            self.weigh(line)

    def weigh(self, line: Line) -> None:
        """Bring an equity line's worst cases up to date."""
        symbol = line.symbol
        up, down = float(line.qty + line.buys), float(line.qty - line.sells)
        worst = max(abs(up), abs(down))
        if worst:
            self.up[symbol], self.down[symbol], self.worst[symbol] = up, down, worst
        else:
            self.up.pop(symbol, None)
            self.down.pop(symbol, None)
            self.worst.pop(symbol, None)

    def priced_symbols(self) -> list[str]:
        """Return every symbol whose mark an exposure needs: what is held or working, and options' underlyings."""
        if not self.option_orders and not self.options:
            return list(self.worst)
        symbols = dict.fromkeys(self.worst)
        for (underlying, _), held in self.options.items():
            if held:
                symbols.update(dict.fromkeys((underlying, *(option.symbol for option in held))))
        for (underlying, _), orders in self.option_orders.items():
            if orders:
                symbols.update(dict.fromkeys((underlying, *(o.symbol for _, ratios in orders.values() for o in ratios))))
        return list(symbols)

    def option_exposure(self, prices: dict[str, float], extra: dict[Group, dict[Option, Decimal]] | None = None) -> float:
        """Return the worst case of all option groups, with an order that is not yet working where one is given."""
        extra = extra or {}
        groups = dict.fromkeys((*self.options, *self.option_orders, *extra))
        total = []
        for group in groups:
            orders = [
                {option: order.reserved * ratio for option, ratio in ratios.items()}
                for order, ratios in self.option_orders.get(group, {}).values()
            ]
            if group in extra:
                orders.append(extra[group])
            total.append(worst_option_exposure(self.options.get(group, {}), orders, prices))
        return fsum(total)


class Account:
    """One account: cash, its own book, and its strategies' books."""

    __slots__ = ("account", "book", "cash", "positions", "strategies")

    def __init__(self, account: str, cash: Decimal) -> None:
        self.account = account
        self.cash = cash
        self.book = Book()
        self.strategies: dict[str, Book] = {}
        self.positions: dict[tuple[str, str], Position] = {}  #: by (strategy, symbol): entry prices, realised profit

    def strategy(self, strategy: str) -> Book:
        """Return a strategy's book, made when first asked for."""
        book = self.strategies.get(strategy)
        if book is None:
            book = self.strategies[strategy] = Book()
        return book

    def position(self, strategy: str, symbol: str) -> Position:
        """Return a strategy's position, made when first asked for."""
        found = self.positions.get((strategy, symbol))
        if found is None:
            found = self.positions[strategy, symbol] = Position(symbol, instrument(symbol).multiplier)
        return found

    def trade(self, strategy: str, symbol: str, side: Side, qty: Decimal, price: Decimal, fees: Decimal) -> None:
        """Book a fill: cash, position, both books."""
        self.cash += self.position(strategy, symbol).trade(side, qty, price, fees)
        signed = qty if side is Side.BUY else -qty
        self._shift(strategy, symbol, signed)

    def adjust(self, strategy: str, symbol: str, qty: Decimal, cash: Decimal, price: Decimal, *, split: bool) -> None:
        """Book a change without an order."""
        self.cash += cash
        if not symbol or not qty:
            return
        position = self.position(strategy, symbol)
        if split:
            position.split(price)
        else:
            position.shift(qty, price)
        self._shift(strategy, symbol, qty)

    def _shift(self, strategy: str, symbol: str, signed: Decimal) -> None:
        book = self.strategy(strategy)
        book.shift(book.line(symbol), signed)
        self.book.shift(self.book.line(symbol), signed)

    def reserve(self, strategy: str, order: Order, qty: Decimal) -> None:
        """Set the quantity of an order whose exposure is counted."""
        change = qty - order.reserved
        if change:
            self.strategy(strategy).reserve(order, change)
            self.book.reserve(order, change)
            order.reserved = qty

    def equity(self, prices: dict[str, float]) -> float:
        """Return cash plus positions at the given marks, in dollars."""
        lines = self.book.lines
        return fsum(
            [float(self.cash), *[float(line.qty) * line.multiplier * prices[s] for s, line in lines.items() if line.qty]]
        )


class Portfolio:
    """Every account by name."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def open(self, account: str, cash: Decimal) -> None:
        """Open an account with cash."""
        self.accounts[account] = Account(account, cash)
