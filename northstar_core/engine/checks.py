"""The checks: pure functions of a ``Case`` that return a ``Denial`` or None, in the order in which they are asked.

Each is written in the positive form ``pass only if …``, so that NaN fails. Orders that only reduce a position are not asked about
exposure, so that an exit is never refused for what it makes smaller.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from northstar_core.engine.case import Case, opposes
from northstar_core.engine.oms import Order
from northstar_core.model.account import SessionRule, TradingState
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.instrument import Combo, Equity, Option, Right, exact
from northstar_core.model.order import OrderType, PlaceOrder, Side

ZERO = Decimal(0)
BILLION = Decimal(10**9)
R = DenialReason
LIMIT, STOP, STOP_LIMIT = OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT

# ── checks that need no price ─────────────────────────────────────────────────────────────────────────────────────────


def check_unique_id(case: Case) -> Denial | None:
    """Deny an order id that was already used: the same order again is a duplicate, another one a conflict."""
    blotter, order_id = case.state.blotter, case.order.order_id
    known = blotter.orders.get(order_id)
    if known is None:
        return Denial(R.ORDER_ID_DUPLICATE, f"order_id={order_id} was denied before") if order_id in blotter.denied else None
    try:
        same = known.intent == case.order
    except InvalidOperation:  # a signalling NaN is equal to nothing
        same = False
    return Denial(R.ORDER_ID_DUPLICATE if same else R.ORDER_ID_CONFLICT, f"order_id={case.order.order_id}")


def check_fields(case: Case) -> Denial | None:
    """Deny an order whose fields do not fit together, or that trades nothing."""
    order = case.order
    try:
        if (
            order.order_type is OrderType.MARKET
            and order.limit_price is order.stop_price is None
            and ZERO < order.qty < BILLION
            and not order.parent
        ):
            return None
        return _field_denial(case)
    except InvalidOperation:  # NaN does not compare
        return Denial(R.ORDER_FIELDS_INVALID, "the quantity or a price is not a number")


def _field_denial(case: Case) -> Denial | None:
    order = case.order
    kind = order.order_type
    if not ZERO < order.qty < BILLION:
        return Denial(R.ORDER_FIELDS_INVALID, f"qty={order.qty} must be above 0 and below 1e9")
    if (order.limit_price is not None) != (kind is LIMIT or kind is STOP_LIMIT):
        return Denial(R.ORDER_FIELDS_INVALID, f"{kind} with limit_price={order.limit_price}")
    if (order.stop_price is not None) != (kind is STOP or kind is STOP_LIMIT):
        return Denial(R.ORDER_FIELDS_INVALID, f"{kind} with stop_price={order.stop_price}")
    if type(case.instrument) is Combo:
        if order.stop_price is not None:
            return Denial(R.ORDER_FIELDS_INVALID, "a combo takes market and limit orders only")
        if order.limit_price is not None and not -BILLION < order.limit_price < BILLION:
            return Denial(R.ORDER_FIELDS_INVALID, f"limit_price={order.limit_price} must be within 1e9")
    else:
        for price in (order.limit_price, order.stop_price):
            if price is not None and not ZERO < price < BILLION:
                return Denial(R.ORDER_FIELDS_INVALID, f"price={price} must be above 0 and below 1e9")
    return _parent_denial(case) if order.parent else None


def _parent_denial(case: Case) -> Denial | None:
    """An exit is reserved with its entry, so it has to be one: reduce-only, the other way, in the same book and symbol."""
    order = case.order
    entry = case.state.blotter.orders.get(order.parent)
    if entry is None:
        return Denial(R.ORDER_FIELDS_INVALID, f"parent={order.parent} was not submitted")
    intent = entry.intent
    if (intent.strategy, intent.account, intent.symbol) != (order.strategy, order.account, order.symbol) or intent.parent:
        return Denial(R.ORDER_FIELDS_INVALID, f"parent={order.parent} is no entry of {order.strategy} in {order.symbol}")
    if not order.reduce_only or intent.side is order.side:
        return Denial(R.ORDER_FIELDS_INVALID, f"an exit of {order.parent} is reduce-only and on the other side")
    return None


def check_grant(case: Case) -> Denial | None:
    """Deny a strategy that may not trade in this account."""
    if case.seat.grant is not None:
        return None
    return Denial(R.GRANT_MISSING, f"strategy={case.order.strategy} account={case.order.account}")


def check_limits_set(case: Case) -> Denial | None:
    """Deny where a limit that these checks need is not set."""
    return case.seat.unset_option if case.is_option else case.seat.unset_equity


def check_trading_state(case: Case) -> Denial | None:
    """Deny new exposure unless desk, account and strategy may all trade."""
    states, order = case.state.states, case.order
    for scope in ("desk", f"account:{order.account}", f"strategy:{order.strategy}"):
        state = states.get(scope, TradingState.ACTIVE)
        if state in (TradingState.HALTED, TradingState.KILLED):
            return Denial(R.TRADING_HALTED, f"{scope}={state}")
        if state is TradingState.REDUCING and not order.reduce_only:
            return Denial(R.TRADING_REDUCING, f"{scope}={state}: send it as reduce-only")
    return None


def check_universe(case: Case) -> Denial | None:
    """Deny a symbol that the strategy's grant does not list; an option is allowed by its own symbol or its underlying's."""
    grant = case.seat.grant
    allowed = grant.symbols if grant is not None else ()
    if not allowed or case.order.symbol in allowed:
        return None
    for leg in case.instrument.legs:
        traded = leg.instrument
        if traded.symbol not in allowed and (type(traded) is Equity or getattr(traded, "underlying", "") not in allowed):
            return Denial(R.UNIVERSE_NOT_ALLOWED, f"symbol={traded.symbol} universe={','.join(allowed[:8])}")
    return None


def check_session(case: Case) -> Denial | None:
    """Deny an order outside the hours its session rule allows."""
    state, rule = case.state, case.seat.limits.session
    if rule is SessionRule.ALWAYS or rule is SessionRule.QUEUE or state.session_open <= case.order.ts < state.session_close:
        return None
    return Denial(R.SESSION_CLOSED, f"rule={rule}")


def check_symbol_halted(case: Case) -> Denial | None:
    """Deny an order in a symbol whose trading is halted, or in an option on one: options stop with their underlying."""
    halted = case.state.halted
    for leg in case.instrument.legs:
        for symbol in (leg.instrument.symbol, getattr(leg.instrument, "underlying", "")):
            if symbol in halted:
                return Denial(R.SYMBOL_HALTED, f"symbol={symbol}")
    return None


def check_not_expired(case: Case) -> Denial | None:
    """Deny an option whose last session has closed."""
    today, is_open = case.state.today, case.state.session_close
    for leg in case.instrument.legs:
        if type(leg.instrument) is Option:
            last = leg.instrument.expiry.isoformat()
            if last < today or (last == today and not is_open):
                return Denial(R.INSTRUMENT_EXPIRED, f"symbol={leg.instrument.symbol} expiry={last}")
    return None


# ── checks on the numbers ─────────────────────────────────────────────────────────────────────────────────────────────


def check_fresh(case: Case) -> Denial | None:
    """Deny a decision on a price that is older than allowed; the allowance scales with the bar it came from."""
    caps, ts = case.seat.caps, case.order.ts
    age, allowed = ts - case.ref_ts, caps.age_ns + caps.age_bars * case.ref_span
    if 0 <= age <= allowed:
        return None
    if case.seat.limits.session is SessionRule.QUEUE and not case.state.session_open <= ts < case.state.session_close:
        return None  # queued for the next open, where the broker prices it anew
    return Denial(R.PRICE_STALE, f"age_s={age / 1e9:.3f} allowed_s={allowed / 1e9:.3f}")


def check_prices(case: Case) -> Denial | None:
    """Deny a limit price too far from the reference, on the side that could hurt; then one that is no multiple of the tick.

    The room is a fraction of the reference; of a combo, whose net price may be near zero, of the sum of ratio × leg price
    without sign. A buy far below the market or a sell far above it only waits; a stop may lie anywhere, its worst price is what
    counts. Prices are never rounded silently.
    """
    order, collar = case.order, case.seat.limits.collar
    assert collar is not None
    ref = exact(case.ref)
    room = (exact(case.leg_value()) if type(case.instrument) is Combo else ref) * collar
    if order.limit_price is not None and not (order.limit_price - ref) * order.side.sign <= room:
        return Denial(R.PRICE_COLLAR, f"limit_price={order.limit_price} reference={ref} collar={collar}")
    for price in (order.limit_price, order.stop_price):
        if price is not None and price % case.instrument.tick_at(price):
            return Denial(R.TICK_SIZE, f"price={price} tick={case.instrument.tick_at(price)}")
    return None


def check_order_size(case: Case) -> Denial | None:
    """Deny a quantity that is no multiple of the lot, an order that is too large or worth too much, a working order too many."""
    limits, numbers, qty, lot = case.seat.limits, case.verdict, case.qty, case.instrument.lot
    if qty % lot:
        return Denial(R.LOT_SIZE, f"qty={qty} lot={lot}")
    most = limits.max_order_contracts if case.is_option else limits.max_order_qty
    assert most is not None and limits.max_order_value is not None and limits.max_open_orders is not None
    if not qty <= most:
        return Denial(R.ORDER_QTY_CAP, f"qty={qty} cap={most}")
    if not numbers.value <= limits.max_order_value:
        return Denial(R.ORDER_VALUE_CAP, f"value={numbers.value} cap={limits.max_order_value}")
    if not numbers.open_orders < limits.max_open_orders:
        return Denial(R.OPEN_ORDERS_CAP, f"open={numbers.open_orders} cap={limits.max_open_orders}")
    return None


def check_reduce_only(case: Case) -> Denial | None:
    """Deny a reduce-only order that could open or turn a position.

    A bracket exit is judged against its entry; once that has ended, against what is held, its siblings aside.
    """
    order = case.order
    if not order.reduce_only:
        return None
    siblings = ZERO
    if order.parent:
        entry = case.state.blotter.orders[order.parent]
        if not case.qty <= entry.qty:
            return Denial(R.REDUCE_ONLY, f"exit {order.side} {case.qty} against entry {entry.side} {entry.qty}")
        if entry.working:
            return None
        siblings = sum((child.reserved for child in case.state.blotter.children.get(order.parent, ())), ZERO)
    for leg in case.instrument.legs:
        line = case.seat.book.line(leg.instrument.symbol)
        side = order.side if leg.ratio > 0 else order.side.opposite
        pending = (line.buys if side is Side.BUY else line.sells) - siblings * abs(leg.ratio)
        if not (opposes(line.qty, side) and case.qty * abs(leg.ratio) + pending <= abs(line.qty)):
            return Denial(R.REDUCE_ONLY, f"{line.symbol}: position={line.qty} working={pending} order={case.qty}")
    return None


def check_position_qty(case: Case) -> Denial | None:
    """Deny what could make a position larger than allowed, everything working counted; what only reduces passes."""
    order, limits = case.order, case.seat.limits
    cap = limits.max_position_qty
    if not case.is_option and cap is not None and abs(case.after) <= cap:
        return None
    if case.reducing:  # a lowered cap or a split may leave more than allowed: it can be brought down in parts
        return None
    for leg in case.instrument.legs:
        line = case.seat.book.line(leg.instrument.symbol)
        units = case.qty * abs(leg.ratio)
        buying = (order.side is Side.BUY) == (leg.ratio > 0)
        worst = abs(line.qty + line.buys + units) if buying else abs(line.qty - line.sells - units)
        cap = limits.max_position_contracts if type(leg.instrument) is Option else limits.max_position_qty
        assert cap is not None
        if not worst <= cap:
            return Denial(R.POSITION_QTY_CAP, f"symbol={line.symbol} worst={worst} cap={cap}")
    return None


def check_short(case: Case) -> Denial | None:
    """Deny a sale of shares beyond what is held, everything working counted, where shorting is not allowed."""
    for leg in case.instrument.legs:
        if type(leg.instrument) is Equity and (case.order.side is Side.SELL) == (leg.ratio > 0):
            line = case.seat.book.line(leg.instrument.symbol)
            after = line.qty - line.sells - case.qty * abs(leg.ratio)
            if not after >= 0 and not case.order.parent:
                return Denial(R.SHORT_NOT_ALLOWED, f"symbol={line.symbol} worst={after}")
    return None


def check_covered(case: Case) -> Denial | None:
    """Deny options that could end up short without an option of the same kind or shares that cover them.

    Per underlying, expiry and right, contracts bought cover contracts sold; shares held and not for sale cover calls. Positions
    count as they are, each working order as a whole (the legs of a combo fill together) and only where it sells more than it buys.
    """
    book = case.seat.book
    after = _net_by_kind({option: qty for held in book.options.values() for option, qty in held.items()})
    working = {key: found for orders in book.option_orders.values() for key, found in orders.items()}
    for other, _ in working.values():
        legs = {leg.instrument: other.reserved * leg.ratio * other.side.sign for leg in other.instrument.legs}
        for kind, net in _net_by_kind(legs).items():
            after[kind] = after.get(kind, ZERO) + min(net, ZERO)
    own = {leg.instrument: case.qty * leg.ratio * case.order.side.sign for leg in case.instrument.legs}
    for kind, net in _net_by_kind(own).items():
        worst = after.get(kind, ZERO) + net
        underlying, expiry, right = kind
        line = book.lines.get(underlying) if right is Right.CALL else None
        shares = line.qty - line.sells if line is not None else ZERO
        if not worst + shares / 100 >= 0 and net < 0:
            return Denial(R.OPTION_UNCOVERED, f"{underlying} {expiry} {right}: worst={worst}")
    return None


def _net_by_kind(legs: dict[Any, Decimal]) -> dict[tuple[str, Any, Right], Decimal]:
    """Signed contracts by underlying, expiry and right; shares are left out."""
    out: dict[tuple[str, Any, Right], Decimal] = {}
    for option, qty in legs.items():
        if isinstance(option, Option):
            kind = (option.underlying, option.expiry, option.right)
            out[kind] = out.get(kind, ZERO) + qty
    return out


def check_exposure(case: Case) -> Denial | None:
    """Deny an order that would take its strategy or its account over a cap, counting what is already working.

    In this order: the strategy's notional; the account's gross; its net, long or short; one symbol's share of its equity; its
    buying power, equity × leverage. There a buy counts at its worst price: what that lies above the reference is added.
    """
    caps, account, numbers = case.seat.caps, case.seat.account_caps, case.verdict
    gross, equity = numbers.gross, numbers.equity
    if not numbers.notional <= caps.max_notional:
        return Denial(R.STRATEGY_NOTIONAL_CAP, f"notional={numbers.notional:.2f} cap={caps.max_notional:.2f}")
    if not gross <= account.max_gross:
        return Denial(R.ACCOUNT_GROSS_CAP, f"gross={gross:.2f} cap={account.max_gross:.2f}")
    if not numbers.net <= account.max_net:
        return Denial(R.ACCOUNT_NET_CAP, f"net={numbers.net:.2f} cap={account.max_net:.2f}")
    cap = account.max_symbol_share * equity
    if not numbers.symbol_exposure <= cap:
        return Denial(R.SYMBOL_CONCENTRATION_CAP, f"exposure={numbers.symbol_exposure:.2f} cap={cap:.2f}")
    used, power = gross + case.above_reference, account.leverage * equity
    if not used <= power:
        return Denial(R.BUYING_POWER, f"needed={used:.2f} buying_power={power:.2f}")
    return None


def check_rate(case: Case) -> Denial | None:
    """Deny one more order in the window than allowed; nothing is queued."""
    cap, account_cap = case.seat.limits.max_orders, case.seat.account_limits.max_orders
    assert cap is not None and account_cap is not None
    if not case.recent_orders < cap:
        return Denial(R.ORDER_RATE, f"strategy: orders={case.recent_orders} cap={cap} in the window")
    if not case.account_orders < account_cap:
        return Denial(R.ORDER_RATE, f"account: orders={case.account_orders} cap={account_cap} in the window")
    return None


def check_self_match(case: Case) -> Denial | None:
    """Deny an order that could trade against an own resting order of the account."""
    order, state = case.order, case.state
    line = case.seat.account.book.lines.get(order.symbol)
    if line is not None and not (line.sells if order.side is Side.BUY else line.buys):
        return None
    if line is None and type(case.instrument) is not Combo:
        return None
    for other in state.blotter.working.values():
        resting = other.intent
        if resting.symbol != order.symbol or resting.account != order.account or resting.side is order.side or resting.parent:
            continue
        if _crosses(order, other):
            return Denial(R.SELF_MATCH, f"resting={resting.order_id} {resting.side} @ {other.limit_price}")
    return None


def _crosses(order: PlaceOrder, other: Order) -> bool:
    """Whether two opposite orders could meet; a market order meets everything, a stop is a market order in waiting."""
    if order.parent or order.limit_price is None or other.limit_price is None:
        return not order.parent
    if order.side is Side.BUY:
        return order.limit_price >= other.limit_price
    return order.limit_price <= other.limit_price


def before_price(case: Case) -> Denial | None:
    """Ask everything that needs no price, in this order; a check only where there is something it could deny."""
    state = case.state
    if denial := check_fields(case) or check_limits_set(case):
        return denial
    if state.states and (denial := check_trading_state(case)):
        return denial
    if denial := check_universe(case):
        return denial
    if case.is_option and (denial := check_not_expired(case)):
        return denial
    if denial := check_session(case):
        return denial
    return check_symbol_halted(case) if state.halted else None


def on_numbers(case: Case) -> Denial | None:
    """Ask everything about the order's numbers, in this order; a check only where there is something it could deny."""
    order, limits = case.order, case.seat.limits
    if denial := check_fresh(case):
        return denial
    if (order.limit_price is not None or order.stop_price is not None) and (denial := check_prices(case)):
        return denial
    if denial := check_order_size(case):
        return denial
    if denial := check_reduce_only(case) or check_position_qty(case):
        return denial
    if not limits.allow_short and (denial := check_short(case)):
        return denial
    if case.is_option and not limits.allow_uncovered and (denial := check_covered(case)):
        return denial
    if not case.reducing and (denial := check_exposure(case)):
        return denial
    return check_rate(case) or check_self_match(case)
