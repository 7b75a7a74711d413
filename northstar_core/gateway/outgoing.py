"""What waits to leave: nothing goes out before its record is durable, and everything goes out in the order of the log."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

Action = Callable[..., Any]

log = logging.getLogger("northstar.gateway")


class Outgoing:
    """A queue of actions, each of which may happen once a number of the log is durable.

    The numbers never fall, so the queue is released from its front. An action may add others; they wait for their turn. One that
    raises is told to ``failed`` and holds up nobody.
    """

    def __init__(self, durable: int, failed: Callable[[Exception], Any] = lambda error: None) -> None:
        self.durable = durable
        self._failed = failed
        self._queue: deque[tuple[int, Action, tuple[Any, ...]]] = deque()
        self._releasing = False

    def __len__(self) -> int:
        return len(self._queue)

    def after(self, seq: int, action: Action, *arguments: Any) -> None:
        """Let an action happen once ``seq`` is durable and everything before it has left."""
        if seq <= self.durable and not self._queue:
            action(*arguments)
        else:
            self._queue.append((seq, action, arguments))

    def release(self, durable: int) -> bool:
        """Take note that the log is durable up to ``durable``, and let happen what waited for it; returns whether anything did."""
        self.durable = max(self.durable, durable)
        if self._releasing:
            return False
        self._releasing, released = True, False
        try:
            queue = self._queue
            while queue and queue[0][0] <= self.durable:
                _, action, arguments = queue.popleft()
                released = True
                try:
                    action(*arguments)
                except Exception as error:
                    log.exception("what waited for its record failed")
                    self._failed(error)
        finally:
            self._releasing = False
        return released
