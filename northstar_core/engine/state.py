"""All that a decision may look at: the books, written by facts, and the marks, written by market events."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.engine.limits import Caps, Rate
from northstar_core.engine.oms import Blotter
from northstar_core.engine.portfolio import Account, Book, Portfolio
from northstar_core.model.account import AccountLimits, StrategyLimits, TradingState
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.events import GrantChanged
from northstar_core.model.market import MarketEvent


class Seat:
    """What belongs to one strategy in one account, looked up once: its grant, account, book, limits, accepted orders.

    While ``missing`` names something, an order is refused with it, and what is missing may not be read.
    """

    __slots__ = (
        "account", "account_caps", "account_limits", "account_rate", "book", "caps", "grant", "limits", "missing", "rate",
        "unset_equity", "unset_option",
    )  # fmt: skip

    account: Account
    book: Book
    caps: Caps
    account_caps: Caps
    limits: StrategyLimits
    account_limits: AccountLimits
    missing: Denial | None
    unset_equity: Denial | None  #: the limit that an equity order would need and that is not set
    unset_option: Denial | None

    def __init__(self, state: State, strategy: str, account: str) -> None:
        scope, account_scope = f"strategy:{strategy}", f"account:{account}"
        self.grant = state.grants.get((strategy, account))
        self.rate = state.rates.setdefault(scope, Rate())
        self.account_rate = state.rates.setdefault(account_scope, Rate())
        opened = state.portfolio.accounts.get(account)
        caps, account_caps = state.caps.get(scope), state.caps.get(account_scope)
        if opened is None or self.grant is None:
            self.missing = Denial(DenialReason.GRANT_MISSING, f"account={account} is not open")
        elif caps is None or account_caps is None:
            self.missing = Denial(DenialReason.LIMIT_MISSING, f"{scope if caps is None else account_scope} has no limits")
        else:
            self.missing = None
            self.account, self.book = opened, opened.strategy(strategy)
            self.caps, self.account_caps = caps, account_caps
            assert isinstance(caps.limits, StrategyLimits) and isinstance(account_caps.limits, AccountLimits)
            self.limits, self.account_limits = caps.limits, account_caps.limits
            self.unset_equity = _unset(scope, caps.missing_equity) or _unset(account_scope, account_caps.missing_equity)
            self.unset_option = _unset(scope, caps.missing_option) or _unset(account_scope, account_caps.missing_option)


def _unset(scope: str, missing: list[str]) -> Denial | None:
    return Denial(DenialReason.LIMIT_MISSING, f"{scope} {missing[0]} is not set") if missing else None


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
        """Return what belongs to a strategy in an account; kept until grants or limits change."""
        found = self.seats.get((strategy, account))
        if found is None or found.missing is not None:
            found = self.seats[strategy, account] = Seat(self, strategy, account)
        return found
