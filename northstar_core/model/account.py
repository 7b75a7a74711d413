"""Accounts: who may trade what, within which limits, and what is held."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from enum import StrEnum

import msgspec

from northstar_core.model.order import Side

ZERO = Decimal(0)


class TradingState(StrEnum):
    """What a scope (strategy, account, desk) may do; the strictest of the three holds."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"  #: only orders that bring a position nearer to zero
    HALTED = "HALTED"  #: no orders; cancels pass
    KILLED = "KILLED"  #: latched by the kill switch


class SessionRule(StrEnum):
    """When an order may leave."""

    REGULAR = "regular"  #: only inside the exchange's regular hours
    QUEUE = "queue"  #: outside them too: the broker holds it until the next open (the rule for daily bars)
    ALWAYS = "always"  #: whenever there is a fresh price: extended hours, round-the-clock markets


class StrategyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one strategy. None means *not set*, and a check that needs it denies."""

    max_order_qty: Decimal | None = None  #: shares in one order
    max_order_contracts: Decimal | None = None  #: option contracts (or combos) in one order
    max_order_value: Decimal | None = None  #: quantity × multiplier × worst price of one order
    collar: Decimal | None = None  #: how far a limit or stop price may lie from the reference, as a fraction
    market_reserve: Decimal | None = None  #: a market order is valued this fraction worse than the reference
    max_data_age_s: Decimal | None = None  #: a reference price may be this old …
    max_data_age_bars: Decimal | None = None  #: … plus this many lengths of the bar it came from
    max_position_qty: Decimal | None = None  #: worst-case shares of one symbol
    max_position_contracts: Decimal | None = None  #: worst-case contracts of one option
    max_notional: Decimal | None = None  #: worst-case exposure over all symbols, working orders included
    max_open_orders: int | None = None
    max_orders: int | None = None  #: accepted orders in a window
    window_s: Decimal | None = None  #: length of that window
    session: SessionRule | None = None
    allow_short: bool | None = None
    allow_uncovered: bool | None = None  #: short options without cover


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one account, over all of its strategies. None means *not set*, and a check that needs it denies."""

    max_gross: Decimal | None = None  #: worst-case exposure over all symbols
    max_net: Decimal | None = None  #: absolute worst-case net exposure
    max_symbol_share: Decimal | None = None  #: worst-case exposure of one symbol, as a fraction of equity
    leverage: Decimal | None = None  #: worst-case exposure may reach equity × leverage; 1 = a cash account
    max_orders: int | None = None  #: accepted orders in a window
    window_s: Decimal | None = None


class Grant(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """A strategy may trade these symbols in this account; an empty tuple allows every symbol."""

    ts: int
    strategy: str
    account: str
    symbols: tuple[str, ...] = ()


class LegState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a strategy held and had working in one symbol before a decision."""

    symbol: str
    position: Decimal
    buys: Decimal  #: leaves quantity of working buys
    sells: Decimal  #: leaves quantity of working sells


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The numbers a pre-trade decision was taken on, so that anyone can take it again.

    Exposures are observed values (float): worst-case quantity × reference price. Each sum is ``math.fsum``, which does not
    depend on the order of its terms.
    """

    ref: float  #: reference price of the instrument
    ref_ts: int  #: when that price became known
    ref_span: int  #: length of the bar it came from, ns; 0 for quotes and trades
    worst_price: Decimal  #: the price the order is valued at
    value: Decimal  #: quantity × multiplier × worst price, absolute
    legs: tuple[LegState, ...]
    notional: float  #: strategy's worst case with this order
    gross: float  #: account's worst case with this order
    net: float  #: account's larger absolute net exposure with this order
    symbol_exposure: float  #: account's worst case in the order's symbol(s) with this order
    equity: float  #: account's cash plus positions at their marks
    open_orders: int  #: of the strategy, before this one
    recent_orders: int  #: of the strategy, accepted in the window before this one
    account_orders: int  #: of the account, accepted in the window before this one
    prices: dict[str, float] = {}  #: the marks of every symbol the exposures were taken at
    rules: tuple[str, ...] = ()  #: what plugged-in rules changed


class Position:
    """Shares or contracts of one symbol in one book. Exact: nothing is ever divided.

    Quantity and fees are kept at once; entries are matched with exits, first in first out, when somebody asks (``lots``,
    ``realized``, ``cost``, ``avg_price``), so a fill costs one addition.
    """

    __slots__ = ("_lots", "_pending", "_realized", "fees", "multiplier", "qty", "symbol")

    def __init__(self, symbol: str, multiplier: int = 1) -> None:
        self.symbol = symbol
        self.multiplier = multiplier
        self.qty = ZERO
        self.fees = ZERO
        self._realized = ZERO
        self._lots: deque[tuple[Decimal, Decimal]] = deque()
        self._pending: list[tuple[Decimal, Decimal]] = []

    @classmethod
    def flat(cls, symbol: str, multiplier: int, realized: Decimal, fees: Decimal) -> Position:
        """Return a position that holds nothing now, with what it has earned and paid."""
        position = cls(symbol, multiplier)
        position._realized, position.fees = realized, fees
        return position

    def trade(self, side: Side, qty: Decimal, price: Decimal, fees: Decimal = ZERO) -> Decimal:
        """Book a fill and return the signed change of cash, fees included."""
        signed = qty if side is Side.BUY else -qty
        self.qty += signed
        self._pending.append((signed, price))
        cash = -signed * price * self.multiplier
        if fees:
            self.fees += fees
            cash -= fees
        return cash

    def shift(self, signed: Decimal, price: Decimal) -> None:
        """Add signed units at a price, without cash: a delivery, an expiry."""
        self.qty += signed
        self._pending.append((signed, price))

    def split(self, ratio: Decimal) -> None:
        """Turn one unit into ``ratio`` units; cost and profit stay what they were."""
        lots = self.lots
        self.qty *= ratio
        self._lots = deque((qty * ratio, price / ratio) for qty, price in lots)

    def adjust(self, signed: Decimal, price: Decimal, *, split: bool) -> None:
        """Take a change that no order made: a split, whose price is new shares for one old, or units at a price."""
        if split:
            self.split(price)
        else:
            self.shift(signed, price)

    @property
    def lots(self) -> deque[tuple[Decimal, Decimal]]:
        """What is open as (signed quantity, entry price), oldest first."""
        for signed, price in self._pending:
            self._match(signed, price)
        self._pending.clear()
        return self._lots

    @property
    def realized(self) -> Decimal:
        """Profit of what was closed, before fees."""
        return self._realized if self.lots is not None else ZERO

    def _match(self, signed: Decimal, price: Decimal) -> None:
        lots = self._lots
        while signed and lots and (lots[0][0] > 0) != (signed > 0):
            held, entry = lots[0]
            if abs(held) <= abs(signed):
                lots.popleft()
                closed = held
            else:
                lots[0] = (held + signed, entry)
                closed = -signed
            self._realized += closed * (price - entry) * self.multiplier
            signed += closed
        if signed:
            lots.append((signed, price))

    @property
    def cost(self) -> Decimal:
        """What the open lots cost: signed quantity × entry price × multiplier."""
        return sum((qty * price for qty, price in self.lots), ZERO) * self.multiplier

    @property
    def avg_price(self) -> Decimal:
        """Average entry price of the open lots; 0 when flat."""
        return self.cost / (self.qty * self.multiplier) if self.qty else ZERO

    def __repr__(self) -> str:
        """Quantity, symbol, average entry price."""
        return f"<{self.qty} {self.symbol} @ {self.avg_price}>"
