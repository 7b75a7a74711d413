"""What each strategy holds, at which entries, and what it earned: for sessions that begin, tables and dashboards. A fold of facts."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from northstar_core.model import events as e
from northstar_core.model.account import Position
from northstar_core.model.execution import ActivityKind
from northstar_core.model.instrument import instrument

ZERO = Decimal(0)


class Holdings:
    """One strategy's positions in one account, and the cash they moved."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.cash = ZERO  #: signed, since the beginning
        self.fills = 0

    def position(self, symbol: str) -> Position:
        """Return the position of a symbol, flat at first."""
        held = self.positions.get(symbol)
        if held is None:
            held = self.positions[symbol] = Position(symbol, instrument(symbol).multiplier)
        return held


class Ledger:
    """Holdings by account and strategy."""

    def __init__(self) -> None:
        self.holdings: dict[tuple[str, str], Holdings] = {}
        self.numbers: dict[tuple[str, str], int] = {}  #: highest number given by a strategy in a session

    def of(self, account: str, strategy: str) -> Holdings:
        """Return a strategy's holdings in an account."""
        key = (account, strategy)
        found = self.holdings.get(key)
        if found is None:
            found = self.holdings[key] = Holdings()
        return found

    def apply(self, fact: Any) -> None:
        """Take a fact in; those that move nothing are passed over."""
        if type(fact) is e.OrderFilled:
            holdings = self.of(fact.account, fact.strategy)
            holdings.fills += 1
            holdings.cash += holdings.position(fact.symbol).trade(fact.side, fact.qty, fact.price, fact.fees)
        elif type(fact) is e.PositionAdjusted:
            holdings = self.of(fact.account, fact.strategy)
            holdings.cash += fact.cash
            if fact.symbol and fact.qty:
                holdings.position(fact.symbol).adjust(fact.qty, fact.price, split=fact.kind is ActivityKind.SPLIT)

    def count(self, message: Any, session: str) -> None:
        """Take note of the number of a strategy's message."""
        n = message.n if hasattr(message, "n") else number_of(getattr(message, "order_id", ""), session)
        key = (message.strategy, session)
        if n > self.numbers.get(key, 0):
            self.numbers[key] = n

    def rows(self) -> Iterator[tuple[str, str, Position]]:
        """Yield every position that is not flat: account, strategy, position."""
        for (account, strategy), holdings in sorted(self.holdings.items()):
            for _, position in sorted(holdings.positions.items()):
                if position.qty:
                    yield account, strategy, position


def number_of(order_id: str, session: str) -> int:
    """Return the counter in an order id of a session; 0 where it is none of it."""
    head, _, n = order_id.rpartition("-")
    return int(n) if n.isdigit() and head.endswith(f"-{session}") else 0
