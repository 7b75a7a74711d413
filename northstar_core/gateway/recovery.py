"""Standing where the last gateway stood: the desk's events are folded, nothing is decided again."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from northstar_core.gateway.desk import Desk
from northstar_core.gateway.ledger import Ledger
from northstar_core.model import events as e
from northstar_core.model.execution import AccountActivity
from northstar_core.model.order import PlaceOrder
from northstar_core.model.world import SessionBegan, SessionLost, StateKept


class Recovery:
    """Folds stored events into a desk and its ledger."""

    def __init__(self, desk: Desk, ledger: Ledger) -> None:
        self.desk, self.ledger = desk, ledger
        self.events = 0
        self.sessions: dict[str, SessionBegan] = {}  #: last session of each strategy
        self.open: dict[str, SessionBegan] = {}  #: sessions that have not ended
        self.lost: dict[str, SessionLost] = {}  #: whose session was lost and has not begun again
        self.timers: dict[tuple[str, str], list[tuple[e.SetTimer, int]]] = {}  #: not fired yet
        self.states: dict[str, dict[str, Any]] = {}  #: what strategies kept
        self.last_execution: dict[str, int] = {}  #: by account, ns UTC

    async def read(self, events: AsyncIterable[tuple[int, e.Event]]) -> None:
        """Fold events in their order."""
        async for seq, event in events:
            self.apply(seq, event)

    def apply(self, seq: int, event: e.Event) -> None:
        """Fold one event."""
        desk = self.desk
        kind: Any = type(event)
        self.events += 1
        desk.engine.restore((event,))
        self.ledger.apply(event)
        if isinstance(event, e.OrderSubmitted):
            desk._submits[event.order.order_id] = seq
            self._numbered(event.order.strategy, event.order.order_id)
        elif isinstance(event, e.OrderDenied):
            self._numbered(event.strategy, event.order_id)
        elif kind is e.CancelSubmitted or kind is e.ReplaceSubmitted:
            desk._submits[event.order_id] = seq  # type: ignore[union-attr]
        elif kind is PlaceOrder or kind is e.Signal or kind is e.NoSignal:
            session = self.sessions.get(event.strategy)  # type: ignore[union-attr]
            if session is not None:
                self.ledger.count(event, session.session)
            if kind is e.Signal:
                desk._signals.setdefault(event.strategy, {})[event.n] = seq  # type: ignore[union-attr]
        elif kind is SessionBegan:
            assert isinstance(event, SessionBegan)
            if (before := self.sessions.get(event.strategy)) is None or before.session != event.session:
                desk._signals.pop(event.strategy, None)
            self.sessions[event.strategy] = self.open[event.strategy] = event
            self.lost.pop(event.strategy, None)
        elif kind is e.StrategyStopped:
            assert isinstance(event, e.StrategyStopped)
            self.open.pop(event.strategy, None)
        elif isinstance(event, SessionLost):
            self.lost[event.strategy] = event
        elif isinstance(event, StateKept):
            self.states[event.strategy] = event.state
        elif kind is e.SetTimer:
            assert isinstance(event, e.SetTimer)
            self.timers.setdefault((event.strategy, event.name), []).append((event, seq))
        elif kind is e.TimerFired:
            assert isinstance(event, e.TimerFired)
            if waiting := self.timers.get((event.strategy, event.name)):
                waiting.remove(min(waiting, key=lambda timer: timer[0].at))
        elif isinstance(event, e.OrderFilled):
            self._executed(event.account, event.ts)
        elif isinstance(event, AccountActivity):
            self._executed(event.account, event.ts)

    def _numbered(self, strategy: str, order_id: str) -> None:
        """Take note of the counter in an order's id, also of orders that no session made: by hand, by the gateway."""
        head, _, n = order_id.rpartition("-")
        session = head.rpartition("-")[2]
        if n.isdigit() and int(n) > self.ledger.numbers.get((strategy, session), 0):
            self.ledger.numbers[strategy, session] = int(n)

    def _executed(self, account: str, ts: int) -> None:
        self.last_execution[account] = max(self.last_execution.get(account, 0), ts)
