"""All that a decision may look at: the books, written by facts, and the marks, written by market events."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.engine.limits import Caps, Rate
from northstar_core.engine.oms import Blotter
from northstar_core.engine.portfolio import Portfolio
from northstar_core.model.account import TradingState
from northstar_core.model.events import GrantChanged
from northstar_core.model.market import MarketEvent


class State:
    """Books, limits, trading states and marks."""

    def __init__(self) -> None:
        self.blotter = Blotter()
        self.portfolio = Portfolio()
        self.grants: dict[tuple[str, str], GrantChanged] = {}
        self.caps: dict[str, Caps] = {}  #: by scope
        self.rates: dict[str, Rate] = {}
        self.states: dict[str, TradingState] = {}
        self.halted: set[str] = set()
        self.session_close = 0  #: of the open regular session; 0 = closed
        self.session_open = 0
        self.today = ""  #: label of the latest session
        self.adjusted: dict[str, dict[str, Decimal]] = {}  #: what each broker record moved, by strategy
        self.marks: dict[str, MarketEvent] = {}

    def rate(self, scope: str) -> Rate:
        """Return a scope's accepted orders."""
        found = self.rates.get(scope)
        if found is None:
            found = self.rates[scope] = Rate()
        return found
