"""An interrupt that comes when nothing is half done.

Between two bytecodes of the engine an exception could part what belongs together: an order sent and its journal line.
So while a backtest runs, an interrupt is only noted, and the loop looks at the note between chunks. A strategy that
does not come back is interrupted inside its own code, where it can only harm itself.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Collection
from types import FrameType, TracebackType
from typing import Any

PATIENCE_S = 0.25  #: how long a chunk may take after an interrupt; a launcher kills a kernel that takes 0.7 s
AGAIN_S = 0.005


class Interrupt:
    """While entered, SIGINT sets ``asked``; a strategy still at work after ``PATIENCE_S`` gets a KeyboardInterrupt.

    Does nothing outside of the main thread, where Python delivers no signals.
    """

    def __init__(self, strategies: Collection[Any]) -> None:
        self.asked = False
        self._strategies = {id(strategy) for strategy in strategies}
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            handlers = ((signal.SIGINT, self._on_interrupt), (signal.SIGALRM, self._on_alarm))
            self._before = {number: signal.signal(number, handler) for number, handler in handlers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._in_strategy(frame):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)

    def _in_strategy(self, frame: FrameType | None) -> bool:
        """Whether a strategy's method is on this stack."""
        while frame is not None:
            names = frame.f_code.co_varnames
            if names and id(frame.f_locals.get(names[0])) in self._strategies:
                return True
            frame = frame.f_back
        return False
