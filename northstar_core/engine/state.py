"""All that a decision may look at: the books, written by facts, and the marks, written by market events."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.engine.limits import Caps, Rate
from northstar_core.engine.oms import Blotter
from northstar_core.engine.portfolio import Portfolio
from northstar_core.model.account import TradingState
from northstar_core.model.events import GrantChanged
from northstar_core.model.market import MarketEvent


class Seat:
    """What belongs to one strategy in one account, looked up once: account, book, limits, accepted orders."""

    __slots__ = ("account", "account_caps", "account_rate", "book", "caps", "rate")

    def __init__(self, state: State, strategy: str, account: str) -> None:
        self.account = state.portfolio.accounts.get(account)
        self.book = self.account.strategy(strategy) if self.account is not None else None
        self.caps = state.caps.get(f"strategy:{strategy}")
        self.account_caps = state.caps.get(f"account:{account}")
        self.rate = state.rates.setdefault(f"strategy:{strategy}", Rate())
        self.account_rate = state.rates.setdefault(f"account:{account}", Rate())


class State:
    """Books, limits, trading states and marks."""

    def __init__(self) -> None:
        self.blotter = Blotter()
        self.portfolio = Portfolio()
        self.grants: dict[tuple[str, str], GrantChanged] = {}
        self.caps: dict[str, Caps] = {}  #: by scope
        self.rates: dict[str, Rate] = {}
        self.seats: dict[tuple[str, str], Seat] = {}
        self.states: dict[str, TradingState] = {}
        self.halted: set[str] = set()
        self.session_close = 0  #: of the open regular session; 0 = closed
        self.session_open = 0
        self.today = ""  #: label of the latest session
        self.adjusted: dict[str, dict[str, Decimal]] = {}  #: what each broker record moved, by strategy
        self.marks: dict[str, MarketEvent] = {}

    def seat(self, strategy: str, account: str) -> Seat:
        """Return what belongs to a strategy in an account; kept until limits change."""
        found = self.seats.get((strategy, account))
        if found is None or found.account is None:
            found = self.seats[strategy, account] = Seat(self, strategy, account)
        return found
