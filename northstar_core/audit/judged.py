"""An accepted order judged again: every number about it from the log's own books and the prices its verdict names.

An order counts as *reducing* when each of its legs trades against what its strategy holds, is no larger than that, and
the strategy's worst case with it is no larger than without it. Reducing orders are exempt from the caps on exposure,
not from the arithmetic.
"""

from __future__ import annotations

from decimal import Decimal
from math import fsum, isclose

from northstar_core.audit.books import ZERO, Book, Extra, by_group, equity_net, equity_worst, option_worst, swing
from northstar_core.audit.fold import Account, Fold
from northstar_core.model.account import AccountLimits, SessionRule, StrategyLimits, Verdict
from northstar_core.model.instrument import Combo, Equity, Instrument, Option, exact
from northstar_core.model.order import PlaceOrder, Side

RELATIVE = 1e-9  #: by which sums over option payoffs may differ, whose terms may be taken in another order


class Judged:
    """An accepted order and every number about it, taken again."""

    __slots__ = ("account", "account_limits", "book", "extra", "limits", "order", "seq", "traded", "verdict")

    def __init__(self, fold: Fold, order: PlaceOrder, verdict: Verdict, traded: Instrument, seq: int) -> None:
        self.order, self.verdict, self.traded, self.seq = order, verdict, traded, seq
        self.account: Account = fold.account(order.account)
        self.book: Book = self.account.of(order.strategy)
        self.extra = Extra(order.symbol, order.qty * order.side.sign)
        self.limits: StrategyLimits | None = fold.strategy_limits.get(f"strategy:{order.strategy}")
        self.account_limits: AccountLimits | None = fold.account_limits.get(f"account:{order.account}")

    @property
    def is_option(self) -> bool:
        """Whether limits in contracts hold for it."""
        return not isinstance(self.traded, Equity)

    @property
    def plain(self) -> bool:
        """Whether no options are involved, so that each number must be equal to the last bit."""
        book = self.account.book
        return not (self.extra.options or book.options or book.option_orders)

    def notional(self) -> float:
        """The strategy's worst case with the order."""
        prices = self.verdict.prices
        return equity_worst(self.book, self.extra, prices) + option_worst(self.book, self.extra, prices)

    def gross(self) -> float:
        """The account's worst case with the order."""
        book, prices = self.account.book, self.verdict.prices
        return equity_worst(book, self.extra, prices) + option_worst(book, self.extra, prices)

    def net(self) -> float:
        """The account's larger absolute net; with options, whose worst cases have no sign, the gross."""
        return equity_net(self.account.book, self.extra, self.verdict.prices) if self.plain else self.gross()

    def symbol_exposure(self) -> float:
        """The account's worst case in the order's own symbols: shares, and the option groups it has legs in."""
        book, prices = self.account.book, self.verdict.prices
        shares = fsum(
            [max(map(abs, swing(book.line(s), signed))) * prices[s] for s, signed in self.extra.shares.items()]
        )
        if not self.extra.options:
            return shares
        return shares + option_worst(book, self.extra, prices, frozenset(by_group(self.extra.options)))

    def equity(self) -> float:
        """The account's cash and positions at the verdict's prices."""
        prices = self.verdict.prices
        held = [
            float(line.qty) * line.multiplier * prices[s] for s, line in self.account.book.lines.items() if line.qty
        ]
        return fsum([float(self.account.cash), *held])

    def reducing(self, notional: float) -> bool:
        """Whether it only makes the strategy's positions and worst case smaller."""
        for leg in self.traded.legs:
            held = self.book.line(leg.instrument.symbol).qty
            signed = self.order.qty * leg.ratio * self.order.side.sign
            if not (held and (held > 0) != (signed > 0) and abs(signed) <= abs(held)):
                return False
        nothing = Extra(self.order.symbol, ZERO)
        prices = self.verdict.prices
        before = equity_worst(self.book, nothing, prices) + option_worst(self.book, nothing, prices)
        return notional <= before or isclose(notional, before, rel_tol=RELATIVE)

    def worst_price(self) -> Decimal:
        """The price the order is valued at: its limit, its stop, or the reference made worse by the market reserve."""
        order = self.order
        if order.limit_price is not None:
            return order.limit_price
        if order.stop_price is not None:
            return order.stop_price
        ref = exact(self.verdict.ref)
        reserve = self.limits.market_reserve if self.limits is not None else None
        return ref + abs(ref) * (reserve or ZERO) * order.side.sign


def account_caps(
    case: Judged, gross: float, net: float, symbol: float, equity: float, limits: AccountLimits | None
) -> list[tuple[str, float, Decimal | float | None]]:
    """Return (name, value, cap) of each of the account's limits; a cap that is not set is None."""
    order, verdict = case.order, case.verdict
    share = None if limits is None or limits.max_symbol_share is None else float(limits.max_symbol_share) * equity
    power = None if limits is None or limits.leverage is None else float(limits.leverage) * equity
    above = 0.0
    if order.side is Side.BUY:  # what a buy may cost above the reference, at which the exposures are taken
        above = max(0.0, (float(case.worst_price()) - verdict.ref) * float(order.qty) * case.traded.multiplier)
    return [
        ("gross exposure", gross, None if limits is None else limits.max_gross),
        ("net exposure", net, None if limits is None else limits.max_net),
        ("symbol exposure", symbol, share),
        ("buying power needed", gross + above, power),
    ]


