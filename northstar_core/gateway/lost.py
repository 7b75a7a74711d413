"""What is done for a strategy that cannot speak for itself: its orders cancelled, its positions closed, through the order path like any."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from northstar_core.gateway.desk import Desk
from northstar_core.gateway.ledger import Ledger
from northstar_core.model import events as e
from northstar_core.model.denial import SENTENCES
from northstar_core.model.denial import DenialReason as R
from northstar_core.model.instrument import Instrument, Option, instrument
from northstar_core.model.order import CancelOrder, OrderStatus, PlaceOrder, Side
from northstar_core.model.ports import Clock

AGAIN_S = 1.0  #: wall seconds before what had no effect is tried again; doubles up to …
AT_MOST_S = 30.0
TRIES = 6  #: to close positions: after that a person has to
#: refusals that pass by themselves: a price comes, a halt is lifted, a window of time moves on
PASSING = frozenset({R.PRICE_MISSING, R.PRICE_STALE, R.SYMBOL_HALTED, R.ORDER_RATE, R.OPEN_ORDERS_CAP})


class Duty:
    """What remains to be done for one strategy in one account."""

    def __init__(self, session: str, reason: str, flatten: bool, cause: int) -> None:
        self.session, self.reason, self.flatten = session, reason, flatten
        self.cause = cause  #: number of what it follows from
        self.tries = 0
        self._due: dict[str, float] = {}  #: by deed: not before, monotonic
        self._pause: dict[str, float] = {}
        self.closing: set[str] = set()  #: ids of the orders that close
        self.denied: list[e.OrderDenied] = []  #: of these, what was refused here at the last try
        self.told = False

    def due(self, deed: str) -> bool:
        """Whether a deed may be done now; if so, the next time is later."""
        now = time.monotonic()
        if now < self._due.get(deed, 0.0):
            return False
        pause = self._pause.get(deed, AGAIN_S)
        self._due[deed], self._pause[deed] = now + pause, min(pause * 2, AT_MOST_S)
        return True


class Stewards:
    """Looks after strategies whose session is lost, and after orders that grew too old.

    A cancel that is refused, or an order to close that is rejected, is tried again after a pause: a broker that is down comes back.

    Parameters
    ----------
    want
        Subscribes what an order of an instrument in an account is priced by.
    """

    def __init__(self, desk: Desk, ledger: Ledger, clock: Clock, want: Callable[[str, Instrument], None]) -> None:
        self.desk, self.ledger, self.clock, self._want = desk, ledger, clock, want
        desk.on_fact.append(self._noticed)
        self._duties: dict[tuple[str, str], Duty] = {}  #: by account and strategy

    def cancel(self, account: str, strategy: str, reason: str, cause: int = 0) -> None:
        """Cancel what a strategy has working; ``cause`` is the number of what this follows from."""
        self._duties[account, strategy] = Duty("", reason, flatten=False, cause=cause or self.desk.log.seq)
        self.tend()

    def flatten(self, account: str, strategy: str, session: str, reason: str, cause: int = 0) -> None:
        """Cancel what a strategy has working, then close what it holds once nothing works any more."""
        self._duties[account, strategy] = Duty(session, reason, flatten=True, cause=cause or self.desk.log.seq)
        self.tend()

    def forget(self, account: str, strategy: str) -> None:
        """The strategy is back: it looks after itself."""
        self._duties.pop((account, strategy), None)

    def tend(self) -> None:
        """Do what can be done now; called whenever an order moved, and once in a while."""
        for (account, strategy), duty in list(self._duties.items()):
            if self._reachable(account) and self._done(account, strategy, duty):
                self._duties.pop((account, strategy), None)

    def _noticed(self, seq: int, fact: Any) -> None:
        if type(fact) is e.OrderDenied and (duty := self._duties.get((fact.account, fact.strategy))) is not None:
            if fact.order_id in duty.closing:
                duty.denied.append(fact)

    def _reachable(self, account: str) -> bool:
        dispatcher = self.desk.dispatchers.get(account)
        return dispatcher is not None and not dispatcher.refusal(None)

    def _done(self, account: str, strategy: str, duty: Duty) -> bool:
        """Do what a duty asks for; whether nothing is left of it."""
        working = self.desk.working(account, strategy)
        if working:
            others = [order for order in working if order.order_id not in duty.closing]
            if others and duty.due("cancel"):
                for order in others:
                    self._cancel(order, duty.reason, duty.cause)
            return False
        held = [p for p in self.ledger.of(account, strategy).positions.values() if p.qty]
        if not (duty.flatten and held):
            return True
        if duty.tries >= TRIES:
            return self._give_up(account, strategy, f"{TRIES} times the orders came to nothing")
        if not duty.due("close"):
            return False
        duty.denied.clear()
        # options first: a short option is covered before the shares that cover it go
        for position in sorted(held, key=lambda p: (not isinstance(instrument(p.symbol), Option), p.qty > 0)):
            order_id = self._next_id(strategy, duty.session)
            duty.closing.add(order_id)
            self._want(account, instrument(position.symbol))
            side = Side.SELL if position.qty > 0 else Side.BUY
            now = self.clock.now()
            self.desk.asked(
                PlaceOrder(now, order_id, strategy, account, position.symbol, side, abs(position.qty), reduce_only=True), duty.cause
            )
        if duty.denied and all(denied.reason in PASSING for denied in duty.denied):
            if not duty.told:
                duty.told = True
                self.desk.alert("warning", strategy, f"{account}: not flattened yet: {_words(duty.denied[0])}; it is tried again")
            return False
        duty.tries += 1
        if duty.denied and not self.desk.working(account, strategy):
            return self._give_up(account, strategy, _words(duty.denied[0]))
        return False

    def _give_up(self, account: str, strategy: str, why: str) -> bool:
        self.desk.alert("critical", strategy, f"{account}: not flattened: {why}; close by hand")
        return True

    def cancel_older(self, account: str, strategy: str, age_s: float) -> int:
        """Cancel a strategy's orders that have worked longer than this; returns how many."""
        if not self._reachable(account):
            return 0
        before = self.clock.now() - int(age_s * 1e9)
        old = [
            order
            for order in self.desk.working(account, strategy)
            if order.intent.ts < before and not order.intent.parent and order.status is not OrderStatus.PENDING_CANCEL
        ]
        for order in old:
            self._cancel(order, f"older than {age_s:g} s", self.desk.log.seq)
        return len(old)

    def _cancel(self, order: Any, reason: str, cause: int) -> None:
        intent = order.intent
        if order.status is not OrderStatus.PENDING_CANCEL:
            cancel = CancelOrder(self.clock.now(), intent.order_id, intent.strategy, intent.account, reason[:200])
            self.desk.asked(cancel, cause)

    def _next_id(self, strategy: str, session: str) -> str:
        """The next id of the strategy's own series: whoever comes back goes on behind it."""
        key = (strategy, session)
        n = self.ledger.numbers[key] = self.ledger.numbers.get(key, 0) + 1
        return f"{strategy}-{session}-{n}"


def _words(denied: e.OrderDenied) -> str:
    return f"{denied.reason}: {SENTENCES[denied.reason]} ({denied.detail})"
