"""R1 to R4: every accepted order judged again, from the log's own books and the prices its verdict names.

An order counts as *reducing* when each of its legs trades against what its strategy holds, is no larger than that,
and the strategy's worst case with it is no larger than without it. Reducing orders are exempt from the caps on
exposure, not from the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import fsum, isclose
from typing import Any

from northstar_core.audit.books import (
    ZERO,
    Book,
    Extra,
    by_group,
    equity_net,
    equity_worst,
    option_worst,
    swing,
)
from northstar_core.audit.fold import Account, Fold
from northstar_core.audit.report import Tally
from northstar_core.model import events as e
from northstar_core.model.account import AccountLimits, SessionRule, StrategyLimits, Verdict
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Combo, Equity, Instrument, Option, exact, instrument
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


class RiskChecks:
    """Reads the fold as it stood before each accepted order."""

    def __init__(self, fold: Fold, tally: Tally) -> None:
        self.fold = fold
        self.tally = tally
        self._worst_before = 0.0
        self.before: dict[type, Callable[[Any, int, int], None]] = {
            e.OrderSubmitted: self._submitted,
            e.ReplaceSubmitted: self._replace,
            e.OrderFilled: self._before_fill,
        }
        self.after: dict[type, Callable[[Any, int, int], None]] = {e.OrderFilled: self._after_fill}

    # ── which orders ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _submitted(self, event: e.OrderSubmitted, seq: int, cause: int) -> None:
        self.judge(event.order, event.verdict, seq)

    def _replace(self, event: e.ReplaceSubmitted, seq: int, cause: int) -> None:
        """Judge a replace as a new order of what would be left, beside the books without the old one."""
        order = self.fold.open.get(event.order_id)
        if order is None or event.verdict is None:
            if order is not None:
                self.tally.violate("R1", seq, f"replace of {event.order_id} was accepted without a verdict")
            return
        reserved = order.reserved
        self.fold.reserve(order, ZERO)
        old = order.terms
        trial = PlaceOrder(
            event.ts,
            old.order_id,
            old.strategy,
            old.account,
            old.symbol,
            old.side,
            event.qty - order.cum,
            old.order_type,
            event.limit_price,
            event.stop_price,
            old.tif,
            old.reduce_only,
            old.parent,
        )
        self.judge(trial, event.verdict, seq)
        self.fold.reserve(order, reserved)

    def judge(self, order: PlaceOrder, verdict: Verdict, seq: int) -> None:
        """Take a decision again."""
        tally = self.tally
        for invariant in ("R1", "R2", "R3", "R4"):
            tally.checked[invariant] += 1
        try:
            case = Judged(self.fold, order, verdict, instrument(order.symbol), seq)
        except DataError as error:
            tally.violate("R4", seq, f"order {order.order_id}: {error}")
            return
        try:
            notional = case.notional()
            reducing = case.reducing(notional)
            self._strategy(case, notional, reducing)
            self._account(case, reducing)
        except KeyError as missing:
            tally.violate(
                "R1",
                seq,
                f"order {order.order_id}: the verdict has no price for {missing.args[0]}, which is held or working",
            )
            reducing = False
        if not reducing:
            self._quantities(case)
        self._order(case)

    # ── R1 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _strategy(self, case: Judged, notional: float, reducing: bool) -> None:
        order, verdict = case.order, case.verdict
        violate, seq = self.tally.violate, case.seq
        for leg in verdict.legs:
            line = case.book.line(leg.symbol)
            stored, own = (leg.position, leg.buys, leg.sells), (line.qty, line.buys, line.sells)
            if stored != own:
                violate(
                    "R1",
                    seq,
                    f"order {order.order_id}: the verdict has {leg.symbol} at {_line(stored)}, the fold at {_line(own)}",
                )
        if not _same(verdict.notional, notional, case.plain):
            violate(
                "R1", seq, f"order {order.order_id}: stored notional {verdict.notional!r}, taken again {notional!r}"
            )
        cap = None if case.limits is None else case.limits.max_notional
        if cap is None:
            violate("R1", seq, f"order {order.order_id}: strategy:{order.strategy} has no max_notional")
        elif not notional <= cap and not reducing:
            violate(
                "R1", seq, f"order {order.order_id}: worst-case notional {notional!r} over the strategy's cap {cap}"
            )

    # ── R2 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _quantities(self, case: Judged) -> None:
        order, limits = case.order, case.limits
        for leg in case.traded.legs:
            line = case.book.line(leg.instrument.symbol)
            signed = order.qty * leg.ratio * order.side.sign
            worst = abs(line.qty + line.buys + signed) if signed > 0 else abs(line.qty - line.sells + signed)
            cap = self._position_cap(limits, isinstance(leg.instrument, Option))
            if cap is None or not worst <= cap:
                self.tally.violate(
                    "R2",
                    case.seq,
                    f"order {order.order_id}: worst-case quantity {worst} of {leg.instrument.symbol}, the cap is {cap}",
                )

    @staticmethod
    def _position_cap(limits: StrategyLimits | None, is_option: bool) -> Decimal | None:
        if limits is None:
            return None
        return limits.max_position_contracts if is_option else limits.max_position_qty

    def _before_fill(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        self._worst_before = self.fold.account(event.account).of(event.strategy).line(event.symbol).worst

    def _after_fill(self, event: e.OrderFilled, seq: int, cause: int) -> None:
        """A fill moves quantity from working to held: what could be must not grow, unless it was too late to be counted."""
        self.tally.checked["R2"] += 1
        line = self.fold.account(event.account).of(event.strategy).line(event.symbol)
        if line.worst > self._worst_before and not event.late:
            cap = self._position_cap(
                self.fold.strategy_limits.get(f"strategy:{event.strategy}"), line.option is not None
            )
            if cap is None or not line.worst <= cap:
                self.tally.violate(
                    "R2",
                    seq,
                    f"fill of {event.order_id}: worst-case quantity of {event.symbol} grows to {line.worst:g}, the cap is {cap}",
                )

    # ── R3 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _account(self, case: Judged, reducing: bool) -> None:
        order, verdict, limits = case.order, case.verdict, case.account_limits
        violate, seq = self.tally.violate, case.seq
        gross, net, symbol, equity = case.gross(), case.net(), case.symbol_exposure(), case.equity()
        for name, stored, own in (
            ("gross", verdict.gross, gross),
            ("net", verdict.net, net),
            ("symbol exposure", verdict.symbol_exposure, symbol),
            ("equity", verdict.equity, equity),
        ):
            if not _same(stored, own, case.plain):
                violate("R3", seq, f"order {order.order_id}: stored {name} {stored!r}, taken again {own!r}")
        if reducing:
            return
        for name, value, cap in account_caps(case, gross, net, symbol, equity, limits):
            if cap is None or not value <= cap:
                violate("R3", seq, f"order {order.order_id}: {name} {value!r} over {cap} of account:{order.account}")

    # ── R4 ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, case: Judged) -> None:
        for fault in order_faults(case, self.fold):
            self.tally.violate("R4", case.seq, f"order {case.order.order_id}: {fault}")


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
    """Return what of the order itself does not pass: quantity, value, collar, tick, lot, universe, session, freshness."""
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
        if not (limits.collar is not None and away <= abs(market) * limits.collar):
            faults.append(
                f"limit price {order.limit_price} is {away} beyond {market}, the collar is {limits.collar} of it"
            )
    for price in (order.limit_price, order.stop_price):
        if price is not None and price % traded.tick_at(price):
            faults.append(f"price {price} is no multiple of the tick {traded.tick_at(price)}")
    if order.qty % traded.lot:
        faults.append(f"quantity {order.qty} is no multiple of the lot {traded.lot}")
    faults += _universe(order, traded, fold)
    faults += _times(order, verdict, limits, fold)
    return faults


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


def _same(stored: float, own: float, exactly: bool) -> bool:
    return stored == own or (not exactly and isclose(stored, own, rel_tol=RELATIVE, abs_tol=RELATIVE))


def _line(line: tuple[Decimal, Decimal, Decimal]) -> str:
    return f"{line[0]} held, {line[1]} buying, {line[2]} selling"
