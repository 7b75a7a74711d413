"""A strategy in session as the gateway keeps it: what it hears, what waits for it, how far behind it is. No sockets here.

Order events are never left out. A quote that waits is replaced by a newer one of its symbol once the session lags; the numbers it was
not given are reported, so that a replay can leave out the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from northstar_core.gateway.routes import Entry
from northstar_core.model.market import MarketEvent, Quote
from northstar_core.model.wants import Wants
from northstar_core.model.wire import Hello, batch

LAGS = 10_000  #: events waiting at which quotes are conflated
LOST = 100_000  #: events waiting at which the session is given up
PER_FRAME = 4_000
RECENT = 5_000  #: events kept after they were given


class Seat:
    """One strategy's place at the desk.

    Parameters
    ----------
    strategy_id
        Its name on the desk.
    hello
        What its kernel said it wants.
    bar_ns
        Length of the bars it gets.
    """

    def __init__(
        self, strategy_id: str, account: str, session: str, hello: Hello, bar_ns: int, wake: Callable[[], None] = lambda: None
    ) -> None:
        self.strategy_id, self.account, self.session = strategy_id, account, session
        self.hello, self.bar_ns = hello, bar_ns
        self.outbox: list[Any] = []  #: always empty: what it asks for comes by itself
        self.wants = Wants(hello.symbols, hello.options_on, quotes=hello.quotes, trades=hello.trades, bar_ns=bar_ns)
        self.given = 0  #: last number put in a frame
        self.handled = 0  #: last number its kernel said it had handled
        self.asked = 0  #: messages of its kernel that arrived: what it asks for after a dropped connection goes on behind them
        self._waiting: list[tuple[int, Any, bytes]] = []  #: number, the event (None where it may not be left out), encoded
        self._conflate_at = LAGS
        self.skipped: list[int] = []
        self._wake = wake
        self._recent: deque[tuple[int, Any, bytes]] = deque()  #: given, for a kernel whose connection dropped
        self._forgotten = 0  #: the last number given that is not among them

    def begin(self, seq: int) -> None:
        """Its kernel was welcomed as the log stood at ``seq``."""
        self._forgotten = self.given = seq

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def lost(self) -> bool:
        """Whether it is too far behind to go on."""
        return len(self._waiting) >= LOST

    def listens(self, symbol: str) -> bool:
        """Whether it wants anything of a symbol."""
        return self.wants.listens(symbol)

    def hears(self, event: MarketEvent) -> bool:
        """Whether it gets an event of a symbol it listens to."""
        return self.wants.hears(event)

    def queue(self, seq: int, event: Any, data: bytes) -> None:
        """Take an event with its number, encoded."""
        self._waiting.append((seq, event, data))
        if len(self._waiting) >= self._conflate_at:
            self._conflate()
        self._wake()

    def queue_ticks(self, entries: list[Entry]) -> None:
        """Take market events with their numbers, in order; the list is others' too."""
        self._waiting += entries
        if len(self._waiting) >= self._conflate_at:
            self._conflate()
        self._wake()

    def _conflate(self) -> None:
        """Leave out waiting quotes of which a newer one of the symbol waits, the oldest first, until a quarter fewer wait."""
        newest = {event.symbol: seq for seq, event, _ in self._waiting if type(event) is Quote}
        surplus, kept = len(self._waiting) - LAGS + LAGS // 4, []
        for entry in self._waiting:
            if surplus > 0 and type(entry[1]) is Quote and newest[entry[1].symbol] != entry[0]:
                self.skipped.append(entry[0])
                surplus -= 1
            else:
                kept.append(entry)
        self._waiting = kept
        self._conflate_at = max(LAGS, len(kept) + LAGS // 4)  # where little could be left out, not at every event

    def resumable(self, seen: int) -> bool:
        """Whether everything after a number can be given again."""
        return self._forgotten <= seen <= self.given

    def rewind(self, seen: int) -> None:
        """Let what was given after a number wait again, before what waits now."""
        self._waiting = [(seq, None, data) for seq, _, data in self._recent if seq > seen] + self._waiting
        self._recent.clear()
        self._forgotten = self.given = seen

    def frame(self) -> bytes | None:
        """Return what waits as one frame, and regard it as given; None if nothing waits."""
        waiting = self._waiting
        if not waiting:
            return None
        items, self._waiting = (waiting, []) if len(waiting) <= PER_FRAME else (waiting[:PER_FRAME], waiting[PER_FRAME:])
        self._conflate_at = LAGS
        self.given = items[-1][0]
        recent = self._recent
        recent.extend(items)
        while len(recent) > RECENT:
            self._forgotten = recent.popleft()[0]
        return batch([data for _, _, data in items])
