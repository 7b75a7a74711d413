"""Pre-trade risk: an ordered staircase of checks; the first refusal stands.

There is no bypass: strategies, tickets and flattening all come through ``assess``. Cancels do not: they are never denied by risk.

The *worst price* an order is valued at: a limit price where there is one; else the stop price; else the reference made worse by
the ``market_reserve`` limit. Combos are referenced at the sum of ratio × leg mark.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from northstar_core.engine.case import Case
from northstar_core.engine.checks import before_price, check_fields, check_grant, check_unique_id, on_numbers
from northstar_core.engine.state import State
from northstar_core.model.account import Verdict
from northstar_core.model.denial import SENTENCES, Denial, DenialReason
from northstar_core.model.errors import DataError
from northstar_core.model.instrument import Combo, Equity, instrument
from northstar_core.model.order import PlaceOrder

R = DenialReason


class Rule(Protocol):
    """A plugged-in risk rule: may approve, modify or block, before the built-in checks judge the order.

    It sees new orders, and replaces as the order that would be left (id ``…#replace``), each with fields that fit together.
    """

    name: str

    def check(self, order: PlaceOrder, state: State) -> PlaceOrder | Denial | None:
        """Return None to approve, another order to modify (recorded), or a denial to block."""


def assess(order: PlaceOrder, state: State, rules: tuple[Rule, ...] = ()) -> tuple[PlaceOrder, Verdict | None, Denial | None]:
    """Judge an order: the order as it may go out, the numbers (where it got that far) and the refusal, if any."""
    case = Case(order, state)
    if denial := check_unique_id(case) or check_grant(case):
        return order, None, denial
    if rules:
        if denial := _prepare(case) or check_fields(case):
            return order, None, denial  # a rule sees only orders that make sense
        changed: list[str] = []
        for rule in rules:
            outcome = rule.check(order, state)
            if isinstance(outcome, Denial):
                return order, None, Denial(R.RULE_BLOCKED, f"{rule.name}: {outcome.detail}", outcome.passes_at)
            if outcome is not None and outcome != order:
                changed.append(f"{rule.name}: {_changes(order, outcome)}")
                if (outcome.order_id, outcome.strategy, outcome.account) != (order.order_id, order.strategy, order.account):
                    return order, None, Denial(R.RULE_BLOCKED, f"{changed[-1]}: a rule may not change whose order it is")
                order = outcome
        case = Case(order, state)
        case.rules = tuple(changed)
    if denial := _prepare(case) or before_price(case) or case.price():
        return order, None, denial
    case.measure(order.qty)
    if denial := on_numbers(case):
        verdict = case.verdict
        return order, verdict, Denial(denial.reason, denial.detail, _passes_at(case))
    return order, case.verdict, None


def _changes(before: PlaceOrder, after: PlaceOrder) -> str:
    """What a rule changed, field by field."""
    return ", ".join(
        f"{field} {old} -> {new}"
        for field in before.__struct_fields__
        if (old := getattr(before, field)) != (new := getattr(after, field))
    )


def _prepare(case: Case) -> Denial | None:
    """Look up everything the checks will read."""
    order, state, seat = case.order, case.state, case.seat
    try:
        traded = instrument(order.symbol)
    except DataError as error:
        return Denial(R.ORDER_FIELDS_INVALID, str(error))
    if seat.missing is not None:
        return seat.missing
    case.instrument = traded
    case.is_option = type(traded) is not Equity
    case.line = seat.book.line(order.symbol if type(traded) is not Combo else traded.legs[0].instrument.symbol)
    case.recent_orders = seat.rate.count(order.ts, seat.caps.window_ns)
    case.account_orders = seat.account_rate.count(order.ts, seat.account_caps.window_ns)
    working = state.blotter.working
    case.open_orders = len(working)
    if working and len(state.caps) > 2:
        case.open_orders = sum(1 for o in working.values() if o.intent.strategy == order.strategy)
    return None


def _passes_at(case: Case) -> Decimal | None:
    """Return the largest quantity below the asked one that passes every check, by bisection over lots; None if none does."""
    lot, asked = case.instrument.lot, case.qty

    def passes(lots: int) -> bool:
        case.measure(lots * lot)
        return on_numbers(case) is None

    low, high = 0, int(asked // lot)
    if high * lot < asked:
        high += 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low * lot if low else None


def sentence(denial: Denial) -> str:
    """Return a refusal as a person reads it: its sentence, its numbers and the quantity that would have passed."""
    tail = f"; would have passed at quantity {denial.passes_at}" if denial.passes_at else ""
    numbers = f" ({denial.detail})" if denial.detail else ""
    return f"{denial.reason}: {SENTENCES[denial.reason]}{numbers}{tail}"
