"""Books against the broker: compare a snapshot, and divide what the broker changed among the strategies that own it."""

from __future__ import annotations

from decimal import Decimal

from northstar_core.engine.portfolio import Account
from northstar_core.engine.state import State
from northstar_core.model.events import BreakFound
from northstar_core.model.execution import AccountActivity, ActivityKind, BrokerSnapshot

ZERO = Decimal(0)
UNASSIGNED = "unassigned"  #: the book of what no strategy owns; a person assigns it


def compare(state: State, snapshot: BrokerSnapshot) -> list[BreakFound]:
    """Return every difference between an account's books and its broker's snapshot: cash, positions, open orders."""
    ts, name = snapshot.ts, snapshot.account
    account = state.portfolio.accounts.get(name)
    if account is None:
        return [BreakFound(ts, name, "account", name, "not open", "exists")]
    breaks = []
    if account.cash != snapshot.cash:
        breaks.append(BreakFound(ts, name, "cash", "USD", str(account.cash), str(snapshot.cash)))
    ours = {symbol: line.qty for symbol, line in account.book.lines.items() if line.qty}
    theirs = {held.symbol: held.qty for held in snapshot.positions if held.qty}
    for symbol in sorted(ours.keys() | theirs.keys()):
        if ours.get(symbol, ZERO) != theirs.get(symbol, ZERO):
            breaks.append(
                BreakFound(ts, name, "position", symbol, str(ours.get(symbol, ZERO)), str(theirs.get(symbol, ZERO)))
            )
    working = {key: o.leaves_qty for key, o in state.blotter.working.items() if o.intent.account == name}
    open_orders = {order.order_id: order.leaves_qty for order in snapshot.orders}
    for order_id in sorted(working.keys() | open_orders.keys()):
        if working.get(order_id) != open_orders.get(order_id):
            breaks.append(
                BreakFound(ts, name, "order", order_id, str(working.get(order_id)), str(open_orders.get(order_id)))
            )
    return breaks


def shares(activity: AccountActivity, account: Account, earlier: dict[str, Decimal]) -> list[tuple[str, Decimal, Decimal]]:
    """Divide an account's activity among the strategies it concerns: (strategy, quantity, cash), which sum to the activity's.

    A split or dividend concerns every holder in proportion; what closes a position is taken from its holders in the order of
    their names; delivered shares go where the options were (``earlier``: the strategies' shares of the exercise); anything
    that no strategy owns goes to the unassigned book.
    """
    if activity.strategy:
        return [(activity.strategy, activity.qty, activity.cash)]
    kind, symbol = activity.kind, activity.symbol
    holders = [
        (name, book.lines[symbol].qty)
        for name, book in sorted(account.strategies.items())
        if symbol in book.lines and book.lines[symbol].qty
    ]
    if kind in (ActivityKind.SPLIT, ActivityKind.DIVIDEND):
        return _in_proportion(activity, holders)
    if kind is ActivityKind.DELIVERY and earlier:
        return _in_proportion(activity, sorted(earlier.items()))
    if activity.qty:
        return _closing(activity, holders)
    return _in_proportion(activity, holders[:1])


def _in_proportion(activity: AccountActivity, weights: list[tuple[str, Decimal]]) -> list[tuple[str, Decimal, Decimal]]:
    """Divide by weight; what does not divide evenly goes to the last."""
    total = sum((weight for _, weight in weights), ZERO)
    if not weights or not total:
        return [(UNASSIGNED, activity.qty, activity.cash)]
    parts, qty_left, cash_left = [], activity.qty, activity.cash
    for name, weight in weights[:-1]:
        qty, cash = activity.qty * weight / total, (activity.cash * weight / total).quantize(Decimal("0.01"))
        parts.append((name, qty, cash))
        qty_left, cash_left = qty_left - qty, cash_left - cash
    return [*parts, (weights[-1][0], qty_left, cash_left)]


def _closing(activity: AccountActivity, holders: list[tuple[str, Decimal]]) -> list[tuple[str, Decimal, Decimal]]:
    """Take a closing quantity from its holders in turn; the cash goes with it."""
    parts, left = [], activity.qty
    for name, held in holders:
        if left and (held > 0) != (left > 0):
            taken = left if abs(left) <= abs(held) else -held
            parts.append((name, taken))
            left -= taken
    if left:
        parts.append((UNASSIGNED, left))
    return _in_proportion(activity, parts)
