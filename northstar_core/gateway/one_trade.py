"""A limit of one active trade a strategy: no new entry while a position or an entry order is open."""

from __future__ import annotations

from northstar_core.engine.state import State
from northstar_core.gateway.settings import Settings
from northstar_core.model.denial import Denial, DenialReason
from northstar_core.model.order import PlaceOrder


class OneTrade:
    """A risk rule, for the strategies whose grant asks for it. Orders that only reduce pass."""

    name = "one trade"

    def __init__(self, strategies: frozenset[tuple[str, str]]) -> None:
        self._strategies = strategies

    @classmethod
    def of(cls, settings: Settings) -> tuple[OneTrade, ...]:
        """Return the rule a configuration asks for; none where no grant does."""
        from northstar_core.gateway.gateway import desk_names

        names = desk_names(settings)
        bound = frozenset((names[g.strategy, g.account], g.account) for g in settings.grants if g.one_trade)
        return (cls(bound),) if bound else ()

    def check(self, order: PlaceOrder, state: State) -> PlaceOrder | Denial | None:
        """Refuse an entry while another trade of the strategy is open."""
        key = (order.strategy, order.account)
        if key not in self._strategies or order.reduce_only or order.parent or order.account not in state.portfolio.accounts:
            return None
        book = state.portfolio.accounts[order.account].strategies.get(order.strategy)
        held = [line.symbol for line in book.lines.values() if line.qty] if book is not None else []
        signed = order.qty if order.side.sign > 0 else -order.qty
        if held:
            line = None if book is None else book.lines.get(order.symbol)
            reduces = line is not None and line.qty and (line.qty > 0) != (signed > 0) and abs(signed) <= abs(line.qty)
            if not (reduces and held == [order.symbol]):
                return Denial(DenialReason.RULE_BLOCKED, f"one trade at a time: {', '.join(held[:3])} is open")
        working = [o for o in state.blotter.working.values() if (o.intent.strategy, o.intent.account) == key and not o.intent.parent]
        if working and not held:
            return Denial(DenialReason.RULE_BLOCKED, f"one trade at a time: order {working[0].order_id} works")
        return None
