"""Re-derive what a desk's strategies decided: each session is fed again what it was given, and what it asks for is compared.

The strategy gets the events it got then, under the numbers they had, from the log and its stored ticks: bars from before the session,
market events it listened to less those it was not given, its own facts, sessions, timers. What it asks for must be what was recorded.
The time of an order is not compared: the gateway writes the time at which it judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, get_args

import msgspec

from northstar_core.model import events as e
from northstar_core.model.errors import StrategyError
from northstar_core.model.market import Bar, Halt, Quote, Trade
from northstar_core.model.order import CancelOrder, PlaceOrder, ReplaceOrder
from northstar_core.model.wants import Wants
from northstar_core.model.world import BarsGiven, GatewayStarted, SessionBegan, SessionLost, StopRequested, TicksSkipped
from northstar_core.research.replay import Difference
from northstar_core.strategy.base import Strategy
from northstar_core.strategy.seat import FedSeat

MARKET = (Bar, Quote, Trade, Halt)
ASKED = (PlaceOrder, ReplaceOrder, CancelOrder, e.SetTimer, e.Signal, e.NoSignal)
#: What a strategy is told of itself.
TOLD = (*get_args(e.OrderFact), e.PositionAdjusted, e.GrantChanged, e.TimerFired, e.StrategyStarted, StopRequested)

Make = Callable[[SessionBegan], Strategy]


class SessionComparison(msgspec.Struct, kw_only=True):
    """How one session's replay compares with its record."""

    strategy: str
    account: str
    session: str
    signals: int = 0  #: compared and equal, decision records with and without a signal
    intents: int = 0
    differences: list[Difference] = []

    @property
    def identical(self) -> bool:
        """Whether everything was asked for again, and nothing else."""
        return not self.differences


class _Running:
    """A session while it is replayed."""

    def __init__(self, began: SessionBegan, seq: int, strategy: Strategy) -> None:
        self.began = began
        self.wants = Wants(began.symbols, began.options_on, quotes=began.quotes, trades=began.trades, bar_ns=began.bar_ns)
        self.seat = FedSeat(strategy, began, seq)
        self.result = SessionComparison(strategy=began.strategy, account=began.account, session=began.session, differences=[])
        self.recorded: list[tuple[int, Any]] = []
        self.asked: list[tuple[int, Any]] = []
        self.failed = ""
        self.handled = -1  #: of a session that was lost: what it certainly saw; -1 for one that ended in order

    def give(self, seq: int, event: Any) -> None:
        """Feed an event; what follows from it is asked at it."""
        if self.failed:
            return
        try:
            asked = self.seat.take([(seq, event)])
        except StrategyError as error:
            asked, self.failed = self.seat.asked, str(error)
        self.asked.extend((seq, message) for message in asked)

    def end(self) -> SessionComparison:
        """Compare what was recorded with what was asked again."""
        result = self.result
        ours, theirs = iter(self.recorded), iter(self.asked)
        while True:
            one, other = next(ours, None), next(theirs, None)
            if one is None and other is None:
                break
            if one is None and other is not None and 0 <= self.handled < other[0]:
                continue  # the kernel was gone before it could say so
            left = None if one is None else _plain(one[1])
            right = None if other is None else _plain(other[1])
            if left != right:
                seq = (one or other or (0, None))[0]
                result.differences.append(Difference(seq, _text(one), _text(other)))
                continue
            if isinstance(one[1], e.Signal | e.NoSignal):  # type: ignore[index]
                result.signals += 1
            else:
                result.intents += 1
        return result


class DeskReplay:
    """Replays every session in a desk's log, or one strategy's; takes the log number by number.

    Parameters
    ----------
    make
        Makes the strategy of a session: the code as it is now, with the parameters of then. What it raises comes out of ``feed``.
    strategy
        A name on the desk; empty for all.
    skipped
        Numbers a session was not given (``skipped_in``), by strategy and account.
    """

    def __init__(
        self, make: Make, *, strategy: str = "", skipped: dict[tuple[str, str], set[int]] | None = None
    ) -> None:
        self.make, self.strategy, self.skipped = make, strategy, skipped or {}
        self._running: dict[str, _Running] = {}
        self._ended: list[_Running] = []
        self._last: dict[str, _Running] = {}  #: of each strategy, the session that ended last

    def feed(self, seq: int, event: Any) -> None:
        """Take the next event or tick of the log."""
        running, kind = self._running, type(event)
        if kind in MARKET:
            for session in running.values():
                wants = session.wants
                if wants.listens(event.symbol) and wants.hears(event) and not self._is_skipped(session, seq):
                    session.give(seq, event)
        elif kind in ASKED:
            if (found := running.get(event.strategy)) is not None and _is_own(event):
                found.recorded.append((seq, event))
        elif kind is SessionBegan:
            if not self.strategy or event.strategy == self.strategy:
                self._end(event.strategy)
                running[event.strategy] = _Running(event, seq, self.make(event))
        elif kind is BarsGiven:
            if (found := running.get(event.strategy)) is not None:
                found.seat.before(event.bars)
                for bar in event.bars:
                    found.wants.last_bar[bar.symbol] = bar.start
        elif kind is e.SessionOpened or kind is e.SessionClosed:
            for session in running.values():
                session.give(seq, event)
        elif kind is GatewayStarted:
            for name, session in list(running.items()):  # it was gone without a word, and its sessions with it
                session.handled = max(session.handled, 0)
                self._end(name)
        elif kind is SessionLost:
            if (found := running.get(event.strategy) or self._last.get(event.strategy)) is not None:
                found.handled = event.handled
        elif kind is e.StrategyStopped:
            self._end(event.strategy)
        elif kind in TOLD:
            name = event.order.strategy if kind is e.OrderSubmitted else event.strategy
            if (found := running.get(name)) is not None:
                found.give(seq, event)

    def results(self) -> list[SessionComparison]:
        """Return how every session compares, those that never ended too."""
        for name in list(self._running):
            self._end(name)
        return [session.end() for session in self._ended]

    def _end(self, strategy: str) -> None:
        if (ended := self._running.pop(strategy, None)) is not None:
            self._ended.append(ended)
            self._last[strategy] = ended

    def _is_skipped(self, session: _Running, seq: int) -> bool:
        found = self.skipped.get((session.began.strategy, session.began.account))
        return found is not None and seq in found


def skipped_in(events: Iterable[tuple[int, Any]]) -> dict[tuple[str, str], set[int]]:
    """Return the numbers that lagging sessions were not given."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for _, event in events:
        if type(event) is TicksSkipped:
            found[event.strategy, event.account].update(event.seqs)
    return dict(found)


def _is_own(event: Any) -> bool:
    """Whether a strategy asked for it itself: what the gateway does in its name has seen nothing of the log."""
    return not hasattr(event, "basis_seq") or event.basis_seq > 0


def _plain(message: Any) -> Any:
    """A message without what the gateway stamps on it."""
    return msgspec.structs.replace(message, ts=0) if isinstance(message, PlaceOrder | ReplaceOrder | CancelOrder) else message


def _text(found: tuple[int, Any] | None) -> str:
    return "" if found is None else msgspec.json.encode(found[1]).decode()
