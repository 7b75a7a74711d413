"""How long messages take: to the broker, and back."""

from __future__ import annotations

import msgspec

NEVER = 2**63 - 1  #: later than any time


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed latencies in nanoseconds: ``entry_ns`` until a request has reached the broker, ``response_ns`` until a
    report is back.

    Latency is fixed and not drawn: the same orders on the same tape give the same fills. With bars, an order that
    arrives after a bar has opened waits for the next one; a cancel works from its arrival on, so the bar in which it
    arrives no longer fills the order.
    """

    entry_ns: int = 0
    response_ns: int = 0

    def describe(self) -> str:
        """One sentence for the tear sheet."""
        if not self.entry_ns and not self.response_ns:
            return "none: orders reach the broker, and reports come back, at the instant they are sent"
        return f"{self.entry_ns / 1e6:g} ms to the broker, {self.response_ns / 1e6:g} ms back, always the same"
