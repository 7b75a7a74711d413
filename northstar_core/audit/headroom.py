"""A decision explained: every check with its number, its limit and the room left, by the auditor's own arithmetic."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from northstar_core.audit.books import ZERO
from northstar_core.audit.fold import Fold
from northstar_core.audit.judged import Judged, account_caps, collar_basis, freshness_allowed
from northstar_core.audit.words import clock, number
from northstar_core.model.account import SessionRule, TradingState, Verdict
from northstar_core.model.denial import DenialReason
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Equity, Option, exact, instrument
from northstar_core.model.order import OrderType, PlaceOrder

R = DenialReason
Number = Decimal | float | int


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one decision."""

    reason: str  #: the code of its refusal
    name: str
    outcome: str  #: "passed", "refused", "exempt", "not reached"
    value: str = ""
    limit: str = ""
    headroom: str = ""  #: limit less value; negative: by how much it was exceeded

    def line(self) -> str:
        """Return it as one line of text."""
        numbers = "  ".join(
            f"{word} {value}"
            for word, value in (("is", self.value), ("limit", self.limit), ("room", self.headroom))
            if value
        )
        return f"{self.outcome:11} {self.name:24} {numbers}".rstrip()


def checks_of(
    fold: Fold,
    order: PlaceOrder,
    verdict: Verdict | None,
    refused: DenialReason | None,
    states: dict[str, TradingState],
    detail: str = "",
) -> list[Check]:
    """Return every check of a decision, in the order in which they are asked.

    Parameters
    ----------
    fold
        The log up to the decision, without it.
    order, verdict
        What was judged, and the numbers on record; None where the decision did not get that far.
    refused
        The code of the refusal; None for an accepted order.
    states
        Trading states in force by scope.
    detail
        The refusal's own words.
    """
    staircase = _before_price(fold, order, states)
    try:
        traded = instrument(order.symbol)
    except DataError:
        traded = None
    if verdict is not None and traded is not None:
        staircase += _on_numbers(fold, Judged(fold, order, verdict, traded, 0))
    if refused is None:
        return staircase
    out: list[Check] = []
    reached = True
    for check in staircase:
        if check.reason == refused and reached:
            words = {} if check.value or not detail else {"value": detail}
            out.append(msgspec.structs.replace(check, outcome="refused", **words))
            reached = False
        else:
            out.append(check if reached else msgspec.structs.replace(check, outcome="not reached"))
    if reached:
        out.append(Check(reason=refused, name=refused.lower().replace("_", " "), outcome="refused", value=detail))
    return out


def _check(reason: DenialReason, name: str, value: object = "", limit: object = "", headroom: object = "") -> Check:
    return Check(
        reason=reason, name=name, outcome="passed", value=number(value), limit=number(limit), headroom=number(headroom)
    )


def _capped(reason: DenialReason, name: str, value: Number, cap: Number | None) -> Check:
    """A value that must not exceed its cap."""
    if cap is None:
        return _check(reason, name, value, "not set")
    room = _exact(cap) - _exact(value)
    return _check(reason, name, value, cap, room)


