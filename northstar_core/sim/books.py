"""The broker's own books of one account: cash, and positions by strategy. Kept apart from the engine's, to compare at
the end.

Positions are kept by strategy because an order names one: so what a split, a dividend or an expiry does can be told
to each book exactly. The account's position is their sum.
"""

from __future__ import annotations

from decimal import Decimal

from northstar_core.model.execution import AccountActivity, ActivityKind, HeldPosition

ZERO = Decimal(0)


class Books:
    """Cash and positions; exact, with nothing ever rounded."""

    __slots__ = ("account", "activities", "cash", "positions")

    def __init__(self, account: str, cash: Decimal) -> None:
        self.account, self.cash = account, cash
        self.positions: dict[
            tuple[str, str], Decimal
        ] = {}  #: (strategy, symbol) to signed quantity; zeros are left out
        self.activities = 0

    def add(self, strategy: str, symbol: str, signed: Decimal) -> None:
        """Add signed units to a position."""
        key = (strategy, symbol)
        held = self.positions.get(key)
        after = signed if held is None else held + signed
        if after:
            self.positions[key] = after
        elif held is not None:
            del self.positions[key]

    def qty(self, strategy: str, symbol: str) -> Decimal:
        """Return a strategy's signed quantity of a symbol."""
        return self.positions.get((strategy, symbol), ZERO)

    def of(self, symbol: str) -> list[tuple[str, Decimal]]:
        """Return every strategy that holds the symbol, with its quantity; in order of name."""
        return sorted((strategy, qty) for (strategy, held), qty in self.positions.items() if held == symbol)

    def symbols(self) -> list[str]:
        """Return the symbols held by any strategy, sorted."""
        return sorted({symbol for _, symbol in self.positions})

    def held(self) -> tuple[HeldPosition, ...]:
        """Return the account's positions, sorted by symbol, without zeros."""
        total: dict[str, Decimal] = {}
        for (_, symbol), qty in self.positions.items():
            total[symbol] = total.get(symbol, ZERO) + qty
        return tuple(HeldPosition(symbol, total[symbol]) for symbol in sorted(total) if total[symbol])

    def act(
        self,
        ts: int,
        kind: ActivityKind,
        strategy: str,
        symbol: str,
        *,
        qty: Decimal = ZERO,
        cash: Decimal = ZERO,
        price: Decimal = ZERO,
        text: str = "",
    ) -> AccountActivity:
        """Book a change that follows from no order and return the broker's record of it; ids count from 1."""
        self.activities += 1
        self.add(strategy, symbol, qty)
        self.cash += cash
        return AccountActivity(
            ts,
            self.account,
            kind,
            f"{self.account}-activity-{self.activities}",
            symbol,
            qty,
            cash,
            price,
            strategy,
            text,
        )
