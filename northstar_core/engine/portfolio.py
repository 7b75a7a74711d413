"""Books: positions, cash and what is reserved, by strategy and by account. Written only by facts.

A strategy's book and its account's book hold the same lines; an account's line is the sum of its strategies'. In each line
stand its worst cases as floats (``up`` = everything bought, ``down`` = everything sold), kept up to date when an order or a fill
changes them, so that a decision only multiplies by prices.
"""

from __future__ import annotations

from decimal import Decimal
from math import fsum

from northstar_core.engine.exposure import Group, group_of, worst_option_exposure
from northstar_core.engine.oms import Order
from northstar_core.model.account import Position
from northstar_core.model.events import OrderFilled
from northstar_core.model.instrument import Equity, Option, instrument
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

    __slots__ = ("buys", "down", "held", "instrument", "multiplier", "qty", "sells", "symbol", "up", "worst")

    def __init__(self, symbol: str) -> None:
        traded = instrument(symbol)
        assert isinstance(traded, Equity | Option)
        self.symbol = symbol
        self.instrument: Equity | Option = traded
        self.multiplier = traded.multiplier
        self.qty = ZERO
        self.buys = ZERO
        self.sells = ZERO
        self.held = 0.0  #: qty as a float
        # Of equities; options are weighed by group.
        self.up = 0.0  #: held and everything bought
        self.down = 0.0  #: held and everything sold
        self.worst = 0.0  #: max(|up|, |down|)


