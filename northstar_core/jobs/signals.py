"""SIGINT and SIGTERM as a run wants them, while it runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let a handler have both signals, and give them back afterwards; outside the main thread, which alone may, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