def order_faults(case: Judged, fold: Fold) -> list[str]:
    """Return what of the order itself does not pass: quantity, value, collar, tick, lot, universe, times."""
    order, verdict, limits, traded = case.order, case.verdict, case.limits, case.traded
    if limits is None:
        return [f"strategy:{order.strategy} has no limits"]
    faults = []
    worst = case.worst_price()
    value = abs(order.qty * worst * traded.multiplier)
    ref = reference(traded, verdict)
    qty_cap = limits.max_order_contracts if case.is_option else limits.max_order_qty
    if not (order.qty > 0 and qty_cap is not None and order.qty <= qty_cap):
        faults.append(f"quantity {order.qty}, the cap is {qty_cap}")
    if ref is not None and ref != verdict.ref:
        faults.append(f"reference price {verdict.ref!r}, the prices it was taken at give {ref!r}")
    if worst != verdict.worst_price:
        faults.append(f"valued at {verdict.worst_price}, the worst price is {worst}")
    if value != verdict.value:
        faults.append(f"stored value {verdict.value}, taken again {value}")
    if not (limits.max_order_value is not None and value <= limits.max_order_value):
        faults.append(f"value {value}, the cap is {limits.max_order_value}")
    if order.limit_price is not None:
        market = exact(verdict.ref)
        away = (order.limit_price - market) * order.side.sign
        if not (limits.collar is not None and away <= collar_basis(traded, verdict) * limits.collar):
            faults.append(f"limit price {order.limit_price} is {away} beyond {market}, the collar is {limits.collar}")
    for price in (order.limit_price, order.stop_price):
        if price is not None and price % traded.tick_at(price):
            faults.append(f"price {price} is no multiple of the tick {traded.tick_at(price)}")
    if order.qty % traded.lot:
        faults.append(f"quantity {order.qty} is no multiple of the lot {traded.lot}")
    faults += _universe(order, traded, fold)
    faults += _times(order, verdict, limits, fold)
    return faults


def collar_basis(traded: Instrument, verdict: Verdict) -> Decimal:
    """Return what the collar is a fraction of: the reference; of a combo the sum of its legs' prices without their signs."""
    if not isinstance(traded, Combo):
        return abs(exact(verdict.ref))
    return exact(fsum(abs(leg.ratio) * verdict.prices.get(leg.instrument.symbol, 0.0) for leg in traded.legs))


def reference(traded: Instrument, verdict: Verdict) -> float | None:
    """Return the reference price that a verdict's own marks give; None where one of them is not in it."""
    prices = verdict.prices
    if isinstance(traded, Combo):
        if any(leg.instrument.symbol not in prices for leg in traded.legs):
            return None
        return fsum(leg.ratio * prices[leg.instrument.symbol] for leg in traded.legs)
    return prices.get(traded.symbol)


def _universe(order: PlaceOrder, traded: Instrument, fold: Fold) -> list[str]:
    symbols = fold.grants.get((order.strategy, order.account))
    if symbols is None:
        return [f"{order.strategy} holds no grant for {order.account}"]
    if not symbols:
        return []
    return [
        f"{leg.instrument.symbol} is not in the universe {','.join(symbols[:8])}"
        for leg in traded.legs
        if leg.instrument.symbol not in symbols
        and not (isinstance(leg.instrument, Option) and leg.instrument.underlying in symbols)
    ]


def _times(order: PlaceOrder, verdict: Verdict, limits: StrategyLimits, fold: Fold) -> list[str]:
    faults = []
    open_now = fold.session_open <= order.ts < fold.session_close
    if limits.session is None or (limits.session is SessionRule.REGULAR and not open_now):
        faults.append(f"outside the session, the rule is {limits.session}")
    allowed = freshness_allowed(limits, verdict)
    age = order.ts - verdict.ref_ts
    # A queued order waits for the next open, where the broker prices it anew.
    queued = limits.session is SessionRule.QUEUE and not open_now
    if not (allowed is not None and 0 <= age <= allowed) and not (queued and age >= 0):
        faults.append(f"the reference price is {age / 1e9:.3f} s old, {(allowed or 0) / 1e9:.3f} s are allowed")
    return faults


def freshness_allowed(limits: StrategyLimits, verdict: Verdict) -> int | None:
    """Return how old a reference price may be, ns; None where that limit is not set."""
    if limits.max_data_age_s is None or limits.max_data_age_bars is None:
        return None
    return int(limits.max_data_age_s * 10**9 + limits.max_data_age_bars * verdict.ref_span)
