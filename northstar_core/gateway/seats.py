"""A strategy in session as the gateway keeps it: what it hears, what waits for it, how far behind it is. No sockets here.

Order events are never left out. A quote that waits is replaced by a newer one of its symbol once the session lags; the numbers it was
not given are reported, so that a replay can leave out the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from northstar_core.model.market import MarketEvent, Quote
from northstar_core.model.wants import Wants
from northstar_core.model.wire import Hello, batch

LAGS = 2_000  #: events waiting at which quotes are conflated
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
        self._waiting: dict[int, tuple[str, bytes]] = {}  #: by number: symbol of a quote or "", and the event encoded
        self._quotes: dict[str, int] = {}  #: number of the quote of a symbol that waits
        self.skipped: list[int] = []
        self._wake = wake
        self._recent: deque[tuple[int, bytes]] = deque()  #: given, for a kernel whose connection dropped
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
        if type(event) is Quote:
            if len(self._waiting) >= LAGS and (older := self._quotes.get(event.symbol)) in self._waiting:
                assert older is not None
                del self._waiting[older]
                self.skipped.append(older)
            self._quotes[event.symbol] = seq
            self._waiting[seq] = (event.symbol, data)
        else:
            self._waiting[seq] = ("", data)
        self._wake()

    def resumable(self, seen: int) -> bool:
        """Whether everything after a number can be given again."""
        return self._forgotten <= seen <= self.given

    def rewind(self, seen: int) -> None:
        """Let what was given after a number wait again, before what waits now."""
        again = {seq: ("", data) for seq, data in self._recent if seq > seen}
        self._waiting = {**again, **self._waiting}
        self._recent.clear()
        self._forgotten = self.given = seen

    def frame(self) -> bytes | None:
        """Return what waits as one frame, and regard it as given; None if nothing waits."""
        waiting = self._waiting
        if not waiting:
            return None
        if len(waiting) <= PER_FRAME:
            items = [(seq, data) for seq, (_, data) in waiting.items()]
            waiting.clear()
            self._quotes.clear()
        else:
            items = [(seq, waiting[seq][1]) for seq, _ in zip(waiting, range(PER_FRAME), strict=False)]
            for seq, _ in items:
                del waiting[seq]
        self.given = items[-1][0]
        recent = self._recent
        recent.extend(items)
        while len(recent) > RECENT:
            self._forgotten = recent.popleft()[0]
        return batch([data for _, data in items])