def _exact(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else exact(value)


def _below(reason: DenialReason, name: str, value: int, cap: int | None) -> Check:
    """A count that must stay below its cap before this order."""
    return _check(reason, name, value, "not set" if cap is None else cap, "" if cap is None else cap - 1 - value)


def _before_price(fold: Fold, order: PlaceOrder, states: dict[str, TradingState]) -> list[Check]:
    scopes = ("desk", f"account:{order.account}", f"strategy:{order.strategy}")
    granted = fold.grants.get((order.strategy, order.account))
    universe = "no grant" if granted is None else ",".join(granted[:8]) or "every symbol"
    limits = fold.strategy_limits.get(scopes[2])
    known = fold.known(order.order_id)
    hours = f"{clock(fold.session_open)} to {clock(fold.session_close)}" if fold.session_close else "closed"
    return [
        _check(
            R.ORDER_ID_DUPLICATE,
            "order id",
            order.order_id,
            "used once",
            "" if known is None else f"used at seq {known.seq}",
        ),
        _check(
            R.ORDER_ID_CONFLICT,
            "order id's content",
            "the first use" if known is None else f"compared with seq {known.seq}",
        ),
        _check(
            R.GRANT_MISSING,
            "grant",
            f"{order.strategy} in {order.account}",
            "granted" if granted is not None else "none",
        ),
        _check(R.ORDER_FIELDS_INVALID, "fields", f"{order.order_type} {order.qty}"),
        _check(
            R.LIMIT_MISSING,
            "limits set",
            fold.limit_names.get(scopes[2], "none"),
            fold.limit_names.get(scopes[1], "none"),
        ),
        _check(
            R.TRADING_HALTED, "trading state", ", ".join(f"{s} {states.get(s, TradingState.ACTIVE)}" for s in scopes)
        ),
        _check(R.TRADING_REDUCING, "reducing only", "reduce-only order" if order.reduce_only else "ordinary order"),
        _check(R.UNIVERSE_NOT_ALLOWED, "universe", order.symbol, universe),
        _check(R.INSTRUMENT_EXPIRED, "expiry", _expiry(order.symbol), fold.today),
        _check(
            R.SESSION_CLOSED, "session", clock(order.ts), f"{hours}, rule {limits.session if limits else 'not set'}"
        ),
        _check(R.SYMBOL_HALTED, "halt", order.symbol),
    ]


def _on_numbers(fold: Fold, case: Judged) -> list[Check]:
    order, verdict, limits = case.order, case.verdict, case.limits
    out = [_check(R.PRICE_MISSING, "price", verdict.ref)]
    if limits is None:
        return out
    age, allowed = order.ts - verdict.ref_ts, freshness_allowed(limits, verdict)
    fresh = _capped(R.PRICE_STALE, "price age, s", age / 1e9, None if allowed is None else allowed / 1e9)
    queued = limits.session is SessionRule.QUEUE and not fold.session_open <= order.ts < fold.session_close
    out.append(_exempt(fresh, queued and allowed is not None and age > allowed))
    out.append(_collar(case))
    for price in (order.limit_price, order.stop_price):
        if price is not None:
            out.append(_check(R.TICK_SIZE, "tick", price, case.traded.tick_at(price)))
    out.append(_check(R.LOT_SIZE, "lot", order.qty, case.traded.lot))
    units = "contracts" if case.is_option else "shares"
    cap = limits.max_order_contracts if case.is_option else limits.max_order_qty
    out.append(_capped(R.ORDER_QTY_CAP, f"order quantity, {units}", order.qty, cap))
    out.append(
        _capped(
            R.ORDER_VALUE_CAP, f"order value at {number(verdict.worst_price)}", verdict.value, limits.max_order_value
        )
    )
    out.append(_below(R.OPEN_ORDERS_CAP, "open orders", verdict.open_orders, limits.max_open_orders))
    out.append(_check(R.REDUCE_ONLY, "reduce only", "asked for" if order.reduce_only else "not asked for"))
    out += _positions(case)
    out += _exposures(case)
    out.append(_below(R.ORDER_RATE, "orders in the window", verdict.recent_orders, limits.max_orders))
    account = case.account_limits
    out.append(
        _below(
            R.ORDER_RATE, "account's orders", verdict.account_orders, None if account is None else account.max_orders
        )
    )
    out.append(_self_match(fold, order))
    return out


def _collar(case: Judged) -> Check:
    order, ref = case.order, exact(case.verdict.ref)
    collar = case.limits.collar if case.limits is not None else None
    if order.limit_price is None:
        return _check(R.PRICE_COLLAR, "collar", "no limit price")
    away = (order.limit_price - ref) * order.side.sign
    return _capped(
        R.PRICE_COLLAR,
        f"beyond {number(ref)}",
        away,
        None if collar is None else collar_basis(case.traded, case.verdict) * collar,
    )


def _positions(case: Judged) -> list[Check]:
    out = []
    order, limits = case.order, case.limits
    assert limits is not None
    for leg, state in zip(case.traded.legs, case.verdict.legs, strict=False):
        signed = order.qty * leg.ratio * order.side.sign
        worst = state.position + state.buys + signed if signed > 0 else state.position - state.sells + signed
        is_option = isinstance(leg.instrument, Option)
        cap = limits.max_position_contracts if is_option else limits.max_position_qty
        out.append(_capped(R.POSITION_QTY_CAP, f"worst case of {state.symbol}", abs(worst), cap))
        if isinstance(leg.instrument, Equity) and signed < 0:
            short = _check(R.SHORT_NOT_ALLOWED, "worst case short", worst, f"allow_short {limits.allow_short}")
            out.append(_exempt(short, worst < 0 and bool(order.parent) and not limits.allow_short))
        elif is_option and signed < 0:
            out.append(
                _check(R.OPTION_UNCOVERED, "worst case written", worst, f"allow_uncovered {limits.allow_uncovered}")
            )
    return out


def _exposures(case: Judged) -> list[Check]:
    verdict, limits = case.verdict, case.limits
    assert limits is not None
    rows = [(R.STRATEGY_NOTIONAL_CAP, "strategy's notional", verdict.notional, limits.max_notional)]
    codes = (R.ACCOUNT_GROSS_CAP, R.ACCOUNT_NET_CAP, R.SYMBOL_CONCENTRATION_CAP, R.BUYING_POWER)
    caps = account_caps(case, verdict.gross, verdict.net, verdict.symbol_exposure, verdict.equity, case.account_limits)
    out = [_capped(*rows[0])]
    out += [
        _capped(code, f"account's {name}", value, cap) for code, (name, value, cap) in zip(codes, caps, strict=True)
    ]
    try:
        reducing = case.reducing(case.notional())
    except KeyError:
        reducing = False
    return [_exempt(check, reducing and check.headroom.startswith("-")) for check in out]


def _self_match(fold: Fold, order: PlaceOrder) -> Check:
    against = [
        other
        for other in fold.open.values()
        if other.symbol == order.symbol
        and other.account == order.account
        and other.side is not order.side
        and not other.parent
        and other.id != order.order_id
    ]
    if not against:
        return _check(R.SELF_MATCH, "own resting orders", "none on the other side")
    nearest = min(against, key=lambda other: (other.limit or ZERO) * other.side.opposite.sign)
    price = "at the market" if order.order_type in (OrderType.MARKET, OrderType.STOP) else f"at {order.limit_price}"
    return _check(
        R.SELF_MATCH, "own resting orders", f"{order.side} {price}", f"{nearest.id} {nearest.side} at {nearest.limit}"
    )


def _exempt(check: Check, exempt: bool) -> Check:
    return msgspec.structs.replace(check, outcome="exempt") if exempt else check


def _expiry(symbol: str) -> str:
    try:
        legs = instrument(symbol).legs
    except DataError:
        return ""
    dates = [leg.instrument.expiry.isoformat() for leg in legs if isinstance(leg.instrument, Option)]
    return min(dates) if dates else "none"