class Book:
    """Lines of one strategy in one account, or of an account as a whole."""

    __slots__ = ("exposed", "lines", "option_orders", "options")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.exposed: dict[str, Line] = {}  #: equities whose worst case is not zero
        self.options: dict[Group, dict[Option, Decimal]] = {}  #: signed contracts held
        self.option_orders: dict[Group, dict[str, tuple[Order, dict[Option, int]]]] = {}  #: working, by order id: ratio by leg

    def line(self, symbol: str) -> Line:
        """Return the line of a symbol, made when first asked for."""
        found = self.lines.get(symbol)
        if found is None:
            found = self.lines[symbol] = Line(symbol)
        return found

    def hold(self, line: Line, qty: Decimal) -> None:
        """Add signed units to what is held, of an equity or an option."""
        line.qty += qty
        if type(line.instrument) is Equity:
            self.weigh(line)
            return
        assert isinstance(line.instrument, Option)
        line.held = float(line.qty)
        group = group_of(line.instrument)
        held = self.options.setdefault(group, {})
        held[line.instrument] = line.qty
        if not line.qty:
            del held[line.instrument]
        if not held:  # a book that holds no options any more is judged like one that never did
            del self.options[group]

    def reserve(self, order: Order, change: Decimal) -> None:
        """Add to (or take from) what an order has working, leg by leg."""
        buying = order.side is Side.BUY
        for leg in order.instrument.legs:
            line = self.line(leg.instrument.symbol)
            units = change * abs(leg.ratio)
            if buying == (leg.ratio > 0):
                line.buys += units
            else:
                line.sells += units
            if type(leg.instrument) is Equity:
                self.weigh(line)
                continue
            assert isinstance(leg.instrument, Option)
            group = group_of(leg.instrument)
            working = self.option_orders.setdefault(group, {})
            _, ratios = working.setdefault(order.order_id, (order, {}))
            ratios[leg.instrument] = leg.ratio * order.side.sign
            if not order.reserved + change:
                del working[order.order_id]
            if not working:
                del self.option_orders[group]

    def weigh(self, line: Line) -> None:
        """Bring an equity line's worst cases up to date."""
        qty = line.qty
        line.held = up = down = float(qty)
        if line.buys:
            up = float(qty + line.buys)
        if line.sells:
            down = float(qty - line.sells)
        line.up, line.down = up, down
        line.worst = worst = up if up >= -down else -down  # = max(|up|, |down|), as up >= down
        if worst:
            self.exposed[line.symbol] = line
        else:
            self.exposed.pop(line.symbol, None)

    def copy(self) -> Book:
        """Return a book with the same lines, to go its own way."""
        twin = Book()
        for symbol, line in self.lines.items():
            same = twin.line(symbol)
            same.qty, same.buys, same.sells = line.qty, line.buys, line.sells
            same.held, same.up, same.down, same.worst = line.held, line.up, line.down, line.worst
        twin.exposed = {symbol: twin.lines[symbol] for symbol in self.exposed}
        twin.options = {group: dict(held) for group, held in self.options.items()}
        twin.option_orders = {
            group: {order_id: (order, dict(ratios)) for order_id, (order, ratios) in orders.items()}
            for group, orders in self.option_orders.items()
        }
        return twin

    def priced_symbols(self) -> list[str]:
        """Return every symbol whose mark an exposure needs: what is held or working, and options' underlyings."""
        if not self.option_orders and not self.options:
            return list(self.exposed)
        symbols = dict.fromkeys(self.exposed)
        for (underlying, _), held in self.options.items():
            if held:
                symbols.update(dict.fromkeys((underlying, *(option.symbol for option in held))))
        for (underlying, _), orders in self.option_orders.items():
            if orders:
                symbols.update(dict.fromkeys((underlying, *(o.symbol for _, ratios in orders.values() for o in ratios))))
        return list(symbols)

    def option_exposure(
        self, prices: dict[str, float], extra: dict[Group, dict[Option, Decimal]] | None = None, *, only: bool = False
    ) -> float:
        """Return the worst case of all option groups, with an order that is not yet working where one is given.

        With ``only``, of the groups that order has legs in.
        """
        extra = extra or {}
        groups = extra if only else dict.fromkeys((*self.options, *self.option_orders, *extra))
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
    """One account: cash, its own book, and its strategies' books. While there is one strategy, both are the same book."""

    __slots__ = ("account", "book", "books", "cash", "positions", "strategies")

    def __init__(self, account: str, cash: Decimal) -> None:
        self.account = account
        self.cash = cash
        self.book = Book()
        self.strategies: dict[str, Book] = {}
        self.books: dict[str, tuple[Book, ...]] = {}  #: which books a strategy's orders and fills are written to
        self.positions: dict[tuple[str, str], Position] = {}  #: by (strategy, symbol): entry prices, realised profit

    def strategy(self, strategy: str) -> Book:
        """Return a strategy's book, made when first asked for."""
        book = self.strategies.get(strategy)
        if book is None:
            if len(self.strategies) == 1:
                only, shared = next(iter(self.strategies.items()))
                self.book = shared.copy()
                self.books[only] = (shared, self.book)
            book = self.strategies[strategy] = Book() if self.strategies else self.book
            self.books[strategy] = (book,) if book is self.book else (book, self.book)
        return book

    def position(self, strategy: str, symbol: str) -> Position:
        """Return a strategy's position, made when first asked for."""
        found = self.positions.get((strategy, symbol))
        if found is None:
            found = self.positions[strategy, symbol] = Position(symbol, instrument(symbol).multiplier)
        return found

    def trade(self, fill: OrderFilled, order: Order, reserved: Decimal) -> None:
        """Book a fill: cash, position, books; and set what is still reserved for the order."""
        strategy, symbol, qty = fill.strategy, fill.symbol, fill.qty
        self.cash += self.position(strategy, symbol).trade(fill.side, qty, fill.price, fill.fees)
        buying = fill.side is Side.BUY
        if type(order.instrument) is Equity:
            change = reserved - order.reserved
            order.reserved = reserved
            for book in self.books[strategy]:
                line = book.line(symbol)
                if buying:
                    line.qty += qty
                    line.buys += change
                else:
                    line.qty -= qty
                    line.sells += change
                book.weigh(line)
            return
        self._hold(strategy, symbol, qty if buying else -qty)
        self.reserve(strategy, order, reserved)

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
        self._hold(strategy, symbol, qty)

    def _hold(self, strategy: str, symbol: str, signed: Decimal) -> None:
        self.strategy(strategy)
        for book in self.books[strategy]:
            book.hold(book.line(symbol), signed)

    def reserve(self, strategy: str, order: Order, qty: Decimal) -> None:
        """Set the quantity of an order whose exposure is counted."""
        change = qty - order.reserved
        if not change:
            return
        if strategy not in self.books:
            self.strategy(strategy)
        if type(order.instrument) is Equity:
            buying, symbol = order.intent.side is Side.BUY, order.intent.symbol
            for book in self.books[strategy]:
                line = book.line(symbol)
                if buying:
                    line.buys += change
                else:
                    line.sells += change
                book.weigh(line)
        else:
            for book in self.books[strategy]:
                book.reserve(order, change)
        order.reserved = qty

    def equity(self, prices: dict[str, float]) -> float:
        """Return cash plus positions at the given marks, in dollars; each position is float(qty) × multiplier × mark."""
        terms = [line.held * line.multiplier * prices[s] for s, line in self.book.lines.items() if line.held]
        terms.append(float(self.cash))
        return fsum(terms)


class Portfolio:
    """Every account by name."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def open(self, account: str, cash: Decimal) -> None:
        """Open an account with cash."""
        self.accounts[account] = Account(account, cash)
