"""What happens to positions without an order: option expiry, exercise and assignment, splits, dividends.

Expiry. Options end after the close of the last session up to their expiry date (a Saturday expiry: the Friday before
it). At least ``exercise_threshold`` (a cent) in the money, by the last price of the underlying, a long is exercised
and a short is assigned; American options deliver shares at the strike, others are settled in cash at their intrinsic
value. The rest expires. A combo's legs end each on its own.

Corporate actions take effect at the open of the first session on or after their ex-date, in this order: early
assignment (if on), dividend (on what was held at the previous close), split.

Splits. A position is multiplied by the ratio; a fraction of a share is paid in cash at the last price divided by the
ratio. Working orders in the symbol and in options on it are canceled, as their prices have lost their meaning.
Options on it, for whole ratios n:1 (OCC): n contracts for one at strike / n, rounded to the cent, under their new
symbol; the position moves at the last price so that no cash changes hands. Other ratios would need a contract with
another deliverable, which no OCC symbol names: those positions are closed in cash at the last price of the option,
else at their intrinsic value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import ROUND_FLOOR, Decimal

from northstar_core.model.errors import DataError
from northstar_core.model.execution import AccountActivity, ActivityKind
from northstar_core.model.instrument import CENT, Option, Right, exact, instrument, occ_symbol
from northstar_core.model.tape import CorporateAction
from northstar_core.sim.books import Books
from northstar_core.sim.model import LifecyclePolicy

ZERO, ONE = Decimal(0), Decimal(1)
SPECK = Decimal("0.000001")  #: a difference to whole shares below this is the ratio's rounding, not a fraction

Activities = list[AccountActivity]


def last_day(option: Option) -> date:
    """Return the last day an option trades, short of holidays: the Friday before a Saturday (standard until 2015)."""
    return option.expiry - timedelta(days=1) if option.expiry.weekday() == 5 else option.expiry


class Lifecycle:
    """Applies to the broker's books what the clearing house and the issuers do."""

    __slots__ = ("_actions", "_books", "_label", "_policy", "_prices")

    def __init__(
        self,
        books: Books,
        policy: LifecyclePolicy,
        actions: Sequence[CorporateAction],
        prices: Callable[[str], float | None],
    ) -> None:
        self._books, self._policy, self._prices = books, policy, prices
        self._actions = sorted(actions, key=lambda action: (action.ex_date, action.symbol))
        self._label = ""

    def on_open(self, ts: int, label: str) -> tuple[Activities, set[str]]:
        """Return what the open of a session changes, and the symbols whose working orders it voids."""
        previous, self._label = self._label, label
        out: Activities = []
        stale: set[str] = set()
        if self._books.positions:
            self._expire(ts, label, out, before=True)
        due = [a for a in self._actions if a.ex_date.isoformat() <= label]
        if due:
            self._actions = self._actions[len(due) :]
            for action in due:
                if previous and action.ex_date.isoformat() > previous:
                    self._apply(action, ts, out, stale)
                elif not previous and action.ex_date.isoformat() == label:
                    self._apply(action, ts, out, stale)
        return out, stale

    def on_close(self, ts: int, label: str) -> tuple[Activities, set[str]]:
        """Return what the close of a session changes: options whose last day it was."""
        self._label = label
        out: Activities = []
        if self._books.positions:
            self._expire(ts, label, out)
        return out, set()

    # ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _expire(self, ts: int, label: str, out: Activities, *, before: bool = False) -> None:
        for symbol in self._books.symbols():
            option = instrument(symbol)
            if type(option) is not Option:
                continue
            last = last_day(option).isoformat()
            if last < label if before else last <= label:
                for strategy, qty in self._books.of(symbol):
                    self._settle(option, strategy, qty, self._at_expiry(option), ts, out)

    def _at_expiry(self, option: Option) -> Decimal:
        """Return the price of the underlying that decides; without one, what the option's own last price implies."""
        price = self._prices(option.underlying)
        if price:
            return exact(price)
        own = self._prices(option.symbol)
        if own is None:
            raise DataError(
                f"{option.symbol} ends on {option.expiry} without a price of {option.underlying} to settle it by; "
                f"add {option.underlying} to the data or close the position before"
            )
        return option.strike + (exact(own) if option.right is Right.CALL else -exact(own))

    def _settle(
        self, option: Option, strategy: str, qty: Decimal, underlying: Decimal, ts: int, out: Activities
    ) -> None:
        worth = option.intrinsic(underlying)
        text = f"{option.underlying} at {underlying}"
        if worth < self._policy.exercise_threshold:
            out.append(self._books.act(ts, ActivityKind.EXPIRATION, strategy, option.symbol, qty=-qty, text=text))
            return
        kind = ActivityKind.EXERCISE if qty > 0 else ActivityKind.ASSIGNMENT
        if not option.american:
            cash = qty * worth * option.multiplier
            out.append(self._books.act(ts, kind, strategy, option.symbol, qty=-qty, cash=cash, price=worth, text=text))
            return
        out.append(self._books.act(ts, kind, strategy, option.symbol, qty=-qty, text=text))
        shares = qty * option.multiplier * (1 if option.right is Right.CALL else -1)
        out.append(
            self._books.act(
                ts,
                ActivityKind.DELIVERY,
                strategy,
                option.underlying,
                qty=shares,
                cash=-shares * option.strike,
                price=option.strike,
                text=option.symbol,
            )
        )

    def _assign_early(self, action: CorporateAction, ts: int, out: Activities) -> None:
        """Assign short American calls whose holder gains more from the dividend than from the time value left."""
        price = self._prices(action.symbol)
        if not price:
            return
        underlying = exact(price)
        for option in self._options_on(action.symbol):
            worth = option.intrinsic(underlying)
            own = self._prices(option.symbol)
            time_value = ZERO if own is None else max(exact(own) - worth, ZERO)
            if option.right is Right.PUT or not option.american or worth < self._policy.exercise_threshold:
                continue
            if time_value < action.dividend:
                for strategy, qty in self._books.of(option.symbol):
                    if qty < 0:
                        self._settle(option, strategy, qty, underlying, ts, out)

    def _options_on(self, underlying: str) -> list[Option]:
        found = (instrument(symbol) for symbol in self._books.symbols())
        return [option for option in found if type(option) is Option and option.underlying == underlying]

    # ── corporate actions ─────────────────────────────────────────────────────────────────────────────────────────────

    def _apply(self, action: CorporateAction, ts: int, out: Activities, stale: set[str]) -> None:
        if action.dividend:
            if self._policy.early_assignment:
                self._assign_early(action, ts, out)
            text = f"{action.dividend:f} a share"
            for strategy, qty in self._books.of(action.symbol):
                out.append(
                    self._books.act(
                        ts, ActivityKind.DIVIDEND, strategy, action.symbol, cash=qty * action.dividend, text=text
                    )
                )
        if action.ratio != 1:
            stale.add(action.symbol)
            self._split_shares(action, ts, out)
            for option in self._options_on(action.symbol):
                self._split_option(option, action.ratio, ts, out)

    def _split_shares(self, action: CorporateAction, ts: int, out: Activities) -> None:
        symbol, ratio = action.symbol, action.ratio
        for strategy, qty in self._books.of(symbol):
            after = qty * ratio
            text = f"{ratio:f} for 1"
            out.append(
                self._books.act(ts, ActivityKind.SPLIT, strategy, symbol, qty=after - qty, price=ratio, text=text)
            )
            if qty % 1 or not self._policy.cash_in_lieu:
                continue  # fractions were held before: this account may hold them
            whole = after.to_integral_value()
            if abs(after - whole) > SPECK:
                whole = after.to_integral_value(ROUND_FLOOR if after > 0 else "ROUND_CEILING")
                last = self._prices(symbol)
                if not last:
                    continue
                price = (exact(last) / ratio).quantize(CENT)
            else:
                price = ZERO
            if whole != after:
                out.append(
                    self._books.act(
                        ts,
                        ActivityKind.DELIVERY,
                        strategy,
                        symbol,
                        qty=whole - after,
                        cash=(after - whole) * price,
                        price=price,
                        text="cash in lieu of a fraction",
                    )
                )

    def _split_option(self, option: Option, ratio: Decimal, ts: int, out: Activities) -> None:
        own, spot = self._prices(option.symbol), self._prices(option.underlying)
        if own is not None:
            last = exact(own)
        else:
            last = option.intrinsic(exact(spot)) if spot else ZERO
        for strategy, qty in self._books.of(option.symbol):
            if ratio % 1 or ratio < 1:
                text = f"{ratio:f} for 1: no standard contract follows"
                cash = qty * last * option.multiplier
                out.append(
                    self._books.act(
                        ts, ActivityKind.DELIVERY, strategy, option.symbol, qty=-qty, cash=cash, price=last, text=text
                    )
                )
                continue
            strike = (option.strike / ratio).quantize(CENT)
            successor = occ_symbol(option.underlying, option.expiry, option.right, strike)
            text = f"{option.symbol} becomes {successor}, {ratio:f} for 1"
            out.append(
                self._books.act(
                    ts,
                    ActivityKind.SPLIT,
                    strategy,
                    option.symbol,
                    qty=qty * (ratio - ONE),
                    price=ratio,
                    text=text,
                )
            )
            price = last / ratio
            for symbol, change in ((option.symbol, -qty * ratio), (successor, qty * ratio)):
                out.append(
                    self._books.act(ts, ActivityKind.DELIVERY, strategy, symbol, qty=change, price=price, text=text)
                )
